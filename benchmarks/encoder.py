"""Image features: both streams at all sizes, in float32 and bf16, and only what is needed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from benchmarks import plain
from benchmarks.machine import Machine
from benchmarks.table import Row, in_turn, peak_megabytes
from fade.encoder import Encoder, Precision
from fade.types import Stream, Token

MODEL = "ViT-B-16-plus-240"
SIZES = (240, 448, 896)
ALL: tuple[tuple[Stream, Token], ...] = (
    ("clip", "cls"), ("clip", "patch"), ("gem", "cls"), ("gem", "patch"),
)  # fmt: skip
REFERENCE: tuple[tuple[Stream, Token], ...] = (("clip", "patch"),)
LANGUAGE: tuple[tuple[Stream, Token], ...] = (("gem", "patch"),)
ENOUGH = 30.0
"""Seconds after which no further round of all sizes is begun."""
AGREE: Mapping[Precision, float] = {"fp32": 1e-5, "bf16": 0.04}
PEAK = """
import numpy as np
from benchmarks.encoder import ALL, load
encoder = load("fp32")
encoder.encode_images(np.zeros((1, {size}, {size}, 3), np.uint8), ALL)
"""


def load(precision: Precision) -> Encoder:
    """The default model with weights that its parameters' names give."""
    logging.getLogger().setLevel(logging.ERROR)  # open_clip warns that models start unloaded
    return Encoder.load(MODEL, "seeded", precision=precision)


def images(sizes: tuple[int, ...], count: int = 1) -> dict[int, np.ndarray]:
    """Noise at each size, (count, S, S, 3) uint8."""
    rng = np.random.default_rng(0)
    return {size: rng.integers(0, 256, (count, size, size, 3), np.uint8) for size in sizes}


def operations(encoder: Encoder, size: int) -> float:
    """Multiply-adds x 2 of both streams of one image."""
    width = encoder._visual.conv1.out_channels
    blocks, gem = len(encoder._blocks), encoder.gem.depth - 1
    tokens = encoder.grid(size) ** 2 + 1
    linear = blocks * 24 * tokens * width**2 + gem * 2 * tokens * width**2
    attention = (blocks + gem * 3 * (1 + encoder.gem.iterations)) * 4 * tokens**2 * width
    return float(linear + attention)


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark."""
    sizes = (240,) if quick else SIZES
    pixels = images(sizes)
    named = "+".join(map(str, sizes))
    rows = []
    kinds: list[tuple[Precision, float, float]] = [("fp32", machine.matmul, 4.0)]
    if machine.has_bf16:
        kinds.append(("bf16", machine.matmul_bf16, 6.0))
    encoders = {precision: load(precision) for precision, _, _ in kinds}
    small = {min(pixels): pixels[min(pixels)]}
    for encoder in encoders.values():
        _encode(encoder, small, ALL)
    plainly = partial(_encode_plainly, encoders["fp32"])
    plainly(small)
    sides = {str(name): partial(_encode, one, pixels, ALL) for name, one in encoders.items()}
    plain_time, expected = in_turn({"plain": partial(plainly, pixels)}, 1)["plain"]
    found = in_turn(sides, 2, ENOUGH)
    for precision, rate, least in kinds:
        ours, output = found[precision]
        for size in sizes:
            for kind in ALL:
                off = np.abs(output[size][kind][0] - expected[size][kind])
                assert off.max() < AGREE[precision], (precision, size, kind, off.max())
        done = sum(operations(encoders[precision], size) for size in sizes)
        rows.append(
            Row(
                f"encoder {precision}, both streams at {named}", ours, plain_time,
                f"ratio {least:g}", plain_time / ours >= least,
                (done / ours / rate, f"{precision} matmul at {rate / 1e9:.0f} GFLOP/s"),
            )
        )  # fmt: skip
    peak = peak_megabytes(PEAK.format(size=max(sizes)))
    rows.append(
        Row("encoder, peak memory at batch 1", peak, None, "2,500 MB", peak <= 2500, unit="MB")
    )
    fewer = {size: pixels[size] for size in sizes[:-1] or sizes}  # the largest takes most by far
    return [*rows, *_only_what_is_needed(encoders["fp32"], fewer)]


def _only_what_is_needed(encoder: Encoder, pixels: Mapping[int, np.ndarray]) -> list[Row]:
    chosen = {"a reference image": REFERENCE, "language maps alone": LANGUAGE, "all": ALL}
    sides = {name: partial(_encode, encoder, pixels, outputs) for name, outputs in chosen.items()}
    found = {name: taken for name, (taken, _) in in_turn(sides, 3).items()}
    everything, named = found.pop("all"), "+".join(map(str, pixels))
    rows = []
    for name, taken in found.items():
        listed = ", ".join("-".join(output) for output in chosen[name])
        rows.append(
            Row(
                f"only what {name} needs ({listed}) at {named}, beside all", taken, everything,
                "less than all", taken < everything,
            )
        )  # fmt: skip
    return rows


Encoded = dict[int, dict[tuple[Stream, Token], np.ndarray]]


def _encode(
    encoder: Encoder, pixels: Mapping[int, np.ndarray], outputs: Sequence[tuple[Stream, Token]]
) -> Encoded:
    return {size: encoder.encode_images(image, outputs) for size, image in pixels.items()}


def _encode_plainly(
    encoder: Encoder, pixels: Mapping[int, np.ndarray]
) -> dict[int, dict[tuple[str, str], np.ndarray]]:
    return {size: plain.encode_image(encoder, image[0]) for size, image in pixels.items()}
