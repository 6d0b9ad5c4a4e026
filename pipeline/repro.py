"""Runs the pipeline through DVC, and finds out why it failed where DVC would not say."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from fade.errors import ParameterError
from pipeline.overrides import overridden, restore
from pipeline.params import load_params
from pipeline.project.scaffold import refresh_code
from pipeline.runner import EXIT_CODE_FILE

UNKNOWN = 1
"""Exit code where no stage left one: DVC itself failed, or a stage was killed."""


def repro(
    stages: Sequence[str] = (), *, force: bool = False, overrides: Mapping[str, Any] | None = None
) -> int:
    """Run ``dvc repro`` in the working directory, which is the project's.

    DVC ends with 255 whatever a stage ended with, so a failing stage leaves its exit code in a file
    that its environment names.

    Args:
        stages: to bring up to date with what they need; all if none.
        force: run them even if nothing changed.
        overrides: parameters for this run alone, by dotted name; params.yaml is put back afterwards.

    Returns:
        0, or the exit code of the stage that failed.

    Raises:
        ParameterError: no project here, refused parameters, or an unknown stage.
    """
    check_stages(stages)
    if line := restore():
        print(line, file=sys.stderr)
    load_params()
    refresh_code()
    with (
        overridden(overrides or {}) as read_by,
        tempfile.TemporaryDirectory(prefix="fade-") as folder,
    ):
        left = Path(folder) / "exit-code"
        command = [sys.executable, "-m", "dvc", "repro", *(["--force"] if force else []), *stages]
        process = subprocess.Popen(command, env=_environment(left))
        read_by(process.pid)
        if not _wait(process):
            return 0
        try:
            return int(left.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return UNKNOWN


def _environment(left: Path) -> dict[str, str]:
    # stages are started as `python -m`: this python's folder must come first
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return {**os.environ, "PATH": os.pathsep.join(folders), EXIT_CODE_FILE: str(left)}


def _wait(process: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # the terminal told DVC too, and it ends when its stage has put its work away
            continue


def check_stages(stages: Sequence[str], file: Path = Path("dvc.yaml")) -> None:
    """Refuse stages that the project does not have (ParameterError)."""
    try:
        known = list(yaml.safe_load(file.read_text(encoding="utf-8"))["stages"])
    except FileNotFoundError:
        raise ParameterError(
            f"no {file} here ({Path.cwd()}): run in a project folder, or make one with `fade new DIR` "
            "(`fade new . --force` keeps a params.yaml that is here)"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        detail = " ".join(str(error).split())
        raise ParameterError(f"{file} lists no stages ({detail}): restore it") from None
    for stage in stages:
        if stage not in known:
            close = get_close_matches(stage, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
            raise ParameterError(f"there is no stage {stage!r} ({hint})")
