"""What a reader of the report must know, and what its numbers come from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cache.layout import Space
from fade.encoder import SEEDED
from fade.errors import counted, plain, summarise
from fade.metrics import METRIC_NAMES
from pipeline.artefacts.catalogue import (
    MANIFEST,
    TEST,
)
from pipeline.artefacts.provenance import contents_by_category, data_fingerprint, flattened
from pipeline.artefacts.tables import (
    table_columns,
    table_parts,
)
from pipeline.config.schema import Params
from pipeline.features.models import DEMO_MODEL
from pipeline.report.labels import metric_label
from pipeline.report.sameness import read_run
from pipeline.report.summary import find_summary

NOTICE, NOTICE_LENGTH = "NOTICE.txt", 500
_TESTS = ("category", "path", "hash", "mask_hash")


def reader_warnings(params: Params, evaluation: dict[str, Any], data: dict[str, Any]) -> list[str]:
    """What a reader of the numbers must know."""
    found = of_parameters(params)
    skipped = [item["reason"] for item in data["skipped"]]
    if skipped:
        found.append(
            f"{counted(len(skipped), 'image')} could not be used, left out: {summarise(skipped)}."
        )
    found += data["warnings"]
    for category, count in evaluation["without_mask"].items():
        found.append(
            f"{category}: {counted(count, 'defect image', 'has')} no mask and no part in pixel metrics."
        )
    for category, count in evaluation.get("without_label", {}).items():
        images = counted(count, "test image", "has")
        found.append(f"{category}: {images} no label and no part in metrics.")
    found += [line for line in [transductive(params)] if line]
    found += evaluation["warnings"]
    total = evaluation["categories"]
    partial: dict[int, list[str]] = {}
    for metric in METRIC_NAMES:
        known = evaluation["mean_over"][metric]
        if 0 < known < total:
            partial.setdefault(known, []).append(metric_label(metric))
    for known, names in partial.items():
        found.append(f"Over {known} of {total} categories runs the mean of: {', '.join(names)}.")
    return found


def of_parameters(params: Params) -> list[str]:
    """What a reader of the numbers must know of a run's parameters."""
    found = []
    if params.vision.encoder is not None and not params.needs_language:
        pass  # the CLIP of model has no part
    elif params.model.pretrained == SEEDED:
        found.append("The weights are seeded, not trained: the numbers mean nothing.")
    elif params.model.pretrained == DEMO_MODEL:
        found.append(
            "The model is the demo's, trained on drawn pictures alone: on other images its numbers "
            "say nothing about what a real CLIP would do."
        )
    limit = params.dataset.limit
    if limit is not None:
        found.append(
            f"Of each defect and of good, only the first {counted(limit, 'test image')} had a part "
            "(dataset.limit)."
        )
    return found


def run_notes(place: Path) -> list[str]:
    """What a reader of a run's table must know, as far as ``run.json`` beside its summary says it.

    Args:
        place: a results or project folder, or the summary itself.

    Raises:
        StoreError: there is no summary, or ``run.json`` is damaged.
    """
    parameters = read_run(find_summary(place)).get("parameters", {})
    try:
        return of_parameters(Params.model_validate(parameters))
    except ValueError:  # of another version, whose parameters are not known here
        return []


def transductive(params: Params) -> str | None:
    """That scores depend on the images they are scored with, where a batch is compared."""
    of_batch = sorted(
        {trial.shots for trial in params.trials() if params.vision.has_batch(trial.shots)}
    )
    if not of_batch or not params.needs_vision:
        return None
    shots = f"{', '.join(map(str, of_batch))} {'shot' if of_batch == [1] else 'shots'}"
    return (
        f"Transductive: at {shots} the test images of a category are "
        "compared with each other, unlabelled, so that a score depends on all of them (vision.bank)."
    )


def data_notice(root: object) -> list[str]:
    """What NOTICE.txt at the root of a data set says, such as its licence: it goes where its images go.

    Args:
        root: the data set's; nothing is looked for in a bucket.

    Returns:
        The first :data:`NOTICE_LENGTH` characters as one line, or nothing.
    """
    file = root / NOTICE if isinstance(root, Path) else None
    if file is None or not file.is_file():
        return []
    with file.open("rb") as opened:
        text = opened.read(4 * NOTICE_LENGTH).decode("utf-8", errors="replace")
    line = plain(" ".join(text.split()))[:NOTICE_LENGTH]
    return [line] if line else []


def run_facts(params: Params, evaluation: dict[str, Any]) -> dict[str, Any]:
    """What the results come from: data, features, parameters, and what computed them."""
    images = (
        (path, key)
        for part in table_parts(MANIFEST.path, ("path", "hash"))
        for path, key in zip(part["path"].to_pylist(), part["hash"].to_pylist(), strict=True)
    )
    tests = (
        (category, os.path.splitext(path)[0], content, mask)
        for part in table_parts(MANIFEST.path, _TESTS, split="test")
        for category, path, content, mask in zip(
            *(part[name].to_pylist() for name in _TESTS), strict=True
        )
    )
    spaces = [Space.from_json(content) for content in table_columns(TEST.path)[1]["spaces"]]
    return {
        "made_with": evaluation["made_with"],
        "manifest": data_fingerprint(images),
        "test_data": contents_by_category(tests),
        "features": {
            space.label: {"fingerprint": space.fingerprint, "description": space.description}
            for space in spaces
        },
        "parameters": params.model_dump(mode="json", exclude={"runtime", "cluster"}),
    }


def provenance_lines(run: dict[str, Any]) -> dict[str, str]:
    """The same in lines, without the parameters, which the page lists by themselves."""
    return {
        **flattened(run["made_with"]),
        "manifest": run["manifest"],
        **{label: feature["fingerprint"] for label, feature in run["features"].items()},
    }
