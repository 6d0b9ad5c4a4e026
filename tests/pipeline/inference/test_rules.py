"""New images against a batch: an image of the batch is not compared with itself, and with all others."""

import numpy as np

from pipeline.inference.rules import HeldSample, without_itself


def _image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32)


def test_an_image_that_the_batch_has_twice_is_compared_with_the_other_one() -> None:
    images = [_image(0), _image(0), *map(_image, range(1, 4))]
    held = HeldSample({"64": images}, "euclidean", lowest=0.3)
    assert held.vision_map({"64": _image(0)}, {"64": (2, 2)}).max() < 0.01


def test_an_image_of_the_batch_is_told_from_one_that_only_a_small_size_shows_alike() -> None:
    sample = {"16": [_image(0)] * 2, "64": [_image(1), _image(2)]}
    others = without_itself({"16": _image(0), "64": _image(2) * np.float32(1.0001)}, sample)
    assert len(others["16"]) == 1
    np.testing.assert_array_equal(others["64"], [_image(1)])


def test_an_image_outside_the_batch_is_compared_with_all_of_it() -> None:
    sample = {"64": [_image(0), _image(1)]}
    assert len(without_itself({"64": _image(2)}, sample)["64"]) == 2
