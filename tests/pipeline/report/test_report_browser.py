"""The report as a browser shows it: nothing is asked for, nothing is cut off, sorting sorts."""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fade.metrics import METRIC_NAMES
from fade.types import Trial
from pipeline.evaluation.thresholds import Threshold
from pipeline.report.html import OPEN_SECTIONS, render
from pipeline.report.input import ReportInput
from pipeline.report.originals import originals_address
from tests.browser import Tab, browser, find_browser
from tests.pipeline.report.test_report import make_pixels, make_report, make_summary

CHROMIUM = find_browser()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (apt install chromium)")

CATEGORIES = [f"category_{n:02}" for n in range(14)] + ["a very long name with spaces " * 4]
IMAGES = 100
WIDTHS = (1280, 375)


@lru_cache(maxsize=1)
def picture(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    return np.asarray(small.resize((480, 320)))


def make_large() -> ReportInput:
    """Fifteen categories of a hundred images, two shots, two seeds."""
    rng = np.random.default_rng(0)
    labels = np.arange(IMAGES) % 2 == 1
    trials = [Trial(k, s) for k in (1, 4) for s in (0, 1)]
    scores, rows = [], []
    for trial in trials:
        for n, name in enumerate(CATEGORIES):
            values = rng.random(IMAGES) / 2 + labels / 4
            scores.append(
                pd.DataFrame(
                    {
                        "image": [f"{name}/test/bad/{i:03}" for i in range(IMAGES)],
                        "path": [f"{name}/test/bad/{i:03}.png" for i in range(IMAGES)],
                        "category": name, "defect": np.where(labels, "bad", "good"),
                        "is_anomaly": labels, "shots": trial.shots, "seed": trial.seed,
                        "score": values,
                    }
                )
            )  # fmt: skip
            share = (n * 7 % len(CATEGORIES)) / len(CATEGORIES)
            rows.append(
                {"category": name, "shots": trial.shots, "seed": trial.seed}
                | dict.fromkeys(METRIC_NAMES, share)
            )
        mean = float(np.mean([row[METRIC_NAMES[0]] for row in rows[-len(CATEGORIES) :]]))
        rows.append(
            {"category": "mean", "shots": trial.shots, "seed": trial.seed}
            | dict.fromkeys(METRIC_NAMES, mean)
        )
    metrics = pd.DataFrame(rows)
    levels = np.add.outer(np.arange(48), np.arange(72)).astype(np.uint8)
    mask = np.zeros((320, 480), bool)
    mask[100:160, 200:300] = True
    remark = "quantile 0.99 over 50 training images outside the bank: the highest of them"
    return replace(
        make_report(),
        title="fifteen categories",
        warnings=["A line that says what to know."],
        metrics=metrics,
        summary=make_summary(metrics),
        scores=pd.concat(scores, ignore_index=True),
        load_image=lambda path: picture(),
        load_mask=lambda path: mask,
        load_map=lambda trial, row: levels,
        reasons={},
        thresholds=[Threshold(name, 4, 0, 0.5, 120, "training", 50, remark) for name in CATEGORIES],
        pixels={(name, Trial(4, 0)): make_pixels() for name in CATEGORIES},
        skipped=["broken.png is empty: copy it again"],
        gallery_size=4,
    )


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "index.html"
    path.write_text(render(make_large()), encoding="utf-8")
    # 15 x 12 images of four pictures each, and 75 plots
    assert path.stat().st_size < 12e6
    return path.as_uri()


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    assert CHROMIUM is not None
    with browser(CHROMIUM, tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def names(tab: Tab, table: str) -> list[str]:
    script = (
        f"[...document.querySelector({table!r}).tBodies[0].rows].map((r) => r.cells[0].innerText)"
    )
    return [str(name).strip() for name in tab.run(script)]


def click(tab: Tab, table: str, column: int) -> str:
    head = f'document.querySelector({table!r}).querySelector("th[data-column=\\"{column}\\"]")'
    tab.run(f'{head}.querySelector("button").click()')
    return str(tab.run(f'{head}.getAttribute("aria-sort")'))


def test_a_large_report_opens_at_once_and_asks_for_nothing(tab: Tab, address: str) -> None:
    tab.size(1280, 900)
    tab.said.clear()
    tab.requested.clear()
    assert tab.open(address) < 20
    assert tab.requested == [address]
    assert tab.said == []


def test_headings_sort_tables(tab: Tab, address: str) -> None:
    tab.open(address)
    table = "#categories table"
    before = names(tab, table)
    assert sorted(before) == sorted(name.strip() for name in CATEGORIES)
    shares = {name.strip(): n * 7 % len(CATEGORIES) for n, name in enumerate(CATEGORIES)}
    assert click(tab, table, 1) == "descending"
    assert [shares[name] for name in names(tab, table)] == list(range(14, -1, -1))
    assert click(tab, table, 1) == "ascending"
    assert [shares[name] for name in names(tab, table)] == list(range(15))
    assert click(tab, table, 0) == "ascending"
    assert names(tab, table) == sorted(names(tab, table))
    assert click(tab, "#summary table", 0) == "ascending"
    assert click(tab, "#summary table", 0) == "descending"
    assert [name.split()[0] for name in names(tab, "#summary table")] == ["4", "1"]
    # the last one holds every run: by its column of seeds
    every = "#categories details:last-of-type table"
    assert click(tab, every, 2) == "ascending"
    script = (
        f"[...document.querySelector({every!r}).tBodies[0].rows].map((r) => r.cells[2].innerText)"
    )
    tab.run("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    seeds = tab.run(script)
    assert seeds == sorted(seeds)
    assert len(seeds) == 4 * (len(CATEGORIES) + 1)


def test_a_link_opens_its_category(tab: Tab, address: str) -> None:
    assert len(CATEGORIES) > OPEN_SECTIONS
    tab.size(1280, 900)
    tab.open(address)
    is_open = "document.getElementById('category-9').open"
    assert tab.run(is_open) is False
    place = (
        "new Promise((done) => { document.querySelector('nav a[href=\"#category-9\"]').click();"
        " setTimeout(() => done(document.getElementById('category-9').getBoundingClientRect().top),"
        " 500); })"
    )
    assert 0 <= tab.run(place) < 200
    assert tab.run(is_open) is True
    tab.open("about:blank")  # or the address would only move within the page
    tab.open(address + "#category-3")
    assert tab.run("document.getElementById('category-3').open") is True


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_off(tab: Tab, address: str, width: int) -> None:
    tab.size(width, 900)
    tab.open(address)
    tab.run("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    assert tab.run("document.documentElement.scrollWidth") <= width
    # what is wider than the page must lie in something that scrolls
    outside = """
      [...document.body.querySelectorAll("*")].filter((one) => {
        const box = one.getBoundingClientRect();
        return box.width && box.right > innerWidth + 1 && !one.closest(".wide, nav div");
      }).map((one) => one.outerHTML.slice(0, 200))
    """
    assert tab.run(outside) == []
    # and no text may be hidden by a box that is too small for it
    hidden = """
      [...document.body.querySelectorAll("a, th, td, dd, p, button, summary, figcaption, li")]
        .filter((one) => one.clientWidth && one.scrollWidth > one.clientWidth + 1
          && getComputedStyle(one).overflowX !== "auto")
        .map((one) => one.outerHTML.slice(0, 200))
    """
    assert tab.run(hidden) == []


def test_every_picture_shows(tab: Tab, address: str) -> None:
    tab.size(1280, 900)
    tab.open(address)
    tab.run("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    broken = """
      Promise.all([...document.images].map((one) => { one.loading = "eager"; return one.decode().then(
        () => "", () => one.alt); })).then((all) => all.filter(Boolean))
    """
    assert tab.run(broken) == []
    shown = tab.run("document.querySelectorAll('main img').length")
    # 4 x 4 pictures of anomalous images and 2 x 3 of good ones at least, as draws decide the rest
    assert shown >= 1 + len(CATEGORIES) * (5 + 4 + 4 * 4 + 3 * 4)


@pytest.mark.parametrize(("scheme", "light"), [("light", True), ("dark", False)])
def test_it_follows_the_colour_scheme(tab: Tab, address: str, scheme: str, light: bool) -> None:
    tab.prefer(scheme)
    tab.size(1280, 900)
    tab.open(address)
    with Image.open(io.BytesIO(tab.screenshot())) as shot:
        assert shot.size == (1280, 900)
        pixels = np.asarray(shot.convert("L"))
    # mostly ground, and some ink on it
    assert (np.median(pixels) > 128) == light
    assert pixels.std() > 10
    tab.prefer("light")


def test_everything_is_named_and_readable(tab: Tab, small: str) -> None:
    tab.size(1280, 900)
    for scheme in ("dark", "light"):
        tab.prefer(scheme)
        tab.open(small)
        tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert tab.pale() == []
    assert tab.nameless() == []
    # the test sees what is pale
    tab.run("document.querySelector('h1').style.color = '#aaa'")
    assert tab.pale() == [tab.run("document.querySelector('h1').textContent")]


@pytest.mark.parametrize("width", [1280, 375, 320])
def test_a_finger_hits_and_an_eye_finds_what_there_is_to_press(
    tab: Tab, small: str, width: int
) -> None:
    tab.size(width, 800)
    for scheme in ("dark", "light"):
        tab.prefer(scheme)
        tab.open(small)
        tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert tab.narrow() == []
        assert tab.frames() >= 3
    # and keys reach what lies beside the screen
    beside = (
        "[...document.querySelectorAll('.wide')].filter((one) =>"
        " one.scrollWidth > one.clientWidth && one.tabIndex < 0).map((one) => one.textContent)"
    )
    assert tab.run(beside) == []


@pytest.mark.parametrize("size", [16, 32])
def test_large_letters_are_large_and_cut_nothing_off(tab: Tab, small: str, size: int) -> None:
    """As a person on a phone has them; letters of fixed pixels would stay as they are."""
    tab.size(375, 800)
    tab.letters(size)
    try:
        tab.open(small)
        tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert tab.run("parseFloat(getComputedStyle(document.body).fontSize)") == size * 15 / 16
        assert tab.run("document.documentElement.scrollWidth") == 375
        tab.run("document.querySelector('.thumbs .open').click()")
        room = "((one) => one.scrollWidth - one.clientWidth)(document.querySelector('#viewer'))"
        assert tab.run(room) <= 0
    finally:
        tab.letters(16)


def test_a_number_stays_behind_a_name_in_arabic(tab: Tab, tmp_path: Path) -> None:
    """Numbers take the direction of the letters before them, unless something stands between."""
    name = "\u0645\u0633\u0645\u0627\u0631"
    (tmp_path / "index.html").write_text(render(make_report(first=name)), encoding="utf-8")
    tab.size(1280, 900)
    tab.open((tmp_path / "index.html").as_uri())
    places = tab.run(
        "((title) => { const range = document.createRange(); const [name, count] ="
        " [title.firstChild, title.querySelector('small').firstChild];"
        " return [[name, name.textContent.trim().length], [count, 1]].map(([text, end]) => {"
        " range.setStart(text, 0); range.setEnd(text, end);"
        " return range.getBoundingClientRect().right; });"
        " })(document.querySelector('details.category .title'))"
    )
    assert places[0] < places[1]


def test_nasty_names_run_nothing(tab: Tab, tmp_path: Path) -> None:
    from tests.pipeline.report.test_report import NASTY

    path = tmp_path / "nasty.html"
    path.write_text(render(make_report(first=NASTY, text=NASTY)), encoding="utf-8")
    tab.said.clear()
    tab.open(path.as_uri())
    assert tab.said == []
    assert tab.run("document.title").startswith("<script>alert(1)</script>")
    assert tab.run("[...document.scripts].map((one) => one.type)") == ["application/json", ""]
    assert NASTY in tab.run("document.querySelector('.verdict h3').textContent")
    assert tab.run("document.querySelectorAll('#rows tbody tr').length") == 8


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two categories of four images: nut misses 0.2 at its threshold 0.7, bolt calls all anomalous."""
    path = tmp_path_factory.mktemp("small") / "index.html"
    found = [
        Threshold(name, 2, 0, image, 9, "training", 4, "of 4")
        for name, image in (("nut", 0.7), ("bolt", 0.05))
    ]
    path.write_text(render(make_report(thresholds=found)), encoding="utf-8")
    return path.as_uri()


def press(tab: Tab, key: str) -> None:
    """Press a key as a person does."""
    codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39}
    text = {"text": "\r"} if key == "Enter" else {}
    for kind in ("keyDown", "keyUp"):
        tab.call(
            "Input.dispatchKeyEvent", type=kind, key=key, code=key,
            windowsVirtualKeyCode=codes[key], **(text if kind == "keyDown" else {}),
        )  # fmt: skip


def cells(tab: Tab, column: int) -> list[str]:
    script = (
        f"[...document.querySelectorAll('#rows tbody tr')].map((r) => r.cells[{column}].innerText)"
    )
    return [str(text) for text in tab.run(script)]


def test_the_table_of_images_sorts_and_filters(tab: Tab, small: str) -> None:
    tab.size(1280, 900)
    tab.open(small)
    # what is judged wrongly stands first
    wrong = ["missed", "false alarm", "false alarm"]
    assert cells(tab, 3) == [*wrong, "found", "found", "found", "normal", "normal"]
    for expected in ("descending", "ascending"):
        tab.run("document.querySelector('#rows th[data-key=score] button').click()")
        order = tab.run("document.querySelector('#rows th[data-key=score]').ariaSort")
        scores = [float(text) for text in cells(tab, 1)]
        assert (order, scores) == (expected, sorted(scores, reverse=expected == "descending"))
    choose = (
        "(() => {{ const one = document.querySelector('#filters [name={0}]'); one.value = {1!r};"
        " one.dispatchEvent(new Event('input', {{ bubbles: true }})); }})()"
    )
    tab.run(choose.format("verdict", "wrong"))
    assert sorted(cells(tab, 3)) == sorted(wrong)
    tab.run(choose.format("category", "0"))
    assert cells(tab, 0) == ["nut/test/000"]
    assert tab.run("document.querySelector('#shown').textContent") == "1 of 8 images"
    tab.run("document.querySelector('#all').click()")
    assert len(cells(tab, 0)) == 8


def test_a_slider_judges_again(tab: Tab, small: str) -> None:
    tab.open(small)
    said = "document.querySelector('.verdict').innerText.replace(/\\s+/g, ' ')"
    assert "1 of 4 called anomalous, 1 of 2 missed, 0 of 2 false alarms" in tab.run(said)
    assert "0.700, as run Reset" not in tab.run(said)
    tab.run("document.querySelector('.verdict input').focus()")
    press(tab, "ArrowLeft")
    assert "2 of 4 called anomalous, 1 of 2 missed, 1 of 2 false alarms" in tab.run(said)
    assert "F1 0.500" in tab.run(said)
    value = "document.querySelector('.verdict input').getAttribute('aria-valuetext')"
    assert tab.run(value) == "0.400, 2 of 4 called anomalous, 1 of 2 missed, 1 of 2 false alarms"
    assert cells(tab, 3).count("false alarm") == 3
    tab.run("document.querySelector('.verdict [data-reset]').click()")
    assert "0.700, as run" in tab.run(said)
    assert cells(tab, 3).count("false alarm") == 2
    # another trial has no thresholds here: nothing is decided until the slider moves
    tab.run(
        "(() => { const one = document.querySelector('#trial'); one.value = '1';"
        " one.dispatchEvent(new Event('change')); })()"
    )
    assert set(cells(tab, 2)) == {"\u2013"}


def test_who_comes_back_finds_the_page_as_it_was_made(tab: Tab, small: str) -> None:
    """A browser fills in choices of before, without a word to the script that drew the rest."""
    tab.open(small)
    chosen = "[...document.querySelectorAll('select, input')].map((one) => one.value)"
    before = tab.run(chosen)
    for field, value in (("#trial", "1"), ("[name=kind]", "1"), ("[name=name]", "bolt")):
        tab.run(f"document.querySelector('{field}').value = '{value}'")
    tab.run("document.querySelector('.verdict input').value = 0")
    assert tab.run(chosen) != before
    tab.open("data:text/html,<p>elsewhere")
    tab.run("history.back()")
    tab.until("document.querySelector('#shown')?.textContent === '8 of 8 images'")
    tab.until("document.readyState === 'complete'")
    assert tab.run(chosen) == before


def test_print_says_the_threshold_and_which_images(tab: Tab, small: str) -> None:
    tab.open(small)
    tab.run("document.querySelector('.verdict input').focus()")
    press(tab, "ArrowLeft")
    tab.call("Emulation.setEmulatedMedia", media="print")
    try:
        said = str(tab.run("document.querySelector('main').innerText.replace(/\\s+/g, ' ')"))
        hidden = "document.querySelector('.slider input').offsetParent === null"
        assert tab.run(hidden)
    finally:
        tab.call("Emulation.setEmulatedMedia", media="")
    for words in ("2 of 4 called anomalous", "Threshold 0.400 F1 0.500", "1 to 8 of 8"):
        assert words in said
    assert "Next" not in said


def test_print_gives_a_page_to_categories_that_are_open(tab: Tab, address: str) -> None:
    """Hundreds that are closed were hundreds of pages with a name each."""

    def pages() -> int:
        printed = base64.b64decode(tab.call("Page.printToPDF")["data"])
        return len(re.findall(rb"/Type\s*/Page\b", printed))

    tab.open(address)
    closed = pages()
    tab.run("document.querySelectorAll('details.category').forEach((one) => one.remove())")
    assert closed <= pages() + 2
    tab.open(address)
    tab.run("document.querySelectorAll('details.category').forEach((one) => (one.open = true))")
    assert pages() >= closed + len(CATEGORIES) - 2


def test_print_breaks_a_list_of_warnings_that_fills_pages(tab: Tab, tmp_path: Path) -> None:
    """It went onto a page of its own, and the first one had the title alone."""
    many = [f"{name} calls good images anomalous." for name in CATEGORIES * 10]
    (tmp_path / "index.html").write_text(render(replace(make_report(), warnings=many)), "utf-8")
    tab.open((tmp_path / "index.html").as_uri())
    first = base64.b64decode(tab.call("Page.printToPDF", pageRanges="1")["data"])
    tab.run("document.querySelectorAll('.warnings, main, footer').forEach((one) => one.remove())")
    title = base64.b64decode(tab.call("Page.printToPDF", pageRanges="1")["data"])
    assert len(first) > 2 * len(title)


def test_a_picture_opens_and_closes_by_keyboard(tab: Tab, small: str) -> None:
    tab.size(1280, 900)
    tab.open(small)
    tab.run("document.querySelector('.thumbs .open').focus()")
    press(tab, "Enter")
    is_open, name = (
        "document.querySelector('#viewer').open",
        "document.querySelector('#viewer-name').textContent",
    )
    assert tab.run(is_open) is True
    first = tab.run(name)
    assert first == "nut/test/000"
    press(tab, "ArrowRight")
    second = tab.run(name)
    assert second != first
    wide, own = tab.run(
        "(async () => { const one = document.querySelector('.full img'); await one.decode();"
        " return [one.width, one.naturalWidth]; })()"
    )
    assert wide == own > 0
    press(tab, "ArrowLeft")
    assert tab.run(name) == first
    press(tab, "Escape")
    assert tab.run(is_open) is False
    tab.until("document.activeElement.className === 'open'")  # in an event of its own
    tab.run("document.activeElement.blur(), document.body.focus(), scrollTo(0, 0)")
    tab.open(small)
    press(tab, "Tab")
    assert tab.run("document.activeElement.textContent") == "Skip to the results"


def spoken(tab: Tab) -> list[dict[str, Any]]:
    """What the page tells a screen reader, in the order of the page: role, name, description."""
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    return [
        {key: node.get(key, {}).get("value", "") for key in ("role", "name", "description")}
        for node in nodes
        if not node["ignored"]
    ]


def heard(tab: Tab, role: str) -> list[str]:
    return [node["name"] for node in spoken(tab) if node["role"] == role]


def test_headings_are_heard_and_each_number_has_its_own(tab: Tab, small: str) -> None:
    """Screen readers take a summary as one word: a heading within it has no name for them."""
    tab.open(small)
    assert tab.run("document.querySelectorAll('summary :is(h1, h2, h3)').length") == 0
    assert {"nut", "bolt", "2 shots", "Every run"} <= set(heard(tab, "heading"))
    # of two rows of headings a screen reader says the first: one row must say all
    columns = heard(tab, "columnheader")
    assert "Image: AUROC" in columns
    assert "Pixel, defect images: F1-max" in columns
    assert "Pixel, all images" not in columns


def test_what_changes_is_said_once(tab: Tab, small: str) -> None:
    """A status that kept its words would be said again whenever a dialog closes."""
    tab.size(1280, 900)
    tab.open(small)
    told = "document.querySelector('#told').textContent"
    assert tab.run(told) == ""
    tab.run("document.querySelector('#rows th[data-key=score] button').click()")
    assert tab.run(told) == "Sorted by Score, descending"
    tab.run("document.querySelector('#summary th button').click()")
    assert tab.run(told) == "Sorted by Shots, ascending"
    name = "document.querySelector('#filters [name=name]')"
    tab.run(f"{name}.value = 'nut'; {name}.dispatchEvent(new Event('input', {{bubbles: true}}))")
    assert tab.run(told) != "4 of 8 images", "of each letter on the way a number would be said"
    tab.until(f"{told} === '4 of 8 images'")
    tab.until(f"{told} === ''")
    tab.run("document.querySelector('.verdict input').focus()")
    press(tab, "ArrowLeft")  # the slider says the counts itself
    assert tab.run(told) == ""
    assert "status" not in tab.run("document.querySelector('#shown').outerHTML")
    tab.run(
        "(() => { const one = document.querySelector('#trial'); one.value = '1';"
        " one.dispatchEvent(new Event('change')); })()"
    )
    assert tab.run(told) == "Counts, sliders and table are those of 1 shot, seed 0"


def test_what_is_heard_alone_takes_no_room(tab: Tab, small: str) -> None:
    tab.size(1280, 900)
    tab.open(small)
    heights = tab.run(
        "[...document.querySelectorAll('.thumbs .open')]"
        ".map((one) => [one.offsetHeight, one.querySelector('img, .absent').offsetHeight])"
    )
    assert heights
    assert all(outer == inner for outer, inner in heights)
    ends = "document.querySelector('.slider label').getBoundingClientRect().right"
    begins = "document.querySelector('.slider [data-out=limit]').getBoundingClientRect().left"
    assert 0 < tab.run(f"{begins} - {ends}") < 16


def test_a_picture_is_named_as_it_is_judged_now(tab: Tab, small: str) -> None:
    tab.size(1280, 900)
    tab.open(small)
    first = ["nut/test/000, cut, missed", "nut/test/001, cut, found"]
    assert [name for name in heard(tab, "button") if name.startswith("nut/test")][:2] == first
    tab.run("document.querySelector('.verdict input').focus()")
    for _ in range(3):
        press(tab, "ArrowLeft")
    assert "nut/test/000, cut, found" in heard(tab, "button")
    assert "Pictures of nut" in heard(tab, "list")
    tab.run("document.querySelector('.thumbs .open').click()")
    (dialog,) = [node for node in spoken(tab) if node["role"] == "dialog"]
    assert dialog["name"] == "nut/test/000"
    assert "found, score 0.200, threshold" in dialog["description"]
    press(tab, "ArrowRight")
    told = "document.querySelector('#viewer-told').textContent"
    name = "document.querySelector('#viewer-name').textContent"
    assert tab.run(f"{told}.startsWith({name} + ': ')")
    # a listener on the dialog would have each text in it called clickable
    assert tab.run("document.activeElement.closest('dialog').open")
    tab.run("document.querySelector('#viewer').dispatchEvent(new Event('click', {bubbles: true}))")
    assert tab.run("document.querySelector('#viewer').open") is False


def test_an_opened_picture_shows_the_original_that_lies_beside(tab: Tab, tmp_path: Path) -> None:
    data, page = tmp_path / "data #1", tmp_path / "results" / "report"
    page.mkdir(parents=True)
    report = make_report(first="nut & 100%")
    for path in dict.fromkeys(report.scores["path"]):
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture()).resize((1500, 30)).save(data / path)
    beside = originals_address(Path("data #1"), Path("results/report"))
    assert beside == "../../data%20%231/"
    (page / "index.html").write_text(render(replace(report, originals=beside)), encoding="utf-8")
    tab.size(1280, 900)
    tab.said.clear()
    tab.requested.clear()
    tab.open((page / "index.html").as_uri())
    assert len(tab.requested) == 1  # nothing is loaded before a picture is opened
    tab.run("document.querySelector('.thumbs .open').click()")
    tab.until("document.querySelector('.original:not([hidden]) img')?.naturalWidth === 1500")
    width = "document.querySelector('.original img').width"
    assert tab.run(width) < 1280
    tab.run("document.querySelector('.zoom').focus()")
    press(tab, "Enter")
    assert tab.run(width) == 1500
    assert tab.run("document.documentElement.scrollWidth") == 1280
    shutil.rmtree(data)
    press(tab, "Enter")
    press(tab, "ArrowRight")  # the next one is gone: its thumbnail stays
    tab.until("document.querySelector('.original[hidden] img')?.complete")
    assert tab.run("document.querySelectorAll('.full img[src^=data]').length") > 0
    assert tab.run("document.activeElement.className") == "full"


def test_ten_thousand_images_stay_fast(tab: Tab, tmp_path: Path) -> None:
    """Only a page of the table is drawn; sorting all of it takes a moment."""
    from tests.pipeline.report.test_report import make_scores

    rng = np.random.default_rng(0)
    labels = rng.random(10_000) > 0.5
    scores = make_scores(labels.tolist(), rng.random(10_000).tolist())
    nothing = pd.DataFrame()
    report = make_report(
        scores=scores, metrics=nothing, summary=nothing, load_map=lambda label, row: None
    )
    path = tmp_path / "many.html"
    path.write_text(render(report), encoding="utf-8")
    assert path.stat().st_size < 2e6
    tab.open(path.as_uri())
    assert len(cells(tab, 0)) == 20
    tab.run("document.querySelector('#rows th[data-key=score] button').click()")
    assert cells(tab, 1) == [f"{value:.3f}" for value in sorted(scores["score"])[::-1][:20]]


def test_no_better_threshold_is_offered_than_one_of_the_best(tab: Tab, tmp_path: Path) -> None:
    report = make_large()
    scores = report.scores.assign(
        score=report.scores["is_anomaly"] * 0.6 + report.scores.index % 9 / 100
    )
    page = tmp_path / "index.html"
    page.write_text(render(replace(report, scores=scores)), encoding="utf-8")  # 0.5 divides them
    tab.open(page.as_uri())
    article = "document.querySelector('.verdict')"
    f1 = f"{article}.querySelector('[data-out=f1]')"
    hidden = f"{article}.querySelector('[data-best]').hidden"
    assert (tab.run(f"{f1}.textContent"), tab.run(hidden)) == ("F1 1.000", True)
    slider = f"{article}.querySelector('input')"
    tab.run(f"{slider}.value = 0; {slider}.dispatchEvent(new Event('input'))")
    assert tab.run(hidden) is (tab.run(f"{f1}.textContent") == "F1 1.000")
    tab.run(f"{slider}.value = {slider}.max; {slider}.dispatchEvent(new Event('input'))")
    assert tab.run(hidden) is False
