"""A ``python`` whose libraries are loaded already, so that a command of a test costs its work alone.

:class:`Interpreter` starts a server that imports the libraries once, and writes a program ``python``.
That program hands its arguments, environment, folder and open files to the server, which forks: the child
does what Python does with ``-m``, ``-c`` or a file. Each command runs the code of its own folder:
modules of this checkout, which are loaded too, stay only where Python would find them.
DVC reads and writes its files there as under ``fade run``.
All processes of a test run share one server: it ends when the last of them does.
``tests/test_wheel.py`` runs all stages without it.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import fcntl
import functools
import gc
import importlib
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from fade.lean_import import open_clip_library
from tests.projects import ROOT, STAGES

LIBRARIES = (
    "cv2", "dask.callbacks", "dask.multiprocessing", "dask.threaded", "faiss", "jinja2",
    "pandas", "PIL.BmpImagePlugin", "PIL.GifImagePlugin", "PIL.JpegImagePlugin", "PIL.PngImagePlugin",
    "PIL.PpmImagePlugin", "PIL.TiffImagePlugin", "pyarrow.dataset", "pyarrow.pandas_compat",
    "pyarrow.parquet", "pydantic.json_schema", "pydantic.main", "pydantic.type_adapter", "ruamel.yaml",
    "scipy.ndimage", "threadpoolctl", "torch", "zarr",
)  # fmt: skip
"""What stages load."""
COMMANDS = (
    "distributed.cli.utils", "dulwich.porcelain", "dulwich.repo", "dvc.cli.parser",
    "dvc.commands.repro", "dvc.dependency", "dvc.output", "dvc.repo.open_repo", "dvc.repo.reproduce",
    "dvc.repo.experiments.executor.local", "dvc.repo.experiments.queue.celery", "dvc.stage",
    "dvc_data.index", "dvc_objects.fs.local", "fsspec.implementations.memory", "git", "hydra",
    "networkx", "pipeline.cli.commands", "pygit2", "rich.console", "typer.rich_utils",
)  # fmt: skip
"""What commands load besides; a module that is not there is left out."""
OWN = ("benchmarks", "cache", "docs", "fade", "pipeline", "stages", "tests")
PROGRAMS = (*(f"stages.{stage}" for stage in STAGES), "pipeline.cli.main")
"""Own modules that are run: what they import stays, they themselves are loaded anew."""
TITLE = 400
"""Bytes for a command line, which other processes see in place of the server's."""
MEMORY = {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""The server's memory lies in huge pages: to fork it takes a third of the time."""
CLIENT = """#!{python} -IS
import _signal, _socket, os, sys  # to import what wraps them takes as long as Python's own start
server = _socket.socket(_socket.AF_UNIX)
server.connect({address!r})
files = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
server.sendmsg([b"f"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
about = dict(arguments=sys.argv[1:], environment=dict(os.environ), folder=os.getcwd())
about.update(process=os.getpid(), group=os.getpgrp())
server.sendall(ascii(about).encode() + b"\\n")
answers = open(server.fileno(), closefd=False)
child = int(answers.readline())
for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGUSR1):
    if _signal.getsignal(number) != _signal.SIG_IGN:
        _signal.signal(number, lambda number, _: os.kill(child, number))
code = int(answers.readline())
if code < 0:
    _signal.signal(-code, _signal.SIG_DFL) if -code != _signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


class Interpreter:
    """A share in the server of a folder; use it as a context manager.

    Args:
        folder: for the program; who names the same one has the same server.
        like: the Python whose place it takes, which finds the libraries of this one.

    Attributes:
        python: the program, in a folder of its own.
    """

    def __init__(self, folder: Path, like: str = sys.executable) -> None:
        folder.mkdir(exist_ok=True)
        self.python = folder / "python"
        address = str(folder / "socket")
        with open(folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._hold(address):
                self.python.write_text(CLIENT.format(python=like, address=address))
                self.python.chmod(0o755)
                _start(address, like, str(self.python))
                assert self._hold(address), "the server died"

    def _hold(self, address: str) -> bool:
        """Keep the server alive, if there is one."""
        self._held = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError):
            self._held.connect(address)
            self._held.sendall(b"h")
            if self._held.recv(1):
                return True
        self._held.close()
        return False

    def __enter__(self) -> Interpreter:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()


def _start(address: str, like: str, python: str) -> None:
    """Start a server and wait until it listens."""
    environment = {
        **os.environ, **MEMORY, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1", "GIT_PYTHON_REFRESH": "quiet",
    }  # fmt: skip
    reader, writer = os.pipe()
    with os.fdopen(reader) as said:
        subprocess.Popen(
            [like, "-m", "tests.interpreter", address, python, " " * TITLE],
            stdin=subprocess.DEVNULL, stdout=writer, cwd=ROOT, env=environment,
        )  # fmt: skip
        os.close(writer)
        assert said.readline(), "the server died"


def _serve(address: str, python: str) -> None:
    _load()
    running: dict[int, tuple[int, socket.socket]] = {}
    holding: list[socket.socket] = []
    Path(address).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(64)
        os.write(1, b"ready\n")
        os.dup2(0, 1)
        while True:
            watched: list[Any] = [listening, *holding, *running]
            ready, _, _ = select.select(watched, [], [])
            for ended in running.keys() & ready:
                child, connection = running.pop(ended)
                os.close(ended)
                _, status = os.waitpid(child, 0)
                with connection, contextlib.suppress(OSError):  # a client that was killed
                    connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
            if listening in ready:
                connection, _ = listening.accept()
                kind, files, _, _ = socket.recv_fds(connection, 1, 3)
                if kind == b"h":
                    holding.append(connection)
                    connection.sendall(b"1")
                elif kind:
                    child = _fork(connection, files, python, [listening, *holding], running)
                    running[os.pidfd_open(child)] = child, connection
            for holder in [one for one in holding if one in ready]:
                holding.remove(holder)
                holder.close()
                if not holding:
                    return


def _load() -> None:
    """Import all that commands need, and let the children share it."""
    path = list(sys.path)
    open_clip_library()
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
    for name in MEMORY:
        os.environ.pop(name)
    gc.collect()
    gc.freeze()  # children do not copy what only the collector would touch


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


def _fork(
    connection: socket.socket,
    files: list[int],
    python: str,
    others: Iterable[socket.socket],
    running: Mapping[int, tuple[int, socket.socket]],
) -> int:
    """Run one command in a child, which has nothing of what the server has open; its number."""
    with connection.makefile("rb") as lines:
        about = ast.literal_eval(lines.readline().decode())
    child = os.fork()
    if not child:
        for one in (connection, *others, *(connection for _, connection in running.values())):
            one.close()
        for file in running:
            os.close(file)
        _become(about, files, python)
    for file in files:
        os.close(file)
    with contextlib.suppress(OSError):
        connection.sendall(b"%d\n" % child)
    return child


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
    with contextlib.suppress(PermissionError):  # of another session
        os.setpgid(0, about["group"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.executable, sys.orig_argv = python, [python, *arguments]
    if any(name.startswith("DASK_") for name in os.environ):
        importlib.import_module("dask.config").refresh()  # it read them when it was loaded
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
                sys.modules["__main__"] = main = ModuleType("__main__")
                exec(compile(what, "<string>", "exec"), vars(main))
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

    @functools.wraps(real)  # psutil finds its cache there
    def ppid(self: psutil.Process) -> int:
        return process if self.pid == own else int(real(self))

    psutil.Process.ppid = ppid
    asked = os.getppid
    os.getppid = lambda: process if os.getpid() == own else asked()


if __name__ == "__main__":
    _serve(*sys.argv[1:3])
