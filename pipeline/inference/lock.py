"""Whether the results of a project folder are of its parameters, by what DVC noted."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from fade.errors import StoreError
from fade.files import read_text
from pipeline.artefacts.parameters import LOCK_FILE, listed, misnoted, noted_parameters
from pipeline.artefacts.receipts import check_receipts
from pipeline.config.load import parse_params
from pipeline.config.values import PARAMS_FILE
from pipeline.config.yaml12 import differing, leaf, load_yaml
from pipeline.process.dvc_files import is_beginning

WHICH_IMAGES = ("dataset.categories", "dataset.limit")
"""Parameters that choose test images and change nothing that new images meet."""


def check_lock(folder: Path) -> None:
    """Refuse parameters that DVC did not run with, and stages that ran alone, by its lock file.

    The report's parameters are all there are, so those of the other stages are looked at. A stage
    that ran while those after it did not leaves banks, say, that thresholds are not made for.
    Receipts must be those of the run, too.

    Args:
        folder: of the project; one without a lock file is not looked at.

    Raises:
        StoreError: with what to run.
    """
    if is_beginning(folder):
        raise StoreError(
            f"{folder / LOCK_FILE} cannot be read whole, as a killed run leaves it: run `fade run`"
        )
    try:
        lock = load_yaml(read_text(folder / LOCK_FILE))
        content = load_yaml(read_text(folder / PARAMS_FILE))
        stages = dict(lock["stages"])
        ran = {
            name: value
            for stage, entry in stages.items()
            if stage != "report"
            for name, value in entry.get("params", {}).get(str(PARAMS_FILE), {}).items()
        }
        made = {out["path"]: out.get("md5") for s in stages.values() for out in s.get("outs", ())}
        behind = [
            stage
            for stage, entry in stages.items()
            for dep in entry.get("deps", ())
            if stage != "report" and made.get(dep["path"], dep.get("md5")) != dep.get("md5")
        ]
    except FileNotFoundError:
        return  # stages may also be run without DVC
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise StoreError(f"{folder / LOCK_FILE} cannot be read: run `fade run`") from None
    if wrong := misnoted(folder):
        raise StoreError(
            f"{folder / PARAMS_FILE} changed just when a stage ended ({listed(wrong)}): run "
            "`fade run` to bring the results up to date"
        )
    changed = [
        found
        for name, value in ran.items()
        for found in differing(value, leaf(content, name), name)
        if found not in WHICH_IMAGES
    ]
    known = noted_parameters(stages.get("evaluate"))
    changed += _came_later(known, content, str(folder / PARAMS_FILE))
    if changed:
        raise StoreError(
            f"{folder / PARAMS_FILE} changed since the run ({', '.join(sorted(set(changed))[:5])}): run "
            "`fade run` to bring the results up to date"
        )
    if behind:
        raise StoreError(
            f"{', '.join(dict.fromkeys(behind))} did not run again after the stages before: run "
            "`fade run` to bring the results up to date"
        )
    check_receipts(folder)


def _came_later(noted: Collection[str], content: Any, source: str) -> list[str]:
    """Parameters of ``evaluate`` that the run of an older version did not know, and that are set now.

    Other sections are noted as a whole.

    Args:
        noted: names of the parameters that the stage ``evaluate`` knew; none where it did not run.
        content: of params.yaml.
        source: its name.

    Raises:
        ParameterError: parameters are not valid.
    """
    known = {name.split(".")[1] for name in noted if name.startswith("evaluate.")}
    given = {*(leaf(content, "evaluate") or ())} - known if known else set()
    if not given:
        return []
    own = parse_params(content, source).evaluate
    fields = type(own).model_fields
    return [
        f"evaluate.{name}"
        for name in sorted(given)
        if getattr(own, name) != fields[name].get_default(call_default_factory=True)
    ]
