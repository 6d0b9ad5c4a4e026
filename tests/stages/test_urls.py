"""The real stages on a store and a data set in a bucket: a folder's results, byte by byte."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cache.maintenance import describe, verify
from cache.store import Store
from fade.errors import StoreError
from pipeline.artefacts.catalogue import ARTEFACTS, MANIFEST, TEST
from pipeline.artefacts.receipts import read_receipt
from pipeline.artefacts.tables import read_table
from pipeline.cli.main import main
from pipeline.compute.launch import close_sessions
from tests.interpreter import Interpreter
from tests.machines import Machines
from tests.objectstore import SECRET, Bucket, Fault, open_bucket
from tests.projects import GOLDEN, STAGES, changed, golden_params, project, run_stages

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
        evaluate__size=64,
        runtime={"device": "cpu", "batch_size": 4, "loader_workers": 2},
    )


@pytest.fixture(scope="module")
def here(params: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on folders, its report included."""
    return run_stages(tmp_path_factory.mktemp("here"), params, *STAGES)


def upload(bucket: Bucket) -> str:
    """Put the golden images into a bucket; their URL."""
    images = GOLDEN / "images"
    for file in images.rglob("*.*"):
        bucket.put(f"data/{file.relative_to(images).as_posix()}", file.read_bytes())
    return f"{bucket.url}/data"


def artefacts(folder: Path) -> dict[str, bytes]:
    """Receipts and results by name."""
    paths = [artefact.path for artefact in ARTEFACTS if artefact.receipt]
    paths += [Path("results") / name for name in RESULTS]
    return {str(path): (folder / path).read_bytes() for path in paths}


def test_a_run_on_a_bucket(
    params: dict[str, Any], here: Path, tmp_path: Path, bucket: Bucket
) -> None:
    url = f"{bucket.url}/team/store"
    data = upload(bucket)
    asked: list[str] = []

    def sometimes(method: str, path: str) -> Fault:
        """Every seventh request meets an overloaded server, every eleventh a lost connection."""
        asked.append(method)
        return 503 if len(asked) % 7 == 0 else "cut request" if len(asked) % 11 == 0 else None

    bucket.proxy.faults = sometimes
    remote = changed(
        params,
        features__store=url,
        dataset__path=data,
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
    assert [one.name for one in (there / ".fade").iterdir()] == ["hashes.json"]  # no store
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


def test_a_scan_of_a_bucket(
    params: dict[str, Any],
    here: Path,
    tmp_path: Path,
    bucket: Bucket,
    capsys: pytest.CaptureFixture[str],
) -> None:
    listed = changed(params, dataset__path=upload(bucket), dataset__watch="listing.parquet")
    listing = tmp_path / "listing.parquet"

    def scan() -> dict[str, int]:
        """What a scan says: of files, and whether it wrote the listing."""
        with project(tmp_path, listed), pytest.raises(SystemExit) as ended:
            main(["scan", "--json"])
        printed = capsys.readouterr()
        assert not ended.value.code, printed.err
        found: dict[str, int] = json.loads(printed.out)
        return found

    first = scan()
    assert first["files"] == first["added"] == first["read"] > 10
    before, time = listing.read_bytes(), listing.stat().st_mtime_ns
    bucket.proxy.seen.clear()
    again = scan()
    assert (again["read"], again["written"]) == (0, False)
    assert (listing.read_bytes(), listing.stat().st_mtime_ns) == (before, time)
    assert not [path for method, path in bucket.proxy.seen if method == "GET" and ".png" in path]

    # the manifest takes hashes and sizes from the listing, and is that of the folder
    bucket.proxy.seen.clear()
    run_stages(tmp_path, listed, "manifest")
    found, expected = (read_table(folder / MANIFEST.path)[0] for folder in (tmp_path, here))
    assert found.equals(expected)
    assert not [path for method, path in bucket.proxy.seen if method == "GET" and ".png" in path]

    bucket.put("data/weave/test/hole/000.png", bucket.get("data/weave/test/hole/001.png"))
    third = scan()
    assert (third["changed"], third["read"], third["written"]) == (1, 1, True)
    assert listing.read_bytes() != before


@pytest.fixture
def google(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """As ``bucket``, of the other cloud."""
    with open_bucket(s3_endpoint, monkeypatch, "gs") as opened:
        yield opened


def test_a_streaming_run_of_a_cluster_on_a_bucket(
    params: dict[str, Any], here: Path, tmp_path: Path, google: Bucket, interpreter: Interpreter
) -> None:
    """Workers in processes of their own open data set and store by their URLs."""
    machines = Machines(tmp_path / "machines", interpreter.python)
    try:
        _stream(params, here, tmp_path / "there", google, machines.address)
    finally:
        close_sessions()
        machines.close()


def _stream(params: dict[str, Any], here: Path, folder: Path, bucket: Bucket, address: str) -> None:
    url = f"{bucket.url}/team/store"
    remote = changed(
        params,
        features__keep=False,
        features__store=url,
        dataset__path=upload(bucket),
        dataset__watch="listing.parquet",
        cluster={"kind": "address", "address": address},
    )
    there = run_stages(folder, remote)
    for name in RESULTS:
        file = Path("results") / name
        assert (there / file).read_bytes() == (here / file).read_bytes(), name
    assert not any(len(keys) for keys in read_receipt(TEST, there).rows.values())
    assert [one.name for one in (there / ".fade").iterdir()] == ["hashes.json"]  # no store
    # of features, only those of references came into the bucket
    rows = {info.label: info.rows for info in describe(Store(url))}
    full = {info.label: info.rows for info in describe(Store(here / ".fade" / "store"))}
    assert rows["vision-map"] == full["vision-map"]
    assert all(rows[name] < full[name] for name in rows if name.startswith("clip-patch"))
