"""What shells offer for values, asked as the shells ask; and no colour for who wants none."""

import os
import pty
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devicelab.ground.registry import data_dir

ROOT = data_dir("native").parent


@pytest.fixture
def place(tmp_path: Path) -> dict[str, str]:
    """An environment in which ``devicelab`` is a program, with a lab and an experiment of its own."""
    program = tmp_path / "bin" / "devicelab"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m devicelab "$@"\n')
    program.chmod(0o755)
    config = tmp_path / "config" / "devicelab"
    (config / "experiments").mkdir(parents=True)
    (config / "lab.toml").write_text('[devices.rack-seven]\naddress = "adb:NOSUCHSERIAL@127.0.0.1:1"\n')
    (config / "experiments" / "mine.toml").write_text('question = "?"\n[measure]\nworkload = "klo"\n')
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("DEVICELAB", "XDG", "LC_"))},
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "TERM": "xterm",
    }


OFFERED = [
    (("pin", "--board", "rack"), ["rack-seven"]),
    (("sweep", "mi"), ["mine"]),
    (("reserve", "rack"), ["rack-seven"]),
    (("pin", "--knob", "idle"), ["idle_states="]),
    (("sweep", "quick", "--set", "schedul"), ["scheduler="]),
    (("tune", "dual_model", "--try", "mps_"), ["mps_static"]),
    (("load", "--cores", "bi"), ["big"]),
    (("build", "klo", "--toolchain", "zig-m"), ["zig-musl"]),
]


@pytest.mark.parametrize(("words", "offered"), OFFERED)
def test_bash_is_offered_names_of_this_computer(
    place: dict[str, str], words: tuple[str, ...], offered: list[str]
) -> None:
    line = ("devicelab", *words)
    script = (
        'eval "$(_DEVICELAB_COMPLETE=source_bash devicelab)"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        '_devicelab_completion devicelab; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", *line],
        capture_output=True,
        text=True,
        env=place,
        timeout=120,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == (offered, "")


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_is_offered_values_behind_an_equals_sign(place: dict[str, str]) -> None:
    typed = "devicelab sweep quick --set measure.workload=opencl_ap"
    script = f'env _DEVICELAB_COMPLETE=source_fish devicelab | source; complete -C "{typed}"'
    done = subprocess.run(
        ["fish", "--no-config", "-c", script], capture_output=True, text=True, env=place, timeout=120, check=False
    )
    assert done.stdout.split() == ["measure.workload=opencl_apk", "measure.workload=opencl_app"]


def _typed(argv: list[str], keys: bytes, until: bytes, environment: dict[str, str]) -> bytes:
    """What a program on a terminal shows after the keys, up to some text or for a minute."""
    terminal, theirs = pty.openpty()
    with subprocess.Popen(
        argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    ) as ran:
        os.close(theirs)
        shown, end = b"", time.monotonic() + 60
        try:
            os.write(terminal, keys)
            while until not in shown and time.monotonic() < end:
                shown += os.read(terminal, 4096)
        except OSError:  # the terminal of a program that has ended
            pass
        finally:
            os.close(terminal)
            ran.kill()
    return shown


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_completes_a_name_on_a_terminal(place: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / ".zshrc").write_text(
        f"PS1='ready> '; autoload -Uz compinit; compinit -u -d {tmp_path}/dump\n"
        'eval "$(_DEVICELAB_COMPLETE=source_zsh devicelab)"\n'
    )
    shown = _typed(["zsh", "-i"], b"devicelab sweep bench_tf\t", b"bench_tflite", {**place, "ZDOTDIR": str(tmp_path)})
    assert b"bench_tflite" in shown


@pytest.mark.parametrize("broken", ["lab", "database", "plug-in", "elsewhere"])
def test_a_completion_that_cannot_look_offers_nothing_and_says_nothing(place: dict[str, str], broken: str) -> None:
    config = Path(place["XDG_CONFIG_HOME"]) / "devicelab"
    words = ["devicelab", "report", "2"]
    if broken == "lab":
        (config / "lab.toml").write_text("devices = [")
        words = ["devicelab", "pin", "--board", "rack"]
    elif broken == "database":
        place["DEVICELAB_STORE"] = "/dev/null"
    elif broken == "elsewhere":
        place["DEVICELAB_STORE"] = "postgresql://nobody@192.0.2.1/lab"
    else:
        (config / "knobs").mkdir(mode=0o755)
        (config / "knobs" / "bad.py").write_text("raise SystemExit('loud')\n")
        words = ["devicelab", "pin", "--knob", "nosuchknob"]
    asked = {"_DEVICELAB_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        ["devicelab"], capture_output=True, text=True, env={**place, **asked}, timeout=120, check=False
    )
    assert "Traceback" not in done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize("wish", [{}, {"NO_COLOR": "1"}])
def test_no_colour_for_who_wants_none(place: dict[str, str], wish: dict[str, str]) -> None:
    colours = re.compile(rb"\x1b\[(?:[0-9;]*;)?(?:3[0-7]|9[0-7])m")
    shown = _typed(["devicelab", "sweep", "nosuch"], b"", b"known:", {**place, **wish})
    assert b"no experiment named" in shown
    assert bool(colours.search(shown)) != bool(wish)
    helped = _typed(["devicelab", "--help"], b"", b"Further commands", {**place, **wish})
    assert bool(colours.search(helped)) != bool(wish)
