"""DVC as `fade run` starts it: it ends with that run, and keeps its own remarks to the log.

A program by itself, started by its path: it imports nothing of this package, so that no folder of the
project can stand in for it. Its standard output is the log.
"""

from __future__ import annotations

import copy
import functools
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

STARTED_BY_RUN = "FADE_RUN"
ERROR_FILE = "FADE_DVC_ERROR_FILE"
"""Environment variable: file for what DVC says of its failure."""
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_END = 30.0
"""Seconds after which a DVC that was asked to end is killed."""


def _gone(number: int, started: float) -> bool:
    import psutil

    try:
        process = psutil.Process(number)
        return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - started) >= 1
    except psutil.Error:
        return True


def _end_with_run() -> None:
    """Interrupt DVC when the `fade run` dies; a stage that runs ends by itself."""
    number, _, started = os.environ.get(STARTED_BY_RUN, "").partition(" ")
    main = threading.main_thread().ident
    if not number or main is None:
        return
    # DVC takes no interrupt while a stage runs, nor does what a shell started in the background
    signal.signal(signal.SIGUSR1, signal.default_int_handler)

    def watch() -> None:
        while not _gone(int(number), float(started)):
            time.sleep(SECONDS_BETWEEN_LOOKS)
        signal.pthread_kill(main, signal.SIGUSR1)
        time.sleep(SECONDS_TO_END)
        os._exit(1)

    threading.Thread(target=watch, name="watch-run", daemon=True).start()


INTERRUPTED = 252
"""Exit code of DVC after an interrupt."""


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
            with Path(file).open("a", encoding="utf-8") as out:
                out.write(text + "\n")
        return False


def parse_once() -> None:
    """Let DVC parse a text of YAML once: it asks for params.yaml at every stage, some seventy times."""
    from dvc.utils.serialize import _yaml

    parse, parsed = _yaml.parse_yaml, functools.lru_cache(maxsize=64)(_yaml.parse_yaml)

    def copied(text: str, path: str, typ: str = "safe") -> Any:
        if typ != "safe":  # with its comments
            return parse(text, path, typ)
        return copy.deepcopy(parsed(text, path))

    _yaml.parse_yaml = copied


def main() -> int:
    """Run a DVC command in this process; its exit code."""
    _end_with_run()
    try:
        return _run()
    except KeyboardInterrupt:  # before DVC takes care of it
        return INTERRUPTED


def _run() -> int:
    from dvc.cli import main as dvc
    from dvc.logger import ColorFormatter

    parse_once()
    to_log = _ToLog(ColorFormatter(log_colors=False))
    for handler in logging.getLogger("dvc").handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
            handler.addFilter(to_log)
    return int(dvc(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
