"""The further metrics of a category: by kind, by image, and of MVTec LOCO with saturation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fade.errors import DataError
from fade.level_counts import LevelCounts
from fade.levels import Scale
from fade.metrics import PixelHistogram, au_pro, pixel_metrics
from fade.pimo import DefectLevels, SharedRate, aupimo
from fade.regions import label_regions
from fade.replicates import image_weights
from fade.saturation import SaturatedRegion, saturated
from fade.types import Trial
from pipeline.config.load import parse_params
from pipeline.config.schema import Params
from pipeline.evaluation.further import Further, Gathering, best_level_of, declared_levels
from pipeline.evaluation.further_files import kinds_table, write_pimo, write_replicates
from pipeline.evaluation.image import TestImage
from pipeline.evaluation.recipe import Recipe
from pipeline.evaluation.results import metric_names
from pipeline.evaluation.saturations import saturated_regions
from pipeline.evaluation.tally import MeasuredMap, Tally, mask_parts
from pipeline.evaluation.thresholds import undecided
from tests.projects import changed, golden_params

TRIAL = Trial(1, 0)
PLACE = ("box", TRIAL)
SHAPE = (320, 320)
LOCO = [
    {"defect_name": "logical_anomalies", "pixel_value": 255, "saturation_threshold": 0.5,
     "relative_saturation": True},
    {"defect_name": "structural_anomalies", "pixel_value": 200, "saturation_threshold": 10000,
     "relative_saturation": False},
]  # fmt: skip


def params(format: str = "mvtec-loco", **leaves: object) -> Params:
    found = golden_params("fewshot1_both_seed0", Path("w.pt"))
    return parse_params(
        changed(found, dataset__format=format, evaluate__pro_limit=[0.3, 0.05], **leaves)
    )


def write_mask(root: Path, path: str, rows: slice, value: int) -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[rows, :100] = value
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(root / path)


@pytest.fixture
def loco(tmp_path: Path) -> Path:
    """A category with two masks of a logical anomaly, and one of a structural one."""
    truth = "box/ground_truth/"
    write_mask(tmp_path, truth + "logical_anomalies/000/000.png", slice(0, 40), 255)
    write_mask(tmp_path, truth + "logical_anomalies/000/001.png", slice(40, 60), 255)
    write_mask(tmp_path, truth + "structural_anomalies/000/000.png", slice(0, 10), 200)
    (tmp_path / "box/defects_config.json").write_text(json.dumps(LOCO))
    return tmp_path


def image(kind: str, number: int = 0, *, sampled: bool = False) -> TestImage:
    mask = None if kind == "good" else f"box/ground_truth/{kind}/{number:03}/"
    name = f"box/test/{kind}/{number:03}"
    drawn = name if sampled else ""
    return TestImage("box", f"{name}.png", mask is not None, mask, "", SHAPE, kind, drawn)


def tally_of(
    root: Path, found: dict[str, tuple[np.ndarray, np.ndarray]], *, sampled: bool = False
) -> Tally:
    """Of one image a kind, with map and mask."""
    tally = Tally()
    for kind, (values, mask) in found.items():
        one, recipe = image(kind, sampled=sampled), Recipe("both", "both")
        finished, regions = recipe.pixels(values, SHAPE), label_regions(mask)
        counts = LevelCounts.of_image(finished, regions)
        parts = mask_parts(one, root, exif_rotation=False)
        of_map = MeasuredMap(values, finished, Scale(), recipe, regions, counts, parts)
        tally.add(one, of_map, saturation=True)
    return tally


@pytest.fixture
def maps() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Half of the logical anomaly is found at once, a quarter of the structural one."""
    good, logical, structural = (np.zeros(SHAPE, np.float32) for _ in range(3))
    good[300:, 300:], logical[:30, :100], structural[:10, :25] = 0.5, 0.9, 0.9
    masks = [np.zeros(SHAPE, bool) for _ in range(3)]
    masks[1][:60, :100], masks[2][:10, :100] = True, True
    names = ("good", "logical_anomalies", "structural_anomalies")
    return dict(zip(names, zip((good, logical, structural), masks, strict=True), strict=True))


def test_kinds_and_saturation_of_loco(
    loco: Path, maps: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    gathering = Gathering(["box"] * 3, params(), best_level_of)
    for kind, of_kind in maps.items():  # image by image, as blocks come
        gathering.add({PLACE: tally_of(loco, {kind: of_kind})}, ["box"])
    found = gathering.found[PLACE]
    kinds = found.kinds
    # files 000 and 001 have 4000 and 2000 pixels, of which half is enough; 3000 of the first are found
    # and none of the second, and all is found only at the lowest level, so that both lines end at 1
    limit = 0.3
    for kind, start in (("logical_anomalies", 0.5), ("structural_anomalies", 0.25)):
        at_limit = start + (1 - start) * (limit - first_rate(maps, kind)) / (
            1 - first_rate(maps, kind)
        )
        rise = first_rate(maps, kind) * start
        expected = rise + (limit - first_rate(maps, kind)) * (start + at_limit) / 2
        assert kinds[kind]["full_pixel_au_spro"] == pytest.approx(expected / limit, abs=1e-6)
    mean = np.mean([values["full_pixel_au_spro"] for values in kinds.values()])
    assert found.values["full_pixel_au_spro"] == pytest.approx(mean)
    assert kinds["logical_anomalies"]["full_pixel_recall"] == 0.5
    assert set(kinds["logical_anomalies"]) | {"full_image_ap"} <= {*metric_names(params())}


def first_rate(maps: dict[str, tuple[np.ndarray, np.ndarray]], kind: str) -> float:
    """The false positive rate of a kind and good images at level 0.5."""
    normal = SHAPE[0] * SHAPE[1] * 2 - maps[kind][1].sum()
    return 400 / float(normal)


def test_good_images_alone_say_where_false_alarms_begin(
    loco: Path, maps: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    gathering = Gathering(["box"] * 3, params("folder"), declared_levels([]))
    gathering.add({PLACE: tally_of(loco, maps)}, ["box"] * 3)
    found = gathering.found[PLACE]
    assert "full_pixel_au_spro" not in found.values
    assert found.pimo is not None
    assert dict(zip(found.pimo["path"], found.pimo["aupimo"], strict=True)) == pytest.approx(
        {"box/test/logical_anomalies/000.png": 0.5, "box/test/structural_anomalies/000.png": 0.25}
    )
    assert found.values["full_pixel_aupimo"] == pytest.approx(0.375)
    assert found.kinds["structural_anomalies"]["full_pixel_aupimo"] == pytest.approx(0.25)
    assert np.isnan(found.kinds["structural_anomalies"]["full_pixel_recall"])  # no threshold


def test_aupimo_sees_more_than_256_levels(loco: Path) -> None:
    """Two maps that are equal in 256 levels."""
    rng = np.random.default_rng(0)
    good, bad = (np.full(SHAPE, 100.0) for _ in range(2))
    good += rng.random(SHAPE) * 0.4
    bad += 0.5
    mask = np.zeros(SHAPE, bool)
    mask[:60, :100] = True
    maps = {
        "good": ((good / 255).astype(np.float32), np.zeros(SHAPE, bool)),
        "logical_anomalies": ((bad / 255).astype(np.float32), mask),
    }
    tally = tally_of(loco, maps)
    assert (
        pixel_metrics(tally.kinds["good"] + tally.kinds["logical_anomalies"])[0]["full_pixel_auroc"]
        == 0.5
    )
    [(_, _, levels)] = tally.defects
    assert aupimo(tally.shared, [levels])[0].low == pytest.approx(1)


def test_blocks_join(loco: Path, maps: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    whole, parts = tally_of(loco, maps), Tally()
    for kind, found in maps.items():
        parts.merge(tally_of(loco, {kind: found}))
    np.testing.assert_array_equal(whole.shared.shares, parts.shared.shares)
    assert whole.kinds.keys() == parts.kinds.keys()
    for kind, histogram in whole.saturated.items():
        np.testing.assert_array_equal(histogram.pro, parts.saturated[kind].pro)


def test_saturation_stays_the_same_share_at_another_size(loco: Path) -> None:
    mask = "box/ground_truth/logical_anomalies/000/"
    for shape in (SHAPE, (160, 160)):
        regions = saturated_regions(loco, mask, shape)
        assert [region.enough / len(region.pixels) for region in regions] == [0.5, 0.5]
    (one,) = saturated_regions(loco, "box/ground_truth/structural_anomalies/000/", SHAPE)
    assert one.enough == 1000  # of 10,000 that would be enough there are no more


def test_regions_by_file_are_those_of_an_anomaly_with_a_mask(loco: Path) -> None:
    anomalous = image("logical_anomalies")
    assert len(mask_parts(anomalous, loco, exif_rotation=False) or ()) == 2
    assert mask_parts(replace(anomalous, mask=None), loco, exif_rotation=False) is None
    assert mask_parts(replace(anomalous, is_anomaly=False), loco, exif_rotation=False) is None


def test_masks_are_turned_as_their_files_say(loco: Path) -> None:
    """Rows 0 to 39 of a file that says to turn it by 90 degrees are the last 40 columns."""
    mask = "box/ground_truth/logical_anomalies/000/"
    turn = Image.Exif()
    turn[0x0112] = 6
    with Image.open(loco / mask / "000.png") as drawn:
        drawn.copy().save(loco / mask / "000.png", exif=turn)
    parts = mask_parts(image("logical_anomalies"), loco, exif_rotation=True)
    assert not isinstance(parts, str)
    assert parts is not None
    assert set((parts[0].pixels % SHAPE[1]).tolist()) == set(range(SHAPE[1] - 40, SHAPE[1]))


def test_a_mask_file_has_one_value_or_none(loco: Path) -> None:
    mask = "box/ground_truth/logical_anomalies/000/"
    write_mask(loco, f"{mask}002.png", slice(0, 0), 255)  # without a defect pixel
    assert len(saturated_regions(loco, mask, SHAPE)) == 2
    (loco / "box/defects_config.json").write_text(json.dumps([*LOCO, LOCO[1] | {"pixel_value": 1}]))
    write_mask(loco, f"{mask}002.png", slice(0, 10), 1)
    assert [region.enough for region in saturated_regions(loco, mask, SHAPE)] == [2000, 1000, 1000]
    both = np.zeros(SHAPE, np.uint8)
    both[:9], both[20:] = 200, 255
    Image.fromarray(both).save(loco / mask / "002.png")
    with pytest.raises(DataError, match=r"002\.png has 2 pixel values beside 0"):
        saturated_regions(loco, mask, SHAPE)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "defects_config.json cannot be read"),
        ("{", "is no JSON"),
        ("[" * 99_999, "is no JSON"),
        (json.dumps([{"pixel_value": 255}]), "entry 1: it needs a pixel_value"),
        (
            json.dumps([LOCO[0] | {"saturation_threshold": 1.5}]),
            "a relative threshold is at most 1",
        ),
        (json.dumps(LOCO[:1]), "pixel value 200"),
    ],
)
def test_without_saturation_there_is_a_reason(
    loco: Path, maps: dict[str, tuple[np.ndarray, np.ndarray]], content: str | None, words: str
) -> None:
    config = loco / "box/defects_config.json"
    config.unlink() if content is None else config.write_text(content)
    gathering = Gathering(["box"] * 3, params(), best_level_of)
    gathering.add({PLACE: tally_of(loco, maps)}, ["box"] * 3)
    found = gathering.found[PLACE]
    assert words in found.reasons["full_pixel_au_spro_0.05"]
    assert np.isnan(found.values["full_pixel_au_spro"])
    assert found.values["full_pixel_aupimo"] == pytest.approx(0.375)


def test_the_table_of_kinds(loco: Path, maps: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    gathering = Gathering(["box"] * 3, params(), best_level_of)
    gathering.add({PLACE: tally_of(loco, maps)}, ["box"] * 3)
    tests = pd.DataFrame(
        {
            "category": "box", "path": list("abcd"), "is_anomaly": [False, True, True, None],
            "defect": ["good", "logical_anomalies", "structural_anomalies", ""],
        }
    )  # fmt: skip
    scores = np.array([[0.5, 0.9, 0.1, 0.7]])
    table = kinds_table(
        tests, scores, [TRIAL], gathering.found, [undecided("box", TRIAL, "none")], params()
    )
    assert table["defect"].tolist() == ["logical_anomalies", "structural_anomalies"]
    assert table["full_image_auroc"].tolist() == [1, 0]
    assert table["images"].tolist() == [1, 1]
    assert table["full_pixel_aupimo"].tolist() == pytest.approx([0.5, 0.25])
    assert table["full_image_recall"].isna().all()
    write_pimo(gathering.found, loco / "aupimo.parquet")
    assert pd.read_parquet(loco / "aupimo.parquet")["aupimo"].tolist() == pytest.approx([0.5, 0.25])


@pytest.mark.parametrize("wanted", [0, 50])
def test_samples_of_a_category(
    loco: Path, maps: dict[str, tuple[np.ndarray, np.ndarray]], wanted: int
) -> None:
    of_run = params(evaluate__intervals=wanted)
    threshold = replace(undecided("box", TRIAL, ""), image=0.3, pixel=100)
    gathering = Gathering(["box"] * 3, of_run, declared_levels([threshold]))
    for kind, of_kind in maps.items():
        gathering.add({PLACE: tally_of(loco, {kind: of_kind}, sampled=wanted > 0)}, ["box"])
    tests = pd.DataFrame(
        {"category": "box", "path": list("abcd"), "is_anomaly": [False, True, True, None]}
    )
    path = loco / "replicates.parquet"
    scores = np.array([[0.5, 0.9, 0.1, 0.7]])
    write_replicates(tests, scores, [TRIAL], gathering.found, [threshold], of_run, path)
    table = pd.read_parquet(path)
    assert len(table) == wanted
    assert "full_image_auroc" not in table  # scores alone tell it
    if not wanted:
        assert not gathering.found[PLACE].replicates
        return
    assert table["full_image_recall"].max() == 1  # of the one image above the threshold
    assert table["full_image_recall"].min() == 0
    assert set(table["full_image_false_alarms"].dropna()) == {1}
    recall = table["full_pixel_recall"].dropna()
    assert recall.min() == pytest.approx(0.25)  # of the structural anomaly alone
    assert recall.max() == pytest.approx(0.5)
    assert table["full_pixel_aupimo"].dropna().between(0.249999, 0.500001).all()
    spro = table["full_pixel_au_spro"].dropna()
    value = gathering.found[PLACE].values["full_pixel_au_spro"]
    # each kind has one image: what varies is how many pixels the kinds' images have
    assert spro.to_numpy() == pytest.approx(value, abs=1e-3)
    assert 0 < len(spro) < wanted  # a sample without an image of a kind has none


def test_samples_of_au_spro_are_those_of_repeated_images() -> None:
    rng, shape, recipe = np.random.default_rng(4), (20, 20), Recipe("both", "both")
    kinds = ("good", "logical_anomalies", "structural_anomalies")
    tally, overlaps = Tally(), []
    for number in range(6):
        kind = kinds[number % 3]
        mask = rng.random(shape) < (0.2 if number % 3 else 0)
        values = rng.random(shape).astype(np.float32)
        finished, regions = recipe.pixels(values, shape), label_regions(mask)
        plain = LevelCounts.of_image(finished, regions)
        enough = [SaturatedRegion(np.flatnonzero(mask), 7.0)] if number % 3 else None
        one = replace(image(kind, number, sampled=True), size=shape)
        of_map = MeasuredMap(values, finished, Scale(), recipe, regions, plain, enough)
        tally.add(one, of_map, saturation=True)
        overlaps.append(plain if enough is None else saturated(plain, finished, enough))
    wanted = 400
    gathering = Gathering(["box"], params(evaluate__intervals=wanted), declared_levels([]))
    gathering.add({PLACE: tally}, ["box"])
    names = [f"box/test/{kinds[number % 3]}/{number:03}" for number in range(6)]
    weights = np.stack([image_weights(name, wanted) for name in names])
    # of the samples, those in which no kind has to be scaled
    kept = np.flatnonzero((weights.reshape(2, 3, wanted).sum(axis=0) == 2).all(axis=0))
    assert len(kept) > 3
    for limit, name in ((0.3, "full_pixel_au_spro"), (0.05, "full_pixel_au_spro_0.05")):
        found = gathering.found[PLACE].replicates[name]
        for sample in kept:
            of_kind = [PixelHistogram.empty() for _ in kinds]
            for number, overlap in enumerate(overlaps):
                for _ in range(weights[number, sample]):
                    of_kind[number % 3].add(overlap)
            each = [au_pro(of_kind[0] + other, limit) for other in of_kind[1:]]
            assert found[sample] == pytest.approx(np.mean(each))


def test_a_mask_without_a_defect_pixel_counts_nowhere() -> None:
    values = np.zeros(SHAPE, np.float32)
    empty = np.zeros(SHAPE, bool)
    counts = LevelCounts.of_image(
        Recipe("both", "both").pixels(values, SHAPE), label_regions(empty)
    )
    of_map = MeasuredMap(
        values, np.zeros(SHAPE, np.uint8), Scale(), Recipe("both", "both"), label_regions(empty),
        counts, None,
    )  # fmt: skip
    tally = Tally()
    tally.add(image("logical_anomalies"), of_map)
    assert not tally.defects
    gathering = Gathering(["box"], params(), best_level_of)
    gathering.add({PLACE: tally}, ["box"])
    assert gathering.found[PLACE].reasons["full_pixel_aupimo"] == "no defect pixel"
    assert Further.without_masks(params()).reasons.keys() == gathering.found[PLACE].reasons.keys()


def test_an_empty_mask_beside_others_of_its_kind_is_normal_in_all_metrics() -> None:
    """Good images or not: AU-sPRO has the images that AUPRO has."""
    rng, recipe, empty = np.random.default_rng(0), Recipe("both", "both"), np.zeros(SHAPE, bool)
    mask = empty.copy()
    mask[:40] = True
    for whole in (False, True):  # a defect that leaves no pixel of its own image normal
        tally, total = Tally(), PixelHistogram.empty()
        for number, truth in enumerate((mask | whole, empty)):
            values = rng.random(SHAPE).astype(np.float32)
            finished, regions = recipe.pixels(values, SHAPE), label_regions(truth)
            counts = LevelCounts.of_image(finished, regions)
            enough = float(truth.sum())  # all of it, so that both metrics are the same
            parts = [SaturatedRegion(np.flatnonzero(truth), enough)] if truth.any() else []
            of_map = MeasuredMap(values, finished, Scale(), recipe, regions, counts, parts)
            tally.add(image("logical_anomalies", number), of_map, saturation=True)
            total.add(counts)
        gathering = Gathering(["box"], params(), best_level_of)
        gathering.add({PLACE: tally}, ["box"])
        found = gathering.found[PLACE].values["full_pixel_au_spro"]
        assert found == pytest.approx(au_pro(total, 0.3))


def test_masks_that_are_all_empty_are_the_reason() -> None:
    recipe, empty, tally = Recipe("both", "both"), np.zeros(SHAPE, bool), Tally()
    finished, regions = np.zeros(SHAPE, np.uint8), label_regions(empty)
    counts = LevelCounts.of_image(finished, regions)
    of_map = MeasuredMap(empty.astype(np.float32), finished, Scale(), recipe, regions, counts, [])
    tally.add(image("logical_anomalies"), of_map, saturation=True)
    tally.add(image("good"), replace(of_map, parts=None), saturation=True)
    gathering = Gathering(["box"], params(), best_level_of)
    gathering.add({PLACE: tally}, ["box"])
    assert gathering.found[PLACE].reasons["full_pixel_au_spro"] == "no defect pixel"


def test_maps_of_65536_levels_are_their_own_fine_ones() -> None:
    """Those of 256 levels are cut anew: 1 is the highest level of either."""
    mask, values = np.zeros((4, 4), bool), np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    mask[3, 2:] = True
    recipe = Recipe("vision", "vision")
    for scale, factor in ((Scale(), 65535.0), (Scale.fine(-1, 3), 65535 / 4)):
        finished = recipe.pixels(values, (4, 4), scale)
        regions = label_regions(mask)
        counts = LevelCounts.of_image(finished, regions)
        of_map = MeasuredMap(values, finished, scale, recipe, regions, counts, None)
        expected = ((values.astype(float) + (scale != Scale())) * factor).astype(int)
        assert np.abs(of_map.fine().astype(int) - expected).max() <= 1
        assert of_map.fine()[3, 3] == (65535 if scale == Scale() else 32767)
        levels, numbers = of_map.fine_counts()
        np.testing.assert_array_equal(np.repeat(levels, numbers), np.sort(of_map.fine().ravel()))


def test_the_levels_of_one_image() -> None:
    levels = np.array([[1, 1, 5, 9]], np.uint16)
    found = DefectLevels.of_image(levels, label_regions(levels > 0))
    assert found.recall(np.array([0, 2, 9, 10])).tolist() == [1, 0.5, 0.25, 0]
    assert SharedRate.of_image(levels).pixels == 4
