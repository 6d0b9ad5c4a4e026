"""The whole pipeline on photographs, from a folder of the user's: DeepPCB, not part of the project."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
import zarr

from pipeline.config.originals import TEMPLATE
from tests.projects import STAGES, changed, run_stages


def test_deeppcb(shared_data: Path, tmp_path: Path) -> None:
    images = shared_data / "data" / "deeppcb"
    if not images.is_dir():
        pytest.skip("no deeppcb in FADE_TEST_DATA")
    params = changed(
        yaml.safe_load(TEMPLATE.read_text()),
        dataset__path=str(images), dataset__watch=str(images), dataset__limit=3,
        features__segmentation_sizes=[128], vision__shots=[0, 1], vision__seeds=[0],
        model__pretrained="seeded",
    )  # fmt: skip
    run_stages(tmp_path, params, *STAGES)
    results = tmp_path / "results"
    metrics = pd.read_csv(results / "metrics.csv")
    assert metrics["category"].tolist() == ["pcb_a", "pcb_b", "pcb_c", "mean"] * 2
    assert metrics.drop(columns="category").notna().all(axis=None)
    scores = pd.read_parquet(results / "scores.parquet")
    assert len(scores) == 2 * 3 * 6
    assert scores["score"].between(0, 1).all()
    maps = zarr.open_group(results / "maps.zarr", mode="r")
    assert maps["shots1_seed0"].shape[0] == 18
    assert np.ptp(maps["shots1_seed0"][:]) > 0
    page = (results / "report" / "index.html").read_text(encoding="utf-8")
    assert "pcb_b" in page
    assert (results / "tables" / "metrics.tex").read_text().count("pcb") >= 3
