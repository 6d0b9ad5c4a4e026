"""Presets: what they ask for, and the files that they become."""

from __future__ import annotations

import re
import subprocess
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fade.errors import ParameterError
from pipeline.config import originals
from pipeline.config.load import parse_params
from pipeline.config.originals import original
from pipeline.config.presets.catalogue import PRESETS, find_preset, render, substitute
from pipeline.config.presets.methods import METHODS
from pipeline.config.schema import Params
from pipeline.config.yaml12 import load_yaml
from tests.projects import ROOT

TEMPLATE = load_yaml(original("params.yaml"))
# shots, query, modes, classification, segmentation and vision feature, multiplier, weight
OFFICIAL = {
    "zeroshot-language": ([0], False, "language", None, None, None),
    "zeroshot-vision": ([0], True, "both", "gem", 3.5, 0.85),
    "zeroshot-both": ([0], True, "both", "gem", 80, 0.5),
    "zeroshot-vision-alone": ([0], True, "vision", "gem", 3.5, None),
    "fewshot-both": ([1, 2, 4], False, "both", "clip", 3.5, 0.85),
    "fewshot-vision": ([1, 2, 4], False, "vision", "clip", 3.5, None),
}


PAPER = [f"{dataset}-{name}" for dataset in ("mvtec", "visa") for name in OFFICIAL]
OF_METHODS = [f"{dataset}-{one.name}" for dataset in ("mvtec", "visa", "own") for one in METHODS]


def parsed(name: str) -> Params:
    return parse_params(yaml.safe_load(render(PRESETS[name])))


def comments(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip().startswith("#")]


def leaves(content: dict[str, Any], prefix: str = "") -> list[str]:
    names = []
    for key, value in content.items():
        deeper = leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else []
        names += deeper or [f"{prefix}{key}"]
    return names


def leaf(name: str) -> str:
    """The name without the parts that a value by shots adds."""
    return name.removesuffix(".zero_shot").removesuffix(".few_shot")


def test_names() -> None:
    assert [name for name in PRESETS if name not in (*PAPER, *OF_METHODS)] == [
        "demo",
        "own-fewshot",
        "own-zeroshot",
        "own-offline",
        "demo-photos",
    ]
    assert {*PAPER, *OF_METHODS} <= set(PRESETS)


@pytest.mark.parametrize(
    ("name", "twin", "shots"),
    [("own-fewshot", "mvtec-fewshot-both", 4), ("own-zeroshot", "mvtec-zeroshot-vision", 0)],
)
def test_own_images_take_one_choice_of_references(name: str, twin: str, shots: int) -> None:
    params, paper = parsed(name), parsed(twin)
    assert params.dataset.format == "folder"
    assert [(trial.shots, trial.seed) for trial in params.trials()] == [(shots, 0)]
    assert params.fusion == paper.fusion
    assert (params.text, params.features, params.model) == (paper.text, paper.features, paper.model)


@pytest.mark.parametrize("name", PAPER)
def test_values(name: str) -> None:
    dataset, _, example = name.partition("-")
    shots, query, mode, vision, multiplier, weight = OFFICIAL[example]
    params = parsed(name)
    assert (params.dataset.format, params.dataset.path) == (dataset, f"data/{dataset}")
    assert params.dataset.watch == params.dataset.path
    assert params.fusion.classification_mode == params.fusion.segmentation_mode == mode
    assert params.vision.shots == shots
    assert [trial.seed for trial in params.trials()] == (
        [0] if shots == [0] else [0, 1, 2, 3, 4] * 3
    )
    for trial in params.trials():
        assert params.query_in_bank(trial) == query
        if multiplier is not None:
            assert params.vision.feature == vision
            assert params.vision_multiplier(trial) == multiplier
        if weight is not None:
            assert params.vision_weight(trial) == weight
    assert (params.model.name, params.model.pretrained) == ("ViT-B-16-plus-240", "laion400m_e31")
    assert params.features.classification_size == 240
    assert params.features.segmentation_sizes == [240, 448, 896]
    assert params.evaluate.size == 448
    text = params.text
    assert (text.classification.feature, text.segmentation.feature) == ("clip", "gem")
    assert text.classification.prompts == ["winclip"]
    assert text.segmentation.prompts == ["winclip", *(f"descriptions_{n}" for n in range(1, 6))]
    assert (text.classification.use_classname, text.segmentation.use_classname) == (True, False)


@pytest.mark.parametrize("name", PRESETS)
def test_comments_stay(name: str) -> None:
    assert comments(render(PRESETS[name])) == comments(original("params.yaml"))


def test_demo_is_the_template() -> None:
    assert render(find_preset("demo")) == original("params.yaml")


def test_the_clones_own_parameters_are_no_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People change them, and `dvc exp run -S` writes them anew in another style."""
    expected = render(find_preset("own-offline"))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(load_yaml(expected)), encoding="utf-8")
    monkeypatch.setattr(originals, "ROOT", tmp_path)
    assert render(find_preset("own-offline")) == expected


def test_the_clones_own_parameters_begin_as_the_template() -> None:
    """What a commit holds of both; those of the folder are whoever's who works there."""
    shown = [
        subprocess.run(["git", "show", f"HEAD:{file}"], cwd=ROOT, capture_output=True, check=False)
        for file in ("params.yaml", "pipeline/config/params.yaml")
    ]
    if any(done.returncode for done in shown):
        pytest.skip("no commit here holds both files")
    assert shown[0].stdout == shown[1].stdout


def test_data_and_weights() -> None:
    text = render(find_preset("visa-fewshot-both"), data="/data/my VisA #1", weights="w/clip.pt")
    params = parse_params(yaml.safe_load(text))
    assert params.dataset.path == params.dataset.watch == "/data/my VisA #1"
    assert params.model.pretrained == "w/clip.pt"
    assert re.search(r"^  watch: \*images$", text, re.MULTILINE)
    own = parse_params(yaml.safe_load(render(find_preset("demo"), data="parts")))
    assert (own.dataset.format, own.model.name) == ("folder", "fade-demo")


@settings(max_examples=30, deadline=None)
@given(st.text(min_size=1, max_size=20))
@example("1e3")
@example("0o10")
def test_any_path_survives(path: str) -> None:
    content = load_yaml(substitute(original("params.yaml"), {"dataset.path": path}))
    assert content["dataset"]["path"] == content["dataset"]["watch"] == path
    assert {**content, "dataset": None} == {**TEMPLATE, "dataset": None}


def test_substitute_leaves_the_rest_alone() -> None:
    text = "a:\n  # why?\n  b: [1, 2]  # so\n  c: {x: 1}\nd: &e f\ng: *e\n"
    assert substitute(text, {"a.b": [3], "a.c": True, "d": "new"}) == (
        "a:\n  # why?\n  b: [3]  # so\n  c: true\nd: &e new\ng: *e\n"
    )
    with pytest.raises(KeyError):
        substitute(text, {"a.z": 1})


def test_refusals() -> None:
    with pytest.raises(ParameterError, match="mvtec-fewshot-both"):
        find_preset("mvtec-fewshot")
    with pytest.raises(ParameterError, match="own-fewshot, own-zeroshot"):
        find_preset("own")
    with pytest.raises(ParameterError, match=r"dataset\.path"):
        render(find_preset("demo"), data="")


def test_the_documentation_knows_every_preset() -> None:
    text = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in text for name in OFFICIAL)
    assert all(f"`{name}`" in text for name in PRESETS if name not in (*PAPER, *OF_METHODS))
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert all(f"`{one.name}`" in text for one in METHODS)


@pytest.mark.parametrize("name", OF_METHODS)
def test_methods_name_only_what_differs(name: str) -> None:
    values, params = PRESETS[name].values, parsed(name)
    dataset, _, method = name.partition("-")
    assert params.dataset.format == ("folder" if dataset == "own" else dataset)
    assert params.vision.encoder is not None
    assert params.fusion.classification_mode == params.fusion.segmentation_mode == "vision"
    assert len(params.trials()) == (1 if dataset == "own" or params.vision.shots == [0] else 15)
    one = next(one for one in METHODS if one.name == method)
    for leaf_name, value in one.values.items():
        if leaf_name not in one.datasets.get(dataset, {}):
            assert values[leaf_name] == value
            template = reduce(getitem, leaf_name.split("."), TEMPLATE)
            assert value != template, f"{leaf_name} is the template's"


@pytest.mark.parametrize("name", PRESETS)
def test_the_weights_that_come_along_bring_their_model(name: str) -> None:
    params = parse_params(load_yaml(render(find_preset(name), weights="fade-demo")))
    assert (params.model.name, params.model.pretrained) == ("fade-demo", "fade-demo")
    # a network for vision keeps the sizes that fit it
    own = PRESETS[name].values.get("features.segmentation_sizes")
    assert params.features.segmentation_sizes == (own if params.vision.encoder else [128, 192])
    assert params.vision.shots == (PRESETS[name].values.get("vision.shots") or [0, 1, 4])


def test_weights_of_the_demo_fit_no_other_model() -> None:
    text = render(find_preset("own-fewshot")).replace("laion400m_e31", "fade-demo", 1)
    content = load_yaml(text)
    content["model"]["pretrained"] = "fade-demo"
    with pytest.raises(ParameterError, match=r"fit model\.name fade-demo alone"):
        parse_params(content)
