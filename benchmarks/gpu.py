"""The encoder, extraction, search, networks and mutual scoring on a GPU; one line where there is none.

``python -m benchmarks.gpu`` writes benchmarks/results-gpu.md after each part, so that what was measured
stays where a later part fails; a part that fails is a line there. After ten minutes it ends by itself.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.encoder import ALL, MODEL, SIZES, images, operations
from benchmarks.gpu_networks import level_rows, mutual_row, network_rows, waiting
from benchmarks.machine import Machine, seconds
from benchmarks.neighbours import PATCHES, vectors
from benchmarks.pipeline import extraction
from benchmarks.table import Row, alternate, markdown
from fade import gpu
from fade.bank import similarity_to_references
from fade.device import Device
from fade.encoder import Encoder, Encoding, Precision
from fade.errors import first_line
from pipeline.features.models import DEMO_MODEL, SHIPPED, SHIPPED_WEIGHTS

RESULTS = Path(__file__).parent / "results-gpu.md"
MINUTES, GRACE = 10.0, 60
"""What all parts together may take, and the seconds after it at which a call that hangs is ended."""
TOLERANCE: Mapping[Precision, float] = {"fp32": 1e-4, "bf16": 0.04}
"""Largest difference of a feature's values from float32 on the CPU."""


@dataclass(frozen=True)
class Shapes:
    """How large what is measured is.

    Attributes:
        model: name and weights of the encoder.
        sizes: of its images, in pixels.
        batch: images at a time.
        files: images that are extracted, ``segment`` of them in each segment.
        networks: of timm: side of the images in pixels, and images at a time.
        levels: the same of a convolutional network.
        patches, references: of a search: of one image, and how many images are searched.
        mutual: images, patches of each, and numbers of a patch.
        side: of the matrices whose product is the limit.
        repeats: of each measurement.
    """

    model: tuple[str, str] = MODEL, "seeded"
    sizes: tuple[int, ...] = SIZES
    batch: int = 8
    files: int = 96
    segment: int = 6
    networks: Mapping[str, tuple[int, int]] = field(
        default_factory=lambda: {
            "vit_small_patch14_dinov2": (518, 32), "vit_base_patch14_dinov2": (518, 16),
        }
    )  # fmt: skip
    levels: tuple[int, int] = 256, 64
    patches: int = PATCHES
    references: int = 10
    mutual: tuple[int, int, int] = 24, 784, 384
    side: int = 8192
    repeats: int = 5


SMALL = Shapes(
    (str(SHIPPED[DEMO_MODEL]), str(SHIPPED_WEIGHTS[DEMO_MODEL])), (64,), 1, 2, 2,
    {"vit_tiny_patch16_224": (32, 2)}, (64, 1), 64, 2, (3, 16, 8), 256, 1,
)  # fmt: skip
"""The same code in seconds, on tensors of a CPU."""
Part = Callable[[], Iterable[Row]]


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark; none without a GPU."""
    import torch

    if not torch.cuda.is_available():
        print("gpu: torch finds no GPU, so nothing is measured on one", file=sys.stderr)
        return []
    rows: list[Row] = []
    shapes = Shapes(sizes=(240,), files=12, networks={}) if quick else Shapes()
    for remark in run_parts(parts("cuda", shapes), rows, MINUTES):
        print(f"gpu: {remark}", file=sys.stderr, flush=True)
    return rows


def run_parts(parts: Mapping[str, Part], rows: list[Row], minutes: float) -> Iterator[str]:
    """Measure part by part, whatever fails, and end in time.

    Args:
        rows: what is found is added to it.

    Yields:
        What became of each part, in words.
    """
    end = time.monotonic() + 60 * minutes
    for name, part in parts.items():
        start = time.monotonic()
        if start >= end:
            yield f"{name} was not begun: {minutes:g} minutes were over"
            continue
        try:
            with time_limit(end - start):
                for row in part():
                    rows.append(row)  # those before a failure stay
        except Exception as error:  # the other parts are still worth their time
            told = f"{type(error).__name__}: {first_line(error)}"
            yield f"{name} failed after {time.monotonic() - start:.0f} s: {told}"
        else:
            yield f"{name} took {time.monotonic() - start:.0f} s"


@contextlib.contextmanager
def time_limit(left: float) -> Iterator[None]:
    """Raise TimeoutError in the main thread after so many seconds; what hangs in a library then ends
    the process a minute later.
    """

    def stop(*_: object) -> None:
        raise TimeoutError("the time for all parts is over")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, left)
    faulthandler.dump_traceback_later(left + GRACE, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def parts(device: Device, shapes: Shapes) -> dict[str, Part]:
    """What is measured, by name, the most wanted first."""
    name, limit, encoders = device_name(device), Rate(device, shapes.side), Encoders(device, shapes)
    return {
        "encoder": lambda: _encoder(name, encoders, limit),
        "agreement": lambda: _agreement(name, encoders),
        "extraction": lambda: _extraction(name, encoders),
        "copies": lambda: _copies(name, device),
        "neighbours": lambda: _neighbours(name, device, shapes),
        "mutual": lambda: [mutual_row(name, device, *shapes.mutual, min(shapes.repeats, 3))],
        **{
            network: partial(_network, name, device, network, side, batch, limit, shapes.repeats)
            for network, (side, batch) in shapes.networks.items()
        },
        "levels": lambda: level_rows(name, device, *shapes.levels, shapes.repeats),
    }


def device_name(device: str) -> str:
    """The card in words."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else "CPU"


@dataclass
class Rate:
    """Multiply-adds x 2 a second of the device's bf16 product, measured when it is first asked for."""

    device: str
    side: int
    known: float = 0.0

    def __call__(self) -> float:
        """The rate."""
        import torch

        if not self.known:
            with torch.inference_mode():
                matrix = torch.rand(self.side, self.side, device=self.device).bfloat16()
                taken = seconds(waiting(lambda: matrix @ matrix, self.device), 5)
            self.known = 2.0 * self.side**3 / taken
        return self.known


@dataclass
class Encoders:
    """The encoder on the device, loaded when it is first asked for, and others like it."""

    device: Device
    shapes: Shapes
    known: Encoder | None = None

    def of(self, precision: Precision, device: Device) -> Encoder:
        """One of this precision on a device."""
        return Encoder.load(*self.shapes.model, precision=precision, device=device)

    def __call__(self) -> Encoder:
        """The one in bf16."""
        self.known = self.known or self.of("bf16", self.device)
        return self.known


def main(arguments: list[str] | None = None) -> None:
    """Measure part by part and write what was found so far."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu: small shapes"
    )
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all parts together")
    parser.add_argument("--output", type=Path, default=RESULTS)
    chosen = parser.parse_args(arguments)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU, so nothing is measured on one")
    rows: list[Row] = []
    remarks = [card(chosen.device)]
    found = parts(chosen.device, Shapes() if chosen.device == "cuda" else SMALL)
    for remark in run_parts(found, rows, chosen.minutes):
        print(remark, file=sys.stderr, flush=True)
        remarks.append(remark)
        lines = "\n".join(f"- {line}" for line in remarks)
        text = f"# Results on a GPU\n\n{lines}\n\n{markdown(rows)}\n"
        chosen.output.write_text(text, encoding="utf-8")


def card(device: str) -> str:
    """The card, its memory, and the versions that drive it."""
    import torch

    about = f"torch {torch.__version__}, {os.cpu_count()} cores"
    if device != "cuda":
        return f"CPU, small shapes that mean nothing; {about}"
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    return f"{device_name(device)}, {memory:.0f} GiB, CUDA {torch.version.cuda}; {about}"


def _encoder(name: str, encoders: Encoders, rate: Rate) -> Iterator[Row]:
    """At each size alone, then at all of them."""
    encoder, shapes = encoders(), encoders.shapes
    pixels = images(shapes.sizes, shapes.batch)
    chosen = [(size,) for size in shapes.sizes]

    def encode(sizes: tuple[int, ...]) -> list[Encoding]:
        return [encoder.start_encoding(pixels[size], ALL, "float16") for size in sizes]

    for sizes in chosen if len(chosen) == 1 else [*chosen, shapes.sizes]:
        run = waiting(partial(encode, sizes), encoders.device)
        taken = seconds(run, shapes.repeats)
        share = shapes.batch * sum(operations(encoder, size) for size in sizes) / taken / rate()
        yield Row(
            f"{name}: encoder bf16, {shapes.batch} images at {'+'.join(map(str, sizes))}", taken,
            None, "50 % of its bf16 matmul", share >= 0.5, (share, f"{rate() / 1e12:.3g} TFLOP/s"),
        )  # fmt: skip


def _agreement(name: str, encoders: Encoders) -> Iterator[Row]:
    size = min(encoders.shapes.sizes)
    small = images((size,))[size]
    expected = encoders.of("fp32", "cpu").encode_images(small, ALL)
    for precision, most in TOLERANCE.items():
        encoder = encoders() if precision == "bf16" else encoders.of(precision, encoders.device)
        found = encoder.encode_images(small, ALL)
        off = max(float(np.abs(found[output] - expected[output]).max()) for output in ALL)
        yield Row(
            f"{name}: features in {precision}, off float32 on the CPU", off, None, f"{most:g}",
            off <= most, unit="of 1",
        )  # fmt: skip


def _extraction(name: str, encoders: Encoders) -> Iterator[Row]:
    shapes, workers = encoders.shapes, os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        run, alone, compare = extraction(
            encoders(), Path(folder), shapes.sizes, shapes.files, shapes.batch, workers,
            segment=shapes.segment,
        )  # fmt: skip
        alone()
        pair = alternate(run, waiting(alone, encoders.device), min(shapes.repeats, 3))
        compare(pair.our_output, pair.plain_output)
    share, named = pair.plain / pair.ours, "+".join(map(str, shapes.sizes))
    yield Row(
        f"{name}: extract, {shapes.files} PNG files at {named}, decoded on {workers} cores",
        pair.ours, pair.plain, "80 % of the encoder alone", share >= 0.8,
        (share, "the encoder alone"),
    )  # fmt: skip


def _copies(name: str, device: str) -> Iterator[Row]:
    """What page-locked memory is for."""
    import torch

    plain = torch.zeros(64 << 20 if device == "cuda" else 1 << 10, dtype=torch.uint8)
    locked = plain.pin_memory() if device == "cuda" else plain.clone()
    ours, theirs = (
        seconds(waiting(partial(one.to, device, non_blocking=True), device), 5)
        for one in (locked, plain)
    )
    yield Row(
        f"{name}: {plain.numel() >> 20} MiB to the device, page-locked beside pageable", ours, theirs,
        "-", True,
    )  # fmt: skip


def _network(
    name: str, device: str, network: str, side: int, batch: int, rate: Rate, repeats: int
) -> Iterator[Row]:
    return network_rows(name, device, network, side, batch, rate(), repeats)


def _neighbours(name: str, device: str, shapes: Shapes) -> Iterator[Row]:
    import faiss

    patches = shapes.patches
    queries, bank = vectors(patches, 0), vectors(shapes.references * patches, 1)
    placed, kept = gpu.to_device(queries, device), gpu.to_device(bank, device)
    found = gpu.similarity_to_references(placed, kept, patches)
    expected = similarity_to_references(queries, bank, patches)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)

    def run() -> np.ndarray:
        return gpu.similarity_to_references(gpu.to_device(queries, device), kept, patches)

    product = seconds(waiting(lambda: placed @ kept.T, device), shapes.repeats)
    ours = seconds(run, shapes.repeats)
    limit, where = (product / ours, "its float32 matmul"), f"{patches:,} in {len(bank):,} patches"
    on_cpu = seconds(partial(similarity_to_references, queries, bank, patches), 2)
    yield Row(
        f"{name}: neighbours, {where}, beside the CPU",
        ours,
        on_cpu,
        "ratio 1",
        on_cpu >= ours,
        limit,
    )
    if device != "cuda":
        return
    if not hasattr(faiss, "StandardGpuResources"):
        raise RuntimeError("faiss is the build without a GPU: install faiss-gpu to compare with it")
    index = faiss.index_cpu_to_gpu(
        faiss.StandardGpuResources(), 0, faiss.IndexFlatIP(queries.shape[1])
    )
    index.add(bank)
    by_faiss = seconds(partial(index.search, queries, 1), shapes.repeats)
    yield Row(
        f"{name}: neighbours, {where}, beside faiss-gpu", ours, by_faiss, "ratio 1", by_faiss >= ours,
        limit,
    )  # fmt: skip


if __name__ == "__main__":
    main()
