"""The extract stage around the encoder: decoding, resizing and storing beside encoding alone."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import yaml
from PIL import Image

from benchmarks.encoder import load
from benchmarks.machine import Machine
from benchmarks.table import Row, alternate
from cache.layout import SegmentTask, Space, content_key
from cache.store import Store
from fade.preprocess import decode_rgb, resize_square
from fade.types import Feature
from pipeline.extraction import Extraction
from pipeline.loader import Source
from pipeline.models import feature_space
from pipeline.params import Params, parse_params

IMAGES, SIDE, BATCH = 8, 1024, 2
PARAMS = Path(__file__).parent.parent / "params.yaml"


class PassThrough:
    """Stands for a store: takes the rows and keeps them."""

    def __init__(self) -> None:
        self.rows: dict[str, list[np.ndarray]] = {}

    def write(self, space: Space, keys: Sequence[str], rows: np.ndarray) -> None:
        """Keep the rows of a space."""
        self.rows.setdefault(space.label, []).append(rows)


def _params(folder: Path) -> Params:
    content = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    content["dataset"] |= {"format": "folder", "path": str(folder), "watch": str(folder)}
    content["features"]["dtype"] = "float16"
    content["runtime"] = {"device": "cpu", "batch_size": BATCH, "loader_workers": 2}
    return parse_params(content)


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark, in bf16: the faster the encoder, the harder it is to keep up with."""
    encoder = load("bf16")
    sizes = (240,) if quick else (240, 448)
    outputs = [("clip", "patch"), ("gem", "patch")]
    count = 2 if quick else IMAGES
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources: dict[str, Source] = {}
        pixels = []
        for i in range(count):
            coarse = rng.integers(0, 256, (SIDE // 8, SIDE // 8, 3), np.uint8)
            file = folder / f"{i:03}.png"
            Image.fromarray(coarse).resize((SIDE, SIDE)).save(file)
            data = file.read_bytes()
            sources[content_key(data)] = Source(content_key(data), file.name)
            picture = decode_rgb(data, file.name)
            pixels.append({size: resize_square(picture, size) for size in sizes})
        params = _params(folder)
        wanted = [Feature(s, stream, token) for s in sizes for stream, token in outputs]  # type: ignore[arg-type]
        features = {
            space.fingerprint: (feature, space)
            for feature in wanted
            for space in [feature_space(encoder, feature, params)]
        }
        task = SegmentTask(tuple(sources), tuple(features))

        def run() -> dict[str, list[np.ndarray]]:
            store = PassThrough()
            extraction = Extraction(encoder, cast(Store, store), features, sources, params)
            extraction.run([task], len(task.keys))
            assert not extraction.problems
            return store.rows

        def alone() -> dict[tuple[int, int], dict]:
            return {
                (start, size): encoder.encode_images(
                    np.stack([image[size] for image in pixels[start : start + BATCH]]),
                    outputs,  # type: ignore[arg-type]
                )
                for start in range(0, count, BATCH)
                for size in sizes
            }

        alone()
        pair = alternate(run, alone, 1 if quick else 3)
        for feature in wanted:
            (stored,) = pair.our_output[feature.label]
            encoded = np.concatenate(
                [
                    pair.plain_output[start, feature.size][feature.stream, feature.token]
                    for start in range(0, count, BATCH)
                ]
            )
            assert np.array_equal(stored, encoded.astype(np.float16))
    share = pair.plain / pair.ours
    named = "+".join(map(str, sizes))
    return [
        Row(f"extract, {count} PNG files of {SIDE} x {SIDE} at {named}, bf16", pair.ours,
            pair.plain, "90 % of the encoder alone", share >= 0.9, (share, "the encoder alone"))
    ]  # fmt: skip
