"""Runs one stage: its parameters, its log file, and its errors as lines instead of tracebacks."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from fade.errors import FadeError, StoreError, printable, refusal
from pipeline.params import load_params
from pipeline.paths import project_root

log = logging.getLogger("fade")

TRACEBACK = "FADE_TRACEBACK"
"""Environment variable: set it to see tracebacks."""
MOST = 4000
"""Characters of an error's line."""
EXIT_CODE_FILE = "FADE_EXIT_CODE_FILE"
"""Environment variable: file for a failing stage's exit code, which DVC does not pass on."""


class _OneLine(logging.Formatter):
    """Writes control characters of a message as escapes: names may hold them."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)
        return super().formatMessage(record)


def _open_log(stage: str) -> Path | None:
    """Send log records to the terminal and to a file of this run."""
    log.setLevel(logging.INFO)
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(_OneLine(f"{stage}: %(message)s"))
    log.addHandler(terminal)
    log.propagate = False
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    path = project_root() / "logs" / f"{stamp}-{stage}-{os.getpid()}.log"
    try:
        path.parent.mkdir(exist_ok=True)
        file = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        log.warning("no log file: %s", error)
        return None
    # a full disk must not fill the terminal with logging's own tracebacks
    file.handleError = lambda record: None  # type: ignore[method-assign]
    file.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(file)
    return path


def _leave_exit_code(code: int) -> None:
    file = os.environ.get(EXIT_CODE_FILE)
    if file:
        with contextlib.suppress(OSError):
            Path(file).write_text(str(code), encoding="ascii")


def one_line(error: Exception) -> str:
    """An error's text as one line that steers no terminal, cut if somebody made it endless."""
    text = printable(str(error))
    return text if len(text) <= MOST else f"{text[: MOST // 2]} ... {text[-MOST // 2 :]}"


def for_people(error: Exception) -> FadeError | None:
    """An error that its reader can mend, a full disk or a closed folder included; None for others."""
    if isinstance(error, FadeError):
        return error
    if isinstance(error, OSError) and (reason := refusal(error)):
        return StoreError(
            f"{error.filename or 'a file'}: {reason}: mend that and run again; what was finished is kept"
        )
    return None


def run_stage(module: str) -> None:
    """Run the function ``run(params)`` of a stage module and end the process.

    The module is imported by its name, so that workers can find its functions even when it was
    started with ``python -m``. Exit codes: 0 done, 2 parameters, 3 data, 4 model, 5 store or
    artefact, 130 interrupted, 1 anything else.
    """
    stage = module.rpartition(".")[2]
    path = _open_log(stage)
    start = time.monotonic()
    try:
        importlib.import_module(module).run(load_params())
    except KeyboardInterrupt:
        log.error("interrupted; what was finished is kept, run again to go on")
        code = 130
    except Exception as error:
        known = for_people(error)
        code = known.exit_code if known else FadeError.exit_code
        if os.environ.get(TRACEBACK):
            _leave_exit_code(code)
            raise
        if known:
            log.error("error: %s", one_line(known))
            log.debug("traceback", exc_info=True)
            _end(code)
        for handler in log.handlers:
            if isinstance(handler, logging.FileHandler):
                record = log.makeRecord(
                    log.name, logging.ERROR, "", 0, "traceback", (), sys.exc_info()
                )
                handler.handle(record)
        where = f"the traceback is in {path}" if path else f"set {TRACEBACK}=1 for a traceback"
        log.error("unexpected %s: %s; %s", type(error).__name__, one_line(error), where)
    else:
        log.info("done in %.1f s", time.monotonic() - start)
        code = 0
    _end(code)


def _end(code: int) -> NoReturn:
    if code:
        _leave_exit_code(code)
    logging.shutdown()
    sys.exit(code)
