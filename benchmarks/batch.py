"""``python -m benchmarks.batch``: many unlabelled images of a category, by the work of score_vision.

By rule mutual they score each other in blocks of pairs, by rule subspace a subspace is fitted to all.
benchmarks/notes.md has what it printed. The features are seeded random ones, written straight into a
store, so that what is measured is all that is done behind the encoder: here, or by worker processes of
a dask scheduler in a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.machine import Machine
from benchmarks.process import ROOT
from benchmarks.table import Row
from cache.keys import Keys
from cache.layout import Space, content_key
from cache.store import Store
from pipeline.artefacts.catalogue import CALIBRATION, MANIFEST, REFERENCES, SELECTION, TEST
from pipeline.artefacts.receipts import read_receipt, write_receipt
from pipeline.artefacts.tables import write_table
from pipeline.compute.launch import close_sessions
from pipeline.compute.tasks import iterate_tasks
from pipeline.config.cluster import ClusterParams
from pipeline.config.load import parse_params
from pipeline.config.presets.catalogue import find_preset, render, substitute
from pipeline.config.rules import Rule
from pipeline.config.schema import Params
from pipeline.config.yaml12 import load_yaml
from pipeline.scoring.before import run_step
from pipeline.scoring.plan import score_block
from pipeline.scoring.vision import plan_vision

SEGMENT = 50
"""Images that are written at a time."""
RULES: tuple[Rule, ...] = ("mutual", "subspace")
MEMORY = "2GiB"
"""What a worker may use."""
PEAK = 1024
"""MiB that a process of such a run may use at most."""


@dataclass(frozen=True)
class Cost:
    """What a part of the work took.

    Attributes:
        seconds: on the clock.
        cpu: seconds of processor time, of all processes of the run.
    """

    seconds: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.seconds:,.1f} s, {self.cpu:,.1f} s of CPU"


@dataclass(frozen=True)
class Scored:
    """What scoring a category gave.

    Attributes:
        pairs: that were compared; subspaces that were fitted.
        costs: by part.
        peaks: largest resident memory by process, in MiB.
        digest: of all maps, bit for bit, in the images' order.
    """

    pairs: int
    costs: dict[str, Cost]
    peaks: dict[str, float]
    digest: str


@dataclass(frozen=True)
class Crew:
    """Who works.

    Attributes:
        cluster: as parameters have it.
        processes: numbers of further processes, by name.
    """

    cluster: ClusterParams
    processes: dict[str, int]

    def now(self) -> Cost:
        """Time up to now, of this process and of the others."""
        times = os.times()
        cpu = times.user + times.system + sum(map(_cpu_seconds, self.processes.values()))
        return Cost(time.perf_counter(), cpu)

    def since(self, start: Cost) -> Cost:
        """Time since then."""
        now = self.now()
        return Cost(now.seconds - start.seconds, now.cpu - start.cpu)

    def peaks(self) -> dict[str, float]:
        """Largest resident memory of each process, in MiB."""
        return {name: _peak(pid) for name, pid in {"run": os.getpid(), **self.processes}.items()}


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    (found,) = re.findall(r"^VmHWM:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found) / 1024


def alone(workers: int = 0) -> Crew:
    """This process: threads, or none beside its own."""
    if not workers:
        return Crew(ClusterParams(kind="synchronous"), {})
    return Crew(ClusterParams(kind="threads", workers=workers), {})


@contextlib.contextmanager
def scheduled(workers: int) -> Iterator[Crew]:
    """A scheduler and its workers, each a process of its own, as their commands start them."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        told = folder / "scheduler.json"
        common = ("--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(told))
        found = {
            "scheduler": stack.enter_context(_command("scheduler", folder, *common, "--port=0"))
        }
        for number in range(1, workers + 1):
            more = ("--nthreads=1", "--no-nanny", f"--memory-limit={MEMORY}")
            found[f"worker {number}"] = stack.enter_context(
                _command("worker", folder, *common, *more)
            )
        stack.callback(close_sessions)  # before the workers end
        yield Crew(ClusterParams(kind="address", address=_address(told, workers)), found)


@contextlib.contextmanager
def _command(kind: str, folder: Path, *options: str) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DASK_TEMPORARY_DIRECTORY": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _address(told: Path, workers: int) -> str:
    """Of a scheduler, once all of its workers are there."""
    from distributed import Client

    end = time.monotonic() + 120
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError):
            address = str(json.loads(told.read_text(encoding="utf-8"))["address"])
            with Client(address, set_as_default=False) as client:
                client.wait_for_workers(workers, timeout=120)
            return address
        time.sleep(0.1)
    raise TimeoutError("the dask scheduler did not start within two minutes")


def batch_params(rule: Rule, side: int, cluster: ClusterParams) -> Params:
    """A rule on one layer of a network of patches of 14 pixels, and unlabelled test images alone."""
    leaves = {
        "vision.encoder": "vit_small_patch14_dinov2.lvd142m", "vision.layers": [-1],
        "vision.rule": rule, "vision.bank": "batch", "vision.shots": [0], "vision.seeds": [0],
        "vision.transforms": "none", "features.segmentation_sizes": [14 * side],
    }  # fmt: skip
    text = substitute(render(find_preset("own-offline"), data="images"), leaves)
    params = parse_params(load_yaml(text), f"rule {rule}")
    return params.model_copy(update={"cluster": cluster})


def written(store: Store, space: Space, images: int) -> Keys:
    """Fill a space with random features; the keys of their images."""
    random, keys = np.random.default_rng(0), [content_key(b"%d" % n) for n in range(images)]
    store.prepare({space: images})
    for first in range(0, images, SEGMENT):
        part = keys[first : first + SEGMENT]
        rows = random.standard_normal((len(part), *space.shape), dtype=np.float32)
        store.write(space, part, rows.astype(space.dtype))
    return Keys.of(keys)


def write_artefacts(keys: Keys, space: Space, store: Store) -> None:
    """What the stages before score_vision leave of one category of test images."""
    for artefact in (MANIFEST, TEST):
        artefact.path.parent.mkdir(parents=True, exist_ok=True)
    tests = pd.DataFrame({"category": "parts", "split": "test", "hash": list(keys)})
    write_table(tests, MANIFEST.path)
    for artefact in (SELECTION, CALIBRATION):
        none = pd.DataFrame(columns=["category", "seed", "rank", "hash"])
        write_table(none.astype({"seed": "int64", "rank": "int64"}), artefact.path)
    write_receipt(REFERENCES, store, {})
    write_receipt(TEST, store, {space: keys})


def score(rule: Rule, images: int, side: int, dim: int, crew: Crew) -> Scored:
    """Plan, prepare and score all images, in an empty folder of its own."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            return _score(batch_params(rule, side, crew.cluster), images, side, dim, crew)
        finally:
            os.chdir(before)


def _score(params: Params, images: int, side: int, dim: int, crew: Crew) -> Scored:
    store = Store(Path.cwd() / "store")
    (feature,) = params.vision_features()
    content = {"kind": "random", "size": feature.size}
    space = Space(feature.label, content, (side * side, dim), params.features.dtype)
    keys = written(store, space, images)
    write_artefacts(keys, space, store)
    costs, start = {}, crew.now()
    receipt = read_receipt(TEST)
    work = plan_vision(params, receipt, store)
    work.prepare(store)
    pairs = sum(sum(step.counts().values()) for step in work.before)
    costs["planned"], start = crew.since(start), crew.now()
    for step in work.before:
        run_step(step, store, params.cluster)
    costs["prepared"], start = crew.since(start), crew.now()
    tasks, lacking = work.tasks(receipt, store), work.lacking
    done = sum(iterate_tasks(score_block, tasks, params.cluster, "vision", total=lacking))
    costs["scored"] = crew.since(start)
    if done != images:
        raise RuntimeError(f"{done} maps were made of {images}")
    (plan, *_) = work.plans
    index, digest = store.index(plan.output), hashlib.sha256()
    for first in range(0, images, SEGMENT):
        places, there = index.find(list(plan.keys())[first : first + SEGMENT])
        assert there.all()
        digest.update(store.read(plan.output, places).tobytes())
    return Scored(pairs, costs, crew.peaks(), digest.hexdigest())


def lines(rule: Rule, images: int, side: int, dim: int, crew: Crew) -> Iterator[str]:
    """What scoring took, in words."""
    found = score(rule, images, side, dim, crew)
    unit = "pairs" if rule == "mutual" else "subspaces"
    yield f"{rule}: {images:,} images of {side * side} patches of {dim} numbers, {found.pairs:,} {unit}"
    for part, cost in found.costs.items():
        yield f"{part} in {cost}"
    peaks = ", ".join(f"{name} {peak:,.0f} MiB" for name, peak in found.peaks.items())
    yield f"largest memory: {peaks}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark: two workers of a scheduler beside this process alone."""
    images, side, dim = (24, 4, 16) if quick else (1_000, 14, 128)
    rows = []
    with scheduled(2) as crew:
        for rule in RULES:
            here, there = (score(rule, images, side, dim, one) for one in (alone(), crew))
            assert here.digest == there.digest, f"{rule} by workers gives other maps than without"
            ours, plain = (
                sum(cost.seconds for cost in one.costs.values()) for one in (there, here)
            )
            peak = max(peak for name, peak in there.peaks.items() if name != "run")
            what = f"{rule}, {images:,} images, scheduler and 2 workers"
            rows += [
                Row(f"{what}, beside one process", ours, plain, "-", True),
                Row(f"{what}, largest process", peak, None, f"{PEAK:,} MiB", peak <= PEAK,
                    unit="MiB"),
            ]  # fmt: skip
    return rows


def main(arguments: list[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch", description=__doc__)
    parser.add_argument("--rule", choices=RULES, default="mutual")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--side", type=int, default=28, help="patches a side")
    parser.add_argument("--dim", type=int, default=384, help="numbers a patch")
    parser.add_argument(
        "--workers", type=int, default=2, help="threads; with --scheduler processes"
    )
    parser.add_argument(
        "--scheduler",
        action="store_true",
        help="by workers of a dask scheduler, not by threads here",
    )
    given = parser.parse_args(arguments)
    crew: AbstractContextManager[Crew] = (
        scheduled(given.workers) if given.scheduler else nullcontext(alone(given.workers))
    )
    with crew as working:
        for line in lines(given.rule, given.images, given.side, given.dim, working):
            print(line, flush=True)


if __name__ == "__main__":
    main()
