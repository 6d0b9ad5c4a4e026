"""What models told of their features, kept in a project: a stage that encodes nothing loads no model.

The file stands beside the hashes of named files. What it says is believed as long as the parameters,
the code, the packages and the content of all weights are those of then; where one of them is not known,
as of weights that a hub has, nothing is kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from cache.layout import Space, fingerprint
from fade.files import write_file
from fade.preprocess import resampling
from fade.transforms import rotating
from pipeline.artefacts.catalogue import project_root
from pipeline.artefacts.named_files import file_hashes, hashes_of
from pipeline.artefacts.provenance import versions
from pipeline.config.schema import Params
from pipeline.config.values import CODE_FILE, DEMO_MODEL
from pipeline.features.plan import feature_spaces

if TYPE_CHECKING:
    from fade.aspect import AspectRatio
    from fade.types import Feature
    from pipeline.features.models import ImageEncoder
    from pipeline.features.plan import FeaturePlan

KEPT = Path(".fade") / "spaces.json"
"""File of a project: by address of model and feature, the space of its rows."""
MOST = 500
"""Largest number of spaces that are kept."""
_OF_THE_RUN = {"shots", "seeds", "transforms", "transform_overrides"}
"""Leaves of ``vision`` that choose features and change none."""


def planned(
    params: Params,
    aspect: AspectRatio | None,
    plan: Callable[[Mapping[Feature, Space]], FeaturePlan],
    load: Callable[[], ImageEncoder],
) -> tuple[FeaturePlan, ImageEncoder | None]:
    """What is to be encoded, and the model for it, which is loaded only if there is anything.

    Args:
        aspect: the aspect ratio that images keep; None: squashed to squares.
        plan: makes the plan, given the spaces of all features.
        load: the model.
    """
    address = _address(params, aspect)
    kept = _read() if address else {}
    features = dict.fromkeys([*params.reference_features(), *params.test_features()])
    keys = {one: fingerprint([address, asdict(one)]) for one in features}
    found = None
    if all(key in kept for key in keys.values()):
        found = plan({one: kept[key] for one, key in keys.items()})
        if not found.to_encode:
            return found, None
    encoder = load()
    spaces = feature_spaces(encoder, params, aspect)
    if address and (found is None or spaces != found.spaces):
        with suppress(OSError):  # they are asked for again next time
            told = [*kept.items(), *((keys[one], space) for one, space in spaces.items())]
            latest = {key: space.to_json() for key, space in told[-MOST:]}
            write_file(project_root() / KEPT, json.dumps(latest))
    if found is None or spaces != found.spaces:
        found = plan(spaces)
    return found, encoder


def _read() -> dict[str, Space]:
    try:
        content = json.loads((project_root() / KEPT).read_text(encoding="utf-8"))
        return {key: Space.from_json(space) for key, space in content.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def _address(params: Params, aspect: AspectRatio | None) -> str | None:
    """What features depend on besides themselves; None where a part of it cannot be known here."""
    weights, code = _weights(params), code_of("extract")
    try:
        timm = version("timm")
    except PackageNotFoundError:
        return None
    if weights is None or code is None:
        return None
    return fingerprint(
        {
            "code": code, "versions": {**versions(), "timm": timm}, "weights": weights,
            "model": params.model.model_dump(mode="json"),
            "vision": params.vision.model_dump(mode="json", exclude=_OF_THE_RUN),
            "dtype": params.features.dtype, "exif": params.dataset.exif_rotation,
            "aspect": repr(aspect), "resampling": resampling(), "rotating": rotating(),
        }
    )  # fmt: skip


def code_of(stage: str) -> str | None:
    """The hash of a stage's code, None where the project does not know it."""
    try:
        return str(json.loads(CODE_FILE.read_text(encoding="utf-8"))[stage])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def clip_hashes(params: Params) -> dict[str, str] | None:
    """Hashes of the files of ``model``, by name; None where a name is no file on this machine."""
    model = params.model
    known = _hashes(params)
    if model.name.startswith("hf-hub:") or model.pretrained not in known:
        return None
    return {name: known[name] for name in (model.name, model.pretrained) if name in known}


def _hashes(params: Params) -> dict[str, str]:
    """Hashes of the files that models are read from, by name; the code tells of what has none."""
    from fade.encoder.seeded import SEEDED

    return {**file_hashes("extract", params), DEMO_MODEL: "", SEEDED: ""}


def _weights(params: Params) -> dict[str, str] | None:
    """Hashes of the weights that a run reads, by name; None where a name is no file on this machine."""
    from fade.encoders.load import PACKAGE, weights_of_package
    from pipeline.features.patch_encoder import package_name

    model, vision = params.model, params.vision
    known = _hashes(params)
    networks, weights = [], []
    if vision.encoder is None or params.needs_language:
        networks.append(model.name)
        weights.append(model.pretrained)
    if vision.encoder is not None and params.needs_vision:
        name = package_name(vision.encoder)
        networks.append(name)
        weights.append(vision.encoder_weights or name)
        if name == weights[-1] and name.startswith(PACKAGE):
            known |= hashes_of({name: lambda: [weights_of_package(name.removeprefix(PACKAGE))]})
    fetched = any(name.startswith("hf-hub:") for name in networks)
    return None if fetched or not known.keys() >= set(weights) else known
