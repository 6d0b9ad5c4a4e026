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

SIDE, BYTES = 2048, 1 << 28
"""Of the matrices that are multiplied, and of the array that is copied and written."""
PACKAGES = ("torch", "open_clip_torch", "numpy", "zarr", "faiss-cpu", "scikit-learn")


def seconds(run: Callable[[], object], repeats: int = 3) -> float:
    """Median time of a call after one that is not counted."""
    run()
    times = []
    for _ in range(repeats):
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
            half_rate = work / seconds(lambda: half @ half)
        numpy_rate = work / seconds(lambda: array @ array)
        source = np.ones(BYTES, np.uint8)
        target = np.empty_like(source)
        memory = 2 * source.nbytes / seconds(lambda: np.copyto(target, source))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "probe"
            disk = source.nbytes / seconds(lambda: file.write_bytes(source.data))
        return cls(torch_rate, half_rate, numpy_rate, memory, disk)

    def describe(self) -> list[str]:
        """Lines about the machine, its rates and the versions."""
        import torch

        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES if _installed(name))
        load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
        return [
            f"Machine: {_processor()} with {instructions()}, {cores} cores, torch on "
            f"{torch.get_num_threads()} threads, {platform.system()}, load {load} when measured.",
            f"Limits measured in this run: matrix product {self.matmul / 1e9:.0f} GFLOP/s in float32 "
            f"(numpy's {self.matmul_numpy / 1e9:.0f}), {self.matmul_bf16 / 1e9:.0f} in bf16; memory "
            f"{self.memory / 1e9:.1f} GB/s copied; disk {self.disk / 1e9:.1f} GB/s written "
            "(buffered).",
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
