"""The real stages on a store and a data set in a bucket: a folder's results, byte by byte."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from cache.store import Store
from fade.errors import StoreError
from pipeline.inventory import describe, verify
from pipeline.paths import ARTEFACTS
from tests.objectstore import SECRET, Bucket, Fault
from tests.projects import GOLDEN, STAGES, changed, golden_params, run_stages

RESULTS = (
    "metrics.csv", "summary.csv", "metrics.json", "evaluation.json", "scores.parquet",
    "thresholds.json",
)  # fmt: skip


@pytest.fixture(scope="module")
def params(golden_checkpoint: Path) -> dict[str, Any]:
    return changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        features__segmentation_sizes=[96],
        threshold__images=2,
        dataset__categories=["weave"],
        runtime={"device": "cpu", "batch_size": 4, "loader_workers": 2},
    )


def artefacts(folder: Path) -> dict[str, bytes]:
    """Receipts and results by name."""
    paths = [artefact.path for artefact in ARTEFACTS if artefact.receipt]
    paths += [Path("results") / name for name in RESULTS]
    return {str(path): (folder / path).read_bytes() for path in paths}


def test_a_run_on_a_bucket(params: dict[str, Any], tmp_path: Path, bucket: Bucket) -> None:
    url = f"{bucket.url}/team/store"
    here = run_stages(tmp_path / "here", params, *STAGES)
    images = GOLDEN / "images"
    for file in images.rglob("*.*"):
        bucket.put(f"data/{file.relative_to(images).as_posix()}", file.read_bytes())
    asked: list[str] = []

    def sometimes(method: str, path: str) -> Fault:
        """Every seventh request meets an overloaded server, every eleventh a lost connection."""
        asked.append(method)
        return 503 if len(asked) % 7 == 0 else "cut request" if len(asked) % 11 == 0 else None

    bucket.proxy.faults = sometimes
    remote = changed(
        params,
        features__store=url,
        dataset__path=f"{bucket.url}/data",
        dataset__watch="listing.csv",
        cluster={"kind": "threads", "workers": 2},
    )
    there = run_stages(tmp_path / "there", remote, *STAGES)
    bucket.proxy.faults = None
    assert asked.count("PUT") > 20
    assert asked.count("GET") > 100
    assert artefacts(there) == artefacts(here)
    pages = [(f / "results" / "report" / "index.html").read_text() for f in (here, there)]
    assert pages[0].count("data:image") == pages[1].count("data:image") > 10
    assert not (there / ".fade").exists()
    for file in there.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes()
    local, shared = Store(here / ".fade" / "store"), Store(url)
    assert [(i.label, i.rows) for i in describe(local)] == [
        (i.label, i.rows) for i in describe(shared)
    ]
    for space in shared.spaces():
        assert not verify(shared, space).damaged

    # someone else, who may only read, needs no row more: nothing is computed or written
    bucket.proxy.faults = lambda method, path: None if method in ("GET", "HEAD") else 403
    bucket.proxy.seen.clear()
    again = run_stages(tmp_path / "again", remote)
    assert artefacts(again) == artefacts(here)
    assert {method for method, _ in bucket.proxy.seen} <= {"GET", "HEAD"}

    # and is told at once when rows are lacking
    shutil.rmtree(again / "artefacts" / "receipts")
    more = changed(remote, features__segmentation_sizes=[96, 64])
    with pytest.raises(StoreError, match=r"lacks \d+ rows of .* cannot be written to") as error:
        run_stages(again, more, "extract")
    assert "access denied (403)" in str(error.value)
