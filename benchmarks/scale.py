"""``python -m benchmarks.scale``: time and memory of stages and of the store's care as the data grow.

benchmarks/notes.md has what it printed.

Images are real files of 16 x 16 pixels, features in the store are random ones of the demo model's
shape, so that what is measured is all that a stage does around its arithmetic.
"""

from __future__ import annotations

import argparse
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from benchmarks.process import Run, process
from benchmarks.scale_evaluate import measure_evaluate
from benchmarks.scale_index import lines_table, measure_rows, measure_serve
from cache.layout import Space, content_key
from cache.store import Store
from pipeline.artefacts.catalogue import ARTEFACTS, TEST
from pipeline.artefacts.receipts import write_receipt
from pipeline.compute.tasks import iterate_tasks
from pipeline.config.cluster import ClusterParams
from pipeline.config.load import parse_params
from pipeline.config.originals import original
from pipeline.features.models import feature_space, load_encoder

CATEGORIES, REFERENCES, SEGMENT = 10, 4, 256
ROW_BYTES, GROWTH = 300, 1.1
"""Allowed memory: so many bytes a row, and beyond them such a share of the smaller run's peak."""
STAGES = (
    "scan", "manifest", "select", "extract", "text", "bank", "stream", "score_language",
    "score_vision", "evaluate", "report",
)  # fmt: skip


def picture(number: int) -> bytes:
    """A grey PNG of 16 x 16 pixels, another one for each number below 2 ** 64."""
    rows = np.zeros((16, 17), np.uint8)
    rows[0, 1:9] = np.frombuffer(struct.pack(">Q", number), np.uint8)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows.tobytes(), 1)),
        (b"IEND", b""),
    )
    chunks = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


def images(count: int) -> Iterator[tuple[str, bytes]]:
    """Paths and contents of a data set: a few training images in each category, the rest tests."""
    for number in range(count):
        category, place = number % CATEGORIES, number // CATEGORIES
        folder = "train/good" if place < REFERENCES else ("test/good", "test/hole")[place % 2]
        yield f"part{category}/{folder}/{place:07}.png", picture(number)


def write_project(folder: Path, count: int, fine: bool) -> None:
    """A project of so many images; ``fine``: of maps on 65,536 levels."""
    for category in range(CATEGORIES):
        for part in ("train/good", "test/good", "test/hole"):
            (folder / "images" / f"part{category}" / part).mkdir(parents=True)
    for path, data in images(count):
        (folder / "images" / path).write_bytes(data)
    content = yaml.safe_load(original("params.yaml"))
    content["dataset"] |= {"format": "mvtec", "path": "images", "watch": "listing.parquet"}
    content["features"] |= {"classification_size": 16, "segmentation_sizes": [16]}
    content["vision"] |= {"shots": [1], "seeds": [0], "query_in_bank": False}
    content["evaluate"] |= {"size": 16}
    if fine:  # distances without an upper limit
        content["vision"] |= {"metric": "euclidean"}
        content["fusion"] |= {
            "classification_mode": "vision", "segmentation_mode": "vision", "normalize": False,
        }  # fmt: skip
    (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    (folder / ".dvc").mkdir()


def fill_store(folder: Path, count: int) -> None:
    """Features of all images, as the extract stage would leave them."""
    params = parse_params(yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8")))
    encoder = load_encoder(params)
    store = Store(folder / ".fade" / "store")
    spaces = [feature_space(encoder, feature, params) for feature in params.test_features()]
    random = np.random.default_rng(0)
    keys = [content_key(data) for _, data in images(count)]
    for space in spaces:
        store.register(space)
        for start in range(0, count, SEGMENT):
            part = keys[start : start + SEGMENT]
            rows = random.standard_normal((len(part), *space.shape), np.float32)
            rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
            store.write(space, part, rows.astype(space.dtype))


def stage_code(stage: str) -> str:
    """What runs a stage."""
    load = "from pipeline.config.load import load_params\n"
    if stage == "scan":
        return f"{load}from pipeline.dataset.file_index import scan\nscan(load_params())"
    return f"{load}import stages.{stage} as stage\nstage.run(load_params())"


def measure_stages(
    count: int, stages: tuple[str, ...], place: Path | None, fine: bool
) -> dict[str, Run]:
    """Each stage on so many images, one after the other in one project."""
    found = {}
    with tempfile.TemporaryDirectory(dir=place) as name:
        folder = Path(name)
        write_project(folder, count, fine)
        for stage in stages:
            if stage == "extract":
                fill_store(folder, count)
            _, found[stage] = process(folder, stage_code(stage))
            print(f"{count} images, {stage}: {found[stage]}", file=sys.stderr, flush=True)
    return found


CARE = {
    "verify": ("cache", "verify", "--store", "store"),
    "copy": ("cache", "copy", "store", "copy"),
    "prune --unused": ("cache", "prune", "--unused", "--all", "--store", "store"),
}
"""What looks after a store, as arguments of ``fade``."""


def measure_care(count: int, place: Path | None) -> dict[str, Run]:
    """Each command on a space of so many small rows, all of which a receipt names."""
    found = {}
    space = Space("numbers", {"kind": "scale"}, (4,), "float32")
    with tempfile.TemporaryDirectory(dir=place) as name:
        folder = Path(name)
        (folder / ".dvc").mkdir()
        store = Store(folder / "store")
        store.register(space)
        keys = [content_key(str(number).encode()) for number in range(count)]
        for start in range(0, count, SEGMENT):
            part = keys[start : start + SEGMENT]
            store.write(space, part, np.ones((len(part), *space.shape), space.dtype))
        for artefact in ARTEFACTS:
            if artefact.receipt:
                there = replace(artefact, path=folder / artefact.path)
                write_receipt(there, store, {space: keys} if artefact is TEST else {})
        for what, arguments in CARE.items():
            code = (
                f"try:\n    main({arguments})\nexcept SystemExit as end:\n    assert not end.code"
            )
            _, found[what] = process(folder, f"from pipeline.cli.main import main\n{code}")
            print(f"{count} rows, {what}: {found[what]}", file=sys.stderr, flush=True)
    return found


def allowed_peak(few: Run, rows: int) -> float:
    """Bytes that a run with so many rows more may need."""
    return GROWTH * few.peak + ROW_BYTES * rows


def growth_table(
    few: dict[str, Run], many: dict[str, Run], small: int, factor: int, of: str
) -> str:
    """How time and memory grow from some images or rows to several times as many."""
    lines = [
        f"| {of} | {small:,} | {factor * small:,} | peak | peak | bytes a row "
        f"| within {GROWTH} x peak + {ROW_BYTES} bytes a row |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in few.items():
        other = many[name]
        rows = (factor - 1) * small
        allowed = allowed_peak(one, rows)
        lines.append(
            f"| {name} | {one.seconds:.1f} s | {other.seconds:.1f} s | {one.peak / 1e6:.0f} MB "
            f"| {other.peak / 1e6:.0f} MB | {(other.peak - one.peak) / rows:.0f} "
            f"| {'yes' if other.peak <= allowed else 'no'} |"
        )
    return "\n".join(lines)


def nothing(task: int) -> int:
    """A task without work."""
    return task


KINDS = ("synchronous", "threads", "processes", "address")
"""Ways to work that need no more than this machine."""


def scheduler_table(tasks: int, kinds: Sequence[str]) -> str:
    """What handing out so many empty tasks takes, with each way to work."""
    lines = ["| cluster.kind | tasks | time | a task |", "|---|---|---|---|"]

    def timed(cluster: ClusterParams, tasks: int) -> None:
        start = time.perf_counter()
        found = iterate_tasks(nothing, iter(range(tasks)), cluster, "empty", total=tasks)
        assert all(number == task for number, task in enumerate(found))
        seconds = time.perf_counter() - start
        print(f"{cluster.kind}: {seconds:.1f} s", file=sys.stderr, flush=True)
        lines.append(
            f"| {cluster.kind} | {tasks:,} | {seconds:.1f} s | {1e3 * seconds / tasks:.2f} ms |"
        )

    for kind in kinds:
        if kind != "address":
            timed(ClusterParams(kind=kind), tasks)  # type: ignore[arg-type]
            continue
        from distributed import LocalCluster

        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as local:
            timed(ClusterParams(kind="address", address=local.scheduler_address), tasks)
    return "\n".join(lines)


WHAT = ("stages", "store", "scheduler", "serve", "rows", "evaluate")


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("what", choices=WHAT)
    parser.add_argument(
        "--images", type=int, default=20_000, help="or rows of the smaller run; or empty tasks"
    )
    parser.add_argument("--factor", type=int, default=10, help="the larger run has so many times")
    parser.add_argument("--stage", action="append", choices=STAGES, help="these and no others")
    parser.add_argument("--fine", action="store_true", help="stages with maps of 65,536 levels")
    parser.add_argument("--kind", action="append", choices=KINDS, help="of cluster, these alone")
    parser.add_argument("--place", type=Path, help="folder for the projects, on a large disk")
    chosen = parser.parse_args(arguments)
    if chosen.what == "scheduler":
        print(scheduler_table(chosen.images, chosen.kind or KINDS))
        return
    if chosen.what == "serve":
        print(lines_table(chosen.images, "test images", measure_serve(chosen.images)))
        return
    if chosen.what == "rows":
        print(lines_table(chosen.images, "rows", measure_rows(chosen.images, chosen.place)))
        return
    small, large = chosen.images, chosen.factor * chosen.images
    if chosen.what == "store":
        few, many = (measure_care(count, chosen.place) for count in (small, large))
    elif chosen.what == "evaluate":
        few, many = (measure_evaluate(count, chosen.place) for count in (small, large))
    else:
        stages = tuple(chosen.stage or STAGES)
        few, many = (
            measure_stages(count, stages, chosen.place, chosen.fine) for count in (small, large)
        )
    print(growth_table(few, many, small, chosen.factor, chosen.what))


if __name__ == "__main__":
    main()
