"""Blocks of the evaluation: maps, histograms, and masks that are missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image

from cache.layout import Space, content_key
from cache.store import Store
from fade.errors import DataError
from fade.levels import Scale
from fade.metrics import pixel_metrics
from fade.types import Trial
from pipeline.artefacts.maps import create_maps
from pipeline.artefacts.pixel_histograms import read_pixels, write_pixels
from pipeline.artefacts.tables import TABLE_SCHEMA
from pipeline.evaluation.blocks import (
    EvaluationBlock,
    TestImage,
    evaluate_block,
)
from pipeline.evaluation.component import Component
from pipeline.evaluation.recipe import Recipe
from pipeline.evaluation.scales import value_ranges

TRIAL = Trial(1, 0)
BOTH = Recipe("both", "both", vision_weight=(0.5, 0.25), vision_multiplier=(1.0, 2.0))


@pytest.fixture
def block(tmp_path: Path) -> EvaluationBlock:
    """Three images of a 2x2 language map and a vision map: good, masked, and without a mask."""
    store = Store(tmp_path / "store")
    rng = np.random.default_rng(0)
    parts = {}
    for name, shape, dtype in (
        ("score", (), "float64"), ("language", (2, 2), "float32"), ("vision", (2, 2), "float32"),
    ):  # fmt: skip
        space = Space(name, {"kind": name}, shape, dtype)
        store.register(space)
        keys = ["one", "two", "three"]
        store.write(space, keys, rng.random((3, *shape)).astype(dtype))
        index = store.index(space)
        parts[name] = Component(space, tuple(index[key] for key in keys))
    mask = np.zeros((8, 8), np.uint8)
    mask[:4, :4] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    images = (
        TestImage("a", "1.png", False, None, None, (8, 8)),
        TestImage(
            "a",
            "2.png",
            True,
            "mask.png",
            content_key((tmp_path / "mask.png").read_bytes()),
            (8, 8),
        ),
        TestImage("b", "3.png", True, None, None, (8, 8)),
    )
    create_maps(tmp_path / "maps.zarr", [TRIAL], 3, (2, 2), 64)
    return EvaluationBlock(
        store.root, tmp_path, tmp_path / "maps.zarr", 0, images, (TRIAL,), BOTH,
        parts["score"], parts["language"], (parts["vision"],),
    )  # fmt: skip


def read(block: EvaluationBlock) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    store = Store(block.store)
    assert block.language_score
    assert block.language_map
    parts = (block.language_score, block.language_map, block.vision_maps[0])
    score, language, vision = (store.read(part.space, part.places) for part in parts)
    return score, language, vision


def test_block(block: EvaluationBlock) -> None:
    outcome = evaluate_block(block)
    score, language, vision = read(block)
    expected = np.clip(0.5 * (score + 2 * vision.max(axis=(1, 2))), 0, 1)
    np.testing.assert_allclose(outcome.scores[0], expected, atol=1e-6)
    fused = np.clip(0.75 * language.astype(float) + 0.25 * 2 * vision, 0, 1)
    maps = zarr.open_group(block.maps, mode="r")[TRIAL.label][:]
    np.testing.assert_array_equal(maps, (fused * 255).astype(np.uint8))


def test_image_without_mask_has_a_score_but_no_pixels(block: EvaluationBlock) -> None:
    outcome = evaluate_block(block)
    assert set(outcome.histograms) == {("a", TRIAL)}
    histogram = outcome.histograms["a", TRIAL]
    assert int(histogram.anomalous.sum()) == 16
    assert int(histogram.normal.sum()) == 64 + 48
    assert np.isfinite(outcome.scores).all()


def test_an_image_that_nobody_labelled_has_a_score_but_no_pixels(block: EvaluationBlock) -> None:
    unlabelled = replace(block.images[0], is_anomaly=None)
    outcome = evaluate_block(replace(block, images=(unlabelled, *block.images[1:])))
    histogram = outcome.histograms["a", TRIAL]
    assert (int(histogram.anomalous.sum()), int(histogram.normal.sum())) == (16, 48)
    assert np.isfinite(outcome.scores).all()


def test_blocks_sum_to_the_whole(block: EvaluationBlock) -> None:
    whole = evaluate_block(block)
    before = zarr.open_group(block.maps, mode="r")[TRIAL.label][:]
    parts = []
    for i in range(3):

        def one(component: Component, i: int = i) -> Component:
            return Component(component.space, component.places[i : i + 1])

        assert block.language_score
        assert block.language_map
        parts.append(
            evaluate_block(
                replace(
                    block, first=i, images=block.images[i : i + 1],
                    language_score=one(block.language_score), language_map=one(block.language_map),
                    vision_maps=(one(block.vision_maps[0]),),
                )
            )
        )  # fmt: skip
    np.testing.assert_array_equal(np.concatenate([p.scores for p in parts], axis=1), whole.scores)
    first, *others = (
        of for part in parts for place, of in part.histograms.items() if place[0] == "a"
    )
    total = sum(others, first)
    np.testing.assert_array_equal(total.normal, whole.histograms["a", TRIAL].normal)
    np.testing.assert_allclose(total.pro, whole.histograms["a", TRIAL].pro)
    np.testing.assert_array_equal(zarr.open_group(block.maps, mode="r")[TRIAL.label][:], before)


def test_one_side_without_a_mode(block: EvaluationBlock) -> None:
    no_score = evaluate_block(
        replace(block, recipe=replace(BOTH, classification_mode="none"), language_score=None)
    )
    assert np.isnan(no_score.scores).all()
    assert no_score.histograms
    no_map = evaluate_block(
        replace(block, recipe=replace(BOTH, segmentation_mode="none"), language_map=None)
    )
    assert not no_map.histograms
    assert np.isfinite(no_map.scores).all()


def test_mask_that_is_gone(block: EvaluationBlock) -> None:
    Path(str(block.root), "mask.png").unlink()
    with pytest.raises(DataError, match=r"^mask\.png cannot be read"):
        evaluate_block(block)


def test_mask_that_changed(block: EvaluationBlock) -> None:
    Image.new("L", (8, 8), 255).save(Path(str(block.root), "mask.png"))
    with pytest.raises(DataError, match=r"^mask\.png changed since the run began: run `fade run`"):
        evaluate_block(block)


def test_endless_multiplier_is_refused(block: EvaluationBlock) -> None:
    with pytest.raises(DataError, match="check weights"):
        evaluate_block(replace(block, recipe=replace(BOTH, vision_multiplier=(1e39, 1e39))))


def test_maps_replace_what_was_there(tmp_path: Path) -> None:
    create_maps(tmp_path / "m.zarr", [TRIAL, Trial(2, 0)], 70, (3, 5), 64)
    create_maps(tmp_path / "m.zarr", [TRIAL], 70, (3, 5), 64)
    group = zarr.open_group(tmp_path / "m.zarr", mode="r")
    assert list(group.array_keys()) == [TRIAL.label]
    assert group.attrs["schema"] == TABLE_SCHEMA
    assert group[TRIAL.label].shape == (70, 3, 5)
    assert group[TRIAL.label].dtype == np.uint8
    create_maps(tmp_path / "m.zarr", [TRIAL], 0, (1, 1), 64)
    assert not list(zarr.open_group(tmp_path / "m.zarr", mode="r").array_keys())


def test_values_without_an_upper_limit_have_fine_levels_on_their_own_scale(
    block: EvaluationBlock, tmp_path: Path
) -> None:
    """Vision alone, times 40: nothing is cut, and a level is as good as its value."""
    recipe = Recipe("vision", "vision", bounded=(True, False), vision_multiplier=(1.0, 40.0))
    assert recipe.is_fine(1)
    plain = replace(block, recipe=recipe, maps=tmp_path / "fine.zarr")
    ranges = value_ranges(plain)
    scales = {place: Scale.fine(*ends) for place, ends in ranges.items()}
    create_maps(tmp_path / "fine.zarr", [TRIAL], 3, (2, 2), 64, scales)
    outcome = evaluate_block(replace(plain, scales=scales))
    vision = 40 * read(block)[2].astype(np.float64)
    np.testing.assert_allclose(outcome.scores[0], vision.max(axis=(1, 2)), rtol=1e-6)
    stored = zarr.open_group(tmp_path / "fine.zarr", mode="r")[TRIAL.label]
    assert stored.dtype == np.uint16
    for number, category in enumerate("aab"):
        scale = scales[category, TRIAL]
        assert stored.attrs["scales"][category] == {"scale": scale.step, "offset": scale.offset}
        assert np.abs(scale.values(stored[number]) - vision[number]).max() <= 1.01 * scale.step
    histogram = outcome.histograms["a", TRIAL]
    assert len(histogram.normal) == 1 << 16
    assert int(histogram.normal.sum()) == 64 + 48
    write_pixels(outcome.histograms, tmp_path / "pixels.parquet")
    again = read_pixels(tmp_path / "pixels.parquet", TRIAL)["a", TRIAL]
    for name in ("normal", "normal_beside_defects", "anomalous", "pro"):
        np.testing.assert_array_equal(getattr(again, name), getattr(histogram, name))
    assert pixel_metrics(again) == pixel_metrics(histogram)


def test_unbounded_vision_is_cut_at_1_where_it_meets_language(block: EvaluationBlock) -> None:
    recipe = replace(BOTH, bounded=(True, False), vision_multiplier=(2.0, 40.0))
    assert not recipe.is_fine(1)
    outcome = evaluate_block(replace(block, recipe=recipe))
    score, language, vision = read(block)
    cut = np.minimum(40 * vision.max(axis=(1, 2)), 1)
    np.testing.assert_allclose(outcome.scores[0], 0.5 * (score + cut), atol=1e-6)
    fused = 0.75 * language.astype(float) + 0.25 * np.minimum(40 * vision, 1)
    maps = zarr.open_group(block.maps, mode="r")[TRIAL.label][:]
    np.testing.assert_array_equal(maps, (fused * 255).astype(np.uint8))
