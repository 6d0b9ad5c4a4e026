"""Models by the names that parameters use, the shipped demo model among them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cache.layout import Space
from cache.segment import NotFiniteError
from fade.gem import GemConfig
from fade.transforms import NONE, VERSION, rotating
from pipeline.config.schema import ModelParams, Params
from pipeline.config.values import DEMO_MODEL
from pipeline.features.hub import check_remotes, quiet, remotes
from pipeline.features.pair import EncoderPair, of_vision

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from fade.aspect import AspectRatio
    from fade.encoder import Encoder
    from fade.types import Device, Feature
    from pipeline.features.onnx_encoder import OnnxEncoder
    from pipeline.features.patch_encoder import PatchEncoder

    ImageEncoder = Encoder | PatchEncoder | EncoderPair | OnnxEncoder

_DEMO = Path(__file__).parents[1] / "demo"
SHIPPED = {DEMO_MODEL: _DEMO / "fade-demo.json"}
SHIPPED_WEIGHTS = {DEMO_MODEL: _DEMO / "fade-demo.safetensors"}
SEGMENT_BYTES = 64 << 20
SEGMENT_IMAGES = 256
"""Largest number of images of one task of the extract stage."""


def load_encoder(
    params: Params, device: Device | None = None, *, state: Mapping[str, Tensor] | None = None
) -> Encoder:
    """The model of the parameters, ready on a device: by default that of ``runtime.device``.

    Args:
        params: that name model and weights.
        state: the weights themselves, in place of those that are named.

    Raises:
        ModelError: it is unknown, unfit or damaged, or lies neither here nor where it can be fetched.
    """
    from fade.encoder import Encoder

    model = params.model
    found = remotes(model, config_of(model))
    if state is not None:
        found = [remote for remote in found if remote.leaf == "model.name"]
    check_remotes(model, found)
    with quiet(found):
        return Encoder.load(
            config_of(model),
            str(SHIPPED_WEIGHTS.get(model.pretrained, model.pretrained)),
            gem=GemConfig(model.gem.depth, model.gem.iterations, model.gem.temperature),
            precision=model.precision,
            device=device or params.runtime.device,
            state=state,
        )


def load_image_encoder(
    params: Params, device: Device | None = None, *, keep: bool = False
) -> ImageEncoder:
    """What encodes a run's images: the CLIP of ``model``, the network of ``vision.encoder``, or both.

    Args:
        device: to compute on, by default that of ``runtime.device``.
        keep: whether two models stay in memory, in place of the one that is used.

    Raises:
        ModelError, ParameterError: one is unknown, unfit, damaged or not here.
    """
    from fade.device import choose_device

    clip, network = partial(load_encoder, params, device), partial(load_network, params, device)
    place = choose_device(device or params.runtime.device)
    return image_encoder(params, clip, network, place, keep=keep)


def image_encoder(
    params: Params,
    clip: Callable[[], Encoder],
    network: Callable[[], PatchEncoder],
    device: str,
    *,
    keep: bool = True,
) -> ImageEncoder:
    """Those of two models that a run needs, both if it must be.

    Args:
        device: where they compute.
        keep: whether both stay in memory.
    """
    if not (params.vision.network and params.needs_vision):
        return clip()
    if not params.needs_language:
        return network()
    return EncoderPair(clip, network, device, keep=keep)


def load_encoder_of(params: Params, feature: Feature) -> ImageEncoder:
    """The model that gives a feature, alone."""
    return load_network(params) if of_vision(feature) else load_encoder(params)


def load_network(params: Params, device: Device | None = None) -> PatchEncoder:
    """The network of ``vision.encoder``, or the blocks of CLIP, ready on a device.

    Raises:
        ModelError, ParameterError: it is unknown, unfit, damaged or not here.
    """
    from pipeline.features.patch_encoder import load_patch_encoder

    if params.vision.encoder is not None:
        return load_patch_encoder(params, device)
    return clip_blocks(params, load_encoder(params, device))


def clip_blocks(params: Params, clip: Encoder) -> PatchEncoder:
    """Blocks of a CLIP as a network for vision.

    Raises:
        ParameterError: it has no such blocks.
    """
    from fade.encoders.clip_blocks import ClipBlocks
    from pipeline.features.patch_encoder import PatchEncoder

    return PatchEncoder(ClipBlocks(clip), params.vision, clip.device)


def start_encoding(
    encoder: ImageEncoder, images: np.ndarray, features: Collection[Feature], dtype: str
) -> Callable[[], Mapping[Feature, np.ndarray]]:
    """Encode a batch; a GPU works it off while the caller goes on.

    Args:
        images: (B, height, width, 3) uint8 RGB, of one size.
        features: what is wanted of them; of one model.
        dtype: that the store keeps.

    Returns:
        What waits for the features, each (B, dim) or (B, patches, dim).
    """
    from pipeline.features.onnx_encoder import OnnxEncoder
    from pipeline.features.patch_encoder import PatchEncoder

    if isinstance(encoder, EncoderPair):
        (encoder,) = {id(one): one for one in map(encoder.of, features)}.values()
    if isinstance(encoder, PatchEncoder | OnnxEncoder):
        found = encoder.encode(images, features, dtype)
        return lambda: found
    outputs = list(dict.fromkeys((feature.stream, feature.token) for feature in features))
    encoding = encoder.start_encoding(
        images, outputs, "float16" if dtype == "float16" else "float32"
    )

    def arrays() -> Mapping[Feature, np.ndarray]:
        arrived = encoding.arrays()
        return {feature: arrived[feature.stream, feature.token] for feature in features}

    return arrays


@contextmanager
def naming_weights(params: Params, *, vision: bool = False) -> Iterator[None]:
    """Let a refusal of numbers that are not finite say whose weights made them.

    Args:
        vision: whether those of ``vision.encoder`` did.
    """
    leaf, weights = "model.pretrained", params.model.pretrained
    if vision and params.vision.encoder is not None:
        leaf, weights = "vision.encoder_weights", params.vision.encoder_weights or "null"
    try:
        yield
    except NotFiniteError as error:
        raise NotFiniteError(f"{error} ({leaf}: {weights})") from None


def config_of(model: ModelParams) -> str:
    """What open_clip knows a model by: its name, or the config file of one that is shipped."""
    return str(SHIPPED.get(model.name, model.name))


def feature_space(
    encoder: ImageEncoder, feature: Feature, params: Params, aspect: AspectRatio | None = None
) -> Space:
    """The store's space for a feature of the model, of images that keep an aspect ratio or none."""
    description = {
        **encoder.describe(feature, aspect),
        "exif_rotation": params.dataset.exif_rotation,
    }
    if feature.transform != NONE:
        description |= {"transform": feature.transform.label, "transform_version": VERSION}
    if feature.transform.kind == "rotate":
        description |= rotating()
    return Space(feature.label, description, encoder.shape(feature, aspect), params.features.dtype)
