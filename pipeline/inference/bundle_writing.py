"""Writes bundles; :mod:`pipeline.inference.bundle` reads them, believing nothing."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from fade import __version__
from fade.aspect import SmallerEdge
from fade.errors import ModelError, ParameterError
from fade.files import atomic_write
from fade.network import without_network
from fade.portable.check import ALIGNMENT
from fade.portable.numbers import Numbers
from pipeline.artefacts.catalogue import prepare_folder
from pipeline.config.schema import Params
from pipeline.features.models import (
    SHIPPED,
    feature_space,
    load_encoder,
    load_image_encoder,
    load_network,
)
from pipeline.inference import bundle_graphs
from pipeline.inference.bundle import BUNDLE_SCHEMA, KIND, WEIGHTS, array_names, network_weights
from pipeline.inference.judged import check_new_images
from pipeline.inference.onnx_writing import OnnxParts, check_exportable, export
from pipeline.inference.run import FinishedRun
from pipeline.scoring.texts import read_classifier, uses
from pipeline.scoring.views import view_plan

if TYPE_CHECKING:
    from fade.encoders.protocol import VisionEncoder

_PADDING = 0xD935
"""What a zip calls bytes that only move an entry."""
_BEFORE = (1980, 1, 1, 0, 0, 0)
"""The time of every entry, so that equal bundles are equal bytes."""


def write_bundle(
    run: FinishedRun,
    path: Path,
    *,
    with_weights: bool = False,
    onnx: Numbers | None = None,
    categories: Collection[str] | None = None,
) -> tuple[str, ...]:
    """Write a run's banks, text classifiers, prompts, thresholds and parameters into one file.

    Args:
        path: of the file; replaced in one step.
        with_weights: whether the model's weights come along; else their source must be at hand
            where the bundle is used.
        onnx: numbers of a model that runs without torch, which comes along in place of weights.
        categories: those to take along; None for all.

    Returns:
        The categories in the bundle, in the run's order.

    Raises:
        StoreError: something of the run is missing or damaged, or an older version made its features
            otherwise.
        ModelError: the model as ONNX gives other features or decisions.
        ParameterError: the memory bank's index is approximate, the run has no such category, its
            encoder cannot be taken along, or its scores are those of a test set alone.
    """
    check_new_images(run.params)  # else no command could use the bundle
    vision = run.params.vision
    if onnx is not None:
        if with_weights:
            raise ParameterError("--onnx takes the model along already: leave --with-weights out")
        check_exportable(run.params, onnx)
    local = (vision.encoder or "").startswith("local-dir:") or vision.encoder_weights is not None
    if local and run.params.needs_network and not with_weights and onnx is None:
        raise ParameterError(
            f"vision.encoder {vision.encoder} has its weights in files of this machine: take them "
            "along with --with-weights"
        )
    for name in categories or ():
        run.check_category(name)
    chosen = tuple(name for name in run.categories if not categories or name in categories)
    prepare_folder(path.parent)
    if path.is_dir():
        raise ParameterError(
            f"{path} is a folder: name a file for the bundle, e.g. {path}/parts.fade"
        )
    if onnx is None:  # else the model itself is held against the run's images
        _check_model(run)
    with atomic_write(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        parts = None if onnx is None else export(run, chosen, onnx)
        _fill(archive, run, chosen, with_weights, parts)
    return chosen


def _check_model(run: FinishedRun) -> None:
    """Refuse a run whose features an older version made otherwise: nobody could use its bundle.

    Nothing is said where the model is not here: who uses the bundle has it, and holds it against the run.

    Raises:
        StoreError: the model's features have other addresses.
    """
    try:
        with without_network():
            encoder = load_image_encoder(run.params, "cpu", keep=True)
            spaces = {
                feature.label: feature_space(encoder, feature, run.params, run.aspect)
                for feature in run.params.test_features()
            }
    except ModelError:
        return
    run.check_features({label: space.fingerprint for label, space in spaces.items()})


def _fill(
    archive: zipfile.ZipFile,
    run: FinishedRun,
    categories: tuple[str, ...],
    with_weights: bool,
    onnx: OnnxParts | None,
) -> None:
    params = run.params
    banks: dict[str, Any] = {}
    names = array_names(params)
    for number, category in enumerate(categories if params.needs_vision else ()):
        rows: dict[str, np.ndarray] = {}
        references: list[str] = []
        if params.vision.rule_at(run.trial.shots) == "nearest":
            rows, references = run.bank_rows(category)
        by_bank = params.vision.keeps_banks(run.trial.shots)
        ruled = {} if by_bank else run.held_rule(category).arrays
        banks[category] = {
            "number": number,
            "references": references,
            "sizes": sorted({view.view.size for view in view_plan(params)} if rows | ruled else ()),
        }
        for folder, arrays in (("banks", rows), ("rules", ruled)):
            for view, vectors in arrays.items():
                _add_array(archive, f"{folder}/{number}/{names[view]}.npy", vectors)
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
        if params.needs_clip:
            with archive.open(_entry(WEIGHTS), "w", force_zip64=True) as target:
                load_encoder(params).save_weights(cast(BinaryIO, target))
        if params.needs_network:
            network = _network(params)
            _add(archive, "encoder.json", json.dumps(network.config).encode())
            with archive.open(_entry(network_weights(params)), "w", force_zip64=True) as target:
                network.save_weights(cast(BinaryIO, target))
    thresholds = run.thresholds
    if onnx is not None:
        thresholds = onnx.thresholds
        for name, data in onnx.entries.items():
            _add(archive, name, data)
    content = {
        "kind": KIND,
        "schema": BUNDLE_SCHEMA,
        "written_by": __version__,
        "parameters": _portable(params),
        "trial": [run.trial.shots, run.trial.seed],
        "categories": categories,
        "features": run.features,
        "aspect": [run.aspect.width, run.aspect.height] if run.aspect else None,
        "crop": isinstance(run.aspect, SmallerEdge),
        "thresholds": [thresholds[category].as_json() for category in categories],
        "texts": texts,
        "banks": banks,
    }
    _add(archive, "bundle.json", json.dumps(content, ensure_ascii=False, indent=1).encode())


def _network(params: Params) -> VisionEncoder:
    """A run's network for vision with weights as they came, before any is rounded to its precision."""
    model = params.model.model_copy(update={"precision": "fp32"})
    return load_network(params.model_copy(update={"model": model}), "cpu").encoder


def _portable(params: Params) -> dict[str, Any]:
    """The parameters without what holds on one machine only."""
    content = params.model_dump(mode="json", exclude={"runtime", "cluster"})
    content["dataset"] |= {"path": "-", "watch": "-", "categories": None}
    content["features"]["store"] = None
    if params.model.name.endswith(".json"):
        content["model"]["name"] = Path(params.model.name).name
    encoder, weights = params.vision.encoder or "", params.vision.encoder_weights
    if encoder.startswith("local-dir:"):
        content["vision"]["encoder"] = f"local-dir:{Path(encoder.removeprefix('local-dir:')).name}"
    content["vision"]["encoder_weights"] = None if weights is None else Path(weights).name
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
    entry = _entry(name)
    if name == bundle_graphs.WEIGHTS:  # where they lie, they lie at a multiple of what arrays need
        gap = -(archive.start_dir + 34 + len(name)) % ALIGNMENT
        entry.extra = struct.pack("<HH", _PADDING, gap) + bytes(gap)
    archive.writestr(entry, data)


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, _BEFORE)


def _add_array(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(_entry(name), "w", force_zip64=True) as entry:
        np.lib.format.write_array(cast(Any, entry), array, allow_pickle=False)
