"""A farm of several hosts for tests: scheduler, workers and conductor as processes, one lab.toml, one database."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from distributed import Client

from tests import postgres
from tests.benches import Commands, Host, finished, wait_for
from tests.certificates import Authority

PATIENCE_S = 600
"""For what takes half a minute on a machine that has nothing else to do."""

EXPERIMENT = """\
question = "Is every run stored once, whoever dies?"
foreign_pct = 100
foreign_core_pct = 100
repetitions = 6
hold_s = 0.5
settle_s = 0.1
[factors]
load = ["none", "1000 5000 20"]
"""


class Farm:
    """Scheduler, two workers and a conductor, each a process, with one lab.toml and one database."""

    def __init__(
        self,
        place: Path,
        lab: str,
        store: str,
        jobs: str,
        environment: dict[str, str] | None = None,
        tls: Authority | None = None,
    ) -> None:
        self.commands = Commands("farm", "", place, environment or {})
        self.store, self._place = store, place
        (place / "lab.toml").write_text(lab, encoding="utf-8")
        (place / "e.toml").write_text(EXPERIMENT, encoding="utf-8")
        # Nights of one name wait for one another on the whole machine: tests side by side have names of their own.
        (place / "farm.toml").write_text(f'name = "f{os.getpid()}"\n{jobs}', encoding="utf-8")
        self.port = postgres.free_port()
        self.workers: dict[str, Host] = {}
        self._tls = tls
        self.schedule()

    def schedule(self) -> None:
        """Start the scheduler, also once more where it died."""
        argv = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1"]
        argv += ["--port", str(self.port), "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
        argv += self._tls.scheduler_words() if self._tls is not None else ()
        with (self._place / "scheduler.txt").open("ab") as said:
            self.scheduler = subprocess.Popen(argv, stdout=said, stderr=said, cwd=self._place)
        assert wait_for(self._listens), (self._place / "scheduler.txt").read_text()

    def work(self, **words: tuple[str, ...]) -> None:
        """Start workers, by name with their options, and wait until they offer devices."""
        common = ("worker", "--scheduler", f"127.0.0.1:{self.port}", "--store", self.store)
        for name, own in words.items():
            self.workers[name] = self.commands.start(*common, "--name", name, *own, board=False)
        assert wait_for(lambda: self.said("works for") == len(words)), self.commands.said()

    def conduct(self, *words: str) -> Host:
        """Start a night."""
        words = ("nightly", "farm.toml", "--engine", f"dask://127.0.0.1:{self.port}", "--store", self.store, *words)
        return self.commands.start(*words, board=False)

    def said(self, text: str) -> int:
        """How often the commands said it."""
        path = self._place / "said.txt"
        return path.read_text(encoding="utf-8", errors="replace").count(text) if path.exists() else 0

    def worker_of(self, task_id: str) -> str:
        """The name of the worker that executes a task that has begun."""
        with Client(f"tcp://127.0.0.1:{self.port}", set_as_default=False) as client:
            names = {address: w["name"] for address, w in client.scheduler_info(n_workers=-1)["workers"].items()}
            at_work = client.processing()
        return next(names[at] for at, keys in at_work.items() if any(f"-{task_id}-" in str(key) for key in keys))

    def ended(self, night: Host) -> int:
        """The exit code of a night that is waited for."""
        night.join(PATIENCE_S)
        assert night.exitcode is not None, self.commands.said()
        return night.exitcode

    def kill(self, worker: str) -> None:
        """The host's process dies without a word."""
        os.kill(int(self.workers[worker].pid or 0), signal.SIGKILL)
        self.workers.pop(worker).join()

    def end(self) -> list[int]:
        """Ask all workers to end; their exit codes."""
        for worker in self.workers.values():
            worker.terminate()
        return [finished(worker) for worker in self.workers.values()]

    def close(self) -> None:
        """Nothing is left, however the test went."""
        for worker in self.workers.values():
            if worker.is_alive():
                worker.kill()
                worker.join()
        self.scheduler.terminate()
        self.scheduler.wait()

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False
