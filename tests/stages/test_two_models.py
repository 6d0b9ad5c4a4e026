"""Two models and tiles: CLIP's language beside another network, killed and in bundles."""

from __future__ import annotations

import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from pipeline.inference.bundle_writing import write_bundle
from pipeline.inference.predictor import Predictor
from pipeline.inference.run import FinishedRun
from pipeline.serve.access import Access
from pipeline.serve.app import create_app
from pipeline.serve.site import BundleSite
from tests.fade.encoders.models import SMALL, save_model
from tests.forks import Forks, Run
from tests.projects import GOLDEN, golden_params, run_stages
from tests.stages.undisturbed import BLOCK, files, rows

TINY = f"local-dir:{GOLDEN / 'vision' / 'tiny-dinov2'}"
ROTARY = "a network with rotary positions and registers, as DINOv3 is"
HOST = "http://127.0.0.1:8080"
STEPS = ("manifest", "select", "extract")


def two_models(checkpoint: Path, **leaves: Any) -> dict[str, Any]:
    """CLIP for language, tiles of 4 x 4 of 8 x 8 patches of another network for vision."""
    params = golden_params("fewshot1_both_seed0", checkpoint)
    found = {section: dict(values) for section, values in params.items()}
    given = {
        "dataset__categories": ["weave"], "dataset__limit": 1, "threshold__images": 1,
        "features__segmentation_sizes": [112], "vision__encoder": TINY, "vision__layers": [0, 2],
        "vision__tile": 4, "vision__overlap": 1,
        "runtime__batch_size": 2, **leaves,
    }  # fmt: skip
    for name, value in given.items():
        section, leaf = name.split("__")
        found.setdefault(section, {})[leaf] = value
    return found


def test_encoding_with_tiles_and_two_models_is_killed_and_run_again(
    golden_checkpoint: Path, forks: Forks, tmp_path: Path
) -> None:
    params = two_models(golden_checkpoint)
    before = run_stages(tmp_path / "before", params, *STEPS[:2])
    run = Run("extract", str(shutil.copytree(before, tmp_path / "whole")), small=BLOCK)
    whole = forks.run(run)
    assert whole.code == 0, whole.stderr
    folder = shutil.copytree(before, tmp_path / "now")
    run = replace(run, folder=str(folder))
    stored = []
    for share in (0.6, 0.2):
        end = forks.run(replace(run, kill_at=int(share * whole.writes)))
        assert end.code == -signal.SIGKILL, end.stderr
        stored.append(len(set(rows(folder))))
    end = forks.run(run)
    assert end.code == 0, end.stderr
    expected = sorted(rows(tmp_path / "whole"))
    assert 0 < stored[0] < len(expected)
    assert sorted(rows(folder)) == expected, "rows are missing, differ, or were stored twice"
    assert files(folder) == files(tmp_path / "whole")


@pytest.mark.parametrize(
    "leaves",
    [
        {},
        {"vision__encoder": None, "vision__layers": [0]},
        # 14 x 14 patches, so that maps are finer than those of the network
        {"model__name": "fade-demo", "model__pretrained": "fade-demo",
         "features__classification_size": 128},
        {"vision__encoder": ROTARY, "vision__layers": [1, 3]},
    ],
    ids=["network", "blocks", "finer", "rotary"],
)  # fmt: skip
def test_a_bundle_takes_both_models_along(
    golden_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leaves: dict[str, Any]
) -> None:
    if leaves.get("vision__encoder") == ROTARY:
        save_model(tmp_path / "rotary", "vit_small_patch16_dinov3", img_size=64, **SMALL)
        leaves = {**leaves, "vision__encoder": f"local-dir:{tmp_path / 'rotary'}"}
    params = two_models(golden_checkpoint, vision__tile=0, vision__overlap=0, **leaves)
    run = run_stages(tmp_path / "run", params)
    image, bundle = GOLDEN / "images/weave/test/good/000.png", tmp_path / "parts.fade"
    monkeypatch.chdir(run)
    (before,) = Predictor.from_run().predict([image], "weave")
    write_bundle(FinishedRun(), bundle, with_weights=True)
    if not leaves:  # both of them without torch
        write_bundle(FinishedRun(), tmp_path / "onnx.fade", onnx="fp32")
    monkeypatch.chdir(tmp_path)
    for loader in ("encoders.load.load_checkpoint", "encoder.checkpoint.load_checkpoint"):
        monkeypatch.setattr(f"fade.{loader}", None)
    (after,) = Predictor.from_bundle(bundle).predict([image], "weave")
    assert (after.score, after.threshold) == (before.score, before.threshold)
    if not leaves:
        (after,) = Predictor.from_bundle(tmp_path / "onnx.fade").predict([image], "weave")
        assert after.score == pytest.approx(before.score, abs=1e-5)
        assert after.decision == before.decision
    np.testing.assert_array_equal(after.levels, before.levels)
    (_, regions) = Predictor.from_bundle(bundle).explain(image, "weave", level=0)
    assert regions
    with TestClient(create_app(BundleSite(bundle), Access("127.0.0.1")), HOST) as client:
        files = [("images", (image.name, image.read_bytes()))]
        (served,) = client.post("/predict", files=files).json()["predictions"]
    assert (served["score"], served["decision"]) == (before.score, before.decision)
