"""DVC as `fade run` starts it: it ends with that run, and keeps its own remarks to the log.

A program by itself, started by its path: it imports nothing of this package, so that no folder of the
project can stand in for it. Its standard output is the log.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import importlib.util
import inspect
import io
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

ERROR_FILE = "FADE_DVC_ERROR_FILE"
"""Environment variable: file for what DVC says of its failure."""
STAGES_AHEAD = "FADE_STAGES_AHEAD"
"""Environment variable: set where stages are going to run, so that their libraries are loaded ahead."""
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_END = 30.0
"""Seconds after which a DVC that was asked to end is killed."""


_STAGE = re.compile(r"python (-P )?-m (stages\.\w+)")


@functools.cache
def _beside(name: str) -> Any:
    """A module beside this program that imports nothing of the package, whatever else has its name."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _end_with_run() -> None:
    """Interrupt DVC when the `fade run` dies; a stage that runs ends by itself."""
    watchdog = _beside("dvc_watchdog")
    run, expected = watchdog.find_run()
    main = threading.main_thread().ident
    if not expected or main is None:
        return
    # DVC takes no interrupt while a stage runs, nor does what a shell started in the background
    signal.signal(signal.SIGUSR1, signal.default_int_handler)

    def watch() -> None:
        while run is not None and watchdog.is_alive(run):
            time.sleep(SECONDS_BETWEEN_LOOKS)
        signal.pthread_kill(main, signal.SIGUSR1)
        time.sleep(SECONDS_TO_END)
        os._exit(1)

    threading.Thread(target=watch, name="watch-run", daemon=True).start()


INTERRUPTED = 252
"""Exit code of DVC after an interrupt."""


class _Log(io.TextIOWrapper):
    """Standard output, which lacks some lines where its disk is full: DVC goes on without them."""

    def __init__(self) -> None:
        # without a buffer, which would fail once more at the end
        raw = io.FileIO(sys.stdout.fileno(), "w", closefd=False)
        super().__init__(raw, "utf-8", "replace", write_through=True)  # type: ignore[arg-type]

    def write(self, text: str, /) -> int:
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)


class _ToLog(logging.Filter):
    """Sends warnings and errors of DVC to the log in place of the terminal."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def filter(self, record: logging.LogRecord) -> bool:
        text = self._formatter.format(record)
        print(text, flush=True)
        file = os.environ.get(ERROR_FILE)
        if file and record.levelno >= logging.ERROR:
            with contextlib.suppress(OSError), Path(file).open("a", encoding="utf-8") as out:
                out.write(text + "\n")
        return False


def parse_once() -> None:
    """Let DVC parse a text of YAML once: it asks for params.yaml at every stage, some seventy times."""
    from dvc.utils import serialize, strictyaml
    from dvc.utils.serialize import _yaml

    parse, plain = _yaml.parse_yaml, _beside("plain_yaml")

    @functools.lru_cache(maxsize=64)
    def parsed(text: str, path: str) -> Any:
        try:
            return plain.load(text) or {}
        except plain.NotPlain:
            return parse(text, path)

    def copied(text: str, path: str, typ: str = "safe") -> Any:
        if typ != "safe":  # with its comments
            return parse(text, path, typ)
        return copy.deepcopy(parsed(text, path))

    for module in (_yaml, serialize, strictyaml):  # each has the name for itself
        module.parse_yaml = copied


def write_locks_plainly() -> None:
    """Let DVC read and write dvc.lock, after every stage, without looking for comments: it has none.

    So with its notes of runs, whose results come back where parameters do.
    """
    from dvc import dvcfile
    from dvc.utils import serialize

    ordinary, dump, plain = dvcfile.modify_yaml, serialize.dump_yaml, _beside("plain_yaml")

    def dumped(path: str, content: Any, fs: Any = None, **options: Any) -> None:
        try:
            text = None if fs or options else plain.dump(content)
        except plain.NotPlain:
            text = None
        if text is None:
            dump(path, content, fs=fs, **options)
        else:
            Path(path).write_text(text, encoding="utf-8")

    serialize.dump_yaml = dumped

    @contextlib.contextmanager
    def modified(path: str, fs: Any = None) -> Iterator[Any]:
        place = Path(path)
        try:
            text = place.read_text(encoding="utf-8") if place.exists() else ""
            content = None if place.name != "dvc.lock" or "#" in text else plain.load(text) or {}
        except (OSError, ValueError):
            content = None
        if content is None:
            with ordinary(path, fs=fs) as content:
                yield content
            return
        yield content
        try:
            text = plain.dump(content)
        except plain.NotPlain:
            with ordinary(path, fs=fs) as written:
                written.clear()
                written.update(content)
            return
        with place.open("w+", encoding="utf-8") as file:  # as DVC does, under its lock
            file.write(text)

    dvcfile.modify_yaml = modified


def find_parameters_directly() -> None:
    """Let DVC walk to a parameter by its names: it holds each against all others, twice a stage."""
    from dvc.dependency import param

    search = param.dpath.get

    def found(content: Any, names: str, *further: Any, **options: Any) -> Any:
        place = content
        for name in names.split("."):
            # patterns, positions in a list and what is not there are DVC's own business
            if not (name.isidentifier() and isinstance(place, dict) and name in place):
                return search(content, names, *further, **options)
            place = place[name]
        return place

    param.dpath = types.SimpleNamespace(**{**vars(param.dpath), "get": found})


class _Stages:
    """Stages as forks of a server that has loaded their libraries: ``pipeline.process.fork_server``.

    It is started with the first stage, or ahead of it, with the environment that DVC gives it, and ends
    with DVC.
    """

    def __init__(self) -> None:
        self._connection: socket.socket | None = None
        self._answers: IO[bytes] | None = None
        self._for: Any = None
        self._is_ahead = False

    def start_ahead(self) -> None:
        """Start the server while DVC is loaded, as DVC is going to want it; else it is started anew."""
        folder = Path.cwd()
        with contextlib.suppress(OSError, ValueError):
            if first := _STAGE.search((folder / "dvc.yaml").read_text(encoding="utf-8")):
                environment = {**os.environ, "DVC_ROOT": str(folder)}
                self._start(bool(first[1]), str(folder), environment)
                self._is_ahead = True

    def run(self, command: str, settings: Mapping[str, Any]) -> int | None:
        """The exit code of a stage; None where the command is to be started in the ordinary way."""
        asked = _STAGE.fullmatch(command)
        if not asked or set(settings) != {"cwd", "env", "close_fds", "shell"}:
            return None
        environment = dict(settings["env"])
        stage = environment.pop("DVC_STAGE", "")
        wanted = bool(asked[1]), settings["cwd"], environment
        if not self._answers or (self._is_ahead and self._for != wanted):
            self._start(*wanted)
        self._is_ahead = False
        if not self._answers or self._for != wanted:
            return None
        assert self._connection is not None
        handler = None
        try:
            self._connection.sendall(f"{asked[2]} {stage}\n".encode())
            if threading.current_thread() is threading.main_thread():
                handler = signal.signal(
                    signal.SIGINT, signal.SIG_IGN
                )  # as DVC does: the stage has it
            said = self._answers.readline()
            if not said:
                raise BrokenPipeError
            if said != b"started\n":
                return int(said)
            # a stage without its server ends with DVC
            return int(self._answers.readline() or 1)
        except (BrokenPipeError, ConnectionResetError):  # no stage has begun
            return None
        finally:
            if handler is not None:
                signal.signal(signal.SIGINT, handler)

    def _start(self, safe: bool, folder: str, environment: dict[str, str]) -> None:
        python = shutil.which("python", path=environment.get("PATH"))
        if python is None:
            return
        own, theirs = socket.socketpair()
        command = [python, *(["-P"] if safe else []), "-m", "pipeline.process.fork_server"]
        with theirs:
            subprocess.Popen(command, cwd=folder, env=environment, stdin=theirs.fileno())
        self._connection, self._answers = own, own.makefile("rb")
        self._for = safe, folder, environment


def fork_stages() -> None:
    """Let DVC start stages as forks, where the system and this DVC are known to allow it."""
    if sys.platform != "linux":
        return
    stages = _Stages()
    if STAGES_AHEAD in os.environ:
        stages.start_ahead()
    from dvc.stage import run
    from dvc.stage.exceptions import StageCmdFailedError

    ordinary = getattr(run, "_run", None)
    if ordinary is None:
        return
    if list(inspect.signature(ordinary).parameters) != ["executable", "cmd", "kwargs"]:
        return

    def run_command(executable: str, cmd: str, **kwargs: Any) -> None:
        code = stages.run(cmd, kwargs)
        if code is None:
            ordinary(executable, cmd, **kwargs)
        elif code:
            raise StageCmdFailedError(cmd, code)

    run._run = run_command


def main() -> int:
    """Run a DVC command in this process; its exit code."""
    gc.set_threshold(100_000)  # what is imported stays: to look for garbage in it takes a tenth
    _end_with_run()
    try:
        return _run()
    except KeyboardInterrupt:  # before DVC takes care of it
        return INTERRUPTED


def _run() -> int:
    sys.stdout = _Log()  # before DVC keeps it
    fork_stages()
    from dvc.cli import main as dvc
    from dvc.logger import ColorFormatter

    parse_once()
    write_locks_plainly()
    find_parameters_directly()
    to_log = _ToLog(ColorFormatter(log_colors=False))
    for handler in logging.getLogger("dvc").handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
            handler.addFilter(to_log)
    return int(dvc(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
