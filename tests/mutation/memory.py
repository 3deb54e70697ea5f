"""What may be kept of an earlier run of all fast tests, and what has to be found out again."""

import json
import zlib
from pathlib import Path

_KNOWN, _STATS = "known.json", "mutants/mutmut-stats.json"
_WATCHED = ("devicelab", "virtualboards", "native", "tests")


def known_by(root: Path) -> dict[str, int]:
    """Checksum of each test file; under ``""`` that of all else that a test's way through the product hangs on."""
    files = sorted(
        path
        for name in _WATCHED
        for path in (root / name).rglob("*")
        if path.is_file() and path.suffix != ".pyc" and (root / "tests" / "mutation") not in path.parents
    )
    sums = {str(path.relative_to(root)): zlib.crc32(path.read_bytes()) for path in files}
    tests = {name: value for name, value in sums.items() if _is_test(name)}
    rest = sorted((name, value) for name, value in sums.items() if not _is_test(name))
    return {"": zlib.crc32(repr(rest).encode()), **tests}


def forget(folder: Path, now: dict[str, int]) -> None:
    """Drop from mutmut's notes in a scratch folder what a change since then may have made wrong.

    mutmut runs those tests that its notes do not know; all of them where there are no notes.
    """
    stats, known = folder / _STATS, folder / _KNOWN
    before = json.loads(known.read_text(encoding="utf-8")) if known.exists() else {}
    if before.get("") != now[""]:
        stats.unlink(missing_ok=True)
    elif stats.exists():
        changed = {name for name, value in before.items() if now.get(name) != value}
        notes = json.loads(stats.read_text(encoding="utf-8"))
        notes["duration_by_test"] = {
            test: took for test, took in notes["duration_by_test"].items() if test.partition("::")[0] not in changed
        }
        notes["tests_by_mangled_function_name"] = {
            function: [test for test in tests if test.partition("::")[0] not in changed]
            for function, tests in notes["tests_by_mangled_function_name"].items()
        }
        stats.write_text(json.dumps(notes), encoding="utf-8")
    known.write_text(json.dumps(now), encoding="utf-8")


def _is_test(name: str) -> bool:
    return Path(name).name.startswith("test_") and name.endswith(".py")
