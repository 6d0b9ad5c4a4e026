"""Weights that are cut short are told from whole ones by their outline."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fade.encoders.checkpoint import load_checkpoint
from fade.errors import ModelError
from fade.weights_file import check_complete

STATE = {"a": torch.arange(600.0), "b": torch.ones(3, 4)}


def safetensors(path: Path) -> None:
    save_file(STATE, path, metadata={"format": "pt"})


def archive(path: Path) -> None:
    torch.save(STATE, path)


@pytest.mark.parametrize("write", [safetensors, archive])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_cut_short(tmp_path: Path, write: Callable[[Path], None], share: float) -> None:
    file = tmp_path / "weights"
    write(file)
    check_complete(file, "model.pretrained")
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    state = "is cut short" if share else "is empty"
    with pytest.raises(ModelError, match=rf"model\.pretrained: .*weights {state}"):
        check_complete(file, "model.pretrained")


@pytest.mark.parametrize(
    "data", [b"\x80\x02old pickle", b"\xff" * 7 + b"\x00{", b"ab\x00\n", b"\n"]
)
def test_what_has_no_outline_is_passed_over(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "weights"
    file.write_bytes(data)
    check_complete(file, "model.pretrained")


@pytest.mark.parametrize(
    ("content", "begins"),
    [
        ("\n<!DOCTYPE html>\n<html>log in</html>", "<!DOCTYPE html>"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:1", "version https://git-lfs"),
        ('{"error": "Access to this model is restricted"}', '{"error": "Access'),
        ("Entry not found", "Entry not found"),
    ],
)
def test_a_text_in_place_of_weights(tmp_path: Path, content: str, begins: str) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_text(content)
    with pytest.raises(ModelError, match=rf"a text, which begins with '{re.escape(begins)}") as one:
        check_complete(file, "vision.weights")
    assert str(one.value).startswith("vision.weights: ")
    assert "\n" not in str(one.value)
    with pytest.raises(ModelError, match="holds no weights but a text"):
        load_checkpoint(torch.nn.Linear(1, 1), file, "vision.weights")


def test_what_is_no_plain_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be opened"):
        check_complete(tmp_path, "model.pretrained")
