"""What is refused before DVC starts, and how names with commas are read."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from fade.errors import DataError, FadeError, ParameterError
from pipeline.artefacts.named_files import file_hashes
from pipeline.artefacts.parameters import write_record
from pipeline.config.load import load_params, parse_params
from pipeline.features import patch_encoder
from pipeline.features.patch_encoder import load_patch_encoder
from pipeline.project import preflight
from pipeline.project.preflight import categories_named, check
from tests.projects import STAGES, changed, golden_params
from tests.stages.test_vision_encoder import TINY, vision_params


@pytest.fixture
def content(golden_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    return golden_params("fewshot1_both_seed0", golden_checkpoint)


def test_good_parameters_pass(content: Any) -> None:
    check(parse_params(content), STAGES)


def test_a_params_yaml_that_is_older_than_dvc_yaml(content: Any) -> None:
    Path("dvc.yaml").write_text("stages: {a: {params: [evaluate.size, {params.yaml: [vision]}]}}")
    Path("params.yaml").write_text(yaml.safe_dump(content))
    check(parse_params(content), STAGES)
    assert "index" not in content["vision"]  # DVC asks for the section alone
    Path("dvc.yaml").write_text("stages: {a: {params: [{params.yaml: [vision.index]}]}}")
    with pytest.raises(
        ParameterError, match=r'lacks what dvc\.yaml names: add vision\.index \("flat"\)'
    ):
        check(parse_params(content), STAGES)


@pytest.mark.parametrize(
    ("leaves", "code", "clue"),
    [
        ({"dataset__categories": ["weave", "palte"]}, 3, "no category 'palte'"),
        ({"dataset__path": "nowhere"}, 3, "nowhere"),
        ({"vision__shots": [1, 100]}, 2, "vision.shots asks for 100 references"),
        ({"text__template": "a photo."}, 2, "text.template 'a photo.' lacks {prompt}"),
        ({"text__segmentation__prompts": ["lost.json"]}, 3, "lost.json"),
        ({"text__overrides": {"weave": {"segmentation": ["lost.json"]}}}, 3, "lost.json"),
        ({"model__name": "lost.json"}, 4, "no config file at lost.json"),
        ({"model__name": "ViT-B-61"}, 4, "no model 'ViT-B-61'"),
        ({"model__name": "ViT-B-16-SigLIP"}, 4, "no class token"),
        (
            {"model__name": "openai/clip-vit-base-patch16"},
            4,
            "set model.name to ViT-B-16-quickgelu",
        ),
        ({"model__name": "hf-hub:nobody/none"}, 4, "HF_HUB_OFFLINE is set"),
        ({"model__pretrained": "lost.pt"}, 4, "lost.pt"),
        ({"model__name": "ViT-B-32", "model__pretrained": "openai"}, 4, "to ViT-B-32-quickgelu"),
        (
            {"features__segmentation_sizes": [97]},
            2,
            "image size 97 is no multiple of the patch size",
        ),
        ({"features__store": "file/store"}, 2, "file is a file"),
        ({"evaluate__labels": "labels.csv"}, 3, "labels.csv is not there"),
        ({"vision__neighbours": 100000}, 2, "vision.neighbours is 100000, and there are "),
        (
            {"vision__index": "IVF999,Flat"},
            2,
            "is trained on 999 vectors at least, and the bank holds",
        ),
        # known, but of no use: a stage would say so when all images are encoded
        ({"vision__index": "PCA4,Flat"}, 2, "leave PCA and other reductions out"),
        ({"vision__index": "IDMap,Flat"}, 2, "leave IDMap out of the string"),
        ({"vision__index": "HNSW8,PQ8x4"}, 2, "does not measure inner products"),
        (
            {"vision__layers": [0, 1], "vision__neighbours": 100000},
            2,
            "vision.neighbours is 100000, and there are ",
        ),
    ],
)
def test_bad_ones_do_not(
    content: Any,
    leaves: dict[str, Any],
    code: int,
    clue: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".dvc").mkdir()
    Path("file").write_text("")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FadeError) as error:
        check(parse_params(changed(content, **leaves)), STAGES)
    assert error.value.exit_code == code
    assert clue in str(error.value)


def test_labels_of_no_test_image(content: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stage evaluate would refuse them when all images are encoded."""
    content = changed(content, evaluate__labels="labels.csv")
    first = next(Path(content["dataset"]["path"], "plate/test/good").iterdir()).name
    Path("labels.csv").write_text(f"path,label\nplate/test/good/{first},anomalous\n")
    check(parse_params(content), STAGES)
    Path("labels.csv").write_text(f"path,label\nplate/train/good/{first},good\n")
    params = parse_params(content)
    with pytest.raises(DataError, match=rf"label of 'plate/train/good/{first}', which is no test"):
        check(params, STAGES)
    # what the stage has read is not looked for again
    write_record("evaluate", {}, file_hashes("evaluate", params))
    noted = {name: content["dataset"][name] for name in ("format", "path")}
    Path("dvc.lock").write_text(
        yaml.safe_dump({"stages": {"evaluate": {"params": {"params.yaml": {"dataset": noted}}}}})
    )
    monkeypatch.setattr(preflight, "check_labels", None)
    check(params, STAGES)


def test_only_what_the_stages_use_is_looked_at(content: Any) -> None:
    params = parse_params(
        changed(content, model__name="ViT-B-61", text__segmentation__prompts=["x.json"])
    )
    check(params, ["manifest", "select"])


def test_a_network_that_ran_is_not_built_again(
    content: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes seconds: what was noted of the last run, and hashes of files, tell as much."""
    network = Path(shutil.copytree(TINY.removeprefix("local-dir:"), "network"))
    content = changed(
        vision_params(**{"vision__encoder": f"local-dir:{network}"}),
        dataset__path=content["dataset"]["path"],
    )  # fmt: skip
    built: list[str] = []

    def build(params: Any, device: Any) -> Any:
        built.append(params.vision.encoder)
        return load_patch_encoder(params, device)

    monkeypatch.setattr(patch_encoder, "load_patch_encoder", build)
    params = parse_params(content)
    check(params, STAGES)
    assert not built  # no results are there to be lost, and few images: the stage says it soon
    monkeypatch.setattr(preflight, "FEW", 0)
    check(params, STAGES)
    write_record("extract", {}, file_hashes("extract", params))
    noted = {name: content[name] for name in ("vision", "features", "model")}
    Path("dvc.lock").write_text(
        yaml.safe_dump({"stages": {"score_vision": {"params": {"params.yaml": noted}}}})
    )
    check(params, STAGES)
    check(parse_params(changed(content, vision__shots=[2], vision__seeds=[5])), STAGES)
    assert len(built) == 1
    with pytest.raises(ParameterError, match=r"vision\.layers \[9\]"):
        check(parse_params(changed(content, vision__layers=[9])), STAGES)
    (network / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(FadeError, match=r"model\.safetensors"):
        check(params, STAGES)
    shutil.rmtree(network)
    with pytest.raises(FadeError, match=str(network)):
        check(params, STAGES)
    assert len(built) == 4


@pytest.mark.parametrize("neighbours", [48, 49])  # a reference in 3 forms, 4 x 4 patches each
def test_more_neighbours_than_a_reference_has_patches(content: Any, neighbours: int) -> None:
    leaves = {"vision__transforms": "flips", "vision__neighbours": neighbours}
    params = parse_params(
        changed(vision_params(**leaves), dataset__path=content["dataset"]["path"])
    )
    with pytest.raises(ParameterError, match="48 patches") if neighbours > 48 else nullcontext():
        check(params, ["score_vision"])
    check(params, ["evaluate"])


@pytest.fixture
def with_commas(tmp_path: Path, content: Any) -> Any:
    for name in ("a", "b", "bolt, large", "bolt, large, red", "01"):
        folder = tmp_path / "data" / name / "train" / "good"
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "0.png")
    params = changed(
        content, dataset__path="data", dataset__watch="data", dataset__format="folder",
        dataset__categories=None,
    )  # fmt: skip
    return parse_params(params).dataset


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b", ["a", "b"]),
        (" a , b ", ["a", "b"]),
        ("01", ["01"]),
        ("01,a", ["01", "a"]),
        ("bolt, large", ["bolt, large"]),
        ("bolt,large,a", ["bolt, large", "a"]),
        ("a,bolt, large, red,b", ["a", "bolt, large, red", "b"]),
        ('"bolt, large",b', ["bolt, large", "b"]),
        ('b, "x, y"', ["b", "x, y"]),
        ("bolt,small", ["bolt", "small"]),
    ],
)
def test_names_on_the_command_line(with_commas: Any, text: str, names: list[str]) -> None:
    assert categories_named(text, with_commas) == names


@pytest.mark.parametrize("text", ["", "a,,b", "a,", '"",a'])
def test_empty_names_are_refused(with_commas: Any, text: str) -> None:
    with pytest.raises(ParameterError, match="empty name"):
        categories_named(text, with_commas)


@pytest.mark.parametrize(
    ("written", "read"),
    [("[01]", "1"), ("[true]", "True"), ("[1.0]", "1.0"), ("[a, null]", "None")],
)
def test_names_that_yaml_takes_for_something_else(content: Any, written: str, read: str) -> None:
    text = yaml.safe_dump(changed(content, dataset__categories="NAMES"))
    Path("params.yaml").write_text(text.replace("NAMES", written))
    with pytest.raises(
        ParameterError, match=rf"YAML reads one of the names as {read}, .*in quotes"
    ):
        load_params()


def test_quoted_names_stay(content: Any) -> None:
    text = yaml.safe_dump(changed(content, dataset__categories="NAMES"))
    Path("params.yaml").write_text(text.replace("NAMES", "['01', 'true']"))
    assert load_params().dataset.categories == ["01", "true"]
