"""Lets things happen at chosen moments of a run; Python imports this module when it starts.

``SAVE_AT`` names a stage and when params.yaml is replaced by ``other.yaml``: ``manifest during`` is when
the stage writes its first file below ``artefacts``, ``manifest after`` when its process ends, after its
last look at params.yaml and before DVC reads it. ``STOP_AT`` names a stage that waits a minute at its
first file. ``KILL_AT`` names one of DVC's files and a number: ``dvc.lock 2`` kills DVC when it has
emptied this file the second time, before it writes it.
"""

import atexit
import os
import shutil
import signal
import sys
import time

_stage, _, _moment = os.environ.get("SAVE_AT", "").partition(" ")
_stopped = os.environ.get("STOP_AT", "")
_file, _, _number = os.environ.get("KILL_AT", "").partition(" ")
_saved: list[str] = []
_emptied: list[str] = []


def _is(stage: str) -> bool:
    return f"stages.{stage}" in sys.orig_argv  # looked at late: a stage may be a fork


def _save() -> None:
    if not _saved and os.path.exists("other.yaml"):
        _saved.append(shutil.copy("other.yaml", "params.yaml"))


def _stop() -> None:
    if not _saved:
        _saved.append("")
        time.sleep(60)


def _watch(event: str, args: tuple[object, ...]) -> None:
    part = event == "open" and "artefacts" in str(args[0]) and str(args[0]).endswith(".part")
    if part and _is(_stopped or _stage):
        _stop() if _stopped else _save()


def _kill(event: str, args: tuple[object, ...]) -> None:
    if event != "open" or os.path.basename(str(args[0])) != _file or "w" not in str(args[1]):
        return
    _emptied.append(str(args[0]))
    if len(_emptied) == int(_number):
        os.truncate(_emptied[-1], 0)
        os.kill(os.getpid(), signal.SIGKILL)


def _save_at_end() -> None:
    if _is(_stage):
        _save()


if _stopped or _moment == "during":
    sys.addaudithook(_watch)
if _moment == "after":
    atexit.register(_save_at_end)
if _file and "repro" in sys.orig_argv:
    sys.addaudithook(_kill)
