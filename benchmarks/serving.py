"""``fade serve``: decisions over HTTP beside those in this process, and a million images to page."""

from __future__ import annotations

import contextlib
import http.client
import importlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from benchmarks.machine import Machine
from benchmarks.table import Row
from fade.types import Trial
from pipeline.artefacts.catalogue import SCORES
from pipeline.config.load import load_params
from pipeline.inference.predictor import Predictor
from pipeline.serve.access import Access
from pipeline.serve.app import create_app
from pipeline.serve.image_index import ImageFilter, ImageIndex
from pipeline.serve.limits import Limits
from pipeline.serve.server import bound_socket, make_server
from pipeline.serve.site import RunSite

ROOT = Path(__file__).parent.parent
STAGES = (
    "manifest", "select", "extract", "text", "bank", "stream", "score_language", "score_vision",
    "evaluate",
)  # fmt: skip
SIDE, CLIENTS = 256, 8
EDGE = "fade-benchmark"


def _images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train/good", 8), ("test/good", 4), ("test/hole", 4)):
        (folder / part).mkdir(parents=True)
        for i in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
            coarse.resize((SIDE, SIDE)).save(folder / part / f"{i:03}.png")


@contextlib.contextmanager
def _project() -> Iterator[Path]:
    """A finished run of the demo's model on made-up images."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _images(folder / "images" / "thing")
        content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        content["dataset"] |= {"format": "mvtec", "path": "images", "watch": "images"}
        content["vision"] |= {"shots": [4], "seeds": [0]}
        content["threshold"]["images"] = 2
        content["cluster"]["kind"] = "synchronous"
        (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        (folder / ".dvc").mkdir()
        os.chdir(folder)
        try:
            for stage in STAGES:
                importlib.import_module(f"stages.{stage}").run(load_params())
            yield folder
        finally:
            os.chdir(before)


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[int]:
    """The port of a server in a thread."""
    limits = Limits()
    server = make_server(create_app(RunSite(folder), Access("127.0.0.1"), limits), limits)
    with bound_socket("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.serve_on, args=(listening,))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def _client(port: int, body: bytes) -> Callable[[], bytes]:
    """What asks for one decision, on a connection that stays open."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    kind = {"Content-Type": f"multipart/form-data; boundary={EDGE}"}

    def ask() -> bytes:
        connection.request("POST", "/predict", body, kind)
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        return content

    return ask


def _once(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _repeat(work: Callable[[], object], count: int) -> None:
    for _ in range(count):
        work()


def _decisions(count: int) -> list[Row]:
    with _project() as folder:
        image = next((folder / "images" / "thing" / "test" / "hole").iterdir())
        body = (
            f'--{EDGE}\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'
        ).encode() + image.read_bytes() + f"\r\n--{EDGE}--\r\n".encode()  # fmt: skip
        predictor = Predictor.from_run(folder)
        with _server(folder) as port:
            one = _client(port, body)
            sides = (lambda: predictor.predict([image], "thing")), one
            for work in sides:
                work()
            times = np.array([[_once(work) for work in sides] for _ in range(count)])
            asks = [_client(port, body) for _ in range(CLIENTS)]
            start = time.perf_counter()
            with ThreadPoolExecutor(CLIENTS) as pool:
                for done in [pool.submit(_repeat, ask, count // CLIENTS) for ask in asks]:
                    done.result()
            each = (time.perf_counter() - start) / (CLIENTS * (count // CLIENTS))
    inside, over = times.T
    p95 = float(np.percentile(over, 95)), float(np.percentile(inside, 95))
    mean = float(inside.mean())
    return [
        Row("POST /predict, p95 of one client", *p95, "1.25 of Predictor",
            p95[0] < 1.25 * p95[1]),
        Row(f"POST /predict, an image, {CLIENTS} clients", each, mean, "1.3 of Predictor",
            each < 1.3 * mean),
    ]  # fmt: skip


def _write_scores(path: Path, count: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    category = np.sort(rng.integers(0, 15, count))
    bad = rng.random(count) < 0.3
    pairs = enumerate(zip(category.tolist(), bad.tolist(), strict=True))
    names = [f"part_{c:02}/test/{'hole' if b else 'good'}/{n:07}" for n, (c, b) in pairs]
    path.parent.mkdir(parents=True)
    pq.write_table(
        pa.table(
            {
                "image": names, "path": [f"{name}.png" for name in names],
                "category": [f"part_{c:02}" for c in category.tolist()],
                "defect": np.where(bad, "hole", "good"), "is_anomaly": bad,
                "shots": np.full(count, 4), "seed": np.zeros(count, int), "score": rng.random(count),
            }
        ),
        path, row_group_size=1 << 14, write_page_checksum=True,
    )  # fmt: skip


def _index(count: int) -> list[Row]:
    trial, limits = Trial(4, 0), np.full(15, 0.7)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / SCORES.path
        _write_scores(path, count)
        start = time.perf_counter()
        index = ImageIndex.open(path)
        index.falling(trial)
        opened = time.perf_counter() - start
    slowest = 0.0
    for wanted in (
        ImageFilter(),
        ImageFilter(category="part_03", decision="anomalous"),
        ImageFilter(disagreement=True),
    ):
        for sort in ("highest", "lowest", "nearest"):
            start = time.perf_counter()
            index.select(trial, wanted, sort, limits, 60)  # type: ignore[arg-type]
            slowest = max(slowest, time.perf_counter() - start)
    return [
        Row(f"serve, open {count:,} images", opened, None, "2 s", opened < 2),
        Row(
            f"serve, slowest page of {count:,} images",
            slowest,
            None,
            "100 ms",
            slowest < 0.1,
        ),
    ]


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark."""
    return _decisions(8 if quick else 64) + _index(20_000 if quick else 1_000_000)
