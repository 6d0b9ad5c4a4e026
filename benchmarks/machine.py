"""What this machine can do at best: the rates that measurements are held against."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.rounds import rounds
from fade.types import Precision

SIDE, BYTES = 2048, 1 << 28
"""Of the matrices that are multiplied, and of the array that is copied and written."""
USUAL = 177e9
"""Float32 rate of the machine that numbers of images and requests were chosen on."""
PACKAGES = ("torch", "open_clip_torch", "numpy", "zarr", "faiss-cpu", "scikit-learn")


def seconds(run: Callable[[], object], repeats: int = 3) -> float:
    """Median time of a call after one that is not counted."""
    run()
    times = []
    for _ in rounds(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times)


@dataclass(frozen=True)
class Machine:
    """Rates measured in this run.

    Attributes:
        matmul: multiply-adds x 2 a second of torch's float32 matrix product.
        matmul_bf16: the same in bfloat16.
        matmul_numpy: the same of numpy's float32 product, another BLAS.
        memory: bytes a second of a copy, read and written together.
        disk: bytes a second written to the temporary folder, as far as the system buffers it.
    """

    matmul: float
    matmul_bf16: float
    matmul_numpy: float
    memory: float
    disk: float

    @classmethod
    def measure(cls) -> Machine:
        """Measure the rates; about five seconds."""
        import torch

        work = 2.0 * SIDE**3
        with torch.inference_mode():
            matrix = torch.rand(SIDE, SIDE)
            half, array = matrix.bfloat16(), matrix.numpy()
            torch_rate = work / seconds(lambda: matrix @ matrix)
            # without instructions for it a product of this size takes a minute
            part = half[: SIDE // 8, : SIDE // 8].contiguous()
            half_rate = work / 8**3 / seconds(lambda: part @ part)
            if half_rate > torch_rate / 8:
                half_rate = work / seconds(lambda: half @ half)
        numpy_rate = work / seconds(lambda: array @ array)
        source = np.ones(BYTES, np.uint8)
        target = np.empty_like(source)
        memory = 2 * source.nbytes / seconds(lambda: np.copyto(target, source))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "probe"
            disk = source.nbytes / seconds(lambda: file.write_bytes(source.data))
        return cls(torch_rate, half_rate, numpy_rate, memory, disk)

    @property
    def has_bf16(self) -> bool:
        """Whether the processor multiplies bf16: its rate is then above that of float32."""
        return self.matmul_bf16 >= self.matmul

    @property
    def precision(self) -> Precision:
        """The fastest one that images are encoded in here."""
        return "bf16" if self.has_bf16 else "fp32"

    def rate(self, precision: Precision) -> float:
        """Of the matrix product in bf16 or float32."""
        return self.matmul_bf16 if precision == "bf16" else self.matmul

    def fewer(self, count: int, least: int) -> int:
        """So many, or less by the share of the usual rate that this machine reaches."""
        return min(count, max(least, round(count * self.matmul / USUAL)))

    def describe(self) -> list[str]:
        """Lines about the machine, its rates and the versions."""
        import torch

        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES if _installed(name))
        load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
        half = f", {self.matmul_bf16 / 1e9:.0f} in bf16" if self.has_bf16 else ""
        without = (
            "No bf16: this processor does not multiply it, so rows in bf16 are left out, and images "
            "are extracted in float32."
        )
        return [
            f"Machine: {_processor()} with {instructions()}, {cores} cores, torch on "
            f"{torch.get_num_threads()} threads, {platform.system()}, load {load} when measured.",
            f"Limits measured in this run: matrix product {self.matmul / 1e9:.0f} GFLOP/s in float32 "
            f"(numpy's {self.matmul_numpy / 1e9:.0f}){half}; memory {self.memory / 1e9:.1f} "
            f"GB/s copied; disk {self.disk / 1e9:.1f} GB/s written (buffered).",
            *([] if self.has_bf16 else [without]),
            f"Versions: Python {platform.python_version()}, {versions}.",
        ]


def _installed(name: str) -> bool:
    try:
        version(name)
    except ModuleNotFoundError:
        return False
    return True


def instructions() -> str:
    """Instructions that products may use, which set the rate of bf16, and a limit set for oneDNN."""
    import torch

    known = {
        "bf16": torch.cpu._is_avx512_bf16_supported(),
        "AMX": torch.cpu._is_amx_tile_supported(),
    }
    found = [torch.backends.cpu.get_cpu_capability(), *(name for name in known if known[name])]
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return "+".join(found) + (f" (oneDNN up to {limit})" if limit else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
