"""Commands of both sides, with what they took; what runs when the time is over is ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from math import inf
from pathlib import Path

ROOT = Path(__file__).parent.parent
_MEASURED = """
import contextlib, ctypes, json, os, resource, signal, subprocess, sys, threading, time
ctypes.CDLL(None).prctl(36, 1)  # what the command leaves to end alone becomes a child of this process
most, ended, start, limit = 0, threading.Event(), time.perf_counter(), float(sys.argv[1])

def below(number):
    with contextlib.suppress(OSError), open(f"/proc/{number}/task/{number}/children") as file:
        for child in file.read().split():
            yield child
            yield from below(child)

def held(number):
    with contextlib.suppress(OSError), open(f"/proc/{number}/smaps_rollup") as file:
        return next((int(line.split()[1]) for line in file if line.startswith("Pss:")), 0)
    return 0

def watch():
    global most
    while not ended.wait(0.2):
        if time.perf_counter() - start > limit:
            for number in below(os.getpid()):
                with contextlib.suppress(OSError):
                    os.kill(int(number), signal.SIGKILL)
        most = max(most, sum(map(held, below(os.getpid()))))

watching = threading.Thread(target=watch)
watching.start()
done = subprocess.run(sys.argv[2:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
seconds = time.perf_counter() - start
with contextlib.suppress(ChildProcessError):
    while os.wait():
        pass
ended.set()
watching.join()
used = resource.getrusage(resource.RUSAGE_CHILDREN)
most = max(most, used.ru_maxrss)  # a peak between two looks
print(json.dumps([seconds, done.returncode, most, used.ru_utime + used.ru_stime, done.stdout]))
"""


@dataclass(frozen=True)
class Run:
    """What a command took: wall time and CPU time in s, memory in MiB, and what it printed.

    Memory is the most that all its processes had at one time, what several share counted once; where the
    largest process alone had more between two looks, that.
    """

    seconds: float
    cpu: float
    mebibytes: float
    output: str


class OutOfTimeError(Exception):
    """The time for all methods is over."""


def run(command: list[str], folder: Path, threads: int, end: float = inf) -> Run:
    """Run a command to its end; one that fails ends its method with what it printed.

    Args:
        end: by the monotonic clock, when it is ended with all its processes.

    Raises:
        OutOfTimeError: it was.
    """
    limit = end - time.monotonic()
    if limit <= 0:
        raise OutOfTimeError
    environment = {
        **os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(limit), *command], cwd=folder, env=environment,
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    seconds, code, kibibytes, cpu, output = json.loads(done.stdout)
    if code and seconds > limit:
        raise OutOfTimeError
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}:\n{output}")
    return Run(seconds, cpu, kibibytes / 1024, output)
