"""The report: what is chosen, how it is drawn, and that the page is whole, safe and repeatable."""

from __future__ import annotations

import base64
import doctest
import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fade.errors import DataError, ParameterError, StoreError
from fade.metrics import METRIC_NAMES, PixelHistogram
from fade.regions import label_regions
from fade.types import Trial
from pipeline.evaluation.thresholds import Threshold
from pipeline.evaluation.trials import choose_trial
from pipeline.report import cards, html, review, selection, verdicts
from pipeline.report import sections as section_module
from pipeline.report.cards import Item
from pipeline.report.category_plots import pixel_plots, score_plots
from pipeline.report.defect_kinds import DefectKind, defect_kinds
from pipeline.report.gallery import (
    ALARM,
    SIDE,
    colours,
    data_uri,
    draw_tiles,
    heat,
    outline,
    overlay,
    resize_map,
    thumbnail,
)
from pipeline.report.html import _facts, render
from pipeline.report.input import ReportInput
from pipeline.report.nearest import NearestPatch, Patch
from pipeline.report.patches import CROP, around, draw_nearest
from pipeline.report.plots import CURVES, UNDEFINED, write_plots
from pipeline.report.policy import content_policy
from pipeline.report.sections import ReportSection, decisions, sections
from pipeline.report.selection import Gallery, select_gallery
from pipeline.report.tables import ReportCell, cell, runs, tables
from pipeline.report.verdicts import ANOMALOUS, GOOD, UNKNOWN, labels_of

NASTY = (
    "<script>alert(1)</script> \"quoted\" 'single' &amp; <img src=x onerror=alert(2)> {{ 7*7 }}\n"
    "Größe 缺陷 $x_{$ --> ]]>"
)
GOLDEN = Path(__file__).parents[2] / "golden" / "images"
REASON = "no defect image has a mask"


def make_scores(labels: list[bool], scores: list[float], category: str = "nut") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image": [f"{category}/test/{i:03}" for i in range(len(labels))],
            "path": [f"{category}/test/{i:03}.png" for i in range(len(labels))],
            "category": category,
            "defect": ["cut" if bad else "good" for bad in labels],
            "is_anomaly": labels,
            "shots": 0,
            "seed": 0,
            "score": scores,
        }
    )


def test_parts_are_counted_once_wherever_decisions_are() -> None:
    """The sentence and the kinds of defect of a category as its row in the table of thresholds."""
    scores = make_scores([True, True, True, False, False, False], [0.6, 0.2, 0.3, 0.7, 0.8, 0.1])
    scores["group"] = ["a", "a", "b", "c", "c", "d"]
    found = [Threshold("nut", 0, 0, 0.5, 9, "training", 40, "of 40")]
    report = make_report(scores=scores, thresholds=found)
    (section,) = sections(report, Trial(0, 0))
    (row,) = decisions(report, Trial(0, 0))
    assert (row.alarms, row.missed) == ("1 of 2", "1 of 2")
    said = "1 of 2 good parts called anomalous, 1 of 2 anomalous missed."
    assert section.decisions == f"At the threshold 0.500 (0 shots, seed 0): {said}"
    assert section.kinds == (DefectKind("cut", 2, 1, 0.5),)
    assert '<th scope="col" class="number">Parts</th>' in render(report)


def make_pixels() -> PixelHistogram:
    """A map whose defect is mostly above its ground."""
    levels = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    mask = np.zeros((64, 64), bool)
    mask[40:60, 40:60] = True
    return PixelHistogram.of_image(levels, label_regions(mask))


def make_summary(metrics: pd.DataFrame) -> pd.DataFrame:
    grouped = metrics.groupby(["category", "shots"], sort=False)[list(METRIC_NAMES)]
    return grouped.mean().add_suffix("_mean").join(grouped.std().add_suffix("_std")).reset_index()


def make_report(
    first: str = "nut", second: str = "bolt", text: str = "plain", **changes: Any
) -> ReportInput:
    """Two categories, 1 and 2 shots with seeds 0 and 1; ``text`` fills every free field."""
    trials = [(k, s) for k in (1, 2) for s in (0, 1)]
    part = pd.concat(
        [
            make_scores([True, True, False, False], [0.2, 0.9, 0.6, 0.1], name)
            for name in (first, second)
        ],
        ignore_index=True,
    )
    scores = pd.concat([part.assign(shots=k, seed=s) for k, s in trials], ignore_index=True)
    rows = []
    for k, s in trials:
        values = {first: 0.5 + 0.1 * k + 0.02 * s, second: 0.25}
        values["mean"] = (values[first] + values[second]) / 2
        rows += [
            {"category": c, "shots": k, "seed": s} | dict.fromkeys(METRIC_NAMES, v)
            for c, v in values.items()
        ]
    metrics = pd.DataFrame(rows)
    gone = metrics["category"] == second
    metrics.loc[gone, "full_pixel_auroc"] = np.nan
    metrics.loc[metrics["category"] == "mean", "full_pixel_auroc"] = metrics.loc[
        metrics["category"] == first, "full_pixel_auroc"
    ].to_numpy()

    def load_image(path: str) -> np.ndarray:
        if path.endswith("000.png"):
            raise DataError(f"{path} cannot be decoded ({text}): copy it again")
        return np.full((30, 40, 3), 200, np.uint8)

    mask = np.zeros((30, 40), bool)
    mask[10:20, 10:20] = True
    report = ReportInput(
        title=text,
        parameters={"dataset": {"path": text, "format": "mvtec"}, "vision": {"shots": [1, 2]}},
        provenance={text: text},
        warnings=[text],
        metrics=metrics.assign(schema=1),
        summary=make_summary(metrics),
        scores=scores,
        load_map=lambda label, row: np.full((5, 5), 16 * row, np.uint8),
        load_image=load_image,
        load_mask=lambda path: mask,
        reasons={(second, k, s, "full_pixel_auroc"): f"{REASON} {text}" for k, s in trials},
        gallery_size=1,
    )
    return replace(report, **changes)


class Page(HTMLParser):
    """The skeleton of a page: its tags with attribute names, its attributes, its visible text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.skeleton: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.inside: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.skeleton.append((tag, tuple(name for name, _ in attrs)))
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.inside.append("/" + tag)

    def handle_data(self, data: str) -> None:
        if not self.inside or self.inside[-1] not in ("script", "style"):
            self.text.append(data)

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


@pytest.fixture(scope="module")
def page() -> str:
    return render(make_report())


# ---- what is chosen ----


def test_gallery_takes_the_extremes() -> None:
    labels = [True, False, True, True, False, True, False]
    scores = make_scores(labels, [0.5, 0.9, 0.1, 0.8, 0.2, 0.3, 0.4])
    found = select_gallery(scores, "nut", 2)
    assert found == Gallery(misses=(2, 5), alarms=(1, 6), hits=(3, 0))


def test_gallery_positions_count_within_the_trial_not_the_category() -> None:
    both = [make_scores([True, False], [0.5, 0.5], name) for name in ("bolt", "nut")]
    scores = pd.concat(both)  # its index repeats: positions must not come from it
    assert select_gallery(scores, "nut", 4) == Gallery(misses=(2,), alarms=(3,))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.25, 0.5, 1.0])), min_size=1),
    st.integers(0, 5),
)
def test_gallery_holds_for_any_scores(images: list[tuple[bool, float]], k: int) -> None:
    labels, values = [list(column) for column in zip(*images, strict=True)]
    found = select_gallery(make_scores(labels, values), "nut", k)
    anomalous = [i for i, bad in enumerate(labels) if bad]
    shown = found.misses + found.hits
    assert len(set(shown)) == len(shown) == min(2 * k, len(anomalous))
    assert set(shown) <= set(anomalous)
    assert 0 <= len(found.misses) - len(found.hits) <= 1
    rest = [values[i] for i in anomalous if i not in shown]
    assert [values[i] for i in found.misses] == sorted(values[i] for i in found.misses)
    assert [values[i] for i in found.hits] == sorted((values[i] for i in found.hits), reverse=True)
    assert all(values[i] <= v for i in found.misses for v in rest)
    assert all(values[i] >= v for i in found.hits for v in rest)
    good = [(-v, i) for i, v in enumerate(values) if not labels[i]]
    assert found.alarms == tuple(i for _, i in sorted(good)[:k])


def test_gallery_by_decision_shows_what_is_truly_missed_or_a_false_alarm() -> None:
    labels = [True, False, True, True, False, True, False]
    scores = make_scores(labels, [0.5, 0.9, 0.1, 0.8, 0.2, 0.3, 0.4])
    found = select_gallery(scores, "nut", 2, threshold=0.3)
    assert found == Gallery(misses=(2, 5), alarms=(1, 6), close=(4, 0), hits=(3,))
    all_right = select_gallery(scores, "nut", 2, threshold=0.05)
    assert (all_right.misses, all_right.alarms) == ((), (1, 6))


def test_the_first_screen_shows_what_is_wrong_then_what_is_called_anomalous() -> None:
    def item(name: str, score: float, verdict: str) -> Item:
        return Item(name, "hole", True, score, (), verdict=verdict)

    groups = (
        ("misses", "", (item("missed", 0.1, "missed"), item("missed too", 0.2, "missed"))),
        ("alarms", "", (item("alarm", 0.7, "false alarm"),)),
        ("close", "", (item("normal", 0.3, "normal"), item("near", 0.4, "found"))),
        ("hits", "", (item("clear", 0.9, "found"), item("far", 0.8, "anomalous"))),
    )
    section = ReportSection("", "nut", 1, 4, 0, True, (), (), None, "", 0.35, "", "", (), groups)
    assert [shown.name for shown in section.worst] == ["missed", "alarm", "missed too", "clear"]


def test_images_without_a_label_are_shown_and_judged_but_never_wrong() -> None:
    scores = make_scores([True, False, False], [0.9, 0.1, 0.7])
    scores["is_anomaly"] = np.array([True, False, None], object)
    scores["defect"] = ["cut", "good", ""]
    assert labels_of(scores).tolist() == [ANOMALOUS, GOOD, UNKNOWN]
    assert select_gallery(scores, "nut", 1, 0.5).unlabelled == (2,)
    found = [Threshold("nut", 0, 0, 0.5, 9, "training", 40, "of 40")]
    nothing = pd.DataFrame()
    report = make_report(scores=scores, thresholds=found, metrics=nothing, summary=nothing)
    page = render(report)
    text = " ".join(" ".join(Page(page).text).split())
    counts = "2 of 3 called anomalous , 0 of 1 missed , 0 of 1 false alarm , 1 without a label"
    assert counts in text  # each tag ends a word here
    held = json.loads(re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page)[0])
    assert held["rows"]["label"] == [1, 0, -1]
    assert [held["rows"]["kinds"][kind] for kind in held["rows"]["kind"]][2] == "no label"


def test_the_table_of_images_is_bounded_and_says_what_it_leaves_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(review, "MAX_ROWS", 5)
    monkeypatch.setattr(review, "MAX_SCORES", 10)
    found = [Threshold(name, 2, 0, 0.5, 9, "training", 4, "of 4") for name in ("nut", "bolt")]
    report = make_report(thresholds=found)
    held = review.review(report, Trial(2, 0), [3], unpictured=1)
    # image 3 has a card; 0.6 is nearest to the threshold, then 0.2 before 0.9 and 0.1
    assert held["rows"]["position"] == [0, 2, 3, 4, 6]
    assert (held["left_out"], list(held["pictures"])) == (3, ["2"])
    assert held["trials"] == ["2 shots, seed 0", "1 shot, seed 0"]
    nut = held["categories"][0]["trials"][0]
    # all images count, also those that the table leaves out
    assert nut["cuts"] == [0.05, 0.15, 0.4, 0.5, 0.8, 0.9]
    assert nut["called"] == [4, 3, 2, 2, 1, 0]
    assert nut["alarms"] == [2, 1, 1, 1, 0, 0]
    assert nut["missed"] == [0, 0, 1, 1, 1, 2]
    assert "Not in this table: 3 of the images" in render(report)


def test_each_kind_of_defect_has_its_line() -> None:
    scores = make_scores([True, True, True, False, False], [0.2, 0.9, 0.7, 0.3, 0.1])
    scores["defect"] = ["dent", "cut", "dent", "good", "good"]
    assert defect_kinds(scores, 0.5) == (
        DefectKind("cut", 1, 0, 1.0), DefectKind("dent", 2, 1, 0.75),
    )  # fmt: skip
    assert defect_kinds(scores[:3], None)[1] == DefectKind("dent", 2, None, None)


def test_gallery_without_scores_shows_the_first_images_anomalous_ones_before() -> None:
    scores = make_scores([False, True, False, True], [np.nan] * 4)
    assert select_gallery(scores, "nut", 3) == Gallery(unranked=(1, 3, 0))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_gallery_refuses_scores_with_holes(bad: float) -> None:
    with pytest.raises(StoreError, match="1 of 2 scores of category nut"):
        select_gallery(make_scores([True, False], [0.5, bad]), "nut", 2)


def test_gallery_refuses_a_negative_size() -> None:
    with pytest.raises(ParameterError, match="-1"):
        select_gallery(make_scores([True], [0.5]), "nut", -1)


def test_shown_trial_is_the_largest_shots_with_their_smallest_seed() -> None:
    one = make_scores([True], [0.5])
    trials = [(0, 0), (4, 7), (4, 3), (2, 1)]
    scores = pd.concat([one.assign(shots=k, seed=s) for k, s in trials])
    assert replace(make_report(), scores=scores).shown_trial() == Trial(4, 3)
    assert replace(make_report(), scores=pd.DataFrame()).shown_trial() is None


def test_without_test_images_the_decisions_are_of_the_trial_that_predictions_use() -> None:
    found = [
        Threshold("nut", shots, 0, image, 9, "training", 40, f"of {shots}")
        for shots, image in ((0, 0.25), (4, 0.75))
    ]
    report = replace(
        make_report(), scores=pd.DataFrame(), metrics=pd.DataFrame(), summary=pd.DataFrame(),
        thresholds=found,
    )  # fmt: skip
    text = " ".join(" ".join(Page(render(report)).text).split())
    assert report.shown_trial() == choose_trial([threshold.trial for threshold in found])
    assert "0.750" in text
    assert "0.250" not in text
    assert "The trial is that of 4 shots, seed 0: fade predict , fade bundle" in text


def test_the_image_that_sets_a_threshold_is_named_and_shown() -> None:
    found = [
        Threshold(
            "nut", 2, 0, 0.8125, 9, "training", 40, "of 40", "nut/train/good/031.png", 0.072158,
            "031.png stands far away",
        ),
        Threshold("bolt", 2, 0, 0.5, 9, "training", 29, "of 29", "bolt/train/good/000.png", 0.098, ""),
        Threshold("bolt", 1, 0, 0.5, 9, "training", 29, "of 29", "bolt/train/good/7.png", 0.098, ""),
    ]  # fmt: skip
    page = render(make_report(thresholds=found))
    text = " ".join(" ".join(Page(page).text).split())
    assert (
        "≤ 7.3 % training images 40 of 40 set by nut/train/good/031.png far from the others" in text
    )
    assert "nut/train/good/031.png far away 0.812" in text
    assert "031.png stands far away" in page
    assert 'alt="Image of nut/train/good/031.png"' in page
    assert "bolt/train/good/000.png cannot be decoded" in page  # and the page is there all the same
    assert "bolt/train/good/7.png" not in page


# ---- how it is drawn ----


@pytest.mark.parametrize(
    ("shape", "size"),
    [((900, 600), (224, 149)), ((20, 40), (112, 224)), ((1, 5000), (1, 224))],
)
def test_thumbnail_keeps_proportions(shape: tuple[int, int], size: tuple[int, int]) -> None:
    drawn = thumbnail(np.full((*shape, 3), 77, np.uint8))
    assert drawn.shape == (*size, 3)
    assert np.all(drawn == 77)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: thumbnail(np.zeros((4, 4), np.uint8)),
        lambda: thumbnail(np.zeros((4, 4, 3), np.float32)),
        lambda: thumbnail(np.zeros((0, 4, 3), np.uint8)),
        lambda: outline(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)),
        lambda: resize_map(np.zeros((4, 4), np.float32), 8, 8),
        lambda: resize_map(np.zeros((1, 4, 4), np.uint8), 8, 8),
    ],
)
def test_drawing_refuses_other_arrays(draw: Callable[[], Any]) -> None:
    with pytest.raises(DataError, match="shape"):
        draw()


def test_outline_runs_around_the_defect_and_leaves_the_rest() -> None:
    image = np.full((100, 100, 3), 128, np.uint8)
    mask = np.zeros((100, 100), bool)
    mask[40:60, 40:60] = True
    drawn = outline(image, mask)
    changed = np.any(drawn != image, axis=2)
    assert changed[34:40, 50].any()
    assert changed[60:66, 50].any()
    assert not changed[42:58, 42:58].any()
    assert not changed[:30].any()
    assert np.all(image == 128)


def test_outline_keeps_a_single_pixel_of_a_large_mask() -> None:
    mask = np.zeros((2000, 2000), bool)
    mask[1000, 1000] = True
    drawn = outline(np.zeros((SIDE, SIDE, 3), np.uint8), mask)
    assert drawn[105:120, 105:120].any()
    assert not outline(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), bool)).any()


def test_heat_has_one_fixed_scale_that_grows_lighter() -> None:
    light = colours().astype(float) @ [0.2126, 0.7152, 0.0722]
    assert light[0] < 5
    assert light[255] > 240
    assert np.all(np.diff(light[::8]) > 0)
    # a flat map keeps its own level's colour: nothing is stretched
    assert np.all(heat(np.full((3, 3), 40, np.uint8)) == colours()[40])


def test_maps_are_resized_bilinearly_with_half_pixel_centres() -> None:
    levels = np.array([[0, 100], [100, 200]], np.uint8)
    expected = np.array([0, 25, 75, 100])
    assert resize_map(levels, 4, 4)[0].tolist() == expected.tolist()
    assert resize_map(levels, 4, 4)[:, 3].tolist() == (100 + expected).tolist()


def test_overlay_lets_the_image_through_where_the_map_is_low() -> None:
    image = np.full((1, 3, 3), 90, np.uint8)
    mixed = overlay(image, np.array([[0, 128, 255]], np.uint8))
    assert mixed[0, 0].tolist() == [90, 90, 90]
    expected = 90 * 0.15 + 0.85 * colours()[255].astype(float)
    np.testing.assert_allclose(mixed[0, 2], expected, atol=0.51)


def test_overlay_marks_what_is_above_the_threshold_and_nothing_else() -> None:
    """Also where the map is dark all over: the range of a map says nothing of its defects."""
    image = np.full((200, 200, 3), 40, np.uint8)
    levels = np.full((200, 200), 20, np.uint8)
    levels[80:120, 80:120] = 30
    drawn = overlay(image, levels, levels > 25)
    assert (drawn[:70] == 40).all()
    assert drawn[100, 100].astype(int).max() > 90
    assert (drawn == ALARM).all(axis=2).any()  # an outline
    assert (image == 40).all()
    np.testing.assert_array_equal(overlay(image, levels, levels > 30), image)


def test_data_uri_gives_the_picture_back() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, :30, 0] = 255
    head, body = data_uri(image).split(",")
    assert head == "data:image/webp;base64"
    back = np.asarray(Image.open(io.BytesIO(base64.b64decode(body))).convert("RGB")).astype(int)
    assert back.shape == image.shape
    assert back[20, 10, 0] > 230
    assert back[20, 10, 2] < 25
    assert back[20, 50].max() < 25


def failing(message: str) -> Callable[[], Any]:
    def load() -> Any:
        raise DataError(message)

    return load


def test_tiles_show_what_they_can() -> None:
    image, levels = np.zeros((30, 40, 3), np.uint8), np.zeros((5, 5), np.uint8)
    mask = np.ones((30, 40), bool)
    whole = draw_tiles(lambda: image, lambda: mask, lambda: levels, True)
    assert [tile.label for tile in whole] == ["Image", "Mask", "Heat map", "Overlay"]
    assert all(t.source and (t.width, t.height) == (224, 168) for t in whole)

    dark = draw_tiles(failing("no image"), lambda: mask, lambda: levels, True)
    assert [bool(tile.source) for tile in dark] == [False, True, True, False]
    assert dark[0].message == "no image"

    cold = draw_tiles(lambda: image, failing("no luck"), failing("torn"), True)
    assert [tile.message for tile in cold[1:3]] == ["no luck", "torn"]

    plain = draw_tiles(lambda: image, lambda: None, lambda: None, True)
    assert [(t.label, t.message) for t in plain] == [("Image", ""), ("Mask", "no mask")]


def test_overlays_show_what_counts_as_anomalous_in_place_of_the_threshold() -> None:
    """Closed masks; not so without a threshold, or without such a mask."""
    image, levels = np.zeros((224, 224, 3), np.uint8), np.full((8, 8), 9, np.uint8)
    above = np.zeros((48, 48), bool)
    above[12:36, 12:36] = True

    def drawn(threshold: int | None, mask: np.ndarray | None) -> tuple[str | None, np.ndarray]:
        tile = draw_tiles(
            lambda: image, lambda: None, lambda: levels, True, threshold, lambda: mask
        )[3]
        assert tile.source is not None
        picture = base64.b64decode(tile.source.split(",")[1])
        return tile.source, np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))

    _, pixels = drawn(200, above)
    assert pixels[112, 112].max() > 60
    assert pixels[20, 20].max() < 20
    assert (
        drawn(200, None)[0]
        == draw_tiles(lambda: image, lambda: None, lambda: levels, True, 200)[3].source
    )
    assert (
        drawn(None, above)[0]
        == draw_tiles(lambda: image, lambda: None, lambda: levels, True)[3].source
    )


def test_the_worst_patch_stands_framed_beside_the_nearest_good_one() -> None:
    image = np.full((120, 160, 3), 90, np.uint8)
    image[30:40, 150:160] = (0, 0, 250)  # the patch in row 3, the last of its row
    worst, good = Patch("a.png", 3, 15, (12, 16)), Patch("b.png", 0, 0, (12, 16))
    piece = around(image, worst, ALARM)
    assert piece.shape == (CROP, CROP, 3)
    blue = np.argwhere((piece == (0, 0, 250)).all(axis=2))
    assert len(blue)
    assert blue[:, 1].min() > CROP / 2  # at the right edge, as in the image
    red = np.argwhere((piece == ALARM).all(axis=2))
    assert (red.min(axis=0) <= blue.min(axis=0)).all()
    found = NearestPatch(worst, good)
    tile = draw_nearest(lambda path: image, found)
    assert (tile.width, tile.height) == (2 * CROP + 4, CROP)
    assert tile.label.endswith("of b.png")
    assert draw_nearest(lambda path: failing("torn")(), found).message == "torn"
    report = make_report(load_nearest=lambda name, rows: dict.fromkeys(rows, found))
    assert 'alt="Worst patch, and the nearest good one, of b.png' in render(report)


def test_the_head_names_the_models_that_have_a_part() -> None:
    parameters = {
        "model.name": "ViT", "model.pretrained": "tag", "vision.rule": "nearest",
        "vision.encoder": "dino", "fusion.classification_mode": "vision",
        "fusion.segmentation_mode": "vision",
    }  # fmt: skip
    assert {"Model", "Weights"}.isdisjoint(dict(_facts(parameters)))
    assert dict(_facts(parameters))["Vision network"] == "dino"
    both = {**parameters, "fusion.segmentation_mode": "both"}
    assert {"Model", "Weights", "Vision network"} <= dict(_facts(both)).keys()
    assert "Rule" not in dict(_facts({**parameters, "vision.encoder": UNDEFINED}))


def test_masks_of_good_images_are_not_asked_for() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    tiles = draw_tiles(lambda: image, failing("asked"), lambda: None, False)
    assert tiles[1].message == "good: no defect"


# ---- the page ----


def test_same_inputs_same_bytes(page: str) -> None:
    assert render(make_report()) == page


def test_page_loads_nothing(page: str) -> None:
    found = Page(page)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {
        t for t, _ in found.skeleton
    }
    assert found.values("src")
    assert all(value.startswith("data:image/") for value in found.values("src"))
    assert all(value.startswith("#") for value in found.values("href"))
    assert set(found.values("href")) <= {"#" + value for value in found.values("id")}
    assert "url(" not in page
    assert "@import" not in page
    assert not re.search(r"https?://", page)


def test_policy_admits_only_the_pages_own_script(page: str) -> None:
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 1
    policy = next(v for v in Page(page).values("content") if "script-src" in v)
    assert policy == content_policy(scripts[0])
    assert "default-src 'none'; img-src data: 'self' file:; style-src" in policy


def test_nasty_names_inject_nothing(page: str) -> None:
    # tables hold valid Unicode only, parameters may hold a path's undecodable byte
    text = NASTY + "\udcff"
    nasty = render(make_report(first=NASTY, second="plain\u2028" + NASTY, text=text))
    found, plain = Page(nasty), Page(page)
    assert found.skeleton == plain.skeleton
    assert "<script>alert" not in nasty
    assert "49" not in re.findall(r"\{\{.*?\}\}|49", nasty.split("<nav")[0])
    assert NASTY + "\\udcff" in "".join(found.text)
    assert any(NASTY in title for title in found.values("title"))
    assert any(NASTY in alt for alt in found.values("alt"))
    nasty.encode("utf-8")


def test_numbers_are_percentages_with_spread_and_reasons() -> None:
    one, two = tables(make_report())
    assert (one.shots, one.seeds, two.shots) == (1, (0, 1), 2)
    assert [row.label for row in one.rows] == ["nut", "bolt"]
    first = one.rows[0].cells[0]
    assert (first.text, first.spread, first.note) == ("61.0", "1.4", "")
    at = METRIC_NAMES.index("full_pixel_auroc")
    undefined = one.rows[1].cells[at]
    assert (undefined.text, undefined.value, undefined.note) == ("\u2013", "", f"{REASON} plain")
    assert one.mean.cells[0].text == "43.0"
    assert one.mean.cells[at].note == "mean over 1 of 2 categories"


def test_a_metric_undefined_for_some_seeds_says_for_which() -> None:
    report = make_report(reasons={("nut", 1, 1, METRIC_NAMES[0]): "no good images"})
    assert tables(report)[0].rows[0].cells[0].note == "seed 1: no good images"


def test_one_seed_has_no_spread() -> None:
    assert cell(0.5, 0.0, 1).spread == ""
    assert cell(0.99949, 0.0, 2) == ReportCell("99.9", "0.0", "0.99949")


def test_page_says_what_it_shows(page: str) -> None:
    text = " ".join("".join(Page(page).text).split())
    assert "Plots and galleries show one trial: 2 shots, seed 0." in text
    assert "nut/test/000.png cannot be decoded (plain): copy it again" in text
    for heading in ("Worst misses", "False alarms", "Best hits"):
        assert text.count(heading) == 2
    assert "0.900" in text
    assert f'title="{REASON} plain"' in page
    # and for those who cannot point: a line
    assert f"bolt, Pixel AUROC: {REASON} plain (1 shot, seed 0; 1 shot, seed 1; 2 shots" in text
    assert "Mean at 2 shots, Pixel AUROC: mean over 1 of 2 categories" in text
    assert page.count('alt="colour scale') == 1
    assert all(("loading" in a) for t, a in Page(page).skeleton if t == "img" and "class" in a)


def test_maps_are_asked_by_row_within_the_trial() -> None:
    asked: list[tuple[str, int]] = []

    def load_map(label: str, row: int) -> None:
        asked.append((label, row))

    render(make_report(load_map=load_map))
    # bolt's rows follow nut's four; each once, in any order: several pictures are made at a time
    assert sorted(asked) == [("shots2_seed0", row) for row in range(8)]


def test_report_without_test_images() -> None:
    nothing = pd.DataFrame()
    text = "".join(Page(render(make_report(metrics=nothing, summary=nothing, scores=nothing))).text)
    assert "No metrics: there are no test images." in text
    assert "Worst misses" not in text
    assert "mvtec" in text


def test_report_without_image_scores() -> None:
    report = make_report()
    page = render(replace(report, scores=report.scores.assign(score=np.nan)))
    text = "".join(Page(page).text)
    assert "There are no image scores to plot." in text
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)


def test_tables_of_another_shape_are_refused() -> None:
    report = make_report()
    with pytest.raises(StoreError, match="scores lacks defect"):
        render(replace(report, scores=report.scores.drop(columns="defect")))
    with pytest.raises(StoreError, match="full_image_auroc_std"):
        render(replace(report, summary=report.summary.drop(columns="full_image_auroc_std")))
    names = report.scores["image"].where(report.scores.index > 0, None)
    with pytest.raises(StoreError, match="empty fields in image"):
        render(replace(report, scores=report.scores.assign(image=names)))
    labels = report.scores["is_anomaly"].astype(object).where(report.scores.index > 0, None)
    with pytest.raises(StoreError, match="empty fields in is_anomaly"):
        render(replace(report, scores=report.scores.assign(is_anomaly=labels)))


def test_fifteen_categories_stay_small() -> None:
    waves = np.sin(np.arange(56) / 3)
    levels = (127.5 * (1 + waves[:, None] * waves)).astype(np.uint8)
    anomalous: list[int] = []
    good: list[int] = []
    for path in sorted(GOLDEN.glob("*/test/*/000.png")):
        image = np.asarray(Image.open(path).convert("RGB"))
        mask = np.zeros(image.shape[:2], bool)
        mask[20:40, 20:60] = True
        for sizes, bad in ((anomalous, True), (good, False)):
            tiles = draw_tiles(partial(np.copy, image), partial(np.copy, mask), lambda: levels, bad)
            sizes.append(sum(len(tile.source) for tile in tiles))
    assert len(anomalous) == len(good) == 6
    rng = np.random.default_rng(0)
    drawn = score_plots(rng.random(400), rng.random(400) > 0.5) + pixel_plots(make_pixels(), 0.3)
    plots = sum(len(plot.svg) for plot in drawn) * 4 / 3
    assert 15 * (8 * np.mean(anomalous) + 4 * np.mean(good) + plots) < 5e6


def test_examples_in_docstrings() -> None:
    for module in (html, review, verdicts):
        assert doctest.testmod(module).failed == 0


# ---- plots ----


def test_thresholds_are_shown_with_what_they_rest_on() -> None:
    thresholds = [
        Threshold("nut", 2, 0, 0.6, 120, "training", 7, f"7 images {NASTY}"),
        Threshold("bolt", 2, 0, None, None, "none", 0, "no decision: nothing"),
        Threshold("nut", 1, 0, 0.123, 120, "training", 7, "another trial"),
    ]
    page = render(make_report(thresholds=thresholds))
    assert "0.600" in page
    assert "no decision: nothing" in page
    assert "another trial" not in page
    assert NASTY not in page
    assert "1 of 2 good images called anomalous" not in page
    text = " ".join(" ".join(Page(page).text).split())
    assert "nut 0.600 120 0 of 2 1 of 2 training images 7 7 images" in text
    assert "optimistic" not in text
    assert (
        "At the threshold 0.600 (2 shots, seed 0): 0 of 2 good images called anomalous, 1 of 2 "
        "anomalous missed."
    ) in page
    assert page.count("At the threshold") == 1
    assert "Decisions" not in render(make_report())


def test_thresholds_from_test_labels_are_marked() -> None:
    found = [Threshold("nut", 2, 0, 0.5, 9, "labels", 4, "best F1 on the labels themselves")]
    text = " ".join(" ".join(Page(render(make_report(thresholds=found))).text).split())
    assert "test labels optimistic 4" in text


def test_every_run_is_listed_with_its_reasons() -> None:
    found = runs(make_report())
    assert [(run.category, run.shots, run.seed) for run in found[:4]] == [
        ("nut", 1, 0), ("bolt", 1, 0), ("mean", 1, 0), ("nut", 1, 1)
    ]  # fmt: skip
    assert len(found) == 12
    assert found[3].cells[0].text == "62.0"
    assert found[1].cells[METRIC_NAMES.index("full_pixel_auroc")].note == f"{REASON} plain"


def test_pixels_become_plots_of_their_category_alone() -> None:
    page = render(make_report(pixels={("nut", Trial(2, 0)): make_pixels()}))
    alts = Page(page).values("alt")
    assert "PRO of nut" in alts
    assert "Pixel levels of nut" in alts
    assert "PRO of bolt" not in alts


def test_left_out_images_are_listed_and_counted() -> None:
    reasons = [f"{n}.png is empty {NASTY}" for n in range(html.LISTED + 7)]
    text = "".join(Page(render(make_report(skipped=reasons))).text)
    assert f"Images left out ({html.LISTED + 7})" in text
    assert reasons[html.LISTED - 1] in text
    assert f"{html.LISTED}.png is empty" not in text
    assert "and 7 more" in text


def test_many_categories_are_folded() -> None:
    scores = pd.concat(
        [make_scores([True, False], [0.9, 0.1], f"c{n}") for n in range(html.OPEN_SECTIONS + 1)]
    )
    nothing = pd.DataFrame()
    few = scores[scores["category"] != "c0"]
    for rows, folded in ((scores, True), (few, False)):
        page = render(make_report(scores=rows, metrics=nothing, summary=nothing))
        found = re.findall(r'<details class="category"[^>]*>', page)
        assert [" open" not in tag for tag in found] == [folded] * len(found)


def test_a_threshold_is_a_line() -> None:
    scores, labels = np.array([0.1, 0.2, 0.9]), np.array([False, False, True])
    drawn = score_plots(scores, labels, 0.5)
    assert drawn != score_plots(scores, labels)
    assert drawn == score_plots(scores, labels, 0.5)


def test_score_plots_are_equal_svg_without_a_date() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.random(50), rng.random(50) > 0.5
    drawn = score_plots(scores, labels)
    assert drawn == score_plots(scores, labels)
    assert [plot.title for plot in drawn] == [
        "Image scores",
        "ROC of images",
        "Precision and recall",
    ]
    for plot in drawn:
        assert ET.fromstring(plot.svg).tag.endswith("svg")
        assert "dc:date" not in plot.svg
        assert plot.title in plot.svg
    assert f"anomalous ({labels.sum()})" in drawn[0].svg


@pytest.mark.parametrize(
    ("labels", "said"),
    [([True, True], "needs good and"), ([False, False], "needs anomalous images")],
)
def test_score_plots_say_what_is_missing(labels: list[bool], said: str) -> None:
    drawn = score_plots(np.array([0.5, 0.5]), np.array(labels))
    assert any(said in plot.svg for plot in drawn)


def test_pixel_plots_show_the_levels_and_the_pro_curve() -> None:
    levels, pro = pixel_plots(make_pixels(), 0.25, 120)
    assert (levels.title, pro.title) == ("Pixel levels", "PRO")
    assert pixel_plots(make_pixels(), 0.25, 120) == (levels, pro)
    assert levels != pixel_plots(make_pixels(), 0.25)[0]
    assert ">0.125<" in pro.svg
    assert "needs defects with masks" in pixel_plots(PixelHistogram.empty(), 0.3)[1].svg


def test_score_plots_of_many_images_stay_small() -> None:
    rng = np.random.default_rng(0)
    drawn = score_plots(rng.random(20_000), rng.random(20_000) > 0.5)
    assert sum(len(plot.svg) for plot in drawn) < 100_000


def test_plots_for_dvc_are_equal_drawings(tmp_path: Path) -> None:
    report = make_report(first=NASTY)
    curve = np.array([0.0, 0.1, 1.0]), np.array([0.0, 0.8, 1.0])
    curves = {f"{NASTY} {n}": {"PRO": curve, "ROC of images": curve} for n in range(7)}
    paths = write_plots(report.summary, report.metrics, tmp_path / "a", curves)
    again = write_plots(report.summary, report.metrics, tmp_path / "b", curves)
    names = ["metrics_by_shots.svg", "metrics_by_category.svg", "curves.svg"]
    assert [path.name for path in paths] == names
    for path, other in zip(paths, again, strict=True):
        assert path.read_bytes() == other.read_bytes()
        root = ET.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert not root.findall(".//{http://www.w3.org/2000/svg}script")
        assert path.stat().st_size < 200_000
    shots, categories, drawn = (path.read_text(encoding="utf-8") for path in paths)
    assert {"Image AUROC", "Pixel F1-max"} <= set(re.findall(">([^<]+)<", shots))
    assert UNDEFINED in categories or ">100.0<" in categories
    # two curves of each category, and a line of each in the legend
    assert drawn.count('stroke-width="1.5"') == 3 * len(curves)


def test_plots_of_many_levels_stay_small(tmp_path: Path) -> None:
    report, rising = make_report(), np.linspace(0, 1, 65_536)
    curves = {"nut": {title: (rising, rising) for title, _, _ in CURVES}}
    paths = write_plots(report.summary, report.metrics, tmp_path, curves)
    assert all(path.stat().st_size < 40_000 for path in paths)


def test_plots_of_undefined_metrics_leave_them_out(tmp_path: Path) -> None:
    report = make_report()
    summary = report.summary.copy()
    summary["full_image_auroc_mean"] = np.nan
    shots, categories, _ = write_plots(summary, report.metrics, tmp_path)
    assert "nan" not in shots.read_text(encoding="utf-8")
    assert f">{UNDEFINED}<" in categories.read_text(encoding="utf-8")


def test_plots_without_metrics_say_so(tmp_path: Path) -> None:
    paths = write_plots(pd.DataFrame(), pd.DataFrame(), tmp_path)
    assert all("no metrics" in path.read_text(encoding="utf-8") for path in paths)


def test_tables_are_searched_once_however_many_categories_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is compared and read of them grows with the categories, not with their square."""
    seen = 0
    compare, labels = pd.Series.__eq__, labels_of

    def counted_compare(self: pd.Series, other: object) -> Any:
        nonlocal seen
        seen += len(self)
        return compare(self, other)

    def counted_labels(scores: pd.DataFrame) -> verdicts.Labels:
        nonlocal seen
        seen += len(scores)
        return labels(scores)

    class Searched(list[Threshold]):
        def __iter__(self) -> Iterator[Threshold]:
            nonlocal seen
            seen += len(self)
            return super().__iter__()

    monkeypatch.setattr(pd.Series, "__eq__", counted_compare)
    for module in (cards, review, section_module, selection):
        monkeypatch.setattr(module, "labels_of", counted_labels)

    def rows_seen(categories: int) -> int:
        nonlocal seen
        names, trial = [f"part{number}" for number in range(categories)], Trial(0, 0)
        scores = pd.concat(
            [make_scores([True, False], [0.9, 0.1], name) for name in names], ignore_index=True
        )
        metrics = pd.DataFrame({"category": names, "shots": 0, "seed": 0})
        report = make_report(
            scores=scores,
            metrics=metrics.assign(**dict.fromkeys(METRIC_NAMES, 0.5)),
            thresholds=Searched(Threshold(n, 0, 0, 0.5, 9, "training", 40, "of 40") for n in names),
            load_map=lambda label, row: None,
        )
        seen = 0
        found = sections(report, trial)
        assert [one.name for one in found] == names
        assert len(decisions(report, trial)) == categories
        review.review(report, trial, (), unpictured=0)
        return seen

    assert rows_seen(12) <= 3 * rows_seen(4)


def test_of_many_categories_those_with_most_wrong_decisions_have_pictures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the size of the page would have no limit."""
    monkeypatch.setattr(section_module, "PICTURED", 2)
    aurocs = {"bolt": 0.9, "nut": 0.9, "ring": 0.5, "pin": 0.7}
    scores = pd.concat(
        [make_scores([True, False], [0.9, 0.1 if n != "nut" else 0.8], n) for n in aurocs],
        ignore_index=True,
    )
    metrics = pd.DataFrame({"category": list(aurocs), "shots": 0, "seed": 0})
    metrics = metrics.assign(**dict.fromkeys(METRIC_NAMES, 0.5))
    metrics["full_image_auroc"] = list(aurocs.values())
    report = make_report(
        scores=scores,
        metrics=metrics,
        thresholds=[Threshold(n, 0, 0, 0.5, 9, "training", 40, "of 40") for n in aurocs],
        load_map=lambda label, row: None,
    )
    found = {one.name: one for one in sections(report, Trial(0, 0))}
    assert list(found) == list(aurocs)
    assert [one.name for one in found.values() if one.pictured] == ["nut", "ring"]
    for one in found.values():
        assert bool(one.groups) == bool(one.plots) == bool(one.worst) == one.pictured
        assert all((one.decisions, one.kinds, one.figures))
    page = render(report)
    assert page.count("Pictures and plots are of") == 2
    assert page.count('<ul class="thumbs"') == 2
