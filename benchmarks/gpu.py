"""The encoder, extraction and search on a GPU; one line where there is none."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.encoder import ALL, MODEL, SIZES, images, load, operations
from benchmarks.machine import Machine, seconds
from benchmarks.neighbours import PATCHES, vectors
from benchmarks.pipeline import extraction
from benchmarks.table import Row, alternate
from fade import gpu
from fade.bank import similarity_to_references
from fade.encoder import Encoder

BATCH = 8
SEGMENT = 6
"""Images in a segment at the published sizes."""
TOLERANCE = 0.04
"""Largest difference of a feature's values in bf16 from float32 on the CPU."""


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark; none without a GPU."""
    import torch

    if not torch.cuda.is_available():
        print("gpu: torch finds no GPU, so nothing is measured on one", file=sys.stderr)
        return []
    name = torch.cuda.get_device_name()
    side = 8192
    with torch.inference_mode():
        matrix = torch.rand(side, side, device="cuda").bfloat16()
        rate = 2.0 * side**3 / seconds(_finished(lambda: matrix @ matrix), 5)
    sizes = (240,) if quick else SIZES
    encoder = Encoder.load(MODEL, "seeded", precision="bf16", device="cuda")
    pixels = images(sizes, BATCH)
    run = _finished(
        lambda: [encoder.start_encoding(image, ALL, "float16") for image in pixels.values()]
    )
    taken = seconds(run, 3)
    share = BATCH * sum(operations(encoder, size) for size in sizes) / taken / rate
    rows = [
        Row(f"{name}: encoder bf16, {BATCH} images at {'+'.join(map(str, sizes))}", taken, None,
            "50 % of its bf16 matmul", share >= 0.5, (share, f"{rate / 1e12:.0f} TFLOP/s")),
        _agreement(name, encoder),
        _extraction(name, encoder, quick),
        *_neighbours(name),
    ]  # fmt: skip
    return rows


def _finished(run: Callable[[], Any]) -> Callable[[], Any]:
    """The same, waiting until the GPU is done."""
    import torch

    def whole() -> Any:
        output = run()
        torch.cuda.synchronize()
        return output

    return whole


def _agreement(name: str, encoder: Encoder) -> Row:
    small = images((240,))[240]
    expected, found = load("fp32").encode_images(small, ALL), encoder.encode_images(small, ALL)
    off = max(float(np.abs(found[output] - expected[output]).max()) for output in ALL)
    return Row(f"{name}: features in bf16, off float32 on the CPU", off, None, f"{TOLERANCE}",
               off <= TOLERANCE, unit="of 1")  # fmt: skip


def _extraction(name: str, encoder: Encoder, quick: bool) -> Row:
    sizes, count = ((240,), 12) if quick else (SIZES, 96)
    with tempfile.TemporaryDirectory() as folder:
        run, alone, _ = extraction(
            encoder, Path(folder), sizes, count, BATCH, os.cpu_count() or 1, segment=SEGMENT
        )
        alone()
        pair = alternate(run, _finished(alone), 3)
    share = pair.plain / pair.ours
    named = "+".join(map(str, sizes))
    return Row(f"{name}: extract, {count} PNG files at {named}", pair.ours, pair.plain,
               "80 % of the encoder alone", share >= 0.8, (share, "the encoder alone"))  # fmt: skip


def _neighbours(name: str) -> list[Row]:
    import faiss

    references = 10
    queries, bank = vectors(PATCHES, 0), vectors(references * PATCHES, 1)
    placed, kept = gpu.to_device(queries, "cuda"), gpu.to_device(bank, "cuda")
    found = gpu.similarity_to_references(placed, kept, PATCHES)
    expected = similarity_to_references(queries, bank, PATCHES)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)

    def run() -> np.ndarray:
        return gpu.similarity_to_references(gpu.to_device(queries, "cuda"), kept, PATCHES)

    product = seconds(_finished(lambda: placed @ kept.T), 5)
    ours, share = seconds(run, 5), "its float32 matmul"
    by_faiss = None
    if hasattr(faiss, "StandardGpuResources"):
        index = faiss.index_cpu_to_gpu(
            faiss.StandardGpuResources(), 0, faiss.IndexFlatIP(queries.shape[1])
        )
        index.add(bank)
        by_faiss = seconds(partial(index.search, queries, 1), 5)
    where = f"{PATCHES:,} in {len(bank):,} patches"
    on_cpu = seconds(partial(similarity_to_references, queries, bank, PATCHES), 2)
    return [
        Row(f"{name}: neighbours, {where}, beside faiss-gpu", ours, by_faiss, "-", True,
            (product / ours, share)),
        Row(f"{name}: neighbours, {where}, beside the CPU", ours, on_cpu, "ratio 1",
            on_cpu >= ours, (product / ours, share)),
    ]  # fmt: skip
