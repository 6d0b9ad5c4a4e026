"""Which images are asked for, where their pictures go, and what lines say of them."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fade.errors import DataError, ParameterError
from pipeline.artefacts.csv_text import unmarked
from pipeline.inference.output import check_picture_file, find_images, score_line, write_predictions
from pipeline.inference.pictures import open_picture
from pipeline.inference.prediction import Prediction
from pipeline.inference.stream import encoded

LONG = "n" * 251


def lay(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path, "PNG")


def prediction(name: str) -> Prediction:
    return Prediction(
        name, "a", 0.5, 0.4, "anomalous", np.zeros((2, 2), np.uint8), 7, "training", 3, "", (4, 4),
        Image.new("RGB", (4, 4)),
    )  # fmt: skip


def test_files_folders_and_globs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lay(*map(Path, ("d/a.png", "d/e/b.JPG", "d/.c.png", "d/f.txt", "g.png")))
    (tmp_path / "d" / "gone.png").symlink_to("nowhere")
    found = ["d/a.png", "d/e/b.JPG", "d/gone.png"]  # what is wrong with it shows when it is read
    assert find_images(["d"]) == find_images(["d/", "d/a.png"]) == found
    assert find_images(["*.png", "d/*.txt", "gone/../g.png"][:2]) == ["g.png", "d/f.txt"]
    lay(Path("d/h.avif.png"))
    Path("d/h.avif.png").rename("d/h.avif")
    others: list[str] = []
    assert find_images(["d"], None, others) == [*found, "d/h.avif"]
    assert others == ["d/.c.png", "d/f.txt"]
    assert find_images(["d/gone.png"]) == ["d/gone.png"]
    for name in ("none.png", "*.gif", "n" * 300, "n/" * 3000, "e*"):
        with pytest.raises(DataError, match="leads to no image"):
            find_images(["d", name])
    with pytest.raises(ParameterError, match="name is empty"):
        find_images(["d", ""])


def test_folders_behind_links_are_looked_into_and_hidden_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lay(
        *map(
            Path,
            ("d/monday/a.png", "camera/b.png", "camera/ground_truth/c.png", "camera/good/c.png"),
        ),
        *map(Path, ("d/.trash/e.png", "d/monday/.trash/f/g.png", "d/.days/h.png")),
    )
    links = {"latest": "monday", "camera": "../camera", "again": "../camera"}
    for name, to in (links | {"here": ".", "up": "..", "tuesday": ".days"}).items():
        Path("d", name).symlink_to(to)
    others: list[str] = []
    found = ["d/again/b.png", "d/again/good/c.png", "d/monday/a.png", "d/tuesday/h.png"]
    assert find_images(["d"], None, others) == found
    assert [one for one in others if "ground_truth" in one] == ["d/again/ground_truth/c.png"]
    assert {"d/.trash/e.png", "d/monday/.trash/f/g.png"} < set(others)
    assert find_images(["d/.trash"]) == ["d/.trash/e.png"]  # who names them gets them


def test_a_hidden_link_hides_no_folder_that_another_path_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lay(Path("d/a.png"), Path("d/.old/x"), Path("camera/sub/b.png"))
    for name in (".camera", ".old/camera", "camera", "line"):
        Path("d", name).symlink_to(Path("camera").absolute())
    Path("camera", "here").symlink_to(Path("camera").absolute())
    others: list[str] = []
    assert find_images(["d"], None, others) == ["d/a.png", "d/camera/sub/b.png"]
    assert others == ["d/.camera/sub/b.png", "d/.old/x"]


def test_masks_of_a_data_set_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = [
        "can/test_public/bad/4.png", "cap/NG/AK/7.jpg", "cap/NG/AK/8.png", "cap/OK/9.jpg",
        "cap/OK/9.png", "nut/test/bad/1.png", "part/Images/2.png", "part/ground_truth/3.png",
        "strip/test/5.png", "strip/test/6_GT.png",
    ]  # fmt: skip
    masks = [
        "can/test_public/ground_truth/bad/4_mask.png", "cap/NG/AK/7.png",
        "nut/ground_truth/bad/1_mask.png", "part/Masks/2.png", "strip/test/5_GT.png",
    ]  # fmt: skip
    lay(Path("can/test_public/good/0.png"))
    shown.insert(1, "can/test_public/good/0.png")
    lay(*map(Path, shown + masks))
    for root in (".", "./", str(tmp_path)):
        others: list[str] = []
        assert [os.path.relpath(one) for one in find_images([root], None, others)] == shown
        assert [os.path.relpath(one) for one in others] == masks
    assert find_images(["nut/ground_truth"]) == masks[2:3]  # who names them gets them
    monkeypatch.chdir("cap/NG")
    assert find_images(["AK"]) == ["AK/7.jpg", "AK/8.png"]


def test_own_pictures_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However they are named; images beside them are not."""
    monkeypatch.chdir(tmp_path)
    lay(*map(Path, ("d/a.png", "d/out/b.png", "d/out/masks/c/d.png")))
    mine = ["d/a.png", "d/out/b.png", "d/out/masks/c/d.png"]
    lay(*(Path("d/out", kind, "a.png") for kind in ("heatmaps", "overlays", "masks")))
    (tmp_path / "link").symlink_to("d/out")
    for out in (Path("d/out"), Path("d/../link"), tmp_path / "d" / "out"):
        assert find_images(["d"], out) == find_images(["d/**/*.png"], out) == mine
    assert len(find_images(["d"], Path("elsewhere"))) == 6
    with pytest.raises(DataError, match="written into d/out: name another --out"):
        find_images(["d/out/masks/a.png"], Path("d/out"))


@pytest.mark.skipif(os.name == "nt", reason="pipes and links of POSIX")
def test_what_is_no_plain_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("nowhere")
    (tmp_path / "c.png").symlink_to("c.png")
    for name, says in (
        ("a.png", "is no plain file"),
        (".", "is no plain file"),
        ("b.png", "is a link to nothing"),
        ("c.png", "is a link to nothing"),
        ("d.png", "No such file"),
        ("n" * 300, "name too long"),
        ("a\0b", "embedded null"),
    ):
        with pytest.raises(DataError, match=says):
            open_picture(tmp_path / name, 0, False)


@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_an_open_picture_is_what_its_file_is(
    mode: str, suffix: str, turn: bool, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, 7, 4), np.uint8)
    orientation = Image.Exif()
    orientation[0x0112] = 6
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(values).convert(mode).save(path, exif=orientation)
    _, expected = open_picture(path, 0, turn)
    with Image.open(path) as opened:
        name, found = open_picture(opened, 3, turn)
        assert open_picture(opened, 3, turn)[1].tobytes() == found.tobytes()
    assert (name, found.mode, found.size) == ("image 3", "RGB", (5, 7) if turn else (7, 5))
    assert found.tobytes() == expected.tobytes()


def test_an_open_file_of_16_bits_is_scaled(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.arange(0, 65536, 257).astype(np.uint16).reshape(16, 16)).save(path)
    with Image.open(path) as opened:
        _, found = open_picture(opened, 0, False)
    assert np.asarray(found)[..., 0].ravel().tolist() == list(range(256))


def test_frames_and_pictures_in_memory_are_as_they_are(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "a.gif") as opened:
        opened.seek(1)
        assert open_picture(opened, 0, False)[1].getpixel((0, 0)) == (0, 0, 255)
    tagged = Image.new("RGB", (4, 2))
    tagged.getexif()[0x0112] = 6
    assert open_picture(tagged, 0, True)[1].size == (2, 4)
    assert open_picture(tagged, 0, False)[1].size == (4, 2)


def test_transparency_of_a_callers_picture_stays() -> None:
    picture = Image.new("P", (2, 2))
    picture.info["transparency"] = b"\0"
    open_picture(picture, 0, False)
    assert picture.info["transparency"] == b"\0"


@pytest.mark.parametrize("mode", ["I", "I;16", "I;16B", "F"])
def test_an_open_picture_of_more_than_8_bits_is_refused(mode: str) -> None:
    with pytest.raises(DataError, match=f"image 2 is a PIL image of mode {mode}, .* its file"):
        open_picture(Image.new(mode, (4, 4), 40000), 2, False)


def test_an_open_picture_that_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with Image.open(path) as opened, pytest.raises(DataError, match="image 0 cannot be decoded"):
        open_picture(opened, 0, False)


@pytest.mark.parametrize(
    "one", ["a.png", Path("a.png"), Image.new("RGB", (4, 4)), np.zeros((4, 4, 3), np.uint8)]
)
def test_one_image_without_a_list_is_refused(one: Any) -> None:
    with pytest.raises(DataError, match=r"^images is one .*: give several, or one in a list"):
        next(encoded(one, 1, lambda image, number: image, list, None))


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no /dev/fd")
def test_a_pipe_of_the_shell_is_read(tmp_path: Path) -> None:
    lay(tmp_path / "a.png")
    there, here = os.pipe()
    os.write(here, (tmp_path / "a.png").read_bytes())
    os.close(here)
    name, picture = open_picture(f"/dev/fd/{there}", 0, False)
    os.close(there)
    assert (name, picture.size) == (f"/dev/fd/{there}", (4, 4))


def test_pictures_have_names_that_fit(tmp_path: Path) -> None:
    names = [
        "a.png",
        "b/a.png",
        "c/A.jpg",
        f"{LONG}.png",
        f"b/{LONG}.png",
        f"c/{LONG}.png",
        "x" * 255,
    ]
    assert len(list(write_predictions(map(prediction, names), tmp_path))) == len(names)
    for kind in ("heatmaps", "overlays", "masks"):
        found = {path.name for path in (tmp_path / kind).iterdir()}
        assert len({name.lower() for name in found}) == len(names)
        assert {"a.png", "a-2.png", "A-3.png", f"{LONG}.png"} < found


def test_names_in_tables_are_no_formulas(tmp_path: Path) -> None:
    """Whatever a picture is called; numbers stay numbers."""
    names = ["=1+1.png", "+a.png", "-5.png", "@x.png", "\tb.png", "\rc.png", "'=q.png", "plain.png"]
    rows = [replace(prediction(name), score=-0.5) for name in names]
    list(write_predictions(rows, tmp_path))
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["image"] for row in table] == [
        "'=1+1.png", "'+a.png", "'-5.png", "'@x.png", "'\tb.png", "'\rc.png", "''=q.png", "plain.png"
    ]  # fmt: skip
    assert [unmarked(row["image"]) for row in table] == names
    assert {row["score"] for row in table} == {"-0.5"}
    lines = (tmp_path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["image"] for line in lines] == names


def test_files_for_pictures(tmp_path: Path) -> None:
    for name, says in (("x", "x.png"), ("x.txt", "no image's suffix"), ("", "is a folder")):
        with pytest.raises(ParameterError, match=says):
            check_picture_file(tmp_path / name)
    check_picture_file(tmp_path / "new" / "why.PNG")
    assert (tmp_path / "new").is_dir()


def test_lines_steer_no_terminal() -> None:
    line = score_line(prediction("a\x1b[2J\nb\x9b\u202e\u2028\udce9 é"))
    assert line.startswith(r"a\x1b[2J\nb\x9b\u202e\u2028\udce9 é: anomalous")
