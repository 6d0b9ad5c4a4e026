"""Looks at model, weights, sizes, prompts and classifiers before a run; nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.aspect import count_patches
from fade.errors import FadeError, ModelError, ParameterError
from fade.gem import GemConfig
from fade.weights_file import check_complete
from pipeline.config.schema import Params
from pipeline.config.values import DEMO_MODEL
from pipeline.features.hub import (
    check_remotes,
    encoder_remotes,
    model_config,
    remotes,
    unreachable,
)
from pipeline.features.models import config_of
from pipeline.project.findings import Finding, ok, problem, warning
from pipeline.scoring.bank_limits import asks_for_patches, check_bank_sizes

if TYPE_CHECKING:
    from pipeline.features.patch_encoder import PatchEncoder

MANY_DIVISORS = 20_160
"""Width that stands for one that is not known: an index whose parts fit some width fits this one."""


def check_model(params: Params) -> Iterator[Finding]:
    """Whether name and weights can be found, without reading them.

    Raises:
        ModelError: they cannot, or the hub that has them cannot be reached.
    """
    from fade.encoder import SEEDED
    from fade.encoder.activation import check_activation

    if params.vision.encoder is not None:
        yield from check_encoder(params)
        if not params.needs_language:
            return
    name, weights = params.model.name, params.model.pretrained
    config = config_of(params.model)
    if config.endswith(".json") and not Path(config).is_file():
        raise ModelError(f"model.name: no config file at {config}")
    found = remotes(params.model, config)
    content = model_config(config, found)
    if content and weights not in ("", SEEDED, DEMO_MODEL):
        check_activation(weights, config, bool(content.get("quick_gelu")), read=False)
    check_remotes(params.model, found)
    missing = {remote.repository: None for remote in found if remote.file is None}
    fetched = [remote for remote in found if remote.leaf == "model.pretrained"]
    if missing:
        yield warning("model", f"{name}: the first run downloads {', '.join(missing)}")
    elif fetched:
        yield ok("model", f"{name} with {fetched[0].what} ({fetched[0].file})")
    elif weights == SEEDED:
        yield warning("model", f"{name} with seeded weights: scores mean nothing, name real ones")
    elif weights == DEMO_MODEL:
        yield warning("model", f"{name} with the demo's weights: trained on drawn pictures alone")
    elif config.startswith("local-dir:") and weights in ("", name):
        yield ok("model", f"{name} with its own weights")
    elif Path(weights).is_file():
        check_complete(Path(weights), "model.pretrained")
        size = Path(weights).stat().st_size
        yield ok("model", f"{name} with {weights} ({size:,} bytes, not read)")
    else:
        raise unknown_weights(name, weights)
    yield from _sizes(params, content)


def unknown_weights(name: str, weights: str) -> ModelError:
    """The refusal of weights that are neither a file nor a tag of a model."""
    return ModelError(
        f"model.pretrained: {weights!r} is no file here and no tag of {name}: give a checkpoint's path, "
        "hf-hub:ORG/REPO, or a tag"
    )


def missing_weights(params: Params) -> str | None:
    """Which weights can be had neither here nor by download, with the ways out; None if none.

    Only what costs no more than :data:`~pipeline.features.hub.PATIENCE` is looked at: weights that are
    fetched are asked for where no hub answers.
    """
    from fade.encoder import SEEDED
    from pipeline.features.patch_encoder import downloads, missing_package

    try:
        if params.vision.encoder is not None:
            if not downloads(params):
                if missing := missing_package(params):
                    return missing
            elif unreachable() is not None:
                check_remotes(params.vision, encoder_remotes(params.vision))
        if (params.vision.encoder is None or params.needs_language) and not (
            params.model.pretrained in (SEEDED, DEMO_MODEL)
            or Path(params.model.pretrained).is_file()
            or unreachable() is None
        ):
            check_remotes(params.model, remotes(params.model, config_of(params.model)))
    except ModelError as error:
        return str(error)
    return None


def check_encoder(params: Params, *, build: bool = True) -> Iterator[Finding]:
    """Whether ``vision.encoder`` fits the sizes; it is read where nothing has to be fetched for it.

    Args:
        params: of the run.
        build: whether it may be read, which takes seconds; else only a hub is asked.

    Raises:
        ModelError: it cannot be had, or is none that is known.
        ParameterError: a size is no multiple of its patches.
    """
    from pipeline.features.patch_encoder import downloads, load_patch_encoder

    name = params.vision.encoder
    found = encoder_remotes(params.vision) if downloads(params) else []
    check_remotes(params.vision, found)
    if any(remote.file is None for remote in found):
        yield warning("model", f"{name}: the first run downloads {found[-1].repository}")
        return
    if not build:
        return
    encoder = load_patch_encoder(params, "cpu")
    grids = [encoder.grid(size) for size in params.features.segmentation_sizes]
    words = ", ".join(f"{grid} x {grid}" for grid in grids)
    yield ok(
        "model", f"{name}, {' + '.join(map(str, encoder.dims))} numbers for each of {words} patches"
    )


def loaded_network(params: Params) -> PatchEncoder | None:
    """The network of ``vision.encoder``, where nothing has to be fetched for it.

    None also for one that is refused: :func:`check_model` says why.
    """
    from pipeline.features.patch_encoder import downloads, load_patch_encoder

    if params.vision.encoder is None or not params.needs_vision or downloads(params):
        return None
    try:
        return load_patch_encoder(params, "cpu")
    except FadeError:
        return None


def patch_and_widths(params: Params) -> tuple[int, int, int] | None:
    """By CLIP's config its patch size in pixels, and the widths of its features and of its blocks.

    None without a config, and for a model that is refused: :func:`check_model` says why.
    """
    config = config_of(params.model)
    try:
        content = model_config(config, remotes(params.model, config))
    except FadeError:
        return None
    vision = content.get("vision_cfg", {})
    patch, width, of_block = vision.get("patch_size"), content.get("embed_dim"), vision.get("width")
    if isinstance(patch, int) and isinstance(width, int) and isinstance(of_block, int):
        return patch, width, of_block
    return None


def _sizes(params: Params, config: dict[str, Any]) -> Iterator[Finding]:
    vision = config.get("vision_cfg", {})
    patch, layers = vision.get("patch_size"), vision.get("layers")
    if not isinstance(patch, int) or not isinstance(layers, int):
        return
    features = params.features
    asked = []
    if params.needs_language_score:
        asked.append(("features.classification_size", features.classification_size))
    if params.needs_language_map or (params.needs_vision and params.vision.encoder is None):
        asked += [("features.segmentation_sizes", size) for size in features.segmentation_sizes]
    unfit = False
    for name, size in asked:
        try:
            count_patches(size, patch, f"{name}:", f"the patch size {patch} of {params.model.name}")
        except ParameterError as error:
            unfit = True
            yield problem("sizes", error)
    try:
        GemConfig(depth=params.model.gem.depth).first_block(layers)
    except FadeError as error:
        yield problem("gem", error)
    if asked and not unfit:
        sizes = ", ".join(dict.fromkeys(str(size) for _, size in asked))
        yield ok("sizes", f"{sizes} pixels are multiples of the patch size {patch}")


def check_prompts(params: Params) -> Iterator[Finding]:
    """Whether template and prompt files can be read, and hold enough for the classifiers named."""
    from fade.prompts import check_template
    from fade.text import check_counts
    from pipeline.scoring.texts import ensembles, use_params, uses

    found = uses(params)
    for use in found:
        check_template(params.text.template)
        classifier = use_params(params, use).classifier
        for category in ("", *params.text.overrides):
            chosen = ensembles(params, use, category)
            normal = sum(len(one.normal) for one in chosen)
            abnormal = sum(len(one.abnormal) for one in chosen)
            check_counts(classifier, f"text.{use}.classifier {classifier}", normal, abnormal)
        if classifier == "xgboost" and find_spec("xgboost") is None:
            raise ParameterError(
                f"text.{use}.classifier xgboost needs the package xgboost: "
                "pip install 'fade-pipeline[xgboost]'"
            )
    yield ok("prompts", f"for {' and '.join(found)}" if found else "not needed")


def check_index(params: Params) -> Iterator[Finding]:
    """Whether FAISS knows the index that is named, and references have patches enough.

    Raises:
        ParameterError: it does not, or they have not.
    """
    if not asks_for_patches(params):
        return
    check_patches(params)
    if params.vision.index != "flat":
        yield ok("index", f"{params.vision.index} is known to FAISS")


def check_patches(params: Params) -> None:
    """Refuse an index or neighbours that references have too few patches for, where that is known.

    Raises:
        ParameterError: they have.
    """
    from fade.faiss_index import check_index as check

    vision, sizes = params.vision, params.features.segmentation_sizes
    if not asks_for_patches(params):
        return
    network, clip = loaded_network(params), patch_and_widths(params)
    if network is not None:
        side, dims = network.grid(min(sizes)), network.dims
    elif clip is not None and vision.encoder is None:
        patch, width, of_block = clip
        side, dims = min(sizes) // patch, [of_block] * len(vision.layers)
        dims = dims if vision.network else [width]
    else:
        return check(vision.index, MANY_DIVISORS, metric=vision.metric)
    for width in {sum(dims)} if vision.layer_fusion == "concat" else set(dims):
        if params.features.keeps_aspect:  # so do images decide; stage bank says more
            check(vision.index, width, metric=vision.metric)
            continue
        check_bank_sizes(params, side * side, width, params.dataset.categories or (None,))
