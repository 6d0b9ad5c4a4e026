"""Train the demo's model: ``python -m pipeline.demo.train OUT.safetensors [--steps N]``.

A small CLIP learns from the generator's training families and training defects alone what prompts
about flawless and damaged things mean, through the same two streams and formulas that inference
uses: docs/demo-model.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fade.errors import FadeError, ParameterError
from pipeline.demo.defects import DEFECTS, TRAIN_DEFECTS
from pipeline.demo.families import FAMILIES, TRAIN_FAMILIES
from pipeline.demo.generate import GOOD_PHRASES, Nuisance, style_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

CONFIG = Path(__file__).with_name("fade-demo.json")
STYLE_OFFSET = 2**40
"""Styles of training start here; those of data sets are drawn below 2**32."""
RENDERED, SIDE, PIECES = 256, 128, 3
"""Pixels a side at which pictures are drawn and kept, and pieces of each product.

Each piece is kept twice, as it is and with a defect."""


# --- pictures -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Pool:
    """Pictures to train on, product by product.

    Attributes:
        images: (products, 2, PIECES, SIDE, SIDE, 3) uint8; the second axis is good, defective.
        covers: (products, PIECES, SIDE, SIDE) uint8, 255 where the defect covers a pixel.
        families, defects: (products,) and (products, PIECES), positions in TRAIN_FAMILIES and
            TRAIN_DEFECTS.
    """

    images: NDArray[np.uint8]
    covers: NDArray[np.uint8]
    families: NDArray[np.int64]
    defects: NDArray[np.int64]


def draw_product(task: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[int]]:
    """Draw the pieces of one product, good and defective, from (seed, number of the product).

    Returns the images and covers of :class:`Pool` without their first axis, and the defects.
    """
    import cv2

    cv2.setNumThreads(1)
    seed, number = task
    family = FAMILIES[TRAIN_FAMILIES[number % len(TRAIN_FAMILIES)]]
    style = style_of(family, STYLE_OFFSET + number + 2**20 * seed)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 3, number]))
    nuisance = Nuisance()
    images = np.empty((2, PIECES, SIDE, SIDE, 3), np.uint8)
    covers = np.empty((PIECES, SIDE, SIDE), np.uint8)
    defects = [int(i) for i in rng.permutation(len(TRAIN_DEFECTS))[:PIECES]]
    for piece, kind in enumerate(defects):
        drawing = family.render(style, rng, round(RENDERED * 1.43))
        placed, foreground = nuisance.place(*drawing, rng, RENDERED)
        severity = float(rng.uniform(0.25, 1))
        flawed, mask = DEFECTS[TRAIN_DEFECTS[kind]].apply(placed, foreground, rng, severity)
        for state, picture in enumerate((placed, flawed)):
            images[state, piece] = _shrink(nuisance.expose(picture, rng))
        covers[piece] = np.round(255 * cv2.resize(
            mask.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA
        ))  # fmt: skip
    return images, covers, defects


def _shrink(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    from PIL import Image

    full = Image.fromarray(np.round(picture * 255).astype(np.uint8))
    return np.asarray(full.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def draw_pool(products: int, seed: int, workers: int) -> Pool:
    """Draw so many products; equal products and seed give equal pictures."""
    tasks = [(seed, number) for number in range(products)]
    with multiprocessing.get_context("spawn").Pool(workers) as processes:
        drawn = list(processes.imap(draw_product, tasks, chunksize=8))
    return Pool(
        np.stack([images for images, _, _ in drawn]),
        np.stack([covers for _, covers, _ in drawn]),
        np.arange(products) % len(TRAIN_FAMILIES),
        np.array([defects for _, _, defects in drawn]),
    )
