"""A million test images through ``fade serve``, and an index of millions of rows: opening and memory.

Rows are made up, and all that reads them is the real thing: a finished run of the demo's model on a few
images gets the tables of many, and a store gets the index entries of segments that nobody reads.
"""

from __future__ import annotations

import http.client
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.process import process
from benchmarks.served import project, server
from cache.entries import encode_entry
from cache.layout import Space, content_key
from cache.store import Store
from pipeline.artefacts.catalogue import CATEGORIES as CATEGORIES_FILE
from pipeline.artefacts.catalogue import MANIFEST, SCORES, THRESHOLDS
from pipeline.artefacts.tables import read_json, write_json

CATEGORIES, PAGE, SEGMENT = 15, 60, 256
OPENING, ANSWER = 2.0, 0.1
"""Seconds that opening a run and answering for a page may take."""
ROW_BYTES = 40
"""Memory that a row of an index may take."""
Line = tuple[str, str, str, bool]
"""What was measured, what it came to, what was wanted, and whether it was reached."""


@dataclass(frozen=True)
class Taken:
    """What an answer took: seconds on the clock, and of processor time, which other work leaves alone."""

    seconds: float
    cpu: float

    def __str__(self) -> str:
        return f"{1e3 * self.seconds:,.1f} ms, {1e3 * self.cpu:,.1f} of CPU"


def _pages(count: int) -> dict[str, dict[str, object]]:
    """Pages of images by what they show, as parameters of ``GET /images``."""
    return {
        "first page": {},
        "lowest": {"sort": "lowest"},
        "nearest to the threshold": {"sort": "nearest"},
        "the middle of a category, called anomalous": {
            "category": "part_03", "decision": "anomalous", "offset": count // 100,
        },
        "decision and label differ": {"disagreement": "true", "sort": "nearest"},
        "labelled good, lowest": {"label": "good", "sort": "lowest"},
        "a path that holds 0012": {"text": "0012"},
        "the middle of all": {"offset": count // 2},
        "the middle, nearest to the threshold": {"offset": count // 2, "sort": "nearest"},
        "another threshold": {"category": "part_04", "threshold": 0.5, "sort": "nearest"},
    }  # fmt: skip


def write_results(folder: Path, count: int) -> None:
    """Give a finished run so many test images: its scores, manifest and thresholds."""
    rng = np.random.default_rng(0)
    category = np.sort(rng.integers(0, CATEGORIES, count))
    bad = rng.random(count) < 0.3
    pairs = enumerate(zip(category.tolist(), bad.tolist(), strict=True))
    names = [f"part_{c:02}/test/{'hole' if b else 'good'}/{n:07}.png" for n, (c, b) in pairs]
    labels: dict[str, object] = {
        "path": names, "category": [f"part_{c:02}" for c in category.tolist()],
        "defect": np.where(bad, "hole", "good"), "is_anomaly": bad,
    }  # fmt: skip
    content = read_json(folder / THRESHOLDS.path)
    one = content["thresholds"][0]
    trial = {"shots": np.full(count, one["shots"]), "seed": np.full(count, one["seed"])}
    _rewrite(
        folder / SCORES.path,
        {
            **labels, **trial, "image": names, "score": rng.random(count),
        },
    )  # fmt: skip
    sides = np.full(count, 256)
    _rewrite(
        folder / MANIFEST.path,
        {
            **labels, "split": ["test"] * count, "width": sides, "height": sides,
            "hash": [f"{n:040x}" for n in range(count)],
        },
    )  # fmt: skip
    parts = [f"part_{number:02}" for number in range(CATEGORIES)]
    listed = read_json(folder / CATEGORIES_FILE.path)
    write_json({**listed, "categories": parts}, folder / CATEGORIES_FILE.path)
    content["thresholds"] = [{**one, "category": part, "image": 0.7} for part in parts]
    write_json(content, folder / THRESHOLDS.path)


def _rewrite(path: Path, columns: dict[str, object]) -> None:
    """A table of other rows with the types and remarks of the one that is there; None elsewhere."""
    schema = pq.read_schema(path)
    count = len(columns["path"])  # type: ignore[arg-type]
    arrays = [
        pa.array(columns[field.name]).cast(field.type)
        if field.name in columns
        else pa.nulls(count, field.type)
        for field in schema
    ]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path, row_group_size=1 << 14)


def serve_times(
    count: int, finished: Callable[[], AbstractContextManager[Path]] = project
) -> tuple[Taken, int, dict[str, Taken]]:
    """Open a run of so many test images, and ask a server for pages.

    Args:
        count: of test images.
        finished: gives the folder of a finished run, whose tables are replaced.

    Returns:
        What opening took in a process of its own, that one's largest memory in bytes, and what each
        answer took: the first one, as later ones may be remembered.
    """
    code = (
        "import time; from pathlib import Path\nfrom pipeline.serve.site import RunSite\n"
        "start, worked = time.perf_counter(), time.process_time()\nRunSite(Path())\n"
        "print(time.perf_counter() - start, time.process_time() - worked)"
    )
    with finished() as folder:
        write_results(folder, count)
        said, done = process(folder, code)
        opened = Taken(*map(float, said.splitlines()[0].split()))
        with server(folder) as port:
            return opened, done.peak, _answers(port, count)


def _answers(port: int, count: int) -> dict[str, Taken]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def content(path: str) -> Any:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())

    def ask(path: str) -> Taken:
        start, worked = time.perf_counter(), time.process_time()
        connection.request("GET", path)
        answer = connection.getresponse()
        content = answer.read()
        taken = Taken(time.perf_counter() - start, time.process_time() - worked)
        if answer.status != 200:
            raise RuntimeError(f"{path} was answered with {answer.status}: {content[:200]!r}")
        if path.startswith("/images") and not json.loads(content)["images"]:
            raise RuntimeError(f"{path} found no images")
        return taken

    while content("/health")["model"] == "loading":  # on all cores, beside which nothing is timed
        time.sleep(0.1)
    found = {
        what: ask(f"/images?{urlencode({'limit': PAGE, **asked})}")
        for what, asked in _pages(count).items()
    }
    found["categories"] = ask("/categories")
    found["counts of a category"] = ask("/counts?category=part_05")
    return found


def measure_serve(
    count: int, finished: Callable[[], AbstractContextManager[Path]] = project
) -> Iterator[Line]:
    """The times of :func:`serve_times` beside what is wanted."""
    opened, peak, answers = serve_times(count, finished)
    yield "open the run", str(opened), f"{OPENING:g} s", opened.seconds < OPENING
    yield "largest memory of it", f"{peak / 1e6:,.0f} MB", "-", True
    for what, one in answers.items():
        yield what, str(one), f"{1e3 * ANSWER:g} ms", one.seconds < ANSWER


@dataclass(frozen=True)
class Opened:
    """What opening an index of many rows took.

    Attributes:
        files: bytes of it on disk.
        held: bytes of it in memory.
        peak: bytes that the process needed at most, beyond its libraries.
    """

    taken: Taken
    files: int
    held: int
    peak: int


def open_rows(count: int, place: Path | None = None) -> Opened:
    """Write the index of so many rows, and open it in a process of its own."""
    space = Space("numbers", {"kind": "scale"}, (4,), "float32")
    with tempfile.TemporaryDirectory(dir=place) as name:
        folder = Path(name)
        store = Store(folder / "store")
        store.register(space)
        index = folder / "store" / store.folder(space) / "index"
        for start in range(0, count, SEGMENT):
            keys = [content_key(b"%d" % n) for n in range(start, min(start + SEGMENT, count))]
            segment = f"{start:032x}"
            crcs = [int(key[:8], 16) for key in keys]
            store.files.write(
                f"{store.folder(space)}/index/{segment}.json", encode_entry(segment, keys, crcs)
            )
        size = sum(file.stat().st_size for file in index.iterdir())
        code = (
            "import time\nfrom cache.layout import Space\nfrom cache.store import Store\n"
            "space = Space('numbers', {'kind': 'scale'}, (4,), 'float32')\n"
        )
        _, before = process(folder, code)
        said, done = process(
            folder,
            f"{code}start, worked = time.perf_counter(), time.process_time()\n"
            "index = Store('store').index(space)\n"
            "print(time.perf_counter() - start, time.process_time() - worked)\n"
            "held = index.sorted_keys.data.nbytes + sum(one.nbytes for one in "
            "(index.locations.segments, index.locations.rows, index.locations.crcs))\n"
            "print(len(index), held)",
        )
    taken, (found, held) = (line.split() for line in said.splitlines()[:2])
    if int(found) != count:
        raise RuntimeError(f"the index has {found} rows of {count}")
    return Opened(Taken(*map(float, taken)), size, int(held), done.peak - before.peak)


def measure_rows(count: int, place: Path | None) -> Iterator[Line]:
    """What :func:`open_rows` found, for each row."""
    found = open_rows(count, place)
    each = found.held / count
    yield "index files, a row", f"{found.files / count:.0f} bytes", "-", True
    yield "open", str(found.taken), "-", True
    yield "index in memory, a row", f"{each:.0f} bytes", f"{ROW_BYTES} bytes", each <= ROW_BYTES
    yield "largest memory while it opens, a row", f"{found.peak / count:.0f} bytes", "-", True


def lines_table(count: int, of: str, lines: Iterator[Line]) -> str:
    """Measurements in Markdown."""
    head = [f"| {of}, {count:,} | measured | wanted | reached |", "|---|---|---|---|"]
    return "\n".join(
        head + [f"| {' | '.join(line[:3])} | {'yes' if line[3] else 'no'} |" for line in lines]
    )
