"""Stands in for ``nvidia-cuda-mps-control``: a daemon with a server, told to do things on standard input.

Clients are the processes whose environment names the daemon's directory. Files in the folder of this program steer it:
``fail`` (``-d`` says its text and ends), ``die-after`` (seconds until the daemon is gone, its server stays), ``blind``
(no client is listed).
"""

import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(sys.argv[0]).parent
PIPE = Path(os.environ["CUDA_MPS_PIPE_DIRECTORY"])
PID = PIPE / "nvidia-cuda-mps-control.pid"


def alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def daemon() -> None:
    server = subprocess.Popen([HERE / "nvidia-cuda-mps-server"], start_new_session=True)
    PID.write_text(f"{os.getpid()} {server.pid}")
    limit = HERE / "die-after"
    time.sleep(float(limit.read_text()) if limit.exists() else 600)


def clients() -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        try:
            named = f"CUDA_MPS_PIPE_DIRECTORY={PIPE}".encode() in (path / "environ").read_bytes().split(b"\0")
            ours = (path / "comm").read_text().startswith(("nvidia-cuda-mps", "sh"))
        except OSError:
            continue
        if named and not ours and path.name.isdecimal():
            found.append(int(path.name))
    return found


def answer(words: list[str]) -> None:
    pids = [int(pid) for pid in PID.read_text().split()] if PID.exists() else []
    if not pids or not alive(pids[0]):
        sys.exit("Cannot find MPS control daemon process")
    if words == ["get_server_list"]:
        print(pids[1])
    elif words[0] == "get_client_list" and not (HERE / "blind").exists():
        print(*clients(), sep="\n")
    elif words == ["quit"]:
        for pid in pids:
            os.kill(pid, 15)


def main() -> None:
    if sys.argv[1:] == ["-d"]:
        if (HERE / "fail").exists():
            sys.exit((HERE / "fail").read_text())
        if os.fork() == 0:
            os.setsid()
            null = os.open("/dev/null", os.O_RDWR)
            for fd in range(3):
                os.dup2(null, fd)
            daemon()
            os._exit(1)
        while not PID.exists():
            time.sleep(0.01)
    else:
        answer(sys.stdin.read().split())


main()
