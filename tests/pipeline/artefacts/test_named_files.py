"""Files that parameters name, held against those that stages read."""

from __future__ import annotations

import doctest
import os
from pathlib import Path
from typing import Any

import pytest

from fade.errors import ParameterError
from pipeline.artefacts import named_files
from pipeline.artefacts.named_files import HASHES, READERS, file_hashes, replaced
from pipeline.artefacts.parameters import write_record
from pipeline.config.load import parse_params
from pipeline.config.schema import Params
from pipeline.stage import check_before, check_files
from tests.projects import ROOT, changed, golden_params

WEIGHTS = Path("weights.pt")
OF_MODELS = {"extract", "text", "stream"}


@pytest.fixture
def content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Parameters of a project here, with weights and prompts of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    WEIGHTS.write_bytes(b"first")
    Path("own.json").write_text("{}")
    content = golden_params("fewshot1_both_seed0", WEIGHTS)
    return changed(content, text__segmentation__prompts=["winclip", "own.json"])


def record(params: Params) -> None:
    """What stages that run now would note."""
    for stage in READERS:
        write_record(stage, {}, file_hashes(stage, params))


def network(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"first")
    leaves = {"vision__encoder": f"local-dir:{folder}", "vision__feature": "clip"}
    return changed(content, **leaves)


def test_a_replaced_file_is_told_from_one_that_was_touched(content: dict[str, Any]) -> None:
    params = parse_params(content)
    record(params)
    assert replaced(READERS, params) == {}
    os.utime(WEIGHTS, ns=(1, 1))
    assert replaced(READERS, params) == {}
    stat = WEIGHTS.stat()
    WEIGHTS.write_bytes(b"other")  # of the same length and time
    os.utime(WEIGHTS, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    every = {stage: ["weights.pt"] for stage in OF_MODELS}
    assert replaced(READERS, params) == every
    assert replaced(["text"], params) == {"text": ["weights.pt"]}
    WEIGHTS.unlink()
    assert replaced(READERS, params) == {}


def test_prompts_are_of_the_text_stage_alone(content: dict[str, Any]) -> None:
    params = parse_params(content)
    record(params)
    Path("own.json").write_text('{"normal": {}}')
    assert replaced(READERS, params) == {"text": ["own.json"]}


def test_corrected_labels_are_of_evaluate_alone(content: dict[str, Any]) -> None:
    Path("labels.csv").write_text("path,label\n")
    params = parse_params(changed(content, evaluate__labels="labels.csv"))
    record(params)
    assert replaced(READERS, params) == {}
    Path("labels.csv").write_text("path,label\na.png,good\n")
    assert replaced(READERS, params) == {"evaluate": ["labels.csv"]}


def test_a_network_s_folder(content: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "network"
    content = network(content, folder)
    content["fusion"] |= {"classification_mode": "vision", "segmentation_mode": "vision"}
    params = parse_params(content)
    name = f"local-dir:{folder}"
    assert {stage: list(file_hashes(stage, params)) for stage in READERS} == {
        "extract": [name], "text": [], "stream": [name], "evaluate": [],
    }  # fmt: skip
    record(params)
    (folder / "README.md").write_text("of no matter")
    assert replaced(READERS, params) == {}
    (folder / "model.safetensors").write_bytes(b"other")
    assert replaced(READERS, params) == {"extract": [name], "stream": [name]}


def test_a_file_of_a_network_that_has_another_name(content: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "network"
    params = parse_params(network(content, folder))
    record(params)
    (folder / "config.json").rename(folder / "other.json")
    assert set(replaced(READERS, params)) == {"extract", "stream"}


def test_what_has_no_part_is_not_looked_at(content: dict[str, Any], tmp_path: Path) -> None:
    clip, modes = "weights.pt", ("classification_mode", "segmentation_mode")
    both = network(content, tmp_path / "network")
    encoder, weights = f"local-dir:{tmp_path}/network", f"{tmp_path}/network/model.safetensors"
    both["vision"]["encoder_weights"] = weights

    def read(content: dict[str, Any], mode: str) -> list[set[str]]:
        chosen = changed(content, **{f"fusion__{name}": mode for name in modes})
        return [set(file_hashes(stage, parse_params(chosen))) for stage in ("extract", "text")]

    model = {str(content["model"]["name"]), clip}
    texts = model | {*content["text"]["classification"]["prompts"], "own.json"}
    assert read(content, "vision") == [model, set()]
    assert read(content, "language") == [model, texts]
    assert read(both, "language") == read(content, "language")
    assert read(both, "vision") == [{encoder, weights}, set()]
    assert read(both, "both") == [model | {encoder, weights}, texts]


def test_two_models(content: dict[str, Any], tmp_path: Path) -> None:
    """CLIP for language and another network for vision: both count, each where it is read."""
    folder = tmp_path / "network"
    params = parse_params(network(content, folder))
    record(params)
    (folder / "config.json").write_text("[]")
    assert set(replaced(READERS, params)) == {"extract", "stream"}
    WEIGHTS.write_bytes(b"other")
    assert set(replaced(READERS, params)) == OF_MODELS


def test_other_names_are_noticed_by_dvc(content: dict[str, Any]) -> None:
    record(parse_params(content))
    Path("second.pt").write_bytes(b"second")
    assert replaced(READERS, parse_params(changed(content, model__pretrained="second.pt"))) == {}
    shipped = changed(content, model={"name": "fade-demo", "pretrained": "fade-demo"})
    assert file_hashes("extract", parse_params(shipped)) == {}


def test_an_unchanged_file_is_not_read_again(
    content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    params = parse_params(content)
    first = file_hashes("extract", params)
    text = file_hashes("text", params)
    WEIGHTS.write_bytes(b"other")
    assert file_hashes("extract", params) != first
    WEIGHTS.write_bytes(b"first")
    assert file_hashes("extract", params) == first
    monkeypatch.setattr(named_files.hashlib, "file_digest", None)
    assert file_hashes("extract", params) == first
    assert file_hashes("text", params) == text


def test_questions_write_nothing(content: dict[str, Any]) -> None:
    params = parse_params(content)
    for stage in READERS:
        write_record(stage, {"model": {}}, {"weights.pt": "of another"})
    assert set(replaced(READERS, params, keep=False)) == OF_MODELS
    assert not HASHES.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"weights.pt": 3}', "{"])
def test_damaged_notes_are_made_again(content: dict[str, Any], text: str) -> None:
    params = parse_params(content)
    first = file_hashes("extract", params)
    HASHES.write_text(text)
    assert file_hashes("extract", params) == first
    assert str(WEIGHTS.absolute()) in HASHES.read_text()


def test_a_stage_refuses_what_was_replaced_meanwhile(content: dict[str, Any]) -> None:
    params = parse_params(content)
    read = file_hashes("extract", params)
    check_files("extract", params, read)
    WEIGHTS.write_bytes(b"half")
    with pytest.raises(
        ParameterError, match=r"weights\.pt changed while this stage ran: run again"
    ):
        check_files("extract", params, read)


def test_the_next_stage_refuses_and_one_more_run_is_right(content: dict[str, Any]) -> None:
    """So that a plain ``dvc repro``, which sees names alone, mixes nothing either."""
    params = parse_params(content)
    Path("dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    record(params)
    check_before("evaluate", params)
    WEIGHTS.write_bytes(b"other")
    with pytest.raises(
        ParameterError,
        match=r"weights\.pt was replaced after extract, text, stream read it: run again",
    ):
        check_before("evaluate", params)
    assert [file.name for file in Path("artefacts/parameters").iterdir()] == ["evaluate.json"]


def test_documentation() -> None:
    assert doctest.testmod(named_files).attempted
