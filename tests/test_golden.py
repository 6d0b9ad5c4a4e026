"""The official implementation's numbers, through the real stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

from fade.metrics import METRIC_NAMES
from tests.projects import GOLDEN, golden_params, run_stages

RUNS = sorted(path.name for path in (GOLDEN / "runs").iterdir())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all runs, as people have it."""
    return tmp_path_factory.mktemp("golden") / "store"


@pytest.mark.parametrize("run", RUNS)
def test_run(run: str, store: Path, golden_checkpoint: Path, tmp_path: Path) -> None:
    params = golden_params(run, golden_checkpoint)
    params["features"]["store"] = str(store)
    run_stages(tmp_path, params)
    results, golden = tmp_path / "results", GOLDEN / "runs" / run

    expected = pd.read_csv(golden / "image_scores.csv")
    scores = pd.read_parquet(results / "scores.parquet")
    assert scores["image"].tolist() == expected["image_name"].tolist()
    assert scores["is_anomaly"].tolist() == (expected["is_anomaly"] == 1).tolist()
    np.testing.assert_allclose(scores["score"], expected["image_anomaly_score"], atol=1e-3, rtol=0)

    maps = zarr.open_group(results / "maps.zarr", mode="r")
    name = f"shots{params['vision']['shots'][0]}_seed{params['vision']['seeds'][0]}"
    official = np.load(golden / "maps_uint8.npz")["maps"].astype(int)
    off = np.abs(maps[name][:].astype(int) - official)
    assert (off <= 1).mean() >= 0.995

    table = pd.read_csv(golden / "evaluation_results.csv").set_index("object_name")
    metrics = pd.read_csv(results / "metrics.csv").set_index("category")
    assert set(metrics.index) == set(table.index)
    for metric in METRIC_NAMES:
        np.testing.assert_allclose(
            metrics[metric], table.loc[metrics.index, metric], atol=2e-3, rtol=0, err_msg=metric
        )
