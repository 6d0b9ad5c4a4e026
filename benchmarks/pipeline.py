"""The extract stage around the encoder: decoding, resizing and storing beside encoding alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import yaml
from PIL import Image

from benchmarks.encoder import load
from benchmarks.machine import Machine
from benchmarks.table import Row, alternate
from cache.layout import SegmentTask, Space, batched, content_key
from cache.store import Store
from fade.encoder import Encoder
from fade.preprocess import decode_rgb, resize_square
from fade.types import Feature, Stream, Token
from pipeline.config.load import parse_params
from pipeline.config.schema import Params
from pipeline.dataset.loader import ImageSource
from pipeline.features.extraction import Extraction
from pipeline.features.models import feature_space

IMAGES, FEWEST, SIDE, BATCH = 8, 4, 1024, 2
ENOUGH = 30.0
"""Seconds after which no further round is begun."""
CLASSIFICATION = 240
Rows = dict[str, list[np.ndarray]]
Encoded = dict[tuple[int, int], dict[tuple[Stream, Token], np.ndarray]]
PARAMS = Path(__file__).parent.parent / "params.yaml"


class PassThrough:
    """Stands for a store: takes the rows and keeps them."""

    def __init__(self) -> None:
        self.rows: dict[str, list[np.ndarray]] = {}

    def write(self, space: Space, keys: Sequence[str], rows: np.ndarray) -> None:
        """Keep the rows of a space."""
        self.rows.setdefault(space.label, []).append(rows)


def _params(folder: Path, batch: int, workers: int) -> Params:
    content = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    content["dataset"] |= {"format": "folder", "path": str(folder), "watch": str(folder)}
    content["features"]["dtype"] = "float16"
    content["runtime"] = {"device": "cpu", "batch_size": batch, "loader_workers": workers}
    return parse_params(content)


def outputs(size: int) -> list[tuple[Stream, Token]]:
    """What the default few-shot setting wants of a test image at a size."""
    maps: list[tuple[Stream, Token]] = [("clip", "patch"), ("gem", "patch")]
    return [("clip", "cls"), *maps] if size == CLASSIFICATION else maps


def extraction(
    encoder: Encoder,
    folder: Path,
    sizes: Sequence[int],
    count: int,
    batch: int,
    workers: int,
    segment: int | None = None,
) -> tuple[Callable[[], Rows], Callable[[], Encoded], Callable[[Rows, Encoded], None]]:
    """The stage on PNG files that are written to a folder, the encoder alone, and their comparison.

    Args:
        segment: images of a segment; None for all in one.
    """
    rng = np.random.default_rng(0)
    sources: dict[str, ImageSource] = {}
    pixels = []
    for i in range(count):
        coarse = rng.integers(0, 256, (SIDE // 8, SIDE // 8, 3), np.uint8)
        file = folder / f"{i:03}.png"
        Image.fromarray(coarse).resize((SIDE, SIDE)).save(file)
        data = file.read_bytes()
        sources[content_key(data)] = ImageSource(content_key(data), file.name)
        picture = decode_rgb(data, file.name)
        pixels.append({size: resize_square(picture, size) for size in sizes})
    params = _params(folder, batch, workers)
    wanted = [Feature(size, *output) for size in sizes for output in outputs(size)]
    features = {
        space.fingerprint: (feature, space)
        for feature in wanted
        for space in [feature_space(encoder, feature, params)]
    }
    segment = segment or count
    tasks = [SegmentTask(keys, tuple(features)) for keys in batched(list(sources), segment)]

    def run() -> Rows:
        store = PassThrough()
        work = Extraction(encoder, cast(Store, store), features, sources, params)
        work.run(tasks, count)
        assert not work.problems
        return store.rows

    batches = [
        (start + first, slice(start + first, start + min(first + batch, segment)))
        for start in range(0, count, segment)
        for first in range(0, segment, batch)
    ]

    def alone() -> Encoded:
        started = {
            (number, size): encoder.start_encoding(
                np.stack([image[size] for image in pixels[of_batch]]), outputs(size), "float16"
            )
            for number, of_batch in batches
            for size in sizes
        }
        return {key: encoding.arrays() for key, encoding in started.items()}

    def compare(rows: Rows, encoded: Encoded) -> None:
        for feature in wanted:
            stored = np.concatenate(rows[feature.label])
            parts = [
                encoded[number, feature.size][feature.stream, feature.token]
                for number, _ in batches
            ]
            assert np.array_equal(stored, np.concatenate(parts))

    return run, alone, compare


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark, in bf16 if it can be: a fast encoder is hard to keep up with."""
    encoder = load(machine.precision)
    sizes = (240,) if quick else (240, 448)
    count = 2 if quick else BATCH * machine.fewer(IMAGES // BATCH, FEWEST // BATCH)
    with tempfile.TemporaryDirectory() as name:
        for warm in sizes:
            encoder.encode_images(np.zeros((BATCH, warm, warm, 3), np.uint8), outputs(warm))
        run, alone, compare = extraction(encoder, Path(name), sizes, count, BATCH, 2)
        pair = alternate(run, alone, 1 if quick else 2, ENOUGH)
        compare(pair.our_output, pair.plain_output)
    share = pair.plain / pair.ours
    named = "+".join(map(str, sizes))
    return [
        Row(f"extract, {count} PNG files of {SIDE} x {SIDE} at {named}, {machine.precision}", pair.ours,
            pair.plain, "90 % of the encoder alone", share >= 0.9, (share, "the encoder alone"))
    ]  # fmt: skip
