"""A board's file system, as far as it can be told without namespaces."""

import errno
from pathlib import Path

import pytest

from virtualboards import linux
from virtualboards.sandbox import Programs, Sandbox


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    (tmp_path / "root" / "data").mkdir(parents=True)
    return Sandbox(tmp_path, Programs("mksh", "toybox", (), {}, "", "x86_64"))


def test_a_disk_that_is_written_to_while_it_is_filled_is_left_a_little_more(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def mount(_source: str, target: Path, kind: str = "", flags: int = 0, options: str = "") -> None:
        sizes.append(int(options.removeprefix("size=")))
        if len(sizes) < 3:
            raise OSError(errno.EINVAL, "below what is in use")

    monkeypatch.setattr(linux, "mount", mount)
    sandbox.fill_disk(full=True)
    assert len(sizes) == 3
    assert sizes[0] < sizes[1] < sizes[2]


def test_a_disk_that_cannot_be_filled_for_another_reason_says_so(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mount(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr(linux, "mount", mount)
    with pytest.raises(PermissionError):
        sandbox.fill_disk(full=True)
