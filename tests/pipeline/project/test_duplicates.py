"""Training images among the test images: the same bytes, and nearly the same pictures."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from fade.errors import ParameterError
from pipeline.cli.main import main
from pipeline.config.load import load_params
from pipeline.project.duplicates import find_duplicates, lines
from tests.projects import GOLDEN, changed, golden_params, run_stages


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, golden_checkpoint: Path) -> Path:
    """Features of a category with a training image among its test images, and one a shade lighter."""
    data = tmp_path_factory.mktemp("data")
    shutil.copytree(GOLDEN / "images" / "weave", data / "weave")
    good = data / "weave" / "train" / "good"
    first, second = sorted(good.glob("*.png"))[:2]
    shutil.copy(first, data / "weave" / "test" / "good" / "same.png")
    with Image.open(second) as image:
        lighter = image.convert("RGB").point(lambda value: min(value + 1, 255))
    lighter.save(data / "weave" / "test" / "good" / "near.png")
    params = changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        dataset__path=str(data),
        dataset__watch=str(data),
        dataset__categories=["weave"],
        features__segmentation_sizes=[96],
        features__classification_size=96,
        threshold__images=100,
    )
    return run_stages(tmp_path_factory.mktemp("run"), params, "manifest", "select", "extract")


@pytest.fixture
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    yield
    os.chdir(before)


@pytest.mark.parametrize("label", [None, "patch"])
def test_the_same_and_the_nearest(inside: None, label: str | None) -> None:
    params = load_params()
    feature = params.vision_features()[0].label if label else None
    found = find_duplicates(params, nearest=3, label=feature)
    (same,) = found.same
    names = [path.name for path in sorted((GOLDEN / "images/weave/train/good").glob("*.png"))]
    assert (same.test, same.distance) == ("weave/test/good/same.png", None)
    assert same.train == f"weave/train/good/{names[0]}"
    nearest, *others = found.near
    assert nearest.test == "weave/test/good/near.png"
    assert nearest.train == f"weave/train/good/{names[1]}"
    assert nearest.distance is not None
    assert 0 <= nearest.distance < 1e-3
    assert len(others) == 2
    assert all((one.distance or 0) >= nearest.distance for one in others)
    assert found.feature == (feature or params.classification_feature().label)
    # all training images are there to calibrate on
    assert found.train == found.train_images == len(names)
    assert found.test == found.test_images


def test_command(inside: None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["duplicates", "--nearest", "1", "--json"])
    assert not ended.value.code
    said = json.loads(capsys.readouterr().out)
    assert [pair["test"] for pair in said["same"]] == ["weave/test/good/same.png"]
    assert [pair["test"] for pair in said["near"]] == ["weave/test/good/near.png"]
    with pytest.raises(SystemExit):
        main(["duplicates", "--nearest", "1"])
    first, second, third, fourth = capsys.readouterr().out.splitlines()
    assert first.startswith("same content: weave/test/good/same.png (test) and ")
    assert second.startswith("distance 0.0")
    assert third.startswith("1 pair with the same content, among ")
    assert fourth.startswith("near ones by ")


def test_nothing_to_compare_by(inside: None) -> None:
    with pytest.raises(ParameterError, match="no feature 'x'"):
        find_duplicates(load_params(), label="x")
    with pytest.raises(ParameterError, match="--nearest -1"):
        find_duplicates(load_params(), nearest=-1)
    assert find_duplicates(load_params(), nearest=0).near == ()
    assert len(list(lines(find_duplicates(load_params(), nearest=0)))) == 3
