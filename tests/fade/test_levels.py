"""Levels of maps: what they stand for, and FADE's own way to them."""

from __future__ import annotations

import numpy as np
import pytest

from fade.errors import DataError
from fade.filters import Finish
from fade.levels import UNIT, Scale, pixel_levels
from fade.maps import resize_levels, to_levels


def test_a_level_stands_for_values_up_to_the_next_one() -> None:
    scale = Scale.fine(-2.0, 11.0)
    values = np.random.default_rng(0).uniform(-2, 11, 1000)
    levels = scale.levels(values)
    assert levels.dtype == np.uint16
    error = values - scale.values(levels)
    assert error.min() > -1e-5 * scale.step - 1e-6  # float32
    assert error.max() <= scale.step + 1e-6
    every = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(scale.levels(scale.offset + every * scale.step), every)
    assert scale.shades(every).tolist() == (every >> 8).tolist()


def test_equal_values_have_one_level() -> None:
    assert Scale.fine(3.0, 3.0).levels(np.array([3.0, 3.1])).tolist() == [0, 6553]
    with pytest.raises(DataError, match="check weights"):
        Scale.fine(0.0, np.inf)


def test_without_a_filter_levels_are_made_before_they_are_scaled_as_fade_does() -> None:
    values = np.random.default_rng(1).uniform(-0.1, 1.2, (4, 6))
    np.testing.assert_array_equal(
        pixel_levels(values, (20, 30)), resize_levels(to_levels(values), (20, 30))
    )
    finish = Finish("nearest", 2.0)
    smooth = finish.apply(np.clip(values, 0, 1), (20, 30))
    found = pixel_levels(values, (20, 30), finish)
    assert np.abs(UNIT.values(found) - smooth).max() <= 1 / 255
    fine = Scale.fine(-0.1, 1.2)
    found = pixel_levels(values, (20, 30), finish, fine)
    assert np.abs(fine.values(found) - finish.apply(values, (20, 30))).max() <= 1.01 * fine.step
