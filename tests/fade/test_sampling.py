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


def test_is_what_a_data_loader_draws() -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        loader = torch.utils.data.DataLoader(list(range(11)), batch_size=1, shuffle=True)
        assert [int(batch) for batch in loader] == reference_order(11, seed)


def test_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    reference_order(10, 3)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(("images", "seed"), [(-1, 0), (3, -1)])
def test_negative_is_refused(images: int, seed: int) -> None:
    with pytest.raises(ParameterError, match="must not be negative"):
        reference_order(images, seed)
