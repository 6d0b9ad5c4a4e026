"""``python -m benchmarks.batch``: 1,000 images score each other in blocks, by the steps of score_vision.

benchmarks/notes.md has what it printed. The features are seeded random ones, written straight into a
store, so that what is measured is all that is done behind the encoder.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.keys import Keys
from cache.layout import Space, content_key
from cache.store import Store
from pipeline.artefacts.catalogue import TEST
from pipeline.artefacts.receipts import read_receipt, write_receipt
from pipeline.compute.tasks import iterate_tasks
from pipeline.config.load import parse_params
from pipeline.config.presets.catalogue import find_preset, render, substitute
from pipeline.config.schema import Params
from pipeline.config.yaml12 import load_yaml
from pipeline.scoring.before import run_step
from pipeline.scoring.components import vision_map_space
from pipeline.scoring.mutual import plan_mutual
from pipeline.scoring.plan import score_block
from pipeline.scoring.views import described, view_plan

SEGMENT = 50
"""Images that are written at a time."""


@dataclass(frozen=True)
class Spent:
    """What a part took, of this process and those that it started and that have ended."""

    seconds: float
    cpu: float

    @classmethod
    def now(cls) -> Spent:
        """Up to now."""
        times = os.times()
        cpu = times.user + times.system + times.children_user + times.children_system
        return cls(time.perf_counter(), cpu)

    def since(self, start: Spent) -> str:
        """In words."""
        return f"{self.seconds - start.seconds:,.1f} s, {self.cpu - start.cpu:,.1f} s of CPU"


def batch_params(dim: int, side: int, workers: int) -> Params:
    """MuSc's rule on one layer of a network of patches of 14 pixels."""
    leaves = {
        "vision.encoder": "vit_small_patch14_dinov2.lvd142m", "vision.layers": [-1],
        "vision.rule": "mutual", "vision.bank": "batch", "vision.shots": [0], "vision.seeds": [0],
        "vision.transforms": "none", "features.segmentation_sizes": [14 * side],
        "cluster.kind": "threads", "cluster.workers": workers,
    }  # fmt: skip
    text = substitute(render(find_preset("own-offline"), data="images"), leaves)
    return parse_params(load_yaml(text), f"batch of {dim} numbers a patch")


def written(store: Store, space: Space, images: int) -> Keys:
    """Fill a space with random features; the keys of their images."""
    random, keys = np.random.default_rng(0), [content_key(b"%d" % n) for n in range(images)]
    store.prepare({space: images})
    for first in range(0, images, SEGMENT):
        part = keys[first : first + SEGMENT]
        rows = random.standard_normal((len(part), *space.shape), dtype=np.float32)
        store.write(space, part, rows.astype(space.dtype))
    return Keys.of(keys)


def measure(images: int, side: int, dim: int, workers: int) -> Iterator[str]:
    """Plan, compare and merge; what each took, in lines. The working directory is an empty one."""
    params, store = batch_params(dim, side, workers), Store(Path.cwd() / "store")
    (feature,) = params.vision_features()
    content = {"kind": "random", "size": feature.size}
    space = Space(feature.label, content, (side * side, dim), params.features.dtype)
    keys = written(store, space, images)
    TEST.path.parent.mkdir(parents=True, exist_ok=True)
    write_receipt(TEST, store, {space: keys})
    receipt = read_receipt(TEST)
    start = Spent.now()
    output = vision_map_space((space,), views=described(view_plan(params), (space,)))
    work = plan_mutual(
        params, params.trials(), {"parts": keys}, {}, receipt, store, store.repair(output)
    )
    work.prepare(store)
    pairs = sum(sum(step.counts().values()) for step in work.before)
    yield f"{images:,} images of {side * side} patches of {dim} numbers: {pairs:,} pairs planned in"
    yield Spent.now().since(start)
    start = Spent.now()
    for step in work.before:
        run_step(step, store, params.cluster)
    yield f"compared in {Spent.now().since(start)}"
    start = Spent.now()
    tasks = work.tasks(receipt, store)
    done = sum(iterate_tasks(score_block, tasks, params.cluster, "vision", total=work.lacking))
    yield f"{done:,} maps merged in {Spent.now().since(start)}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    yield f"peak {peak:,.0f} MiB; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch", description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--side", type=int, default=28, help="patches a side")
    parser.add_argument("--dim", type=int, default=384, help="numbers a patch")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for line in measure(given.images, given.side, given.dim, given.workers):
            print(line, flush=True)
        os.chdir("/")


if __name__ == "__main__":
    main()
