"""Several presets on one data set: one store, one table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from fade.errors import FadeError, ParameterError
from pipeline.cli.main import main
from pipeline.config.yaml12 import load_yaml
from pipeline.project.methods import leaf_values, run_project
from tests.projects import GOLDEN, STAGES, run_stages

ENCODER = f"vision.encoder=local-dir:{GOLDEN / 'vision' / 'tiny-dinov2'}"
SMALL = (
    "features.segmentation_sizes=[56]", "evaluate.size=56", "vision.shots=[1, 2]",
    "dataset.categories=[plate]", "dataset.limit=3", "threshold.images=0",
)  # fmt: skip


def in_this_process(folder: Path) -> int:
    """``fade run`` without DVC, whose own tests are elsewhere: all stages, in order."""
    run_stages(folder, load_yaml((folder / "params.yaml").read_text(encoding="utf-8")), *STAGES)
    return 0


def code(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["methods", *words])
    return int(ended.value.code or 0)


def test_two_presets_make_one_table_of_one_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.project.methods.fade_run", in_this_process)
    data, chosen = str(GOLDEN / "images"), ("own-offline", "own-anomalydino")
    options = [word for leaf in (ENCODER, *SMALL) for word in ("--set", leaf)]
    assert code(data, *(word for name in chosen for word in ("--preset", name)), *options) == 0
    printed = capsys.readouterr().out
    assert all(f"| {name} |" in printed for name in chosen)
    table = pd.read_csv("methods/methods.csv")
    means = table[table["category"] == "mean"]
    assert means[["method", "shots"]].to_numpy().tolist() == [
        [name, shots] for name in chosen for shots in (1, 2)
    ]
    for name in chosen:
        own = pd.read_csv(f"methods/{name}/results/summary.csv")
        of = means.loc[means["method"] == name, "full_image_auroc_mean"]
        assert of.tolist() == own.loc[own["category"] == "mean", "full_image_auroc_mean"].tolist()
        assert not Path("methods", name, ".fade/store").exists()
    assert (means[["feature_bytes", "seconds"]] > 0).all(axis=None)
    page = Path("methods/index.html").read_text(encoding="utf-8")
    for name in chosen:
        assert f'src="{name}/results/report/index.html"' in page
        assert Path("methods", name, "results/report/index.html").is_file()
        assert page.count(f'<th scope="row">{name}</th>') == 4  # three metrics, and the costs
    for shown in 100 * means["full_pixel_auroc_mean"]:
        assert f"<td>{shown:.1f}" in page or f'<td class="best">{shown:.1f}' in page
    assert "<title>Methods: images</title>" in page


def test_what_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ParameterError, match="no NAME=VALUE"):
        leaf_values(["vision.shots"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert code("parts") == 3
    assert capsys.readouterr().err.startswith("error: there is nothing at parts: ")
    Path("parts").mkdir()
    for given in (["--set", "vision.shotz=1"], ["--set", "vision.shots=x"], ["--preset", "own"]):
        assert code("parts", "--preset", "own-offline", *given) == 2
    capsys.readouterr()
    assert code("parts", "--preset", "own-fewshot") == 4
    said = capsys.readouterr().err
    assert "warning: own-fewshot is left out: model.pretrained: the weights laion400m_e31" in said
    assert not Path("methods").exists()
    # CLIP's language beside a network whose weights are here
    options = ("--set", ENCODER, "--set", "features.segmentation_sizes=[224]")
    assert code("parts", "--preset", "own-fewshot", *options) == 4
    assert "model.pretrained: the weights laion400m_e31" in capsys.readouterr().err


def test_images_that_no_preset_can_read_leave_no_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("parts").mkdir()
    options = [word for leaf in (ENCODER, *SMALL) for word in ("--set", leaf)]
    presets = ("--preset", "own-offline", "--preset", "own-anomalydino")
    assert code("parts", *presets, *options) == 3
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'parts'}: neither it nor ")
    images = str(GOLDEN / "images")
    assert code(images, *presets, *options, "--set", "vision.shots=[900]") == 2
    assert "only 8 training images" in capsys.readouterr().err
    # the second preset alone is refused: the first is not written, either
    monkeypatch.setattr("pipeline.project.methods.missing_weights", lambda params: None)
    assert code(images, *presets[:2], "--preset", "mvtec-musc", *options[:-2]) == 2
    assert list(tmp_path.iterdir()) == [tmp_path / "parts"]


@pytest.mark.parametrize(("ended", "expected"), [(3, 3), (130, 130), (-9, 1)])
def test_a_run_that_fails_ends_the_command_with_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: int, expected: int
) -> None:
    monkeypatch.setattr("pipeline.project.methods.fade_run", lambda folder: ended)
    with pytest.raises(FadeError, match="preset own-offline failed in") as found:
        run_project(tmp_path, "own-offline")
    assert found.value.exit_code == expected
