"""How long a run will take, from a short sample of its work."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cache.layout import Space, batched, content_key
from fade import bank as cpu
from fade import gpu
from fade.aspect import AspectRatio
from fade.device import choose_device
from fade.files import read_data
from fade.transforms import NONE
from fade.types import DataPath, Feature
from pipeline.config.schema import Params
from pipeline.dataset.loader import ImageSource, Pixels, Pose, load_pixels
from pipeline.features.models import start_encoding
from pipeline.features.pair import of_vision
from pipeline.project.workload import Workload
from pipeline.scoring.banks import bank_copies
from pipeline.scoring.views import view_shapes

if TYPE_CHECKING:
    from pipeline.features.models import ImageEncoder


def time_encoding(
    params: Params, encoder: ImageEncoder, features: Sequence[Feature], work: Workload
) -> tuple[int, float]:
    """Images that were timed, and seconds for each: decoding runs beside the model."""
    # references, some in several poses, are few
    features = [feature for feature in features if feature.transform == NONE]
    shape_of = {feature: encoder.pixels(feature, work.aspect) for feature in features}
    poses = [(shape, NONE) for shape in sorted(set(shape_of.values()))]
    start = time.perf_counter()
    loaded = [_load(path, poses, params, work.aspect) for path in work.sample] or [
        _made_up_pixels(poses)
    ]
    decode = (time.perf_counter() - start) / len(loaded) / params.runtime.loader_workers

    def encode() -> None:
        for batch in batched(list(range(len(loaded))), params.runtime.batch_size):
            for pose in poses:
                pixels = np.stack([loaded[i][pose] for i in batch])
                for model in (False, True):
                    here = [f for f in features if shape_of[f] == pose[0] and of_vision(f) == model]
                    if here:
                        start_encoding(encoder, pixels, sorted(here), params.features.dtype)()

    if encoder.device != "cpu":
        encode()  # the first one also starts the device
    return len(loaded), max(decode, _seconds(encode) / len(loaded))


def _load(
    path: DataPath, poses: Sequence[Pose], params: Params, aspect: AspectRatio | None
) -> Pixels:
    source = ImageSource(content_key(read_data(path)), path.name)
    return load_pixels(source, path.parent, poses, params.dataset.exif_rotation, aspect)


def _made_up_pixels(poses: Sequence[Pose]) -> Pixels:
    random = np.random.default_rng(0)
    return {pose: random.integers(0, 256, (*pose[0], 3), dtype=np.uint8) for pose in poses}


def time_comparing(params: Params, spaces: Mapping[Feature, Space], work: Workload) -> float:
    """Seconds of all comparisons with exact search, one after the other."""
    if not params.needs_vision or not work.scored:
        return 0.0
    categories = max(len(work.references), 1)
    held = sum(len(keys) * bank_copies(params, name) for name, keys in work.references.items())
    references = -(-held // categories)
    query = any(params.query_in_bank(trial) for trial in params.trials())
    random = np.random.default_rng(0)
    device = choose_device(params.runtime.device)
    search = cpu if device == "cpu" else gpu
    total = 0.0
    for patches, dim in view_shapes(params, spaces):
        vectors = random.standard_normal((patches, dim), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        placed: Any = vectors if device == "cpu" else gpu.to_device(vectors, device)
        if device != "cpu":
            search.similarity_to_others(placed)  # the first product also starts the device
        if references and params.max_shots:
            # one reference stands for each of them
            one = _seconds(partial(search.similarity_to_references, placed, placed, patches))
            total += one * references
        if query:
            total += _seconds(partial(search.similarity_to_others, placed))
    return total * len(work.scored)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
