"""Every mode and every text classifier, through the real stages over one store."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr

from fade.errors import StoreError
from fade.text import CLASSIFIERS
from fade.types import Trial
from pipeline.artefacts.maps import create_maps, write_maps
from tests.projects import GOLDEN, changed, golden_params, run_stages

MODES = ("none", "language", "vision", "both")
PAIRS = [pair for pair in product(MODES, MODES) if pair != ("none", "none")]
PIXEL, IMAGE = "full_pixel_auroc", "full_image_auroc"


@pytest.fixture(scope="module")
def base(golden_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Zero and one shot of few images, features already in the store."""
    folder = tmp_path_factory.mktemp("modes")
    params = changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        dataset__limit=2,
        features__segmentation_sizes=[96, 160],
        features__store=str(folder / "store"),
        vision__shots=[0, 1],
        vision__query_in_bank={"zero_shot": True, "few_shot": False},
        cluster={"kind": "synchronous"},
    )
    run_stages(folder / "first", params)
    return params


@pytest.mark.parametrize(("classification", "segmentation"), PAIRS)
def test_modes(
    classification: str, segmentation: str, base: dict[str, Any], tmp_path: Path
) -> None:
    params = changed(
        base,
        fusion__classification_mode=classification,
        fusion__segmentation_mode=segmentation,
    )
    run_stages(tmp_path, params)
    metrics = pd.read_csv(tmp_path / "results" / "metrics.csv")
    scores = pd.read_parquet(tmp_path / "results" / "scores.parquet")
    maps = zarr.open_group(tmp_path / "results" / "maps.zarr", mode="r")
    vision = {"vision", "both"} & {classification, segmentation}
    trials = [(0, 0), (1, 0)] if vision else [(0, 0)]
    assert list(zip(metrics["shots"], metrics["seed"], strict=True)) == [
        trial for trial in trials for _ in range(3)
    ]
    assert metrics[IMAGE].notna().all() == (classification != "none")
    assert metrics[PIXEL].notna().all() == (segmentation != "none")
    assert scores["score"].notna().all() == (classification != "none")
    names = {f"shots{shots}_seed{seed}" for shots, seed in trials}
    assert set(maps.array_keys()) == (set() if segmentation == "none" else names)
    if classification == "both":
        zero = scores[scores["shots"] == 0]["score"].to_numpy()
        language = _language_scores(base, tmp_path / "language")
        np.testing.assert_array_equal(zero, language)


def _language_scores(base: dict[str, Any], folder: Path) -> np.ndarray:
    params = changed(base, fusion__classification_mode="language", fusion__segmentation_mode="none")
    run_stages(folder, params)
    return pd.read_parquet(folder / "results" / "scores.parquet")["score"].to_numpy()


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_text_classifiers(classifier: str, base: dict[str, Any], tmp_path: Path) -> None:
    """Fitted once, written as arrays, and read back by the stage that scores."""
    params = changed(
        base,
        text__classification__classifier=classifier,
        text__segmentation__classifier=classifier,
        text__classification__prompts=["winclip"],
        text__segmentation__prompts=[str(GOLDEN / "prompts" / "winclip_prompt.json")] * 2,
        fusion__classification_mode="language",
        fusion__segmentation_mode="language",
    )
    run_stages(tmp_path, params)
    scores = pd.read_parquet(tmp_path / "results" / "scores.parquet")["score"]
    assert scores.between(0, 1).all()
    assert all(
        np.load(file, allow_pickle=False).files
        for file in (tmp_path / "artefacts" / "text").glob("*.npz")
    )


def test_a_map_that_is_not_there_is_no_empty_one(base: dict[str, Any], tmp_path: Path) -> None:
    folder = run_stages(tmp_path, base)
    arrays = zarr.open_group(folder / "results" / "maps.zarr", mode="r")
    assert all(array.nchunks_initialized == array.nchunks for _, array in arrays.arrays())
    chunks = folder / "results" / "maps.zarr" / "shots1_seed0" / "c"
    next(path for path in chunks.rglob("*") if path.is_file()).unlink()
    with pytest.raises(StoreError, match=r"1 of \d+ chunks of shots1_seed0 are missing"):
        run_stages(folder, base, "report")


def test_a_map_of_zeros_is_written(tmp_path: Path) -> None:
    create_maps(tmp_path / "maps.zarr", [Trial(1, 0)], 5, (2, 3), 2)
    for first, count in ((0, 2), (2, 2), (4, 1)):
        write_maps(tmp_path / "maps.zarr", first, Trial(1, 0), np.zeros((count, 2, 3), np.uint8))
    (array,) = (a for _, a in zarr.open_group(tmp_path / "maps.zarr", mode="r").arrays())
    assert (array.nchunks_initialized, array.nchunks) == (3, 3)
