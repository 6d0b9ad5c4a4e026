"""The encoder, extraction, search, networks and mutual scoring on a GPU; one line where there is none.

``python -m benchmarks.gpu`` writes benchmarks/results-gpu.md after each part, so that what was measured
stays where a later part fails or takes too long; ten minutes are meant to suffice.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.encoder import ALL, MODEL, SIZES, images, load, operations
from benchmarks.gpu_networks import mutual_row, network_rows, waiting
from benchmarks.machine import Machine, seconds
from benchmarks.neighbours import PATCHES, vectors
from benchmarks.pipeline import extraction
from benchmarks.table import Row, alternate, markdown
from fade import gpu
from fade.bank import similarity_to_references
from fade.encoder import Encoder

BATCH = 8
NETWORKS = {"vit_small_patch14_dinov2": 32, "vit_base_patch14_dinov2": 16}
"""Networks of timm, and how many images they take at a time."""
RESULTS = Path(__file__).parent / "results-gpu.md"
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
    return [row for part in parts("cuda", quick).values() for row in part()]


def parts(device: str, quick: bool) -> dict[str, Callable[[], Sequence[Row]]]:
    """What is measured, by name, the most wanted first."""
    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    side = 8192 if device == "cuda" else 512
    with torch.inference_mode():
        matrix = torch.rand(side, side, device=device).bfloat16()
        rate = 2.0 * side**3 / seconds(waiting(lambda: matrix @ matrix, device), 5)
    if device != "cuda":  # the same code on small shapes
        return {
            "networks": partial(network_rows, name, device, "vit_tiny_patch16_224", 32, 2, rate, 1),
            "mutual": lambda: [mutual_row(name, device, 3, 16, 8, 1)],
        }
    encoder = Encoder.load(MODEL, "seeded", precision="bf16", device="cuda")
    return {
        "encoder": lambda: [_encoder(name, encoder, rate, quick), _agreement(name, encoder)],
        "extraction": lambda: [_extraction(name, encoder, quick)],
        "neighbours": lambda: _neighbours(name),
        **{
            network: partial(network_rows, name, device, network, 518, batch, rate)
            for network, batch in NETWORKS.items()
        },
        "mutual": lambda: [mutual_row(name, device, 24, 784, 384)],
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure part by part and write what was found so far."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu: small shapes"
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    chosen = parser.parse_args(arguments)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU, so nothing is measured on one")
    rows: list[Row] = []
    remarks = [f"torch {torch.__version__}, {os.cpu_count()} cores"]
    start = time.perf_counter()
    for name, part in parts(chosen.device, quick=False).items():
        try:
            rows += part()
        except Exception as error:  # the other parts are still worth their time
            remarks.append(f"{name} failed: {type(error).__name__}: {str(error).splitlines()[:1]}")
        took = f"{name} done after {(time.perf_counter() - start) / 60:.1f} minutes"
        print(took, file=sys.stderr, flush=True)
        lines = "\n".join(f"- {remark}" for remark in [*remarks, took])
        text = f"# Results on a GPU\n\n{lines}\n\n{markdown(rows)}\n"
        chosen.output.write_text(text, encoding="utf-8")


def _encoder(name: str, encoder: Encoder, rate: float, quick: bool) -> Row:
    sizes = (240,) if quick else SIZES
    pixels = images(sizes, BATCH)
    run = _finished(
        lambda: [encoder.start_encoding(image, ALL, "float16") for image in pixels.values()]
    )
    taken = seconds(run, 3)
    share = BATCH * sum(operations(encoder, size) for size in sizes) / taken / rate
    return Row(f"{name}: encoder bf16, {BATCH} images at {'+'.join(map(str, sizes))}", taken, None,
               "50 % of its bf16 matmul", share >= 0.5,
               (share, f"{rate / 1e12:.0f} TFLOP/s"))  # fmt: skip


_finished = partial(waiting, device="cuda")


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


if __name__ == "__main__":
    main()
