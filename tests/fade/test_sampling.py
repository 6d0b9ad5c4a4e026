"""Reference images as the official data loader draws them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fade.errors import ParameterError
from fade.sampling import reference_order
from tests.projects import GOLDEN

torch = pytest.importorskip("torch")


def test_golden() -> None:
    golden = json.loads((GOLDEN / "reference_indices.json").read_text())
    assert len(golden) >= 15
    for name, expected in golden.items():
        images, seed = (int(part.split("=")[1]) for part in name.split())
        assert reference_order(images, seed)[: len(expected)] == expected, name


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 200), st.integers(0, 2**63 - 1))
def test_is_a_permutation_again_and_again(images: int, seed: int) -> None:
    order = reference_order(images, seed)
    assert sorted(order) == list(range(images))
    assert reference_order(images, seed) == order


def by_torch(images: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    first, second = (
        int(torch.empty((), dtype=torch.int64).random_(generator=generator)) for _ in range(2)
    )
    assert first >= 0
    return torch.randperm(images, generator=torch.Generator().manual_seed(second)).tolist()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3000), st.integers(0, 2**63 - 1))
def test_is_what_torch_draws(images: int, seed: int) -> None:
    assert reference_order(images, seed) == by_torch(images, seed)


def test_many_images_as_torch_draws() -> None:
    assert reference_order(200_000, 1) == by_torch(200_000, 1)
    with pytest.raises(ParameterError, match="up to 214,748,364 images"):
        reference_order(2**32, 0)


def test_is_what_a_data_loader_draws() -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        loader = torch.utils.data.DataLoader(list(range(11)), batch_size=1, shuffle=True)
        assert [int(batch) for batch in loader] == reference_order(11, seed)


@pytest.mark.parametrize(("images", "seed"), [(-1, 0), (3, -1)])
def test_negative_is_refused(images: int, seed: int) -> None:
    with pytest.raises(ParameterError, match="must not be negative"):
        reference_order(images, seed)
