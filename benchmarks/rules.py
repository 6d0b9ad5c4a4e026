"""Mutual scoring in blocks of pairs, and subspaces beside the encoding of the images that they are of."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import plain
from benchmarks.machine import Machine
from benchmarks.table import Row, in_turn
from cache.layout import Space, fingerprint
from cache.store import Store
from fade.encoders.load import load_vision_encoder
from fade.rules.pairs import all_pairs, pair_blocks
from fade.rules.subspace import fit_subspace
from fade.types import Feature
from fade.views import View
from pipeline.scoring.pairs import BLOCK_IMAGES, PairTask, PairView, score_pairs
from pipeline.scoring.views import FeatureView

PATCHES, DIM = 784, 896
NETWORK = "vit_small_patch14_dinov2"


def unit_vectors(images: int) -> np.ndarray:
    """Random directions, (images, PATCHES, DIM) float32."""
    drawn = np.random.default_rng(0).standard_normal((images, PATCHES, DIM), np.float32)
    return drawn / np.linalg.norm(drawn, axis=2, keepdims=True)


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark."""
    return [_mutual(8 if quick else 24, 2 if quick else 3), *_subspace(quick)]


def _mutual(images: int, repeats: int) -> Row:
    """Tasks as the stage runs them, reading and writing included, on a piece of a batch of 1,000.

    A batch of 1,000 images with 32 partners has 16,000 pairs, which are cut into blocks like these:
    time grows with the pairs, memory with a block.
    """
    vectors = unit_vectors(images)
    keys = [fingerprint(number) for number in range(images)]
    order = np.argsort(keys)
    keys, vectors = [keys[n] for n in order], vectors[order]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        feature = Feature(448, "clip", "patch")
        space = Space(feature.label, {"made": "up"}, (PATCHES, DIM), "float32")
        places = store.write(space, keys, vectors)
        view = PairView(FeatureView(View(448, (-1,)), (feature,), "448"), (space,), "cosine")
        store.prepare({view.space: 1})
        pairs = all_pairs(images)[:, ::-1]  # the smaller key first
        tasks = []
        for block in pair_blocks(pairs, BLOCK_IMAGES):
            at = {number: place for place, number in enumerate(block.images.tolist())}
            tasks.append(
                PairTask(
                    store.root, view, "any", tuple(keys[n] for n in block.images),
                    (tuple(places[n] for n in block.images),),
                    tuple((at[a], at[b]) for a, b in block.pairs.tolist()),
                )
            )  # fmt: skip
        buffer = np.empty((PATCHES, PATCHES), np.float32)

        def products() -> None:
            for first, second in pairs.tolist():
                np.matmul(vectors[first], vectors[second].T, out=buffer)

        sides: dict[str, Callable[[], Any]] = {
            "ours": lambda: [score_pairs(task) for task in tasks],
            "plain": lambda: plain.mutual(vectors, pairs),
            "sgemm": products,
        }
        found = in_turn(sides, repeats)
        index = store.index(view.space)
        stored, _ = index.find([f"{keys[a]}:{keys[b]}" for a, b in pairs.tolist()])
        rows = store.read(view.space, stored)
    np.testing.assert_allclose(rows, found["plain"][1], atol=1e-5, rtol=0)
    share = found["sgemm"][0] / found["ours"][0]
    return Row(
        f"mutual scoring, {len(pairs):,} pairs of {PATCHES} patches of {DIM}", found["ours"][0],
        found["plain"][0], "90 % of sgemm, each pair once", share >= 0.9, (share, "sgemm"),
    )  # fmt: skip


def _subspace(quick: bool) -> list[Row]:
    """Fit and residual beside the encoding of the same images."""
    import timm
    import torch

    size, images = (252, 4) if quick else (518, 12)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "random.pth"
        network = timm.create_model(NETWORK, img_size=518, num_classes=0)
        torch.save(network.state_dict(), file)
        encoder = load_vision_encoder(NETWORK, str(file))
    pictures = np.random.default_rng(0).integers(0, 256, (images, size, size, 3), np.uint8)
    output = encoder.output([-1], norm=True)
    rows = []
    patches = encoder.encode(pictures, [output])[output].reshape(images, -1, encoder.dim(output))
    subspace = fit_subspace(list(patches), share=0.99)
    flat = patches.reshape(-1, patches.shape[-1])
    found = in_turn(
        {
            "encode": lambda: encoder.encode(pictures[:4], [output]),
            "fit": lambda: fit_subspace(list(patches), share=0.99),
            "residual": lambda: subspace.residual(flat),
        },
        1 if quick else 3,
    )
    encoding = found["encode"][0] / 4 * images
    for what in ("fit", "residual"):
        taken = found[what][0]
        rows.append(
            Row(
                f"subspace, {what} of {images} images of {size} pixels", taken, encoding,
                "5 % of their encoding", taken <= 0.05 * encoding,
            )
        )  # fmt: skip
    return rows
