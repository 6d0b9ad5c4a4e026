"""Runs the pipeline through DVC, and finds out why it failed where DVC would not say."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from fade.datasets.listing import fault_of
from fade.datasets.names import is_text
from fade.errors import DataError, ParameterError, summarise
from pipeline.config.schema import DatasetParams, load_params
from pipeline.project.code import refresh_code
from pipeline.project.overrides import overridden, restore
from pipeline.stage import EXIT_CODE_FILE

ENDS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end a run in order, besides an interrupt: params.yaml is put back."""
UNKNOWN = 1
"""Exit code where no stage left one: DVC itself failed, or a stage was killed."""
NEVER_HASHED = {".git", ".hg", ".dvc"}
"""Names that DVC passes over wherever they lie."""
MOST_FAULTS = 100
"""Of a data set that are looked for."""


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
        DataError: DVC could not hash the data set.
    """
    known = check_stages(stages)
    if line := restore():
        print(line, file=sys.stderr)
    params = load_params()
    if "manifest" in known:
        check_watched(params.dataset)
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
    """DVC's exit code. Whoever ends this process ends DVC, which would else go on without it."""

    def end(number: int, frame: object) -> None:
        process.send_signal(number)

    before = {
        number: signal.signal(number, end)
        for number in ENDS
        if threading.current_thread() is threading.main_thread()
    }
    try:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                # the terminal told DVC too, and it ends when its stage has put its work away
                continue
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_watched(dataset: DatasetParams) -> None:
    """Refuse what DVC would choke on, or wait for, when it hashes ``dataset.watch``.

    DVC does that before the manifest stage starts, which would say more. The folder is listed, but no
    file is looked at.

    Raises:
        DataError: it does not exist, or holds what is neither file nor folder, or an unreadable name.
    """
    watch = dataset.watch
    if "://" in watch:
        return
    try:
        mode = os.stat(watch).st_mode
    except OSError as error:
        if error.errno == errno.ENOENT and made_by_a_stage(watch):
            return
        if error.errno == errno.ENOENT and watch != dataset.path:
            raise DataError(
                f"{watch} does not exist: correct dataset.watch, or let `fade scan` write a listing "
                "there"
            ) from None
        what = (
            "does not exist" if error.errno == errno.ENOENT else f"cannot be read: {error.strerror}"
        )
        raise DataError(
            f"{watch} {what}; correct the data set's path (dataset.path and dataset.watch)"
        ) from None
    if not stat.S_ISDIR(mode):
        if not stat.S_ISREG(mode):
            raise DataError(f"{watch} is no plain file; correct dataset.watch")
        return
    faults = dict(islice(_faults(watch), MOST_FAULTS))
    for path in _ignored_by_dvc(watch, list(faults)):
        faults.pop(path, None)
    if faults:
        raise DataError(summarise(sorted(faults.values())))


def _faults(top: str) -> Iterator[tuple[str, str]]:
    """Paths below a folder that DVC cannot hash, each with a line that says why.

    As DVC does, links to folders are not followed, and folders that cannot be listed are passed over.
    """
    folders = [top]
    while folders:
        folder = folders.pop()
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                path = entry.path
                if entry.name in NEVER_HASHED:
                    continue
                if entry.name == ".dvcignore":
                    yield path, f"{path} lies among the data, where DVC allows none; remove it"
                elif not is_text(entry.name):
                    yield path, f"{folder}: file name {entry.name!r} is not UTF-8; rename it"
                elif fault := fault_of(entry):
                    yield path, f"{path} {fault}"
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(path)


def _ignored_by_dvc(watch: str, paths: Sequence[str]) -> list[str]:
    """Those of some paths that the project's .dvcignore hides from DVC."""
    inside = Path.cwd() in Path(watch).resolve().parents
    asked = [path for path in paths if is_text(path)]
    if not asked or not inside:
        return []
    command = [sys.executable, "-m", "dvc", "check-ignore", *asked]
    return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()


def made_by_a_stage(path: str) -> bool:
    """Tell whether DVC makes a path of this project, by a stage or from its cache."""
    place = Path(os.path.normpath(path))
    made = [Path(f"{folder}.dvc") for folder in (place, *place.parents)]
    if any(file.is_file() for file in made):
        return True
    for file in (Path("dvc.yaml"), *Path().glob("*/dvc.yaml"), Path("pipeline/demo/dvc.yaml")):
        try:
            stages = yaml.safe_load(file.read_text(encoding="utf-8"))["stages"].values()
            outs = [
                os.path.normpath(file.parent / stage.get("wdir", "") / name)
                for stage in stages
                for out in stage.get("outs", ())
                for name in ([out] if isinstance(out, str) else out)
            ]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
            continue
        if any(Path(out) in (place, *place.parents) for out in outs):
            return True
    return False


def check_stages(stages: Sequence[str], file: Path = Path("dvc.yaml")) -> list[str]:
    """Refuse stages that the project does not have (ParameterError); those that it has."""
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
    return known
