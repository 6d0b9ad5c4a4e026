"""Images of a folder that is watched are judged once each, whatever happens meanwhile."""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from fade.errors import DataError, ParameterError, StoreError, refusal
from pipeline.inference.journal import LINES, TABLE, Journal, Key
from pipeline.inference.output import COLUMNS
from pipeline.inference.pictures import open_picture
from pipeline.inference.prediction import Prediction
from pipeline.inference.predictor import Predictor
from pipeline.inference.stream import batches, encoded
from pipeline.inference.watch import TRIES, Unread, Watch

Asked = list[str]


def judge(asked: Asked, meanwhile: Callable[[str], None] = lambda name: None) -> Predictor:
    """What stands for a predictor where only the order of files matters: it reads each one."""

    def stream(
        names: Iterable[str], category: str, *, problems: list[str], keep: bool
    ) -> Iterator[Prediction]:
        opened = lambda image, number: open_picture(image, number, False)  # noqa: E731
        for name, picture, score in encoded(
            names, 2, opened, lambda p: [q.width / 100 for q in p], problems
        ):
            asked.append(os.path.basename(name))
            meanwhile(name)
            yield Prediction(
                name, category, score, 0.05, "anomalous" if score > 0.05 else "normal", None, None,
                "given", 0, "", picture.size,
            )  # fmt: skip

    runtime = SimpleNamespace(runtime=SimpleNamespace(batch_size=2))
    return cast(Predictor, SimpleNamespace(params=runtime, stream=stream))


def lay(path: Path, width: int = 4, modified: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, 4)).save(path, "PNG")
    if modified:
        os.utime(path, ns=(modified, modified))


def looks(watch: Watch, times: int = 2) -> list[str]:
    """The answers of some looks, as name and decision."""
    return [
        f.problem if isinstance(f, Unread) else f"{os.path.basename(f.name)} {f.decision}"
        for _ in range(times)
        for f in watch.look(print)
    ]


def read(out: Path) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    lines = [json.loads(line) for line in (out / LINES).read_text("utf-8").splitlines()]
    with (out / TABLE).open(newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    assert [line["image"] for line in lines] == [row["image"] for row in rows]
    return lines, rows


def test_a_file_is_judged_when_two_looks_find_it_the_same(tmp_path: Path) -> None:
    new, out, asked = tmp_path / "new", tmp_path / "new" / "out", Asked()
    lay(new / "b.png", 4, 1)
    lay(new / "sub" / "a.png", 9, 2)
    for other in (".c.png", ".sub/d.png", "out/heatmaps/e.png", "f.txt"):
        lay(new / other)
    with Journal(out) as journal:
        watch = Watch(new, judge(asked), "x", journal, out=out)
        assert looks(watch, 1) == []
        assert watch.waiting == 2
        lay(new / "b.png", 6, 5)  # still written: waits for two looks more
        assert looks(watch, 1) == ["a.png anomalous"]
        assert looks(watch, 3) == ["b.png anomalous"]
        lay(new / "b.png", 3, 7)  # another image of the same name
        assert looks(watch) == ["b.png normal"]
    with Journal(out) as journal:  # however the folder is called
        assert looks(Watch(new / ".." / "new", judge(asked), "x", journal, out=out), 3) == []
        assert len(looks(Watch(new, judge(asked), "y", journal, out=out))) == 2
    lines, rows = read(out)
    assert asked == ["a.png", "b.png", "b.png", "a.png", "b.png"]
    assert tuple(rows[0]) == COLUMNS
    assert [row["score"] for row in rows[:3]] == ["0.09", "0.06", "0.03"]
    assert lines[0]["read"] is True
    assert lines[0]["bytes"] == (new / "sub" / "a.png").stat().st_size


def test_folders_behind_links_are_looked_into_each_once(tmp_path: Path) -> None:
    new, out = tmp_path / "new", tmp_path / "out"
    lay(new / "monday" / "a.png", 4, 1)
    lay(tmp_path / "camera" / "b.png", 4, 2)
    links = [("latest", "monday"), (".old", "../camera"), ("camera", "../camera")]
    for name, to in (*links, ("here", "."), ("up", "..")):
        (new / name).symlink_to(to)
    with Journal(out) as journal:
        watch = Watch(new, judge([]), "x", journal, out=out)
        assert looks(watch, 3) == ["a.png normal", "b.png normal"]
    assert [line["image"] for line in read(out)[0]] == [
        str(new / "monday" / "a.png"), str(new / "camera" / "b.png"),
    ]  # fmt: skip


def test_a_look_works_out_no_place_of_an_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over 100,000 files that were judged it would take seconds, and a look is due each second."""
    for number in range(50):
        lay(tmp_path / "new" / f"{number}.png", 4, 1)
    places: list[str] = []
    absolute = os.path.abspath

    def noted(path: str) -> str:
        places.append(path)
        return absolute(path)

    monkeypatch.setattr(os.path, "abspath", noted)
    with Journal(tmp_path / "out") as journal:
        watch = Watch(tmp_path / "new", judge([]), "x", journal, out=tmp_path / "out")
        assert len(looks(watch)) == 50
        places.clear()
        assert looks(watch) == []
    assert len(places) < 10


def test_masks_of_a_data_set_are_not_judged(tmp_path: Path) -> None:
    said: list[str] = []
    for name in ("test/bad/1.png", "ground_truth/bad/1_mask.png", "NG/2.jpg", "NG/2.png"):
        lay(tmp_path / "new" / name, 4, 1)
    with Journal(tmp_path / "out") as journal:
        watch = Watch(tmp_path / "new", judge([]), "x", journal, out=tmp_path / "out")
        judged = [one for _ in range(3) for one in watch.look(said.append)]
    names = sorted(os.path.basename(one.name) for one in judged if isinstance(one, Prediction))
    assert (names, len(judged), watch.waiting) == (["1.png", "2.jpg"], 2, 0)
    assert said == ["not looked at: 2 masks of a data set, and any that follow"]


def test_masks_below_the_current_folder_are_not_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(tmp_path / "1.png")
    lay(tmp_path / "1_GT.png")
    monkeypatch.chdir(tmp_path)
    with Journal(Path("out")) as journal:
        assert looks(Watch(Path(), judge([]), "x", journal, out=Path("out"))) == ["1.png normal"]


def test_what_changes_while_it_is_read_is_not_noted(tmp_path: Path) -> None:
    new, out = tmp_path / "new", tmp_path / "out"
    lay(new / "a.png", 4, 1)
    changes = iter([lambda name: lay(Path(name), 8, 2), os.remove])
    with Journal(out) as journal:
        predictor = judge([], lambda name: next(changes, lambda name: None)(name))
        watch = Watch(new, predictor, "x", journal, out=out)
        assert looks(watch, 3) == []
        assert looks(watch, 3) == []  # gone
        assert watch.waiting == 0
        lay(new / "a.png", 4, 3)
        assert looks(watch) == ["a.png normal"]
    assert len(read(out)[0]) == 1


def test_broken_files_are_tried_again_and_named_once(tmp_path: Path) -> None:
    new, out = tmp_path / "new", tmp_path / "out"
    lay(new / "a.png", 4, 1)
    whole = (new / "a.png").read_bytes()
    (new / "a.png").write_bytes(whole[:-20])
    (new / "gone.png").symlink_to("nowhere")
    lay(new / "good.png", 4, 1)
    with Journal(out) as journal:
        watch = Watch(new, judge([]), "x", journal, out=out)
        assert looks(watch, TRIES) == ["good.png normal"]
        named = sorted(looks(watch, 1))
        assert looks(watch, 2) == []
        assert len(named) == 2
        assert "a.png" in named[0]
        assert "link to nothing" in named[1]
    with Journal(out) as journal:
        watch = Watch(new, judge([]), "x", journal, out=out)
        assert looks(watch, TRIES + 2) == []
        (new / "a.png").write_bytes(whole)  # the copy went on
        assert looks(watch) == ["a.png normal"]
    lines, rows = read(out)
    assert [line["read"] for line in lines].count(False) == 2
    assert {row["score"] for row in rows if row["remark"]} == {""}
    assert named[0] in [row["remark"] for row in rows]


def test_a_broken_file_that_is_replaced_again_and_again_is_held_once(tmp_path: Path) -> None:
    """As a camera with a fault would for weeks."""
    new, out = tmp_path / "new", tmp_path / "out"
    new.mkdir()
    with Journal(out) as journal:
        watch = Watch(new, judge([]), "x", journal, out=out)
        for number in range(6):
            (new / "live.png").write_bytes(b"no image" * (number + 1))
            assert looks(watch, 3) == []
        assert len(watch._tries) == 1


@pytest.mark.skipif(os.name == "nt", reason="bytes of POSIX")
def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    new, out = tmp_path / "new", tmp_path / "out"
    lay(new / "a.png")
    os.rename(new / "a.png", os.fsencode(new) + b"/\xff\n=.png")
    for answers in (1, 0):
        with Journal(out) as journal:
            named = looks(Watch(new, judge([]), "x", journal, out=out), 3)
        assert len(named) == answers
    assert read(out)[0][0]["image"].endswith("\\xff\n=.png")


def test_wherever_a_kill_cuts_the_files_they_become_the_same(tmp_path: Path) -> None:
    """Each length that a last write may have left of the lines, and of the table behind them."""
    new, out = tmp_path / "new", tmp_path / "out"
    for number, name in enumerate(("a.png", '"b,\nc.png', "=d.png"), start=1):
        lay(new / name, number + 3, number)
    with Journal(out) as journal:
        assert len(looks(Watch(new, judge([]), "x", journal, out=out))) == 3
    lines, table = ((out / name).read_bytes() for name in (LINES, TABLE))
    ends = [0, *(at + 1 for at, byte in enumerate(lines) if byte == 10)]
    heads = [table.index(b"\n") + 1]
    for _ in range(3):
        heads.append(table.index(b"\n", table.index(b",x,", heads[-1])) + 1)
    cuts = [(ends[k] + more, heads[k]) for k in range(3) for more in (0, 1, 90)]
    cuts += [(ends[k + 1], heads[k] + more) for k in range(3) for more in (0, 1, 9)]
    cuts += [(0, 0), (0, 5), (len(lines), 0), (len(lines), len(table))]
    for kept, rows in cuts:
        (out / LINES).write_bytes(lines[:kept])
        (out / TABLE).write_bytes(table[:rows])
        asked = Asked()
        with Journal(out) as journal:
            looks(Watch(new, judge(asked), "x", journal, out=out))
        assert ((out / LINES).read_bytes(), (out / TABLE).read_bytes()) == (lines, table)
        assert len(asked) == 3 - sum(end <= kept for end in ends[1:])


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be removed")
@pytest.mark.parametrize("name", ["watched.jsonl", "watched.csv"])
def test_a_journal_that_is_moved_or_removed_is_said(name: str, tmp_path: Path) -> None:
    """Predictions would go where nobody looks, or where nobody can."""
    lay(tmp_path / "new" / "a.png")
    with Journal(tmp_path / "out") as journal:
        watch = Watch(tmp_path / "new", judge([]), "x", journal, out=tmp_path / "out")
        (tmp_path / "out" / name).unlink()
        with pytest.raises(StoreError, match=f"{name} was moved or removed meanwhile"):
            looks(watch)
    with Journal(tmp_path / "out") as journal:  # begun again, or with the row that was lacking
        watch = Watch(tmp_path / "new", judge([]), "x", journal, out=tmp_path / "out")
        looks(watch)
    assert list(map(len, read(tmp_path / "out"))) == [1, 1]


def noted(name: str, **pictures: str) -> tuple[Key, Prediction]:
    prediction = Prediction(
        name, "x", 0.5, 0.75, "normal", None, None, "given", 0, "", (4, 4), pictures=pictures
    )
    return (f"/{name}", 3, 7, "x"), prediction


def test_what_a_journal_holds_is_known_when_it_is_opened_again(tmp_path: Path) -> None:
    first, second = noted("a.png", heatmap="maps/Odd.Name.PNG"), noted("b.png")
    with Journal(tmp_path) as journal:
        journal.add(*first)
        journal.add_problem(second[0], "b.png", "is no image")
    lines, rows = read(tmp_path)
    assert [(line["file"], line["bytes"], line["modified_ns"]) for line in lines] == [
        ("/a.png", 3, 7), ("/b.png", 3, 7),
    ]  # fmt: skip
    assert [(line["category"], line["read"]) for line in lines] == [("x", True), ("x", False)]
    assert [row["remark"] for row in rows] == ["", "is no image"]
    with Journal(tmp_path) as journal:
        assert len(journal) == 2
        assert first[0] in journal
        assert ("/a.png", 3, 8, "x") not in journal
        assert journal.pictures.take("odd.name") == "odd.name-2.png"


def test_a_row_that_is_written_piece_by_piece_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    with Journal(tmp_path) as journal:
        monkeypatch.setattr(os, "write", lambda number, data: write(number, data[:3]))
        journal.add(*noted("a.png"))
        assert read(tmp_path)[0][0]["image"] == "a.png"

        def full(number: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left") as caught:
            journal.add(*noted("b.png"))
        assert caught.value.filename == str(tmp_path / LINES)


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be moved")
def test_a_journal_with_another_file_in_its_place_is_said(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        (tmp_path / LINES).rename(tmp_path / "old")
        (tmp_path / LINES).touch()
        with pytest.raises(StoreError, match="was moved or removed meanwhile"):
            journal.add(*noted("a.png"))


@pytest.mark.parametrize("name", [LINES, TABLE])
def test_a_journal_that_another_program_cuts_is_said(name: str, tmp_path: Path) -> None:
    """As logrotate does with copytruncate: what followed would be a journal that no start takes."""
    with Journal(tmp_path) as journal:
        journal.add(*noted("a.png"))
        os.truncate(tmp_path / name, 0)
        with pytest.raises(StoreError, match=rf"{name} was cut or edited meanwhile: start this"):
            journal.add_problem(noted("b.png")[0], "b.png", "is no image")
        os.truncate(tmp_path / LINES, 0)
        os.truncate(tmp_path / TABLE, 0)
    with Journal(tmp_path) as journal:
        assert len(journal) == 0
        journal.add(*noted("a.png"))
    assert list(map(len, read(tmp_path))) == [1, 1]


@pytest.mark.parametrize(
    "wrong", [{"file": 3}, {"category": None}, {"heatmap": 3}, {"bytes": "4"}, "nothing", 3]
)
def test_lines_of_another_shape_are_refused(wrong: Any, tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.add(*noted("a.png"))
    line = json.loads((tmp_path / LINES).read_text())
    other = line | wrong if isinstance(wrong, dict) else wrong
    (tmp_path / LINES).write_text(json.dumps(line) + "\n" + json.dumps(other) + "\n")
    with pytest.raises(StoreError, match="line 2: "):
        Journal(tmp_path)


def test_a_line_nested_too_deep_is_refused(tmp_path: Path) -> None:
    (tmp_path / LINES).write_text("[" * 99_999 + "\n")
    with pytest.raises(StoreError, match="line 1: "):
        Journal(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="a pipe of POSIX")
def test_a_pipe_is_no_journal(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / TABLE)
    with pytest.raises(OSError, match=r".") as caught:
        Journal(tmp_path)
    assert caught.value.filename == str(tmp_path / TABLE)
    assert refusal(caught.value) == "it is no plain file"


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    new, out = tmp_path / "new", tmp_path / "out"
    lay(new / "a.png")
    with Journal(out) as journal:
        looks(Watch(new, judge([]), "x", journal, out=out))
        with pytest.raises(StoreError, match="another `fade predict --watch` writes into"):
            Journal(out)
    lines, table = ((out / name).read_bytes() for name in (LINES, TABLE))
    for name, content, says in (
        (TABLE, table.replace(b"normal", b"Normal"), "is not what"),
        (TABLE, table + b"more\n", "holds more than"),
        (LINES, b"{}\n" + lines, "line 1: `fade predict --watch` wrote no such line"),
        (LINES, lines + b"no JSON\n", "line 2: "),
    ):
        (out / LINES).write_bytes(lines)
        (out / TABLE).write_bytes(table)
        (out / name).write_bytes(content)
        with pytest.raises(StoreError, match=says):
            Journal(out)
        assert (out / name).read_bytes() == content
    with pytest.raises(DataError, match="is no folder"):
        Watch(new / "a.png", judge([]), "x", cast(Journal, None), out=out)


def test_a_folder_that_goes_is_said_once_and_waited_for(tmp_path: Path) -> None:
    new, out = tmp_path / "new", tmp_path / "out"
    lay(new / "a.png")
    said: list[str] = []
    with Journal(out) as journal:
        watch = Watch(new, judge([]), "x", journal, out=out)
        new.rename(tmp_path / "away")
        assert [list(watch.look(said.append)) for _ in range(3)] == [[]] * 3
        assert len(said) == 1
        assert "cannot be listed (No such file or directory); its images wait" in said[0]
        (tmp_path / "away").rename(new)
        assert looks(watch) == ["a.png normal"]


def test_batches_take_no_more_than_they_give() -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            taken.append(len(taken))
            yield taken[-1]

    pieces = batches(endless(), 3)
    assert (next(pieces), taken) == ([0, 1, 2], [0, 1, 2])
    assert next(pieces) == [3, 4, 5]
    with pytest.raises(ParameterError, match="batch_size is 0"):
        next(batches([1], 0))


def test_what_came_before_an_error_is_given_first() -> None:
    def fails() -> Iterator[int]:
        yield from (1, 2, 3)
        raise OSError("the camera is gone")

    pieces = batches(fails(), 2)
    assert [next(pieces), next(pieces)] == [[1, 2], [3]]
    with pytest.raises(OSError, match="the camera is gone"):
        next(pieces)


def test_broken_images_count_in_a_batch() -> None:
    """A camera that gives nothing else would be asked for ever."""
    taken: list[int] = []

    def endless() -> Iterator[str]:
        while True:
            taken.append(len(taken))
            yield "odd.png" if taken[-1] % 3 else "good.png"

    def opened(image: Any, number: int) -> tuple[str, Image.Image]:
        if image == "odd.png":
            raise DataError(f"{number} is odd")
        return f"{number}", Image.new("RGB", (1, 1))

    problems: list[str] = []
    found = encoded(endless(), 3, opened, lambda pictures: pictures, problems)
    for name in ("0", "3"):
        assert next(found)[0] == name
    assert (len(taken), problems) == (6, ["1 is odd", "2 is odd", "4 is odd", "5 is odd"])


@pytest.mark.parametrize(
    "one", ["a.png", Path("a.png"), Image.new("L", (1, 1)), np.zeros((2, 2, 3))]
)
def test_one_image_is_no_list_of_them(one: Any) -> None:
    with pytest.raises(DataError, match=rf"images is one {type(one).__name__}: give several"):
        next(encoded(one, 2, lambda image, number: ("", image), list, []))


def test_each_answer_is_noted_before_it_is_given_and_the_rest_waits_when_stopped(
    tmp_path: Path,
) -> None:
    new, out, given = tmp_path / "new", tmp_path / "out", list[str]()
    for number in range(5):
        lay(new / f"{number}.png", 4, 1)
    with Journal(out) as journal:
        watch = Watch(new, judge([]), "x", journal, out=out)
        looks(watch, 1)
        for found in watch.look(print, stopped=lambda: bool(given)):
            assert isinstance(found, Prediction)
            given.append(found.name)
            assert [line["image"] for line in read(out)[0]] == given
        assert (len(given), watch.waiting) == (2, 3)
        assert len(looks(watch, 1)) == 3


@pytest.mark.parametrize("wanted", [True, False])
def test_pictures_are_written_where_they_are_wanted(
    wanted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the predictor kept: no answer holds a picture for longer than it is drawn."""
    new, out = tmp_path / "new", tmp_path / "out"
    lay(new / "a.png", 4, 1)
    predictor = judge([])
    plain = predictor.stream

    def stream(*given: Any, keep: bool, **more: Any) -> Iterator[Prediction]:
        assert keep is wanted
        for found in plain(*given, keep=keep, **more):
            yield replace(found, picture=Image.new("RGB", (1, 1)))

    predictor.stream = stream  # type: ignore[method-assign, assignment]
    drawn = {"heatmap": "heatmaps/a.png"}
    monkeypatch.setattr("pipeline.inference.watch.write_pictures", lambda *given: drawn)
    with Journal(out) as journal:
        watch = Watch(new, predictor, "x", journal, out=out, pictures=wanted)
        looks(watch, 1)
        (found,) = watch.look(print)
    assert isinstance(found, Prediction)
    assert (found.pictures, found.picture is None) == ((drawn, True) if wanted else ({}, False))
