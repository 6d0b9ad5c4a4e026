"""A scheduler of dask and its workers, in processes of their own on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

from tests.projects import ROOT


class Machines:
    """A scheduler and workers, as `dask scheduler` and `dask worker` start them.

    Args:
        folder: for their files.
        python: the program that runs them.
        memory: that a nanny, a process more, holds a worker to; None starts no nanny.
        workers: how many there are.
    """

    def __init__(
        self, folder: Path, python: Path, memory: str | None = None, workers: int = 2
    ) -> None:
        self.folder, self.python = folder, python
        self.held = ("--memory-limit", memory or "4GiB", "--nanny" if memory else "--no-nanny")
        folder.mkdir(exist_ok=True)
        self.file = folder / "scheduler.json"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
            "--scheduler-file", str(self.file),
        )  # fmt: skip
        for number in range(workers):
            self.worker(f"worker-{number}")
        self.address = self._wait(workers)

    def worker(self, name: str) -> None:
        self._start(
            "worker", "--scheduler-file", str(self.file), "--nthreads", "1", "--name", name,
            *self.held, "--no-dashboard", "--host", "127.0.0.1", name=name,
        )  # fmt: skip

    def _start(self, kind: str, *options: str, name: str | None = None) -> None:
        folder = self.folder / (name or kind)  # not the project's
        folder.mkdir(exist_ok=True)
        with (folder / "log").open("ab") as log:
            self.processes[name or kind] = subprocess.Popen(
                [self.python, "-m", f"distributed.cli.dask_{kind}", *options],
                cwd=folder,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "DASK_TEMPORARY_DIRECTORY": str(folder),
                    "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "False",
                    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",  # 100 looks a second
                    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
                },
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def _wait(self, workers: int) -> str:
        """The scheduler's address, once all workers are there."""
        from distributed import Client

        for _ in range(600):
            with contextlib.suppress(OSError, ValueError):
                address = str(json.loads(self.file.read_text())["address"])
                with Client(address, set_as_default=False) as client:
                    if workers:
                        client.wait_for_workers(workers, timeout=60)
                return address
            time.sleep(0.1)
        raise AssertionError((self.folder / "scheduler" / "log").read_text())

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        for name in list(self.processes):
            self.kill(name)
