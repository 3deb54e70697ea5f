"""Stands in for XSched's server, as far as its users see it: port, HTTP, log lines, SysV queue.

    xserver POLICY PORT

A queue of every process that carries the shim's settings (XSCHED_SCHEDULER=GLB, XSCHED_AUTO_XQUEUE=ON) is "created"
as soon as the process is seen; the real shim tells the server by SysV messages. Behaviour for tests comes from files
beside this one: ``ignore-priority`` (tenants of that priority get no queue), ``die-after`` (seconds after the first
queue), ``fail`` (says its text and ends before it listens); ``settings.log`` is written.
"""

import ctypes
import http.server
import json
import os
import sys
import threading
import time
from pathlib import Path

HERE = Path(sys.argv[0]).resolve().parent
QUEUES: dict[int, dict[str, object]] = {}


def say(text: str) -> None:
    print(f"[INFO @ T{os.getpid()} @ {time.time():.6f}] {text}", flush=True)


def told(name: str) -> str:
    path = HERE / name
    return path.read_text().strip() if path.exists() else ""


def leave_a_queue() -> None:
    """A SysV queue that outlives us, with us as its last sender."""
    libc = ctypes.CDLL(None, use_errno=True)
    queue = libc.msgget(int.from_bytes(os.urandom(3), "big") + 1, 0o1666)
    message = ctypes.create_string_buffer(b"\x01" + bytes(7) + b"hello")
    if queue < 0 or libc.msgsnd(queue, message, 5, 0) != 0:
        sys.exit(f"cannot make a SysV queue: {os.strerror(ctypes.get_errno())}")
    (HERE / "queue-id").write_text(str(queue))


def look_for_tenants() -> None:
    ignored, die_after = told("ignore-priority"), told("die-after")
    while True:
        for path in Path("/proc").iterdir():
            if not path.name.isdecimal() or int(path.name) in QUEUES or int(path.name) == os.getpid():
                continue
            try:
                words = (path / "environ").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            env = dict(word.split("=", 1) for word in words if "=" in word)
            if env.get("XSCHED_SCHEDULER") != "GLB" or env.get("XSCHED_AUTO_XQUEUE") != "ON":
                continue
            if "XSCHED_CUDA_LIB" not in env:  # the shell in front of a tenant, without the shim
                continue
            pid, priority = int(path.name), env.get("XSCHED_AUTO_XQUEUE_PRIORITY", "0")
            handle = 0x7F0000000000 + pid
            QUEUES[pid] = {"pid": pid, "handle": handle, "level": 1, "threshold": 16, "batch_size": 8, "ready": True}
            with (HERE / "settings.log").open("a") as log:
                log.write(
                    json.dumps({name: value for name, value in env.items() if "XSCHED" in name or "LD_" in name}) + "\n"
                )
            if priority == ignored:
                continue
            say(f"XQueue (0x{handle:x}) from process {pid} created")
            say(f"set priority {priority} for XQueue 0x{handle:x}")
            if die_after:
                threading.Timer(float(die_after), lambda: os._exit(1)).start()
        time.sleep(0.02)


class Answers(http.server.BaseHTTPRequestHandler):
    """GET /xqueues and /policy."""

    def do_GET(self) -> None:
        body = json.dumps({"policy": sys.argv[1]} if self.path == "/policy" else {"xqueues": list(QUEUES.values())})
        self.send_response(200 if self.path in {"/xqueues", "/policy"} else 404)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Nothing: the log is the server's own."""


def main() -> None:
    if (HERE / "fail").exists():
        sys.exit(told("fail"))
    leave_a_queue()
    server = http.server.ThreadingHTTPServer(("", int(sys.argv[2])), Answers)
    say(f"scheduler created with policy {sys.argv[1]}")
    threading.Thread(target=look_for_tenants, daemon=True).start()
    server.serve_forever()


main()
