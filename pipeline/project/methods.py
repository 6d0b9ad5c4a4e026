"""Several presets on one data set: a project each, one store for all, one table."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.maintenance import describe
from cache.store import Store
from fade.errors import FadeError, ParameterError
from fade.files import write_file
from pipeline.artefacts.catalogue import RUN
from pipeline.artefacts.tables import read_json, write_csv
from pipeline.config.load import parse_params
from pipeline.config.presets.catalogue import find_preset, render, substitute
from pipeline.config.values import PARAMS_FILE
from pipeline.config.yaml12 import load_yaml
from pipeline.project.check_model import missing_weights
from pipeline.project.preflight import check_dataset
from pipeline.project.scaffold import check_apart, create
from pipeline.report.methods import MethodCost, methods_page
from pipeline.report.paper_table import run_tables
from pipeline.report.rendering import RENDERERS
from pipeline.report.summary import DEFAULT_METRICS, read_summary

if TYPE_CHECKING:
    import pandas as pd

STORE = "store"
"""Folder of all projects' features, beside them."""
TABLE, PAGE = "methods.csv", "index.html"
LIGHT = ("own-fewshot", "own-zeroshot", "own-offline", "own-anomalydino")
"""Presets that run where nobody names others: those that a CPU takes minutes for."""


@dataclass(frozen=True)
class MethodOutcome:
    """What a preset came to.

    Attributes:
        summary: means and deviations over seeds, by category and shots.
        seconds: that this run took, with what was in the store already.
        size: bytes of the features that it reads, whether or not another preset reads them too.
    """

    name: str
    summary: pd.DataFrame
    seconds: float
    size: int


def leaf_values(given: Sequence[str]) -> dict[str, Any]:
    """Leaves that were typed as ``NAME=VALUE``, the value as in YAML.

    >>> leaf_values(["vision.shots=[1, 4]"])
    {'vision.shots': [1, 4]}

    Raises:
        ParameterError: one is not written so.
    """
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise ParameterError(f"--set {text!r} is no NAME=VALUE: write vision.shots=[1,4]")
        found[name] = load_yaml(value)
    return found


@dataclass(frozen=True)
class PlannedProject:
    """A project that can run.

    Attributes:
        folder: of the project; its neighbour :data:`STORE` has the features.
        text: of its params.yaml.
    """

    folder: Path
    preset: str
    text: str


def plan_project(
    folder: Path, preset: str, data: str, values: Mapping[str, Any]
) -> PlannedProject | str:
    """The project of a preset; nothing is written.

    Args:
        folder: of the project.
        values: leaves in place of the preset's.

    Returns:
        The project, or why the preset cannot run here, as its weights are missing.

    Raises:
        ParameterError: there is no such preset or leaf, or a value is refused.
        DataError: the data set cannot be read, or has too few images.
    """
    check_apart(folder, data)
    place = data if "://" in data else os.path.abspath(os.path.expanduser(data))
    text = render(find_preset(preset), data=place)
    leaves = {**values, "features.store": os.path.abspath(folder.parent / STORE)}
    for name, value in leaves.items():
        try:
            text = substitute(text, {name: value})
        except KeyError:
            raise ParameterError(f"--set {name}: params.yaml has no such leaf") from None
    params = parse_params(load_yaml(text), f"preset {preset}")
    if missing := missing_weights(params):
        return missing
    shots = params.max_shots if params.needs_vision else 0
    check_dataset(params.dataset, shots, batch=params.needs_batch)
    return PlannedProject(folder, preset, text)


def write_project(project: PlannedProject) -> None:
    """Make a project, or bring its parameters up to date."""
    file = project.folder / PARAMS_FILE
    create(project.folder, project.text, demo=False, git=False, force=True)
    if file.read_text(encoding="utf-8") != project.text:
        write_file(file, project.text)


def fade_run(folder: Path) -> int:
    """Run ``fade run`` in a project, by itself: what it prints goes to stderr. Returns its exit code."""
    command = [sys.executable, "-m", "pipeline.cli.main", "run"]
    return subprocess.run(command, cwd=folder, stdout=sys.stderr.fileno(), check=False).returncode


def run_project(folder: Path, preset: str) -> MethodOutcome:
    """Run the project of a preset; what is up to date does not run again.

    Raises:
        FadeError: the run failed, with its exit code; its own message was printed.
    """
    start = time.monotonic()
    if code := fade_run(folder):
        failed = FadeError(f"preset {preset} failed in {folder}: what it said stands above")
        failed.exit_code = max(code, FadeError.exit_code)  # a killed run has a code below 0
        raise failed
    seconds = time.monotonic() - start
    features = read_json(folder / RUN.path)["features"].values()
    used = {one["fingerprint"] for one in features}
    spaces = describe(Store(folder.parent / STORE))
    size = sum(space.bytes for space in spaces if space.fingerprint in used)
    return MethodOutcome(preset, read_summary(folder), seconds, size)


def write_table(outcomes: Sequence[MethodOutcome], file: Path) -> None:
    """Write a row for each preset, category and number of shots: the summaries' columns and the costs."""
    import pandas as pd

    parts = [
        one.summary.assign(method=one.name, seconds=round(one.seconds, 1), feature_bytes=one.size)
        for one in outcomes
    ]
    rows = pd.concat(parts, ignore_index=True)
    first = ["method", "category", "shots"]
    write_csv(rows[[*first, *(name for name in rows if name not in first)]], file)


def write_page(
    outcomes: Sequence[MethodOutcome], file: Path, metrics: Sequence[str], title: str
) -> None:
    """Write the page that has the table, and the report of each preset in a tab."""
    tables = run_tables([(one.name, one.summary) for one in outcomes], metrics)
    costs = [MethodCost(one.name, one.seconds, one.size) for one in outcomes]
    write_file(file, methods_page(title, tables, costs))


def markdown(outcomes: Sequence[MethodOutcome], metrics: Sequence[str] = DEFAULT_METRICS) -> str:
    """Tables of method by shots, one a metric, and what each method cost."""
    tables = run_tables([(one.name, one.summary) for one in outcomes], metrics)
    lines = ["| method | seconds, with what the store had | feature bytes |", "|---|---|---|"]
    lines += [f"| {one.name} | {one.seconds:.0f} | {one.size:,} |" for one in outcomes]
    return RENDERERS["markdown"](tables, bold=True).rstrip("\n") + "\n\n" + "\n".join(lines) + "\n"
