"""Which device computes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any
from unittest import mock

import pytest
import torch

from fade import device
from fade.errors import ParameterError


@pytest.mark.parametrize(
    ("there", "wish", "found"),
    [(True, "auto", "cuda"), (True, "cuda", "cuda"), (True, "cpu", "cpu"), (False, "auto", "cpu")],
)
def test_devices(there: bool, wish: Any, found: str) -> None:
    with mock.patch.object(torch.cuda, "is_available", return_value=there):
        assert device.choose_device(wish) == found


def test_gpu_that_is_asked_for_must_be_there() -> None:
    with (
        mock.patch.object(torch.cuda, "is_available", return_value=False),
        pytest.raises(ParameterError, match=r"runtime\.device is cuda"),
    ):
        device.choose_device("cuda")


def test_auto_imports_no_torch_without_a_driver() -> None:
    code = (
        "import sys\nfrom fade import device\ndevice._has_driver = lambda: False\n"
        "assert device.choose_device('auto') == 'cpu' and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("machine", "there", "lacking"),
    [("x86_64", False, True), ("AMD64", True, False), ("arm64", False, False)],
)
def test_processors_without_products_of_bf16(
    machine: str, there: bool, lacking: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(device, "has_avx512_bf16", lambda: there)
    assert device.lacks_bf16() == lacking
    assert device.is_slower("bf16", "cpu") == lacking
    assert device.is_slower("fp16", "cpu")
    assert not device.is_slower("fp32", "cpu")


@pytest.mark.parametrize("there", [True, False])
def test_cards_without_products_of_bf16(there: bool) -> None:
    with mock.patch.object(torch.cuda, "is_bf16_supported", return_value=there):
        assert device.is_slower("bf16", "cuda") != there
        assert not device.is_slower("fp16", "cuda")
