"""The real stages on a store in a bucket: the results of a run on a folder, byte by byte."""

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
from tests.projects import changed, golden_params, run_stages

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
        runtime={"device": "cpu", "batch_size": 4, "loader_workers": 2},
    )


def artefacts(folder: Path) -> dict[str, bytes]:
    """Receipts and results by name."""
    paths = [artefact.path for artefact in ARTEFACTS if artefact.receipt]
    paths += [Path("results") / name for name in RESULTS]
    return {str(path): (folder / path).read_bytes() for path in paths}


def test_a_run_on_a_bucket(params: dict[str, Any], tmp_path: Path, bucket: Bucket) -> None:
    url = f"{bucket.url}/team/store"
    here = run_stages(tmp_path / "here", params)
    puts = []

    def sometimes(method: str, path: str) -> Fault:
        """Every seventh write meets an overloaded server, every eleventh a lost connection."""
        if method != "PUT":
            return None
        puts.append(path)
        return 503 if len(puts) % 7 == 0 else "cut request" if len(puts) % 11 == 0 else None

    bucket.proxy.faults = sometimes
    remote = changed(params, features__store=url, cluster={"kind": "threads", "workers": 2})
    there = run_stages(tmp_path / "there", remote)
    bucket.proxy.faults = None
    assert len(puts) > 20
    assert artefacts(there) == artefacts(here)
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
