"""Runs one stage: its parameters, its log file, and its errors as lines instead of tracebacks."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from fade.errors import FadeError, ParameterError, StoreError, plain, refusal
from pipeline.artefacts.catalogue import project_root
from pipeline.artefacts.named_files import file_hashes, in_words, replaced
from pipeline.artefacts.parameters import (
    listed,
    misnoted,
    named_parameters,
    outdated,
    stages_before,
    withdraw,
    write_record,
)
from pipeline.config.load import load_params
from pipeline.config.schema import Params
from pipeline.config.values import PARAMS_FILE
from pipeline.config.yaml12 import differing, leaf, load_yaml
from pipeline.dataset.stamps import fresh_manifest
from pipeline.process.dvc_files import keep_locks
from pipeline.process.dvc_watchdog import exit_when_dvc_dies
from pipeline.process.ending import end_at_once
from pipeline.process.streams import open_closed_streams

log = logging.getLogger("fade")

TRACEBACK = "FADE_TRACEBACK"
"""Environment variable: set it to see tracebacks."""
MAX_LINE = 4000
"""Largest number of characters of an error's line."""
EXIT_CODE_FILE = "FADE_EXIT_CODE_FILE"
"""Environment variable: file for a failing stage's exit code, which DVC does not pass on."""


class OneLine(logging.Formatter):
    """Writes each record as one line that steers no terminal; only tracebacks have more lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The record without its traceback."""
        return plain(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        """A traceback, which holds messages with names in them, too."""
        return "\n".join(map(plain, super().formatException(ei).split("\n")))


class _StageLine(OneLine):
    """A line for the terminal, which names the stage once."""

    def __init__(self, stage: str) -> None:
        super().__init__(f"{stage}: %(message)s")
        self._name = f"{stage}: "

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The record; work on a cluster says itself which stage it is of."""
        text = super().formatMessage(record).removeprefix(self._name)
        return text if text.startswith(self._name) else self._name + text


def _open_log(stage: str) -> Path | None:
    """Send log records to the terminal and to a file of this run."""
    log.setLevel(logging.INFO)
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(_StageLine(stage))
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
    file.setFormatter(OneLine("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(file)
    return path


def _leave_exit_code(code: int) -> None:
    file = os.environ.get(EXIT_CODE_FILE)
    if file:
        with contextlib.suppress(OSError):
            Path(file).write_text(str(code), encoding="ascii")


def one_line(error: Exception | str) -> str:
    """An error's text as one line that steers no terminal, cut if somebody made it endless."""
    text = plain(str(error))
    return (
        text if len(text) <= MAX_LINE else f"{text[: MAX_LINE // 2]} ... {text[-MAX_LINE // 2 :]}"
    )


OF_RUNS = frozenset(
    {
        "dask", "distributed", "dvc", "faiss", "google_crc32c", "huggingface_hub", "jinja2",
        "open_clip", "pandas", "pyarrow", "safetensors", "scipy", "sklearn",
        "threadpoolctl", "tifffile", "timm", "torch", "torchvision", "tqdm", "zarr",
    }
)  # fmt: skip
"""Modules that the extras ``cpu`` and ``gpu`` bring, and bundles with an ONNX model do without."""
_FULL_GPU = re.compile(r"OutOfMemoryError|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED")
"""Errors of torch, by their text: torch may not be imported here."""


def as_user_error(error: Exception) -> FadeError | None:
    """An error that its reader can fix, a full disk or a closed folder included; None for others."""
    if isinstance(error, FadeError):
        return error
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in OF_RUNS:
        return _not_installed(str(error.name))
    if isinstance(error, RuntimeError) and _FULL_GPU.search(f"{type(error).__name__}: {error}"):
        return ParameterError(
            "the GPU's memory is full: lower runtime.batch_size, leave the GPU to this run alone, or set "
            "runtime.device to cpu; what was finished is kept"
        )
    if isinstance(error, OSError) and (reason := refusal(error)):
        return StoreError(
            f"{error.filename or 'a file'}: {reason}: fix this and run again; what was finished is kept"
        )
    if isinstance(error, FileNotFoundError) and not _is_somewhere():
        return ParameterError("the folder that this was started in is gone: change to another")
    return None


def _is_somewhere() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _not_installed(name: str) -> ParameterError:
    return ParameterError(
        f"{name} is not installed, which runs need: `pip install 'fade-pipeline[cpu]'` brings it, or "
        "[gpu] with CUDA ([edge] alone predicts with bundles of `fade bundle --onnx`)"
    )


def require_packages_of_runs() -> None:
    """Refuse to start a run where the extras ``cpu`` and ``gpu`` are not installed.

    Raises:
        ParameterError: with what to install.
    """
    for name in ("dvc", "torch", "dask"):
        if find_spec(name) is None:
            raise _not_installed(name)


def used_parameters(stage: str) -> dict[str, Any]:
    """The values that dvc.yaml names as a stage's parameters, by dotted name.

    Before a name from another file than params.yaml, such as ``code.json``, stand that file's name and a
    colon. None without a dvc.yaml, or where it has no such stage: stages may also run without DVC.

    Raises:
        ParameterError: dvc.yaml, or a file that it names, cannot be read.
    """
    file = Path("dvc.yaml")
    if not file.exists():
        return {}
    used: dict[str, Any] = {}
    try:
        entry = load_yaml(file.read_text("utf-8"))["stages"].get(stage) or {}
        for name, keys in named_parameters(entry).items():
            file = Path(name)
            # a file that no stage has made yet has no values
            content = load_yaml(file.read_text("utf-8")) if file.exists() else None
            of = "" if file == PARAMS_FILE else f"{name}:"
            used |= {f"{of}{key}": leaf(content, key) for key in keys or (content or {})}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ParameterError(
            f"{file} cannot be read to see which parameters {stage} uses: {one_line(error)}"
        ) from None
    return used


def check_unchanged(stage: str, used: Mapping[str, Any]) -> None:
    """Refuse results of parameters that changed meanwhile.

    DVC notes parameters when a stage ends, and would take its results for those of the new ones.

    Raises:
        ParameterError: some of them have other values now, or cannot be read any more.
    """
    now = used_parameters(stage)
    changed = [
        found
        for name in {**used, **now}
        for found in differing(used.get(name), now.get(name), name)
    ]
    if changed:
        raise ParameterError(
            f"parameters changed while this stage ran ({', '.join(sorted(changed)[:5])}): run again; "
            "what the new values leave as it is is not computed again"
        )


def check_files(stage: str, params: Params, read: Mapping[str, str]) -> None:
    """Refuse results of weights, configs or prompts that were replaced meanwhile.

    Raises:
        ParameterError: some of them have another content now, or are gone.
    """
    now = file_hashes(stage, params)
    if changed := sorted(name for name in read if now.get(name) != read[name]):
        raise ParameterError(
            f"{', '.join(changed)} changed while this stage ran: run again with the file that you want"
        )


def check_before(stage: str, params: Params) -> None:
    """Refuse to build on stages that ran with other parameters than this one has, or than DVC noted.

    A parameter file that is saved at the very end of a stage is noted for results of the values before:
    DVC reads it when the stage has ended. Such a stage is made to run again, and so is one whose weights
    or prompts were replaced under their names.

    Raises:
        ParameterError: there are such stages.
    """
    before = stages_before(stage)
    wrong = {name: changed for name, changed in misnoted().items() if name in before}
    if wrong:
        withdraw(wrong)
        raise ParameterError(
            f"{PARAMS_FILE} changed just when a stage ended ({listed(wrong)}): run again; that stage "
            "then runs with the new values"
        )
    if changed := outdated(before):
        raise ParameterError(
            f"{PARAMS_FILE} changed after a stage ran ({listed(changed)}): run again; what the "
            "new values leave as it is is not computed again"
        )
    if other := replaced(before, params):
        withdraw(other)
        raise ParameterError(
            f"{in_words(other)} was replaced after {', '.join(other)} read it: run again"
        )


def run_stage(module: str) -> None:
    """Run the function ``run(params)`` of a stage module and end the process.

    The module is imported by its name, so that workers can find its functions even when it was
    started with ``python -m``. Exit codes: 0 done, 2 parameters, 3 data, 4 model, 5 store or
    artefact, 130 interrupted, 1 anything else.
    """
    stage = module.rpartition(".")[2]
    open_closed_streams()
    path = _open_log(stage)
    start = time.monotonic()
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # see stages/__init__.py
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        by_dvc = exit_when_dvc_dies()
        used, params = used_parameters(stage), load_params()
        check_unchanged(stage, used)  # what is noted and what the stage gets are of one file
        if by_dvc:
            keep_locks()
            check_before(stage, params)
        files = file_hashes(stage, params)
        run = importlib.import_module(module).run
        with contextlib.nullcontext() if stage == "manifest" else fresh_manifest(params.dataset):
            run(params)
        check_unchanged(stage, used)
        check_files(stage, params, files)
        if used:
            write_record(stage, used, files)
    except KeyboardInterrupt:
        log.error("interrupted; what was finished is kept, run again to go on")
        code = 130
    except Exception as error:
        known = as_user_error(error)
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
    else:
        end_at_once(code)
    logging.shutdown()
    sys.exit(code)
