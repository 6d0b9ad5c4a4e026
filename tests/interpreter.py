"""A ``python`` whose libraries are loaded already, so that a command of a test costs its work alone.

:class:`Interpreter` starts a server that imports the libraries once, and writes a program ``python``.
That program hands its arguments, environment, folder and open files to the server, which forks: the child
does what Python does with ``-m``, ``-c`` or a file. Each command runs the code of its own folder:
modules of this checkout, which are loaded too, stay only where Python would find them.
DVC reads and writes its files there as under ``fade run``.
``tests/test_wheel.py`` runs all stages without it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from tests.projects import ROOT, STAGES

LIBRARIES = (
    "cv2", "dask.callbacks", "dask.multiprocessing", "dask.threaded", "faiss", "jinja2",
    "open_clip", "pandas", "PIL.BmpImagePlugin", "PIL.GifImagePlugin", "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin", "PIL.PpmImagePlugin", "PIL.TiffImagePlugin", "pyarrow.dataset",
    "pyarrow.pandas_compat", "pyarrow.parquet", "pydantic.json_schema", "pydantic.main",
    "pydantic.type_adapter", "ruamel.yaml", "scipy.ndimage", "threadpoolctl", "torch", "zarr",
)  # fmt: skip
"""What stages load."""
COMMANDS = (
    "dulwich.porcelain", "dulwich.repo", "dvc.cli.parser", "dvc.commands.repro", "dvc.dependency",
    "dvc.output", "dvc.repo.open_repo", "dvc.repo.reproduce", "dvc.repo.experiments.executor.local",
    "dvc.repo.experiments.queue.celery", "dvc.stage", "dvc_data.index", "dvc_objects.fs.local",
    "fsspec.implementations.memory", "git", "hydra", "networkx", "pipeline.cli.commands", "pygit2",
    "rich.console", "typer.rich_utils",
)  # fmt: skip
"""What commands load besides; a module that is not there is left out."""
OWN = ("benchmarks", "cache", "docs", "fade", "pipeline", "stages", "tests")
PROGRAMS = (*(f"stages.{stage}" for stage in STAGES), "pipeline.cli.main")
"""Own modules that are run: what they import stays, they themselves are loaded anew."""
TITLE = 400
"""Bytes for a command line, which other processes see in place of the server's."""
CLIENT = """#!{python} -IS
import array, json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
about = dict(arguments=sys.argv[1:], environment=dict(os.environ), folder=os.getcwd())
about["process"] = os.getpid()
files = array.array("i", [0, 1, 2])
server.sendmsg([b"f"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
server.sendall(json.dumps(about).encode() + b"\\n")
answers = server.makefile()
child = int(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, lambda number, _: os.kill(child, number))
code = int(answers.readline())
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


class Interpreter:
    """The server; use it as a context manager.

    Args:
        folder: for the program.
        like: the Python whose place it takes, which finds the libraries of this one.

    Attributes:
        python: the program, in a folder of its own.
    """

    def __init__(self, folder: Path, like: str = sys.executable) -> None:
        self.python = folder / "python"
        address = str(folder / "socket")
        self.python.write_text(CLIENT.format(python=like, address=address))
        self.python.chmod(0o755)
        self._server = subprocess.Popen(
            [like, "-m", "tests.interpreter", address, str(self.python), " " * TITLE],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
            env={
                **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
                "HF_HUB_OFFLINE": "1", "GIT_PYTHON_REFRESH": "quiet",
            },
        )  # fmt: skip
        assert self._server.stdout is not None
        assert self._server.stdout.readline(), "the server died"

    def __enter__(self) -> Interpreter:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate(timeout=60)  # it ends when nobody can ask it any more


def _serve(address: str, python: str) -> None:
    import gc
    import select

    path = list(sys.path)
    for name in (*LIBRARIES, *COMMANDS, *PROGRAMS):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    ours = runpy.run_path(str(ROOT / "pipeline" / "process" / "run_dvc.py"))
    ours["parse_once"]()
    ours["write_locks_plainly"]()
    importlib.import_module("pipeline.report.html").page_template()
    importlib.import_module("pipeline.project.code").code_text()  # it remembers what a file imports
    _forget([*PROGRAMS, *(name for name in sys.modules if name.partition(".")[0] == "tests")])
    sys.path[:] = [place for place in path if place not in ("", str(ROOT))]
    gc.collect()
    gc.freeze()  # children do not copy what only the collector would touch
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(64)
        os.write(1, b"ready\n")
        while True:
            ready, _, _ = select.select([listening.fileno(), 0], [], [])
            if 0 in ready:
                return
            connection, _ = listening.accept()
            if not os.fork():
                listening.close()
                _answer(connection, python)
            connection.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def _forget(names: Iterable[str]) -> None:
    """Let modules be imported again, from wherever they lie then."""
    for name in names:
        if sys.modules.pop(name, None):
            parent, _, own = name.rpartition(".")
            if parent in sys.modules:
                vars(sys.modules[parent]).pop(own, None)


def _forget_others() -> None:
    """Keep this checkout's modules only where Python would find them."""
    found = (Path(place) for place in sys.path if Path(place, "pipeline").is_dir())
    if next(found, None) != ROOT:
        _forget([name for name in sys.modules if name.partition(".")[0] in OWN])


def _answer(connection: socket.socket, python: str) -> NoReturn:
    """Run one command in a child and tell the client how it ended."""
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as lines:
        about = json.loads(lines.readline())
    child = os.fork()
    if not child:
        connection.close()
        _become(about, files, python)
    for file in (*files, 0, 1):
        os.close(file)
    with contextlib.suppress(OSError):  # a client that was killed hears nothing
        connection.sendall(b"%d\n" % child)
        _, status = os.waitpid(child, 0)
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(about: Mapping[str, Any], files: list[int], python: str) -> NoReturn:
    """Be the process that these arguments start."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    arguments = list(about["arguments"])
    os.chdir(about["folder"])
    os.environ.clear()
    os.environ.update(about["environment"])
    _take_title([python, *arguments])
    _take_parent(about["process"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.executable, sys.orig_argv = python, [python, *arguments]
    safe = arguments[0] == "-P"
    if safe:
        del arguments[0]
    added = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    sys.path[:0] = added
    if any(Path(place, "sitecustomize.py").exists() for place in added):
        sys.modules.pop("sitecustomize", None)
        importlib.import_module("sitecustomize")
    code: Any = 1
    try:
        if arguments[0] in ("-m", "-c"):
            kind, what, *rest = arguments
            sys.argv = [kind, *rest]
            if not safe:
                sys.path.insert(0, os.getcwd() if kind == "-m" else "")
            _forget_others()
            if kind == "-m":
                runpy.run_module(what, run_name="__main__", alter_sys=True)
            else:
                exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = arguments
            if not safe:
                sys.path.insert(0, str(Path(arguments[0]).parent))
            _forget_others()
            runpy.run_path(arguments[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    # what Python does at its end: threads are waited for, and handlers of atexit called
    import atexit
    import threading

    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code or 0)


def _take_title(arguments: list[str]) -> None:
    """Let other processes see these arguments: the kernel reads them where the server's stood."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    text = b"".join(os.fsencode(part) + b"\0" for part in arguments)[: end - start - 1]
    ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)


def _take_parent(process: int) -> None:
    """Let this process and psutil take the client's parent for its own."""
    import psutil

    own = os.getpid()
    real = psutil.Process.ppid

    def ppid(self: psutil.Process) -> int:
        return process if self.pid == own else int(real(self))

    psutil.Process.ppid = ppid
    os.getppid = lambda: process


if __name__ == "__main__":
    _serve(*sys.argv[1:3])
