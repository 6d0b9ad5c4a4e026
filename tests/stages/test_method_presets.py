"""Each method's preset through the real stages, shrunk to a tiny network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.config.presets.catalogue import PRESETS, render
from pipeline.config.presets.methods import METHODS
from pipeline.config.yaml12 import load_yaml
from tests.projects import GOLDEN, run_stages

TINY = f"local-dir:{GOLDEN / 'vision' / 'tiny-dinov2'}"
"""Patches of 14 pixels, six blocks."""
STAGES = (
    "manifest",
    "select",
    "extract",
    "text",
    "bank",
    "score_language",
    "score_vision",
    "evaluate",
)


def shrunk(name: str) -> dict[str, Any]:
    """A preset's parameters with a tiny network and few images; all else is the preset's own."""
    params: dict[str, Any] = load_yaml(render(PRESETS[name], data=str(GOLDEN / "images")))
    vision = params["vision"]
    blocks = min(len(vision["layers"]), 3)
    params["dataset"] |= {"categories": ["plate"], "limit": 4}
    vision |= {"encoder": TINY, "layers": list(range(6))[-blocks:], "seeds": [0]}
    vision["shots"] = [min(vision["shots"][0], 1)]
    params["features"]["segmentation_sizes"] = [56]
    if vision["tile"]:  # 4 patches a side
        vision |= {"tile": 3, "overlap": 1}
    if params["evaluate"]["size"] != "image":
        params["evaluate"]["size"] = 56
    params["threshold"]["images"] = 2
    return params


@pytest.mark.parametrize("method", [one.name for one in METHODS])
def test_a_method_gives_scores_maps_and_decisions(method: str, tmp_path: Path) -> None:
    run_stages(tmp_path, shrunk(f"own-{method}"), *STAGES)
    scores = pd.read_parquet(tmp_path / "results/scores.parquet")["score"].to_numpy()
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 4  # not cut at the end of a scale
    metrics = pd.read_csv(tmp_path / "results/metrics.csv")
    assert metrics["full_image_auroc"].notna().all()
    assert metrics["full_pixel_auroc"].notna().all()
