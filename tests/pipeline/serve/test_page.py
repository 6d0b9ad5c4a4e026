"""The page in a browser: filter, open, slide, label, drop an image in, with keys alone, at any width."""

from __future__ import annotations

import json
import re
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.artefacts.labels import read_labels, write_labels
from pipeline.serve.access import Access
from pipeline.serve.app import create_app
from pipeline.serve.limits import Limits
from pipeline.serve.server import bound_socket, make_server
from pipeline.serve.site import RunSite
from tests.browser import Tab, browser, find_browser

CHROMIUM = find_browser()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (apt install chromium)")
TOKEN = "0123456789abcdef"
DROP = """
(async () => {
  const picture = await (await fetch("pictures/0.webp")).blob();
  const files = new DataTransfer();
  files.items.add(new File([picture], "<b>dropped.webp"));
  files.items.add(new File(["no image"], "broken.png"));
  const drop = new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true });
  document.body.dispatchEvent(drop);
})()
"""


@pytest.fixture(scope="module")
def folder(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("page") / "line3"
    shutil.copytree(finished, copy)
    return copy


@contextmanager
def running(folder: Path, access: Access) -> Iterator[str]:
    """The address of a server in a thread."""
    limits = Limits()
    server = make_server(create_app(RunSite(folder), access, limits), limits)
    listening = bound_socket("127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_on, args=(listening,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with running(folder, Access("127.0.0.1")) as found:
        yield found


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    assert CHROMIUM is not None
    with browser(CHROMIUM, tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def press(tab: Tab, key: str, code: int = 0) -> None:
    text = key if len(key) == 1 else ""
    for kind in ("keyDown", "keyUp"):
        given = {"type": kind, "key": key, "windowsVirtualKeyCode": code}
        tab.call("Input.dispatchKeyEvent", **given, **({"text": text} if kind == "keyDown" else {}))


def choose(tab: Tab, field: str, value: str) -> None:
    tab.run(
        f"(() => {{ const e = document.getElementById({field!r}); e.value = {value!r};"
        "e.dispatchEvent(new Event('input', {bubbles: true}));"
        "e.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )


def names(tab: Tab) -> list[str]:
    found = tab.run("[...document.querySelectorAll('#list .name')].map((one) => one.textContent)")
    return [str(name) for name in found]


@pytest.fixture
def page(tab: Tab, address: str) -> Tab:
    tab.size(1280, 900)
    tab.said.clear()
    tab.requested.clear()
    tab.open(address)
    tab.until("document.body?.dataset.ready === 'true'")
    return tab


def test_filters_and_the_slider_change_the_list(page: Tab, address: str) -> None:
    assert len(names(page)) == 24
    choose(page, "category", "weave")
    page.until("document.querySelectorAll('#list li').length === 12")
    assert all(name.startswith("weave/") for name in names(page))
    choose(page, "decision", "anomalous")
    choose(page, "threshold", "-1")
    page.until("document.getElementById('threshold-counts').textContent.startsWith('12 of 12')")
    page.until("document.querySelectorAll('#list li').length === 12")
    choose(page, "threshold", "9")
    page.until("document.getElementById('total').textContent === 'no image fits these filters'")
    page.run("document.getElementById('threshold-reset').click()")
    page.until("document.querySelectorAll('#list li').length > 0")
    choose(page, "threshold", "9")
    page.until("document.getElementById('total').textContent === 'no image fits these filters'")
    limit = page.run("document.getElementById('threshold-value').textContent")
    choose(page, "decision", "")
    for name, moved in (("weave", True), ("", False)):
        choose(page, "category", name)
        page.until(f"document.querySelectorAll('#list li').length === {12 if name else 24}")
        page.run(
            "[...document.querySelectorAll('#list li')].find((one) => "
            "one.innerText.includes('weave/')).querySelector('button').click()"
        )
        page.until("document.getElementById('viewer').open")
        facts = page.run("document.getElementById('viewer-facts').textContent")
        assert (f"threshold {limit}" in str(facts)) is moved, facts
        page.run("document.getElementById('viewer').close()")
    assert page.said == []
    assert all(place.startswith((address, "data:")) for place in page.requested)


def test_why_says_that_there_is_no_pixel_threshold(
    tab: Tab, finished: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "without"))
    file = folder / "results" / "thresholds.json"
    found = json.loads(file.read_text())
    for one in found["thresholds"]:
        one["pixel"] = None
    file.write_text(json.dumps(found))
    scores = folder / "results" / "scores.parquet"
    pd.read_parquet(scores).assign(score=np.nan).to_parquet(scores)
    with running(folder, Access("127.0.0.1")) as address:
        tab.said.clear()
        tab.open(address)
        tab.until("document.body?.dataset.ready === 'true'")
        tab.run("document.querySelector('#list button').click()")
        tab.until("document.getElementById('viewer').open")
        press(tab, "w", 87)
        tab.until(
            "document.getElementById('explain-state').textContent.includes('fade show --level')"
        )
        with urllib.request.urlopen(f"{address}images/0/explanation?level=0") as answer:
            assert json.load(answer)["regions"]
        tab.run("document.getElementById('viewer').close()")
        choose(tab, "category", "weave")  # nor image scores: there is nothing to slide over
        counts = "document.getElementById('threshold-counts').textContent"
        tab.until(f"{counts} === 'No image of it has a score.'")
        assert tab.run("document.getElementById('threshold').hidden")
        assert tab.said == []
        tab.open("about:blank")  # it asks the server no more


def test_an_image_is_opened_explained_and_labelled_with_keys(page: Tab, folder: Path) -> None:
    page.run("document.querySelector('#list button').focus()")
    press(page, "Enter", 13)
    page.run("document.activeElement.click()")
    page.until("document.getElementById('viewer').open")
    page.until("document.getElementById('viewer-picture').naturalWidth > 0")
    title = str(page.run("document.getElementById('viewer-title').textContent"))
    assert title == names(page)[0]
    press(page, "w", 87)
    page.until("document.querySelectorAll('#regions li').length > 0")
    page.until("document.querySelectorAll('#regions img').length > 0")
    assert page.run("document.querySelectorAll('.box').length") > 0
    press(page, "g", 71)
    page.until("document.getElementById('label-state').textContent === 'kept in labels.csv'")
    assert read_labels(folder / "labels.csv") == {title: False}
    press(page, "u", 85)
    page.until("document.getElementById('label-state').textContent === 'as the data set says'")
    assert read_labels(folder / "labels.csv") == {}
    press(page, "ArrowRight", 39)
    page.until(f"document.getElementById('viewer-title').textContent === {names(page)[1]!r}")
    press(page, "Escape", 27)
    page.until("!document.getElementById('viewer').open")
    # the dialog gives the focus back in an event of its own
    page.until(f"document.activeElement.textContent.startsWith({names(page)[1]!r})")
    assert page.said == []


def test_a_label_goes_to_the_image_it_was_given_for(page: Tab, folder: Path) -> None:
    """Also where the next image is open before the server has answered."""
    page.run("document.querySelector('#list button').click()")
    page.until("document.getElementById('viewer').open")
    first, second = names(page)[:2]
    kinds = ["good" if "/good/" in name else "anomalous" for name in (first, second)]
    other = "anomalous" if kinds[0] == "good" else "good"
    page.run(
        "window.asked = fetch; window.fetch = async (path, ...more) => {"
        "if (path === 'labels') await new Promise((done) => setTimeout(done, 400));"
        "return asked(path, ...more); }"
    )
    for key in (other[0], kinds[0][0], other[0]):  # one after the other, the last one counts
        press(page, key, ord(key.upper()))
    press(page, "ArrowRight", 39)
    page.until(f"document.getElementById('viewer-title').textContent === {second!r}")
    chip = "document.querySelector('#list li:nth-child({}) .chip:last-child').textContent"
    page.until(f"{chip.format(1)} === 'corrected: {other}'")
    page.until("document.getElementById('facts').textContent.includes('1 label corrected')")
    assert read_labels(folder / "labels.csv") == {first: other == "anomalous"}
    assert page.run(chip.format(2)) == f"label: {kinds[1]}"
    assert page.run("[...document.querySelectorAll('#viewer-facts .chip')].at(-1).textContent") == (
        f"label: {kinds[1]}"
    )
    assert page.run("document.getElementById('label-state').textContent") == ""
    # taken back elsewhere: a page that shows the old label says so, and shows the new one
    press(page, "ArrowLeft", 37)
    page.until(f"document.getElementById('viewer-title').textContent === {first!r}")
    write_labels({}, folder / "labels.csv")
    press(page, "u", 85)
    page.until("document.getElementById('label-state').textContent.includes('by another page')")
    page.until(f"{chip.format(1)} === 'label: {kinds[0]}'")
    assert all("409" in line for line in page.said)


SEEN = """
(id => {{
  const {{ top, bottom, left }} = document.getElementById(id).getBoundingClientRect();
  return 0 <= top && top < bottom && bottom <= innerHeight
    && document.elementFromPoint(left + 9, (top + bottom) / 2).id === id;
}})({!r})
"""


def test_what_went_wrong_is_said_where_it_is_seen(page: Tab) -> None:
    """In the viewer, not behind it; and on a page that is scrolled down."""
    page.size(390, 400)
    page.run("document.querySelector('#list button').click()")
    page.until("document.getElementById('viewer').open")
    refused = 'new Response(\'{"error": "the project ran again"}\', { status: 409 })'
    page.run(
        "window.asked = fetch; window.fetch = async (path, ...more) =>"
        f"path.startsWith('images') ? {refused} : asked(path, ...more)"
    )
    text = "document.getElementById({!r}).textContent"
    press(page, "ArrowRight", 39)
    page.until(f"{text.format('viewer-error')} === 'the project ran again'")
    page.until(SEEN.format("viewer-error"))
    assert page.run(text.format("notice")) == ""
    press(page, "Escape", 27)
    page.until("!document.getElementById('viewer').open")
    page.run("scrollTo(0, document.body.scrollHeight)")
    choose(page, "decision", "normal")
    page.until(f"{text.format('notice')} === 'the project ran again'")
    page.until(SEEN.format("notice"))
    assert page.said == []


def test_a_dropped_image_is_judged(page: Tab) -> None:
    page.run(DROP)
    page.until("document.getElementById('drop-state').textContent.startsWith('2 images judged')")
    cards = page.run("[...document.querySelectorAll('#drop-list li')].map((one) => one.innerText)")
    assert "not a readable image" in cards[0]
    assert cards[1].startswith("<b>dropped.webp")
    assert "threshold" in cards[1]
    page.until("document.querySelector('#drop-list img').naturalWidth > 0")
    alt = page.run("document.querySelector('#drop-list img').alt")
    assert alt == "Overlay of <b>dropped.webp"
    assert page.said == []


@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_is_cut_off(page: Tab, width: int) -> None:
    page.size(width, 844)
    page.run("document.getElementById('category').add(new Option('x'.repeat(200)))")
    assert page.run("document.documentElement.scrollWidth") == width
    table = "((one) => one.scrollWidth - one.clientWidth)(document.querySelector('.scroll'))"
    assert page.run(table) <= 0
    assert page.run("document.querySelector('.scroll').tabIndex") == 0, "where letters are large"
    page.run("document.querySelector('#list button').click()")
    page.until("document.getElementById('viewer').open")
    room = "((one) => one.scrollWidth - one.clientWidth)(document.getElementById('viewer'))"
    assert page.run(room) <= 0


def test_everything_is_named_and_readable(page: Tab) -> None:
    choose(page, "category", "weave")
    page.until("!document.getElementById('threshold-box').hidden")
    seen = [page.nameless()]
    for scheme in ("dark", "light"):
        page.prefer(scheme)
        seen.append(page.pale())
    page.run("document.querySelector('#list button').click()")
    page.until("document.getElementById('viewer').open")
    assert [*seen, page.nameless()] == [[]] * 4
    assert page.narrow() == []
    assert page.frames() >= 3
    buttons = "[...document.querySelectorAll('#styles button, #labels button')]"
    stated = page.run(f"{buttons}.map((one) => one.ariaPressed)")
    assert stated == ["false", "true", *["false"] * 4, "true"], "the data set's label holds"


def heard(page: Tab, role: str) -> list[tuple[str, str]]:
    """Name and description of all that a screen reader finds of a role."""
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    found = [one for one in nodes if not one["ignored"] and one["role"]["value"] == role]
    none = {"value": ""}
    return [
        (one.get("name", none)["value"], one.get("description", none)["value"]) for one in found
    ]


def test_a_screen_reader_hears_what_is_seen(page: Tab) -> None:
    """Names in one piece, numbers with what they are, states as they are."""
    path = names(page)[0]
    assert any(
        re.fullmatch(rf"{path}, score \d\.\d{{4}}, (normal|anomalous), label: \w+", name)
        for name, _ in heard(page, "button")
    )
    assert {"New images, judged", "Regions"}.isdisjoint(name for name, _ in heard(page, "list"))
    choose(page, "category", "weave")
    page.until("!document.getElementById('threshold-box').hidden")
    page.until("document.getElementById('threshold-category').textContent === 'weave'")
    assert [name for name, _ in heard(page, "slider")] == ["Threshold of weave"]
    page.run("document.querySelector('#list button').click()")
    page.until("document.getElementById('viewer').open")
    ((name, description),) = heard(page, "dialog")
    assert name == names(page)[0]
    assert re.match(r"(normal|anomalous), label: \w+, score \d\.\d+, threshold \d", description)


def test_what_changes_is_said_once(page: Tab) -> None:
    """A status that kept its words would be said again whenever the dialog closes."""
    assert page.run("document.querySelectorAll('[role=status]').length") == 2
    told = "document.getElementById('told').textContent"
    assert page.run(told) == "", "nothing is said before the page's title"
    choose(page, "category", "weave")
    page.until(f"{told} === '1 to 12 of 12 images'")
    choose(page, "threshold", "9")
    page.until(f"{told}.startsWith('0 of 12 called anomalous')")
    page.until(f"{told} === ''")
    page.run("document.getElementById('threshold-reset').click()")
    page.until("document.activeElement.id === 'threshold'")
    page.until(f"!['', '0'].includes({told}.slice(0, 1))")
    page.until("document.querySelectorAll('#list li').length === 12")
    page.run("document.querySelector('#list button').click()")
    page.until("document.getElementById('viewer').open")
    inside = "document.getElementById('viewer-told').textContent"
    press(page, "ArrowRight", 39)
    page.until(f"{inside}.startsWith({names(page)[1]!r} + ', ')")
    press(page, "w", 87)
    page.until(f"/^\\d+ region|^no patch/.test({inside})")
    assert page.run("document.querySelector('#boxes').ariaHidden") == "true", "numbers alone"
    page.until(f"{inside} === ''")
    press(page, "u", 85)  # a key says no button's name
    page.until(f"/^(good|anomalous), as the data set says$/.test({inside})")
    press(page, "ArrowLeft", 37)
    page.until(f"{inside}.startsWith({names(page)[0]!r} + ', ')")
    press(page, "ArrowLeft", 37)
    page.until(f"{inside} === 'this is the first image'")
    assert page.said == []


def test_a_slider_on_its_way_says_no_counts(page: Tab) -> None:
    """It says its own value; the counts of each place would follow for seconds."""
    choose(page, "category", "weave")
    page.until("document.getElementById('threshold-category').textContent === 'weave'")
    page.until("document.getElementById('told').textContent === ''")
    page.run(
        "window.heard = []; new MutationObserver(() => heard.push(document.getElementById('told')"
        ".textContent)).observe(document.getElementById('told'), { childList: true })"
    )
    page.run(
        "(async () => { const one = document.getElementById('threshold');"
        " for (let n = 0; n < 6; n += 1) { one.value = Number(one.min) + n * 50 * Number(one.step);"
        " one.dispatchEvent(new Event('input', { bubbles: true }));"
        " await new Promise((done) => setTimeout(done, 150)); } })()"
    )
    page.until("heard.some((text) => text.includes('called anomalous'))")
    assert len([text for text in page.run("heard") if text]) <= 2


def test_a_hundred_new_images_are_not_counted_aloud_one_by_one(page: Tab) -> None:
    page.run(
        "window.heard = []; new MutationObserver(() => heard.push(document.getElementById('told')"
        ".textContent)).observe(document.getElementById('told'), { childList: true })"
    )
    files = 'files.items.add(new File(["no image"], "broken.png"));'
    page.run(DROP.replace(files, files * 8))
    page.until("document.getElementById('drop-state').textContent.startsWith('9 images judged')")
    said = [str(text) for text in page.run("heard") if text]
    assert said[0] == "judging 1 of 9"
    assert said[-1].startswith("9 images judged")
    assert len(said) < 5, said


def test_an_image_without_a_map_is_named_as_what_is_shown(page: Tab) -> None:
    """Overlay was pressed, and the picture called one, where the image itself was shown."""
    page.run(
        "window.asked = fetch; window.fetch = async (path, ...more) => {"
        "const answer = await asked(path, ...more);"
        "if (!/^images\\/\\d/.test(path)) return answer;"
        "return new Response(JSON.stringify({ ...(await answer.json()), has_map: false })); }"
    )
    page.run("document.querySelector('#list button').click()")
    page.until("document.getElementById('viewer').open")
    pressed = "document.querySelector('#styles [aria-pressed=true]').textContent"
    alt = "document.getElementById('viewer-picture').alt"
    assert (page.run(pressed), page.run(alt)) == ("Image", f"{names(page)[0]}: image")
    page.run("window.fetch = asked")  # the next one has a map: what was chosen holds
    press(page, "ArrowRight", 39)
    page.until(f"{alt} === {names(page)[1] + ': overlay'!r}")
    assert page.run(pressed) == "Overlay"


def test_forced_colours_show_which_button_is_pressed(page: Tab) -> None:
    page.run("document.querySelector('#list button').click()")
    page.until("document.getElementById('viewer').open")
    page.call("Emulation.setEmulatedMedia", features=[{"name": "forced-colors", "value": "active"}])
    grounds = page.run(
        "[...document.querySelectorAll('#styles button')]"
        ".map((one) => [one.ariaPressed, getComputedStyle(one).backgroundColor])"
    )
    page.prefer("light")
    (pressed,) = [ground for state, ground in grounds if state == "true"]
    assert pressed not in [ground for state, ground in grounds if state == "false"]


def test_large_letters_are_large_and_cut_nothing_off(page: Tab, address: str) -> None:
    page.size(375, 800)
    page.letters(32)
    try:
        page.open(address)
        page.until("document.body?.dataset.ready === 'true'")
        assert page.run("getComputedStyle(document.body).fontSize") == "32px"
        assert page.run("document.documentElement.scrollWidth") == 375
        cards = "[...document.querySelectorAll('#list .card')]"
        assert page.run(f"{cards}.every((one) => one.scrollWidth <= one.clientWidth + 1)")
        page.run("document.querySelector('#list button').click()")
        page.until("document.getElementById('viewer').open")
        head = "document.querySelector('.viewer-head')"
        assert page.run(f"{head}.scrollWidth - {head}.clientWidth") <= 0
    finally:
        page.letters(16)


def test_focus_on_the_hidden_choice_of_files_shows_at_its_button_alone(page: Tab) -> None:
    page.run("document.getElementById('files').focus({ focusVisible: true })")
    ringed = "one => getComputedStyle(one).outlineStyle === 'solid'"
    inside = f"[...document.querySelectorAll('#drop *')].filter({ringed})"
    assert page.run(f"{inside}.map((one) => one.textContent)") == ["Choose images", ""]


def test_the_description_is_listed(page: Tab, address: str) -> None:
    page.open(f"{address}docs")
    page.until("document.querySelectorAll('#routes dt').length > 8")
    assert "POST /predict" in page.run("document.body.innerText")
    assert page.said == []


def test_a_browser_brings_the_token_by_a_form(
    tab: Tab, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunSite, "load", lambda site: None)
    with running(folder, Access("0.0.0.0", TOKEN)) as place:
        for token in ("wrong", TOKEN):
            tab.open(place)
            assert tab.run("location.pathname") == "/login"
            field = "document.getElementById('token')"
            assert tab.run(f"{field}.ariaInvalid") is None
            # a screen reader would read the error before there is one: hidden, it still describes
            described = [words for name, words in heard(tab, "textbox") if name.startswith("Token")]
            assert described == [""]
            tab.run(f"{field}.value = {token!r}; {field}.form.requestSubmit()")
            if token == "wrong":
                tab.until("location.search === '?wrong'")
                tab.until("document.getElementById('wrong')?.hidden === false")
                tab.until(f"{field}.ariaInvalid === 'true'")
                assert [words for _, words in heard(tab, "textbox")] == ["This is not the token."]
        tab.until("location.pathname === '/' && document.body?.dataset.ready === 'true'")
        assert tab.run("document.cookie") == ""  # no script reads it
