"""What can be known to be wrong before DVC starts, which removes a stage's outputs before it runs it.

A run that a stage would refuse anyway is refused here, while the results of the last one are whole.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cache.location import open_path
from fade.aspect import count_patches
from fade.datasets.read import iterate_dataset
from fade.errors import DataError, FadeError, ModelError, ParameterError
from fade.lean_import import builtin_configs, open_clip_library
from fade.weights_file import check_complete
from pipeline.artefacts.catalogue import folder_above, store_root
from pipeline.artefacts.named_files import file_hashes
from pipeline.artefacts.parameters import (
    DVC_FILE,
    LOCK_FILE,
    named_parameters,
    noted_parameters,
    read_record,
    stages_of,
)
from pipeline.config.schema import DatasetParams, Params
from pipeline.config.values import PARAMS_FILE
from pipeline.config.yaml12 import leaf, load_yaml
from pipeline.dataset.manifest import dataset_records
from pipeline.dataset.selection import check_batches, check_shots
from pipeline.evaluation.corrections import named_labels
from pipeline.features.hub import check_remotes, model_config, remotes
from pipeline.features.models import SHIPPED, SHIPPED_WEIGHTS, config_of
from pipeline.project.check_data import check_labels, count_images
from pipeline.project.check_model import check_encoder, check_patches, unknown_weights
from pipeline.project.own_stages import check_own_stages
from pipeline.project.watched import made_by_a_stage

SEEDED = "seeded"
FEW = 2000
"""Images that stage manifest reads about as fast as a network is built."""
_HUBS = ("hf-hub:", "local-dir:")


def check(params: Params, needed: Collection[str], folder: Path = Path()) -> None:
    """Refuse parameters that a stage would refuse.

    What dvc.lock says a stage ran with is not looked at again where that takes long: all images of a
    data set, or the names of all models.

    Args:
        needed: the stages that may run.

    Raises:
        ParameterError, DataError, ModelError: as the stage would.
    """
    check_own_stages(folder)
    check_named(params, folder)
    ran, images = _ran_with(folder), 0
    if "manifest" in needed:
        chooses = params.needs_vision and "select" in needed
        shots, batch = (params.max_shots, params.needs_batch) if chooses else (0, False)
        own = {f"dataset.{k}": v for k, v in params.dataset.model_dump(mode="json").items()}
        vision = params.vision.model_dump(mode="json")
        own |= {"vision.shots": vision["shots"], "vision.bank": vision["bank"]}
        # without a run before there is nothing to lose, and the stage knows more of a data set
        tolerated = () if ran or params.dataset.categories else (DataError,)
        with suppress(*tolerated):
            if not _differs(ran, own):
                shots, batch = 0, False
            images = check_dataset(params.dataset, shots, batch=batch)
    if "text" in needed:
        _check_prompts(params)
    if "extract" in needed or "text" in needed:
        # of a first run nothing is lost: with few images the stage itself says soon what is wrong
        _check_model(params, known=ran, build=bool(ran) or not 0 < images <= FEW)
    if {"extract", "bank", "score_vision"} & set(needed) and (
        params.vision.encoder is None or _encoder_is_new(params, ran, shots=True)
    ):
        check_patches(params)
    if "extract" in needed and isinstance(root := store_root(params.features.store), Path):
        folder_above(root)
    if "evaluate" in needed and params.evaluate.labels:
        _check_labels(params, ran, folder)


def check_named(params: Params, folder: Path = Path()) -> None:
    """Refuse a params.yaml without leaves that dvc.yaml names: it is older, and DVC wants to see each.

    Raises:
        ParameterError: with the leaves and their defaults.
    """
    try:
        content = load_yaml((folder / PARAMS_FILE).read_text("utf-8"))
        named = {
            name
            for entry in stages_of(folder / DVC_FILE).values()
            for name in named_parameters(entry).get(PARAMS_FILE.name, ())
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return  # who reads these files says what is wrong with them
    defaults = params.model_dump(mode="json")
    lacking = [
        f"{name} ({json.dumps(leaf(defaults, name))})"
        for name in sorted(named)
        if (parts := name.rpartition("."))[0] and parts[2] not in (leaf(content, parts[0]) or {})
    ]
    if lacking:
        raise ParameterError(
            f"{PARAMS_FILE} lacks what dvc.yaml names: add {', '.join(lacking)}, with these values if "
            "nothing shall change"
        )


def check_dataset(dataset: DatasetParams, shots: int = 0, *, batch: bool = False) -> int:
    """Refuse categories that the data set does not have, more references than it has, small batches.

    Args:
        dataset: nothing is said of one that a stage has yet to make.
        shots: how many references of each category are needed; 0 looks at the first image alone.
        batch: whether test images are compared with each other.

    Returns:
        How many images there are; 0 where they were not counted.

    Raises:
        DataError, ParameterError: as the stages manifest and select do.
    """
    local = "://" not in dataset.path
    if local and not os.path.exists(dataset.path) and made_by_a_stage(dataset.path):
        return 0
    if not (shots or batch) or not local:
        # the names of categories are held against what there is before the first image
        next(dataset_records(dataset), None)
        return 0
    counts = count_images(dataset)
    if batch:
        check_batches(counts.test_sizes)
    for category in counts.categories:
        check_shots(category, counts.training[category], shots)
    return counts.training.total() + counts.tests


def categories_named(text: str, dataset: DatasetParams) -> list[str]:
    """Categories that were typed with commas between; spaces around them do not count.

    A name that holds a comma itself is found among those of the data set, or stands in double quotes.

    Raises:
        ParameterError: a name is empty.
    """
    (row,) = csv.reader([text.replace("\n", " ")], skipinitialspace=True) if '"' in text else [[]]
    names = [name.strip() for name in row or text.split(",")]
    if not all(names):
        raise ParameterError(f"--categories {text!r} holds an empty name: write a,b,c")
    if row or len(names) == 1:
        return names
    return _joined(names, _with_comma(dataset))


def _with_comma(dataset: DatasetParams) -> set[str]:
    """Categories of the data set that have a comma in their name; none if it cannot be read."""
    try:
        records = iterate_dataset(dataset.format, open_path(dataset.path))
        return {record.category for record in records if "," in record.category}
    except FadeError:
        return set()


def _joined(pieces: Sequence[str], known: Collection[str]) -> list[str]:
    """Pieces of text between commas, put together again where the whole is a known name."""
    whole = {tuple(part.strip() for part in name.split(",")): name for name in known}
    names: list[str] = []
    place = 0
    while place < len(pieces):
        for end in range(len(pieces), place, -1):
            if (piece := tuple(pieces[place:end])) in whole or end == place + 1:
                names.append(whole.get(piece, pieces[place]))
                place = end
                break
    return names


def _check_labels(params: Params, ran: Mapping[str, Any], folder: Path) -> None:
    """Refuse corrected labels that stage evaluate would refuse, after all images are encoded.

    The data set is not listed for labels that the stage read.

    Args:
        params: of the run.
        ran: what dvc.lock says.
    """
    file, dataset = str(params.evaluate.labels), params.dataset
    labels = named_labels(file, folder)
    read = read_record("evaluate", "files") == file_hashes("evaluate", params)
    own = {"dataset.format": dataset.format, "dataset.path": dataset.path}
    if "://" not in dataset.path and (not read or _differs(ran, own)):
        check_labels(dataset, labels, file)


def _check_prompts(params: Params) -> None:
    from fade.prompts import check_template
    from pipeline.scoring.texts import ensembles, uses

    for use in uses(params):
        check_template(params.text.template)
        for category in ("", *params.text.overrides):
            ensembles(params, use, category)


def _check_model(params: Params, known: Mapping[str, Any], *, build: bool) -> None:
    """Refuse a model, weights and sizes that are known to fail without reading weights.

    Args:
        params: of the run.
        known: what dvc.lock says.
        build: whether a network may be built to look at it, which takes seconds.
    """
    if params.vision.encoder is not None:
        if _encoder_is_new(params, known):
            list(check_encoder(params, build=build or _is_missing(params)))
        if not params.needs_language:
            return
    name, weights = params.model.name, params.model.pretrained
    changed = _differs(known, {"model.name": name, "model.pretrained": weights})
    config_file = config_of(params.model)
    if config_file.endswith(".json") and not Path(config_file).is_file():
        raise ModelError(f"model.name: no config file at {config_file}")
    config = {} if name.startswith(_HUBS) else model_config(config_file)
    if changed and name not in SHIPPED:
        found = remotes(params.model, config_file)  # refuses names that cannot be used
        if config and weights not in ("", SEEDED, *SHIPPED_WEIGHTS):
            from fade.encoder.activation import check_activation

            check_activation(weights, name, bool(config.get("quick_gelu")))
        check_remotes(params.model, found)
    if config:
        patch = leaf(config, "vision_cfg.patch_size")
        sizes = {params.features.classification_size}
        if params.vision.encoder is None or params.needs_language_map:
            sizes |= set(params.features.segmentation_sizes)
        for size in sizes:
            if isinstance(patch, int):
                count_patches(size, patch, "image size", f"the patch size {patch} of {name}")
    elif not name.startswith(_HUBS) and not name.endswith(".json"):
        close = get_close_matches(name, [file.stem for file in builtin_configs()], n=1, cutoff=0.6)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ModelError(f"model.name: open_clip has no model {name!r}{hint}")
    file = Path(weights)
    if weights in SHIPPED_WEIGHTS or weights == SEEDED or weights.startswith("hf-hub:"):
        return
    if file.is_file():
        check_complete(file, "model.pretrained")
        return
    hub = name.startswith(_HUBS) and weights in ("", name)
    # asked last: importing open_clip takes seconds
    asked = not hub and changed
    if asked and weights not in open_clip_library().list_pretrained_tags_by_model(name):
        raise unknown_weights(name, weights)


def _encoder_is_new(params: Params, known: Mapping[str, Any], *, shots: bool = False) -> bool:
    """Whether no run used this network with these parameters and files, so that it has to be built.

    Args:
        params: of the run.
        known: what dvc.lock says.
        shots: whether another number of them counts; the network knows nothing of them.
    """
    ran = params.model_dump(mode="json")
    # whether components are asked of the network may depend on the shots
    free = ("seeds",) if shots or params.vision.components else ("seeds", "shots")
    try:
        for section in ("vision", "features", "model"):
            ran[section] |= {k: v for k, v in known[section].items() if k not in free}
        same = Params.model_validate(ran) == params
    except (LookupError, TypeError, ValueError):
        same = False
    files = read_record("extract", "files")
    return not same or files != file_hashes("extract", params) or _is_missing(params)


def _is_missing(params: Params) -> bool:
    """Whether ``vision.encoder`` names a package of weights that is not here."""
    from pipeline.features.patch_encoder import missing_package

    return bool(missing_package(params))


def _ran_with(folder: Path) -> dict[str, Any]:
    """The parameters that dvc.lock notes, as params.yaml nests them; none where there are none."""
    tree: dict[str, Any] = {}
    for entry in stages_of(folder / LOCK_FILE).values():
        for name, value in noted_parameters(entry).items():
            *sections, last = name.split(".")
            place = tree
            for section in sections:
                place = place.setdefault(section, {})
            place[last] = value
    return tree


def _differs(noted: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Whether a run noted other values, or none, for some parameters by dotted name."""
    return any(leaf(noted, name) != value for name, value in values.items())
