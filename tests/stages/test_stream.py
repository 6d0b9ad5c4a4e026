"""A run that keeps no features gives the numbers of one that does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cache.store import DamagedSegmentError, Store
from fade.errors import DataError
from pipeline.artefacts.catalogue import LANGUAGE, STREAMED, TEST, VISION
from pipeline.artefacts.receipts import read_receipt
from tests.projects import changed, golden_params, project, run_stages

RESULTS = ("metrics.csv", "summary.csv", "thresholds.json", "scores.parquet", "pixels.parquet")


@pytest.fixture(scope="module")
def params(golden_checkpoint: Path) -> dict[str, Any]:
    """Two trials, references that are scored too, and calibration images."""
    return changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint, "float16"),
        features__segmentation_sizes=[64, 96],
        dataset__limit=3,
        vision__shots=[0, 2],
        vision__query_in_bank={"zero_shot": True, "few_shot": False},
        threshold__images=3,
        runtime={"batch_size": 3},
    )


@pytest.fixture(scope="module")
def stored(params: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_stages(tmp_path_factory.mktemp("stored"), params)


@pytest.fixture(scope="module")
def streamed(params: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_stages(
        tmp_path_factory.mktemp("streamed"), changed(params, features__keep=False)
    )  # fmt: skip


def rows(folder: Path) -> dict[str, int]:
    store = Store(folder / ".fade" / "store")
    return {space.label: len(store.index(space)) for space in store.spaces()}


def test_same_components_and_results(stored: Path, streamed: Path) -> None:
    for artefact in (LANGUAGE, VISION):
        # keys and checksums of every component
        assert (streamed / artefact.path).read_bytes() == (stored / artefact.path).read_bytes()
    for name in RESULTS:
        file = Path("results") / name
        assert (streamed / file).read_bytes() == (stored / file).read_bytes(), name


def test_only_references_are_kept(stored: Path, streamed: Path) -> None:
    with_features, without = rows(stored), rows(streamed)
    references = len(read_receipt(TEST, streamed).spaces)
    assert references
    for label, count in with_features.items():
        if label.startswith("clip-patch"):
            assert 0 < without[label] < count
        elif label.startswith(("gem-patch", "clip-cls")):
            assert without.get(label, 0) == 0
        else:
            assert without[label] == count
    assert all(not len(found) for found in read_receipt(TEST, streamed).rows.values())


def test_a_stored_run_streams_nothing(stored: Path) -> None:
    assert not read_receipt(STREAMED, stored).spaces


def test_what_is_there_is_not_made_again_and_what_is_lost_is_named(
    params: dict[str, Any], streamed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import stages.stream

    content = changed(params, features__keep=False)
    seen: list[int] = []
    original = stages.stream.stream_block

    def noted(task: Any, encoder: Any) -> list[str]:
        seen.append(len(task.segment.keys))
        return original(task, encoder)

    monkeypatch.setattr(stages.stream, "stream_block", noted)
    run_stages(streamed, content, "stream")
    assert not seen
    receipt = read_receipt(VISION, streamed)
    space = receipt.space("vision-map")
    store = Store(streamed / ".fade" / "store")
    before = dict(receipt.rows["vision-map"])
    store.withdraw(space, next(iter(store.index(space).values())).segment)
    with project(streamed, content), pytest.raises(DamagedSegmentError, match=r"run `fade run`"):
        run_stages(streamed, content, "score_vision")
    assert not (streamed / STREAMED.path).exists()
    run_stages(streamed, content, "stream", "score_vision")
    assert seen
    assert dict(read_receipt(VISION, streamed).rows["vision-map"]) == before


def test_a_broken_image_loses_nothing(params: dict[str, Any], tmp_path: Path) -> None:
    import shutil

    images = tmp_path / "images"
    shutil.copytree(params["dataset"]["path"], images)
    content = changed(
        params, features__keep=False, dataset__path=str(images), dataset__watch=str(images)
    )
    folder = run_stages(tmp_path / "run", content, "manifest", "select", "extract", "text", "bank")
    victim = images / "weave/test/hole/000.png"
    sound = victim.read_bytes()
    victim.write_bytes(b"")
    with pytest.raises(DataError, match=r"weave/test/hole/000\.png changed.*all other images"):
        run_stages(folder, content, "stream")
    count = rows(folder)["language-map"]
    victim.write_bytes(sound)
    run_stages(folder, content, "stream")
    assert rows(folder)["language-map"] == count + 1
