"""The demo generator: equal bytes for equal seeds, exact masks, a readable data set."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fade.errors import DataError, ParameterError
from pipeline.demo.__main__ import main
from pipeline.demo.defects import DEFECTS, RESERVED_DEFECTS, TRAIN_DEFECTS, VISIBLE, dilate
from pipeline.demo.families import DEMO_FAMILIES, FAMILIES, TRAIN_FAMILIES, Array, Mask
from pipeline.demo.generate import (
    DEMO_CATEGORIES,
    DEMO_DEFECTS,
    Nuisance,
    generate_dataset,
    generate_image,
    place_words,
    style_of,
)

SMALL = {"washer": ("scratch", "corrosion"), "fabric": ("hole",)}


def drawn(name: str, size: int = 128) -> tuple[Array, Mask]:
    family = FAMILIES[name]
    return family.render(style_of(family, 5), np.random.default_rng(9), size)


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_the_demo_is_held_out_of_training() -> None:
    assert set(DEMO_CATEGORIES) == set(DEMO_FAMILIES)
    assert len(DEMO_FAMILIES) >= 4
    assert len(TRAIN_FAMILIES) >= 8
    assert not set(DEMO_FAMILIES) & set(TRAIN_FAMILIES)
    assert set(DEMO_FAMILIES) | set(TRAIN_FAMILIES) == set(FAMILIES)
    assert not set(RESERVED_DEFECTS) & set(TRAIN_DEFECTS)
    assert len(DEFECTS) >= 10
    assert len(set(DEMO_DEFECTS) & set(RESERVED_DEFECTS)) >= 2


@pytest.mark.parametrize("name", FAMILIES)
def test_every_defect_fits_every_family_and_its_mask_is_exact(name: str) -> None:
    image, foreground = drawn(name)
    assert image.shape == (128, 128, 3)
    assert image.dtype == np.float32
    assert foreground.shape == (128, 128)
    assert foreground.mean() > 0.12
    near = dilate(foreground, 1)
    for number, defect in enumerate(DEFECTS.values()):
        before = image.copy()
        rng = np.random.default_rng([number, 1])
        after, mask = defect.apply(image, foreground, rng, 0.2 * (number % 5))
        np.testing.assert_array_equal(image, before, err_msg="the picture given was changed")
        assert after.dtype == np.float32
        assert np.isfinite(after).all()
        assert after.min() >= 0
        assert after.max() <= 1
        change = np.abs(after - before).max(axis=2)
        np.testing.assert_array_equal(change > 0, mask, err_msg=defect.name)
        assert (change[mask] > VISIBLE).mean() > 0.8, defect.name
        assert 0.003 < mask.mean() <= 0.09, defect.name
        assert not (mask & ~near).any(), defect.name


@pytest.mark.parametrize("name", FAMILIES)
def test_a_style_is_one_product_with_small_differences(name: str) -> None:
    family = FAMILIES[name]
    style = style_of(family, 1)
    again = family.render(style_of(family, 1), np.random.default_rng(3), 96)[0]
    first, second = (family.render(style, np.random.default_rng(s), 96)[0] for s in (3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - second).max() > 0.01, "two pieces are the same picture"
    assert np.abs(first.mean((0, 1)) - second.mean((0, 1))).max() < 0.08


def test_families_differ() -> None:
    pictures = {name: drawn(name, 96)[0] for name in FAMILIES}
    for one, other in combinations(pictures, 2):
        assert np.abs(pictures[one] - pictures[other]).mean() > 0.02, (one, other)


def test_a_defect_changes_only_its_surroundings_in_the_finished_picture() -> None:
    family = FAMILIES["capsule"]
    still = Nuisance(noise=0, blur=0)
    style = style_of(family, 0)
    good = generate_image(family, style, 7, 128, None, still)
    for defect in DEFECTS.values():
        bad = generate_image(family, style, 7, 128, defect, still)
        changed = (good.image != bad.image).any(axis=2)
        assert bad.mask.any()
        assert not (changed & ~bad.mask).any(), defect.name
        assert changed[bad.mask].mean() > 0.8, defect.name
    assert not good.mask.any()


@pytest.mark.parametrize("name", ["washer", "label", "gear", "capsule"])
def test_a_missing_piece_breaks_off_at_the_outline(name: str) -> None:
    image, foreground = drawn(name)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        _, mask = DEFECTS["missing_piece"].apply(image, foreground, rng)
        assert (dilate(mask, 3) & ~foreground).any()


def test_captions_say_what_and_where() -> None:
    family, defect = FAMILIES["tile"], DEFECTS["crack"]
    sample = generate_image(family, style_of(family, 0), 3, 128, defect)
    thing, state, place = sample.caption_words
    assert thing in family.words
    assert state in defect.phrases
    assert place == place_words(sample.mask)
    assert len(generate_image(family, style_of(family, 0), 3, 128).caption_words) == 2


@pytest.mark.parametrize(
    ("row", "column", "words"),
    [
        (0, 0, "on the top left"),
        (4, 4, "in the center"),
        (4, 8, "on the right"),
        (8, 4, "on the bottom"),
    ],
)
def test_places(row: int, column: int, words: str) -> None:
    mask = np.zeros((9, 9), np.bool_)
    mask[row, column] = True
    assert place_words(mask) == words


def test_same_seed_same_picture_other_seed_other_picture() -> None:
    family, defect = FAMILIES["circuit_board"], DEFECTS["burn"]
    one, same, other = (
        generate_image(family, style_of(family, 2), seed, 96, defect) for seed in (11, 11, 12)
    )
    np.testing.assert_array_equal(one.image, same.image)
    np.testing.assert_array_equal(one.mask, same.mask)
    assert one.caption_words == same.caption_words
    assert (one.image != other.image).mean() > 0.3


@pytest.mark.parametrize(("seed", "size"), [(-1, 64), (0, 16)])
def test_impossible_pictures_are_refused(seed: int, size: int) -> None:
    family = FAMILIES["wood"]
    with pytest.raises(ParameterError, match=str(seed if seed else size)):
        generate_image(family, style_of(family, 0), seed, size)


def test_defects_refuse_what_they_cannot_paint_on() -> None:
    image, foreground = drawn("wood", 64)
    hole, rng = DEFECTS["hole"], np.random.default_rng(0)
    with pytest.raises(DataError, match="foreground is empty"):
        hole.apply(image, np.zeros_like(foreground), rng)
    with pytest.raises(DataError, match="do not match"):
        hole.apply(image, foreground[:32], rng)
    with pytest.raises(DataError, match=r"1\.5"):
        hole.apply(image, foreground, rng, 1.5)


def test_data_set_has_the_layout_and_its_masks_pair_by_name(tmp_path: Path) -> None:
    generate_dataset(tmp_path, size=64, categories=SMALL, train=2, good=1, per_defect=2)
    assert sorted(files(tmp_path)) == sorted(
        ["fabric/train/good/000.png", "fabric/train/good/001.png", "fabric/test/good/000.png"]
        + ["washer/train/good/000.png", "washer/train/good/001.png", "washer/test/good/000.png"]
        + [
            path
            for category, defects in SMALL.items()
            for defect in defects
            for i in range(2)
            for path in (
                f"{category}/test/{defect}/{i:03d}.png",
                f"{category}/ground_truth/{defect}/{i:03d}_mask.png",
            )
        ]
    )
    for path in tmp_path.rglob("*.png"):
        with Image.open(path) as picture:
            assert picture.size == (64, 64)
            if "ground_truth" in path.parts:
                assert picture.mode == "L"
                assert set(np.unique(np.asarray(picture))) == {0, 255}
            else:
                assert picture.mode == "RGB"


def test_equal_seeds_give_equal_bytes_whatever_else_is_generated(tmp_path: Path) -> None:
    few = {"train": 1, "good": 1, "per_defect": 1}
    generate_dataset(tmp_path / "a", 4, 64, SMALL, **few)
    generate_dataset(tmp_path / "b", 4, 64, dict(reversed(SMALL.items())), **few)
    generate_dataset(tmp_path / "c", 5, 64, SMALL, **few)
    one, same, other = (files(tmp_path / name) for name in "abc")
    assert one == same
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one)
    assert len(set(one.values())) == len(one), "two files are the same picture"


@pytest.mark.parametrize("categories", [{"teapot": ("hole",)}, {"wood": ("hole", "woodworm")}])
def test_unknown_names_are_refused_before_anything_is_written(
    tmp_path: Path, categories: dict[str, tuple[str, ...]]
) -> None:
    with pytest.raises(ParameterError, match=r"teapot|woodworm"):
        generate_dataset(tmp_path, categories=categories)
    assert not list(tmp_path.iterdir())


def test_command_line_writes_whole_refuses_and_replaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def few(root: Path, seed: int, size: int) -> None:
        generate_dataset(root, seed, size, SMALL, train=1, good=1, per_defect=1)

    monkeypatch.setattr("pipeline.demo.__main__.generate_dataset", few)
    out = tmp_path / "deep" / "demo"
    assert main([str(out), "--size", "64"]) == 0
    first = files(out)
    assert first
    assert main([str(out), "--size", "64", "--seed", "1"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "not empty" in message
    assert files(out) == first
    (out / "stale.txt").write_text("old")
    assert main([str(out), "--size", "64", "--seed", "1", "--force"]) == 0
    assert files(out).keys() == first.keys()
    assert files(out) != first
    assert [p.name for p in out.parent.iterdir()] == ["demo"], "scratch folders were left behind"


def test_command_line_leaves_the_old_data_when_it_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "mine.txt").write_text("mine")
    assert main([str(tmp_path / "demo"), "--size", "8", "--force"]) == 2
    assert "size 8" in capsys.readouterr().err
    assert files(tmp_path) == {"demo/mine.txt": b"mine"}
    (tmp_path / "file").write_text("x")
    assert main([str(tmp_path / "file"), "--force"]) == 2
    assert "not a folder" in capsys.readouterr().err
