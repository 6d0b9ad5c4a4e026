"""What `fade measure` times, counts and says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fade.errors import DataError, ParameterError
from pipeline.cli.main import main
from pipeline.inference.measure import lines, measure, run_images
from pipeline.inference.predictor import Predictor
from tests.projects import GOLDEN, changed, golden_params, run_stages


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, golden_checkpoint: Path) -> Path:
    params = changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        features__segmentation_sizes=[96],
        evaluate__size=64,
        dataset__categories=["weave"],
        dataset__limit=1,
    )
    return run_stages(tmp_path_factory.mktemp("run"), params)


def test_each_image_is_timed_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that says 4 ms for reading, 100 ms for scoring, and 500 ms between images."""
    predictor, calls = Predictor.from_run(folder), []
    predict = predictor.predict

    def counted(pictures: Any, category: str) -> Any:
        calls.append(len(pictures))
        return predict(pictures, category)

    monkeypatch.setattr(predictor, "predict", counted)
    ticks = iter(np.cumsum([0, *(0.004, 0.1, 0.5) * 5]))
    monkeypatch.setattr("pipeline.inference.measure.clock", lambda: float(next(ticks)))
    files = [str(path) for path in sorted((GOLDEN / "images/weave/test/good").glob("*.png"))[:2]]
    done: list[int] = []
    found = measure(predictor, files, "weave", 3, 2, lambda: done.append(1))
    assert calls == [1] * 5
    assert len(done) == 5
    assert (found.images, found.distinct_images, found.warm_up) == (3, 2, 2)
    assert found.read_ms == pytest.approx(4)
    assert (found.low_ms, found.median_ms, found.mean_ms, found.high_ms) == pytest.approx(
        (100,) * 4
    )
    assert found.peak_memory_bytes > 2**26
    assert (found.device, found.peak_gpu_bytes) == ("cpu", None)
    assert "3 images (2 in turn), one at a time, after 2 to warm up" in lines(found)[0]
    with pytest.raises(DataError, match="no image of weave to measure"):
        measure(predictor, [], "weave")
    with pytest.raises(ParameterError, match="0 images cannot be measured"):
        measure(predictor, files, "weave", 0)


def test_the_images_of_a_run_are_its_test_images(folder: Path) -> None:
    params = Predictor.from_run(folder).params
    manifest = pd.read_parquet(folder / "artefacts" / "manifest.parquet")
    tests = manifest[(manifest["split"] == "test") & (manifest["category"] == "weave")]
    assert 0 < len(tests) < len(manifest)
    found = run_images(params, "weave", folder)
    assert found == [f"{params.dataset.path}/{path}" for path in tests["path"]]
    assert run_images(params, "none", folder) == []
    elsewhere = params.dataset.model_copy(update={"path": "s3://bucket/images"})
    with pytest.raises(ParameterError, match=r"s3://bucket/images is not on this machine"):
        run_images(params.model_copy(update={"dataset": elsewhere}), "weave", folder)


def test_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as ended:
        main(["measure", "--images", "2", "--warm-up", "0", "--json"])
    assert not ended.value.code
    said = json.loads(capsys.readouterr().out)
    assert (said["category"], said["images"], said["distinct_images"]) == ("weave", 2, 2)
    assert 0 < said["low_ms"] <= said["median_ms"] <= said["high_ms"]
    assert said["read_ms"] > 0
    with pytest.raises(SystemExit) as ended:
        main(["measure", "--bundle", "some.fade"])
    assert ended.value.code == 2
