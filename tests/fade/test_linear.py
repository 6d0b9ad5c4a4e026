"""Linear layers: weights laid out once give the same numbers as plain ones, and can be had back."""

import io

import pytest
import torch

from fade.encoder.linear import laid_out, linear
from fade.weights import read_weights, write_weights


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [1, 70])
def test_numbers_are_those_of_plain_weights(dtype: torch.dtype, tokens: int) -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(96, 40).to(dtype), torch.randn(96).to(dtype)
    given = torch.randn(2, tokens, 40).to(dtype)
    for added in (bias, None):
        found = linear(given, laid_out(weight), added)
        assert found.dtype == dtype
        assert torch.equal(found, torch.nn.functional.linear(given, weight, added))


def test_what_is_laid_out_is_written_as_it_was() -> None:
    weight = torch.randn(96, 40, generator=torch.Generator().manual_seed(0)).bfloat16()
    laid = laid_out(weight)
    if torch.cpu._is_avx512_bf16_supported():
        assert laid.is_mkldnn
    file = io.BytesIO()
    write_weights({"weight": laid}, file)
    size = file.tell()
    file.seek(0)
    assert torch.equal(read_weights(file, size)["weight"], weight)
