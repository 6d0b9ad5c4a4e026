"""Weights that are cut short are told from whole ones by their outline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

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


@pytest.mark.parametrize("data", [b"x", b"\x80\x02old pickle", b"\xff" * 7 + b"\x00{", b"{" * 99])
def test_what_has_no_outline_is_passed_over(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "weights"
    file.write_bytes(data)
    check_complete(file, "model.pretrained")


def test_what_is_no_plain_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be opened"):
        check_complete(tmp_path, "model.pretrained")
