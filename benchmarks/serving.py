"""``fade serve``: decisions over HTTP beside those in this process, and a million images to page."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.machine import Machine
from benchmarks.rounds import rounds
from benchmarks.scale_index import ANSWER, OPENING, serve_times
from benchmarks.served import project, server
from benchmarks.table import Row
from pipeline.inference.predictor import Predictor

CLIENTS = 8
ENOUGH = 30.0
"""Seconds after which no further decision is asked for, here and over HTTP."""
EDGE = "fade-benchmark"


def _client(port: int, body: bytes) -> Callable[[], bytes]:
    """What asks for one decision, on a connection that stays open."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    kind = {"Content-Type": f"multipart/form-data; boundary={EDGE}"}

    def ask() -> bytes:
        try:
            connection.request("POST", "/predict", body, kind)
            answer = connection.getresponse()
        except (
            ConnectionError
        ):  # the server closes one that is idle for seconds, as on a busy machine
            connection.close()
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
    with project() as folder:
        image = next((folder / "images" / "thing" / "test" / "hole").iterdir())
        body = (
            f'--{EDGE}\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'
        ).encode() + image.read_bytes() + f"\r\n--{EDGE}--\r\n".encode()  # fmt: skip
        predictor = Predictor.from_run(folder)
        with server(folder) as port:
            one = _client(port, body)
            sides = (lambda: predictor.predict([image], "thing")), one
            for work in sides:
                work()
            times = np.array([[_once(work) for work in sides] for _ in rounds(count, ENOUGH)])
            each_asks = len(times) // CLIENTS or 1
            asks = [_client(port, body) for _ in range(CLIENTS)]
            start = time.perf_counter()
            with ThreadPoolExecutor(CLIENTS) as pool:
                for done in [pool.submit(_repeat, ask, each_asks) for ask in asks]:
                    done.result()
            each = (time.perf_counter() - start) / (CLIENTS * each_asks)
    inside, over = times.T
    p95 = float(np.percentile(over, 95)), float(np.percentile(inside, 95))
    mean = float(inside.mean())
    return [
        Row("POST /predict, p95 of one client", *p95, "1.25 of Predictor",
            p95[0] < 1.25 * p95[1]),
        Row(f"POST /predict, an image, {CLIENTS} clients", each, mean, "1.3 of Predictor",
            each < 1.3 * mean),
    ]  # fmt: skip


def _paging(count: int) -> list[Row]:
    opened, _, answers = serve_times(count)
    goal = f"{1e3 * ANSWER:g} ms"
    return [
        Row(f"serve, open {count:,} images", opened.seconds, None, f"{OPENING:g} s",
            opened.seconds < OPENING),
        *(
            Row(f"serve, {count:,} images: {what}", one.seconds, None, goal, one.seconds < ANSWER)
            for what, one in answers.items()
        ),
    ]  # fmt: skip


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark."""
    return _decisions(8 if quick else 64) + _paging(20_000 if quick else 1_000_000)
