"""How long an image takes and how much memory, one at a time: as MVTec AD 2 asks for it."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fade.errors import DataError, ParameterError, counted
from fade.types import Trial
from pipeline.artefacts.catalogue import MANIFEST
from pipeline.artefacts.tables import table_parts
from pipeline.config.schema import Params
from pipeline.inference.pictures import open_picture
from pipeline.inference.predictor import Predictor
from pipeline.process.memory import peak_bytes

DEFAULT_IMAGES = 1000
"""Images that are timed unless fewer are asked for, as MVTec AD 2's script does."""
WARM_UP = {"cuda": 1000, "cpu": 10}
"""Images before them, by device; at most as many as are timed. A GPU takes long to settle."""


clock = time.perf_counter


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured.

    Attributes:
        category: whose bank and prompts the images were held against.
        device: that encoded: ``cuda`` or ``cpu``.
        device_name: of the GPU; empty on a CPU.
        threads: on the CPU; all that the machine has where nobody asked ONNX Runtime for fewer.
        images: how many were timed.
        distinct_images: of how many files they are, which come again in turn.
        warm_up: how many came before them.
        median_ms, mean_ms, low_ms, high_ms: from the pixels of an image in memory to score, decision and
            map at its size, in milliseconds an image; low and high are the 5 % and 95 % quantiles.
        read_ms: median of reading and decoding a file, which is not in these.
        peak_memory_bytes: of the process since its start, model and libraries included.
        peak_gpu_bytes: reserved on the GPU meanwhile, model included; None on a CPU.
    """

    category: str
    shots: int
    seed: int
    device: str
    device_name: str
    threads: int
    images: int
    distinct_images: int
    warm_up: int
    median_ms: float
    mean_ms: float
    low_ms: float
    high_ms: float
    read_ms: float
    peak_memory_bytes: int
    peak_gpu_bytes: int | None


def measure(
    predictor: Predictor,
    files: Sequence[str],
    category: str,
    images: int = DEFAULT_IMAGES,
    warm_up: int | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Measurement:
    """Time a predictor on images, one at a time.

    Args:
        predictor: of a run or bundle.
        files: images of the category; they come in turn, and again where they are fewer than ``images``.
        images: how many to time.
        warm_up: how many before them; by default :data:`WARM_UP`.
        advance: is called after each image.

    Raises:
        DataError: there is no file, or one cannot be read.
        ParameterError: a number is out of range, or the run scores images in batches alone.
    """
    if images < 1:
        raise ParameterError(f"{images} images cannot be measured: ask for 1 or more")
    if not files:
        raise DataError(f"there is no image of {category} to measure with: name some")
    device = predictor.device
    before = min(WARM_UP[device], images) if warm_up is None else warm_up
    if before < 0:
        raise ParameterError(f"warming up takes 0 images or more, and {before} were asked for")
    turn = itertools.cycle(files)
    reading, scoring = np.zeros(images), np.zeros(images)
    for number in range(-before, images):
        if number <= 0 and device == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats()
        start = clock()
        _, picture = open_picture(next(turn), 0, predictor.params.dataset.exif_rotation)
        opened = clock()
        (prediction,) = predictor.predict([picture], category)
        prediction.full_levels()
        ended = clock()  # what is predicted lies in the CPU's memory: the GPU is done
        if number >= 0:
            reading[number], scoring[number] = opened - start, ended - opened
        advance()
    reading, scoring = 1000 * reading, 1000 * scoring
    low, median, high = np.quantile(scoring, (0.05, 0.5, 0.95))
    name, threads, reserved = _hardware(device)
    return Measurement(
        category,
        predictor.trial.shots,
        predictor.trial.seed,
        device,
        name,
        threads,
        images,
        min(len(files), images),
        before,
        float(median),
        float(scoring.mean()),
        float(low),
        float(high),
        float(np.median(reading)),
        peak_bytes(),
        reserved,
    )


def _hardware(device: str) -> tuple[str, int, int | None]:
    """Name of the GPU, threads on the CPU, and bytes that were reserved on the GPU."""
    if (
        "torch" not in sys.modules
    ):  # a bundle for ONNX Runtime needs none, and to import it takes memory
        from fade.portable.session import asked_threads

        asked = asked_threads(os.environ.get("OMP_NUM_THREADS", ""))
        return "", asked or os.cpu_count() or 1, None
    import torch

    if device != "cuda":
        return "", torch.get_num_threads(), None
    return (
        torch.cuda.get_device_name(),
        torch.get_num_threads(),
        torch.cuda.max_memory_reserved(),
    )


def run_images(params: Params, category: str, folder: Path = Path()) -> list[str]:
    """The files of a run's test images of one category, in the manifest's order.

    Raises:
        StoreError: the manifest is missing or damaged.
        ParameterError: the images are no files of this machine.
    """
    root = params.dataset.path
    if "://" in root:
        raise ParameterError(f"{root} is not on this machine: name image files to measure with")
    place = folder / root
    place = place if place.is_dir() else place.parent
    return [
        os.fspath(place / path)
        for part in table_parts(folder / MANIFEST.path, ("path",), split="test", category=category)
        for path in part["path"].to_pylist()
    ]


def lines(found: Measurement) -> list[str]:
    """A measurement for a terminal."""
    trial = Trial(found.shots, found.seed)
    again = "" if found.distinct_images == found.images else f" ({found.distinct_images} in turn)"
    where = found.device_name or f"CPU, {counted(found.threads, 'thread')}"
    memory = f"memory  {found.peak_memory_bytes / 2**20:,.0f} MiB at most in the process"
    if found.peak_gpu_bytes is not None:
        memory += f", {found.peak_gpu_bytes / 2**20:,.0f} MiB on the GPU"
    return [
        f"what    {found.category}, {counted(trial.shots, 'shot')}, seed {trial.seed}: "
        f"{counted(found.images, 'image')}{again}, one at a time, "
        f"after {found.warm_up} to warm up, on {where}",
        f"time    {found.median_ms:.1f} ms an image in the median (mean {found.mean_ms:.1f}, 5 to 95 % "
        f"{found.low_ms:.1f} to {found.high_ms:.1f}); reading a file {found.read_ms:.1f} ms more",
        memory,
    ]
