"""Starts the stages of one run as forks of a process that has loaded their libraries already.

:mod:`pipeline.process.run_dvc` starts it; `dvc repro` does without it. It asks for nothing and computes
nothing: it loads libraries, in one thread, and forks when DVC names a stage. The child is then what
``python -m stages.NAME`` would be, with the same folder, environment and output, and ends with DVC and
`fade run` as that would. Standard input is a socket; the server ends when DVC closes it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import runpy
import select
import signal
import socket
import sys
from typing import IO, Any, NoReturn

from pipeline.process.aside import fork

FIRST = ("stages", "pipeline.stage", "pandas", "pyarrow.parquet", "pyarrow.dataset", "cache.store")
"""What nearly all stages load."""
LATER = (
    "PIL.Image", "zarr", "cv2", "dask.threaded", "faiss", "threadpoolctl", "scipy.ndimage", "jinja2",
)  # fmt: skip
"""What some load, in their order: loaded here while other stages run."""
BEFORE_MODELS = ("stages.manifest", "stages.select")
"""While these run torch is loaded first: what they change is encoded next."""
WITH_MODELS = ("stages.extract", "stages.text", "stages.stream")
"""While these run nothing is loaded: models fill the memory."""
BEFORE = {
    "stages.extract": ("PIL.Image", "zarr", "cv2"),
    "stages.bank": ("dask.threaded", "faiss", "threadpoolctl"),
}
"""What a stage loads itself if it is not there: loaded ahead of it, it is in memory once."""
STARTED = b"started\n"
INTERRUPTED = 130


def _load(name: str) -> None:
    # a stage that needs what cannot be loaded says so itself
    with contextlib.suppress(Exception):
        importlib.import_module(name)


class _Server:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._requests: IO[bytes] = connection.makefile("rb")
        self._later = list(LATER)
        self._interrupted = False
        # where a shell started the run in the background, interrupts stay ignored
        self._stoppable = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
        if self._stoppable:
            signal.signal(signal.SIGINT, self._interrupt)

    def _interrupt(self, *_: object) -> None:
        self._interrupted = True

    def serve(self) -> None:
        """Run stages one after the other until nobody can ask any more."""
        gc.disable()  # what is loaded stays: to look for garbage in it takes a sixth of the time
        for name in FIRST:
            _load(name)
        # started ahead of the first stage
        while self._later and not select.select([self._connection], [], [], 0)[0]:
            _load(self._later.pop(0))
        for line in self._requests:
            module, stage = line.decode().split()
            code = self._run(module, stage)
            self._connection.sendall(b"%d\n" % code)

    def _run(self, module: str, stage: str) -> int:
        """Run a stage; its exit code, or minus the signal that ended it."""
        for name in BEFORE.get(module, ()):
            if name in self._later:
                self._later.remove(name)
                _load(name)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        # DVC leaves interrupts to its stages: one that came before the stage is there counts
        if self._interrupted or (self._stoppable and signal.SIGINT in signal.sigpending()):
            return INTERRUPTED
        child = fork()
        if not child:
            self._become(module, stage)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        self._connection.sendall(STARTED)
        if module in BEFORE_MODELS and "torch" not in sys.modules:
            self._later.insert(0, "torch")
        while self._later and module not in WITH_MODELS:
            number, status = os.waitpid(child, os.WNOHANG)
            if number:
                return os.waitstatus_to_exitcode(status)
            _load(self._later.pop(0))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def _become(self, module: str, stage: str) -> NoReturn:
        """Be ``python -m MODULE``."""
        if self._stoppable:  # as in stages/__init__.py
            signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        gc.freeze()  # nor does a stage copy what only the collector would touch
        gc.enable()
        self._requests.close()
        self._connection.close()
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        os.environ["DVC_STAGE"] = stage
        sys.argv, sys.orig_argv = ["-m"], [sys.executable, "-m", module]
        code: Any = 0
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code
        except BaseException:
            sys.excepthook(*sys.exc_info())
            code = 1
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
        # what Python does at its end, but for taking its modules apart
        import atexit
        import threading

        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code or 0)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        _Server(socket.socket(fileno=os.dup(0))).serve()
    os._exit(0)
