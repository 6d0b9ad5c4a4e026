"""Writes bundles; :mod:`pipeline.inference.bundle` reads them, believing nothing."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from fade import __version__
from fade.errors import ParameterError
from fade.files import atomic_write
from pipeline.artefacts.catalogue import prepare_folder
from pipeline.config.schema import Params
from pipeline.features.models import SHIPPED
from pipeline.features.patch_encoder import PatchEncoder
from pipeline.inference.bundle import BUNDLE_SCHEMA, KIND, WEIGHTS
from pipeline.inference.run import FinishedRun
from pipeline.scoring.texts import read_classifier, uses
from pipeline.scoring.views import view_plan

_BEFORE = (1980, 1, 1, 0, 0, 0)
"""The time of every entry, so that equal bundles are equal bytes."""


def write_bundle(
    run: FinishedRun,
    path: Path,
    *,
    with_weights: bool = False,
    categories: Collection[str] | None = None,
) -> tuple[str, ...]:
    """Write a run's banks, text classifiers, prompts, thresholds and parameters into one file.

    Args:
        run: which project and trial.
        path: of the file; replaced in one step.
        with_weights: whether the model's weights come along; else their source must be at hand
            where the bundle is used.
        categories: those to take along; None for all.

    Returns:
        The categories in the bundle, in the run's order.

    Raises:
        StoreError: something of the run is missing or damaged.
        ParameterError: the memory bank's index is approximate, the run has no such category, or its
            encoder cannot be taken along.
    """
    if run.params.vision.encoder is not None:
        raise ParameterError(
            f"vision.encoder is {run.params.vision.encoder}, and a bundle holds a CLIP: use "
            "`fade predict` in the project's folder"
        )
    rule = run.params.vision.rule_at(run.trial.shots)
    if run.params.needs_vision and rule != "nearest":
        raise ParameterError(
            f"vision.rule is {rule} at {run.trial.label}, and a bundle holds banks of rule nearest: use "
            "`fade predict` in the project's folder, with --batch to score a folder against itself"
        )
    views = view_plan(run.params)
    if not all(view.plain for view in views) or run.params.vision.transforms != "none":
        raise ParameterError(
            "a bundle holds the patches of references as CLIP gives them, without vision.pooling, "
            "vision.layer_norm or vision.transforms: use `fade predict` in the project's folder"
        )
    for name in categories or ():
        run.check_category(name)
    chosen = tuple(name for name in run.categories if not categories or name in categories)
    prepare_folder(path.parent)
    if path.is_dir():
        raise ParameterError(
            f"{path} is a folder: name a file for the bundle, e.g. {path}/parts.fade"
        )
    with atomic_write(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        _fill(archive, run, chosen, with_weights)
    return chosen


def _fill(
    archive: zipfile.ZipFile, run: FinishedRun, categories: tuple[str, ...], with_weights: bool
) -> None:
    params = run.params
    banks: dict[str, Any] = {}
    for number, category in enumerate(categories if params.needs_vision else ()):
        rows, references = run.bank_rows(category)
        banks[category] = {
            "number": number,
            "references": references,
            "sizes": sorted(map(int, rows)),
        }
        for view, vectors in rows.items():
            _add_array(archive, f"banks/{number}/{view}.npy", vectors)
    texts: dict[str, dict[str, str]] = {}
    prompts: dict[str, dict[str, Any]] = {}
    written = set()
    for use in uses(params):
        for category in categories:
            file = run.classifier_file(use, category)
            texts.setdefault(use, {})[category] = file.stem
            sentences = run.sentences(use, category)
            prompts.setdefault(use, {})[category] = [sentences.texts, sentences.abnormal]
            if file.stem not in written:
                written.add(file.stem)
                read_classifier(file)  # a damaged one is found here, not where it is used
                _add(archive, f"text/{file.name}", file.read_bytes())
    _add(archive, "prompts.json", json.dumps(prompts, ensure_ascii=False).encode())
    name = params.model.name
    config = SHIPPED.get(name) or (Path(name) if name.endswith(".json") else None)
    if config is not None:
        _add(archive, "model.json", config.read_bytes())
    if with_weights:
        encoder = run.encoder()
        assert not isinstance(encoder, PatchEncoder)  # refused before
        with archive.open(_entry(WEIGHTS), "w", force_zip64=True) as target:
            encoder.save_weights(cast(BinaryIO, target))
    content = {
        "kind": KIND,
        "schema": BUNDLE_SCHEMA,
        "written_by": __version__,
        "parameters": _portable(params),
        "trial": [run.trial.shots, run.trial.seed],
        "categories": categories,
        "features": run.features,
        "aspect": [run.aspect.width, run.aspect.height] if run.aspect else None,
        "thresholds": [run.thresholds[category].as_json() for category in categories],
        "texts": texts,
        "banks": banks,
    }
    _add(archive, "bundle.json", json.dumps(content, ensure_ascii=False, indent=1).encode())


def _portable(params: Params) -> dict[str, Any]:
    """The parameters without what holds on one machine only."""
    content = params.model_dump(mode="json", exclude={"runtime", "cluster"})
    content["dataset"] |= {"path": "-", "watch": "-", "categories": None}
    content["features"]["store"] = None
    if params.model.name.endswith(".json"):
        content["model"]["name"] = Path(params.model.name).name
    if Path(params.model.pretrained).is_file():
        content["model"]["pretrained"] = Path(params.model.pretrained).name
    for use in (content["text"], *content["text"]["overrides"].values()):
        for side in ("classification", "segmentation"):
            found = use[side]
            if isinstance(found, dict):
                found["prompts"] = _names(found["prompts"])
            elif found:
                use[side] = _names(found)
    return content


def _names(prompts: list[Any]) -> list[Any]:
    """Prompts without the folders of their files; their sentences are in the bundle."""
    return [Path(one).name if isinstance(one, str) else one for one in prompts]


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(_entry(name), data)


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, _BEFORE)


def _add_array(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(_entry(name), "w", force_zip64=True) as entry:
        np.lib.format.write_array(cast(Any, entry), array, allow_pickle=False)
