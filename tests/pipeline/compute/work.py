"""Tasks for workers in other processes, which import nothing but this to run them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from fade.errors import DataError


def slow_first(task: int) -> tuple[int, list[float]]:
    time.sleep(0.1 if task == 0 else 0)
    return task, [task / 3]


def refuse(task: int) -> int:
    if task == 1:
        raise DataError(f"image {task}.png is broken: remove it")
    return task


def who(task: int) -> tuple[int, set[int]]:
    from threadpoolctl import threadpool_info

    time.sleep(0.05)
    return os.getpid(), {library["num_threads"] for library in threadpool_info()}


def note(task: tuple[Path, int]) -> int:
    """Leave a line before and after slow work."""
    file, number = task
    with file.open("a") as stream:
        stream.write(f"{number} {os.getpid()}\n")
    time.sleep(0.4)
    with file.open("a") as stream:
        stream.write(f"{number} done\n")
    return number


def hoard(task: int) -> int:
    held = []
    if task == 1:
        for _ in range(64):
            held.append(bytearray(os.urandom(1 << 20) * 32))
            time.sleep(0.05)
    return len(held)


def key_of(task: Any) -> str:
    from distributed import get_worker

    return str(get_worker().get_current_task())


def unknown(task: int) -> int:
    raise ModuleNotFoundError("No module named 'pipeline.nonsense'")


def gpus(task: int) -> str:
    time.sleep(0.2)
    return os.environ["CUDA_VISIBLE_DEVICES"]


def nested(task: tuple[Any, ...]) -> str:
    return repr(task)


def bug(task: int) -> float:
    return 1 / task


def die(task: int) -> int:
    if task == 1:
        os._exit(9)
    return task


def blas_threads(task: int) -> list[int]:
    from threadpoolctl import threadpool_info

    return [library["num_threads"] for library in threadpool_info()]
