"""Readers of data sets: what they find, in which order, and what they refuse."""

import csv
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fade.datasets import dataset_root, iterate_dataset, read_dataset
from fade.datasets.leftovers import Account
from fade.datasets.tree import almost_named
from fade.errors import DataError, ParameterError
from fade.types import DatasetFormat, ImageRecord

GOLDEN = Path(__file__).parents[1] / "golden"
HEADER = ["image", "category", "split", "label", "mask"]
VISA_HEADER = ("object", "split", "label", "image", "mask")


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def write_csv(file: Path, *rows: Sequence[str]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return file


def paths(records: Sequence[ImageRecord]) -> list[str]:
    return [record.path for record in records]


KIND = "a kind of image that is not read"
DEEPER = "in a folder that this format does not look into"


def leftovers(
    format: DatasetFormat, root: Path, categories: Sequence[str] | None = None
) -> dict[tuple[str, str], int]:
    account = Account()
    for record in iterate_dataset(format, root, categories, note=account.note):
        account.use(record)
    return {(left.folder, left.reason): left.count for left in account.leftovers(root)}


def golden_rows(run: str) -> list[tuple[str, str, bool, str]]:
    with (GOLDEN / "runs" / run / "image_scores.csv").open() as stream:
        return [
            (row["classname"], row["anomaly"], row["is_anomaly"] == "1", row["image_name"])
            for row in csv.DictReader(stream)
        ]


@pytest.mark.parametrize(
    ("format", "folder", "run"),
    [
        ("mvtec", "images", "fewshot1_both_seed0"),
        ("folder", "images", "fewshot1_both_seed0"),
        ("visa", "images_visa", "visa_fewshot2_both_seed1"),
    ],
)
def test_official_order_of_test_images(format: DatasetFormat, folder: str, run: str) -> None:
    records = read_dataset(format, GOLDEN / folder, ["weave", "plate"])
    rows = [(r.category, r.defect, r.is_anomaly, r.name) for r in records if r.split == "test"]
    assert rows == golden_rows(run)
    for record in records:
        assert (record.mask is not None) == record.is_anomaly
        assert (GOLDEN / folder / record.path).is_file()
        assert record.mask is None or (GOLDEN / folder / record.mask).is_file()


def test_golden_training_images_come_first_in_their_own_order() -> None:
    weave = read_dataset("mvtec", GOLDEN / "images", ["weave"])
    assert paths(weave[:8]) == [f"weave/train/good/{i:03}.png" for i in range(8)]
    visa = read_dataset("visa", GOLDEN / "images_visa", ["weave"])
    numbers = [Path(r.path).stem for r in visa if r.split == "train"]
    assert numbers == ["0005", "0002", "0003", "0000", "0001", "0006", "0007", "0004"]
    assert [r.split for r in visa] == ["train"] * 8 + ["test"] * 16


def test_categories_are_sorted_unless_given() -> None:
    root = GOLDEN / "images"
    assert [r.category for r in read_dataset("mvtec", root)] == ["plate"] * 24 + ["weave"] * 24
    assert read_dataset("mvtec", root, []) == read_dataset("mvtec", root)
    assert {r.category for r in read_dataset("mvtec", root, ["weave"])} == {"weave"}


@pytest.mark.parametrize("format", ["mvtec", "folder"])
def test_tree_order_masks_and_ignored_files(tmp_path: Path, format: DatasetFormat) -> None:
    touch(
        tmp_path,
        "kühler 2/train/good/b.PNG",
        "kühler 2/train/good/B.jpg",
        "kühler 2/train/good/10.tiff",
        "kühler 2/train/good/9.webp",
        "kühler 2/train/good/notes.txt",
        "kühler 2/train/good/.hidden.png",
        "kühler 2/train/good/Thumbs.db",
        "kühler 2/train/ignored.png",
        "kühler 2/test/good/0.png",
        "kühler 2/test/cut/0.png",
        "kühler 2/test/cut/1.png",
        "kühler 2/test/cut/2.jpeg",
        "kühler 2/test/Zip/x.bmp",
        "kühler 2/ground_truth/cut/0.png",
        "kühler 2/ground_truth/cut/0_mask.TIF",
        "kühler 2/ground_truth/cut/2.PNG",
        "kühler 2/ground_truth/cut/2.txt",
        "kühler 2/ground_truth/good/0.png",
        "license/readme.txt",
        "loose.png",
    )
    records = read_dataset(format, tmp_path)
    assert paths(records) == [
        f"kühler 2/{path}"
        for path in (
            "train/good/10.tiff",
            "train/good/9.webp",
            "train/good/B.jpg",
            "train/good/b.PNG",
            "test/Zip/x.bmp",
            "test/cut/0.png",
            "test/cut/1.png",
            "test/cut/2.jpeg",
            "test/good/0.png",
        )
    ]
    assert [r.mask for r in records[4:]] == [
        None,
        "kühler 2/ground_truth/cut/0_mask.TIF",
        None,
        "kühler 2/ground_truth/cut/2.PNG",
        None,
    ]
    assert records[4] == ImageRecord(
        "kühler 2/test/Zip/x", "kühler 2/test/Zip/x.bmp", "kühler 2", "test", "Zip", True, None
    )


def test_image_that_is_itself_called_mask_keeps_its_mask(tmp_path: Path) -> None:
    touch(tmp_path, "c/test/cut/face_mask.png", "c/ground_truth/cut/face_mask_mask.png")
    assert read_dataset("mvtec", tmp_path)[0].mask == "c/ground_truth/cut/face_mask_mask.png"


def test_masks_that_look_shared_but_are_not(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(f"c/test/cut/{name}.png" for name in ("0", "0_mask", "1_mask", "2", "2_mask")),
        *(f"c/ground_truth/cut/{name}.png" for name in ("0_mask", "0_mask_mask", "1_mask", "2")),
    )
    masks = {
        Path(r.path).stem: Path(r.mask).stem for r in read_dataset("mvtec", tmp_path) if r.mask
    }
    assert masks == {"0": "0_mask", "0_mask": "0_mask_mask", "1_mask": "1_mask", "2": "2"}


@pytest.mark.parametrize(("one", "other"), [("0.png", "0.PNG"), ("0_mask.png", "0_mask.tif")])
def test_two_masks_of_one_kind_are_refused(tmp_path: Path, one: str, other: str) -> None:
    touch(tmp_path, "c/test/cut/0.png", f"c/ground_truth/cut/{one}", f"c/ground_truth/cut/{other}")
    with pytest.raises(DataError, match=rf"{one}.*keep one|{other}.*keep one"):
        read_dataset("mvtec", tmp_path)


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "größe") for form in ("NFC", "NFD"))


@pytest.mark.parametrize("one", [COMPOSED, DECOMPOSED])
@pytest.mark.parametrize(
    "mask", ["ground_truth/{}/0.png", "ground_truth/hole/{}.png", "ground_truth/hole/{}_mask.png"]
)
def test_masks_in_another_unicode_form_are_refused(tmp_path: Path, one: str, mask: str) -> None:
    """They were said to belong to no image, by a name that looked like the image's."""
    other = DECOMPOSED if one == COMPOSED else COMPOSED
    kind, name = ("hole", one) if "hole" in mask else (one, "0")
    root = touch(
        tmp_path, "c/train/good/0.png", f"c/test/{kind}/{name}.png", f"c/{mask.format(other)}"
    )
    with pytest.raises(DataError, match="another Unicode form") as caught:
        read_dataset("mvtec", root)
    assert other.encode("ascii", "backslashreplace").decode() in str(caught.value)


def test_names_in_another_unicode_form_are_named(tmp_path: Path) -> None:
    root = touch(tmp_path, f"{COMPOSED}/train/good/{DECOMPOSED}.png")
    with pytest.raises(DataError, match=r"another Unicode form is 'gr\\xf6\\xdfe'"):
        read_dataset("mvtec", root, [DECOMPOSED])
    for path, twin in (
        (f"{COMPOSED}/train/good/{COMPOSED}.png", r"'gro\\u0308\\xdfe\.png'"),
        (f"{DECOMPOSED}/train/good/{DECOMPOSED}.png", r"'gr\\xf6\\xdfe'"),
    ):
        write_csv(
            root / "manifest.csv",
            ("image", "category", "split", "label"),
            (path, "c", "train", "good"),
        )
        with pytest.raises(DataError, match=f"does not exist; .*another Unicode form is {twin}"):
            read_dataset("csv", root)


@pytest.mark.parametrize("format", ["mvtec", "folder"])
def test_names_that_differ_only_in_suffix_are_refused(
    tmp_path: Path, format: DatasetFormat
) -> None:
    touch(tmp_path, "c/train/good/0.png", "c/train/good/0.jpg")
    with pytest.raises(DataError, match=r"c/train/good/0\.jpg and c/train/good/0\.png differ only"):
        read_dataset(format, tmp_path)


def test_folder_as_one_category_named_after_the_root(tmp_path: Path) -> None:
    root = touch(tmp_path / "my part", "train/good/0.png", "test/dent/0.png")
    records = read_dataset("folder", root)
    assert paths(records) == ["train/good/0.png", "test/dent/0.png"]
    assert {r.category for r in records} == {"my part"}
    assert read_dataset("folder", root, ["my part"]) == records
    with pytest.raises(DataError, match="no category 'train'; there is my part"):
        read_dataset("folder", root, ["train"])


def test_folder_name_survives_a_relative_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(touch(tmp_path / "part", "train/good/0.png"))
    assert [r.category for r in read_dataset("folder", Path("."))] == ["part"]


def test_folder_accepts_images_directly_in_train(tmp_path: Path) -> None:
    touch(tmp_path, "a/train/1.png", "a/train/0.png", "b/train/good/0.png", "b/train/1.png")
    records = read_dataset("folder", tmp_path)
    assert paths(records) == ["a/train/0.png", "a/train/1.png", "b/train/good/0.png"]
    assert {r.defect for r in records} == {"good"}
    with pytest.raises(DataError, match="train has its images directly but no folder good"):
        read_dataset("mvtec", tmp_path)


def test_folder_without_training_images_or_without_test_images(tmp_path: Path) -> None:
    touch(tmp_path, "a/train/good/0.png", "b/test/good/0.png")
    assert [(r.category, r.split) for r in read_dataset("folder", tmp_path)] == [
        ("a", "train"),
        ("b", "test"),
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["c/train/fine/0.png"], "has only fine but no folder good"),
        (
            ["c/train/good/0.png", "c/test/1.png", "c/test/cut/2.png"],
            r"test/1\.png lies in no defect's folder",
        ),
        (["c/train/good/0.txt"], "no image in train/good.*png"),
        (["Mean/train/good/0.png"], "'Mean' is the name of the averages"),
        (["mean /train/good/0.png"], "'mean ' is the name of the averages"),
        ([" /train/good/0.png"], "category ' ' is blank; rename it"),
        (
            ["c/test/cut/0.png", "c/test/cut/0_mask.bmp", "c/ground_truth/cut/0_mask.png"],
            r"c/ground_truth/cut/0_mask\.png is called as the mask of 0 and as that of 0_mask\.bmp; re",
        ),
        *(  # as KolektorSDD has them, sorted by hand with their images
            (
                [f"c/{folder}/0.jpg", f"c/{folder}/0{ending}"],
                "looks like the mask of an image beside",
            )
            for folder in ("train/good", "test/good", "test/cut")
            for ending in ("_label.bmp", "-mask.png", "_GT.png")
        ),
        *(
            (
                [f"c/test/cut/{name}" for name in ("0.jpg", f"0{ending}.png")],
                "looks like the mask of",
            )
            for ending in ("_seg", "_annotation", ".mask", "_ground_truth", "_mask_1", " Masks")
        ),
    ],
)
@pytest.mark.parametrize("format", ["mvtec", "folder"])
def test_trees_that_are_refused(
    tmp_path: Path, format: DatasetFormat, files: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_dataset(format, touch(tmp_path, *files))


def test_dangling_link_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "c/train/good/0.png")
    (tmp_path / "c/train/good/1.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"1\.png is a link to nothing"):
        read_dataset("mvtec", tmp_path)


def test_file_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "c/train/good/0.png")
    try:
        (tmp_path / "c/train/good" / os.fsdecode(b"\xff.png")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(DataError, match="is not UTF-8"):
        read_dataset("mvtec", tmp_path)


def test_links_inside_a_tree_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "cache/123", "root/c/train/good/0.png")
    (tmp_path / "root/c/train/good/1.png").symlink_to(tmp_path / "cache/123")
    assert len(read_dataset("mvtec", tmp_path / "root")) == 2


@pytest.mark.parametrize(
    ("format", "expected"),
    [
        ("mvtec", "format mvtec expects train/good/"),
        ("folder", "expects train/good/"),
        ("visa", "1cls.csv does not exist"),
        ("csv", "with manifest.csv"),
    ],
)
def test_empty_root_says_what_was_expected(
    tmp_path: Path, format: DatasetFormat, expected: str
) -> None:
    with pytest.raises(DataError, match=expected):
        read_dataset(format, tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_dataset(format, tmp_path / "nowhere")


def test_root_that_is_a_file_and_single_category_as_mvtec(tmp_path: Path) -> None:
    touch(tmp_path, "file", "c/train/good/0.png")
    with pytest.raises(DataError, match="is not a folder"):
        read_dataset("mvtec", tmp_path / "file")
    with pytest.raises(DataError, match="use format folder"):
        read_dataset("mvtec", tmp_path / "c")


@pytest.mark.parametrize("format", ["mvtec", "visa"])
def test_absent_and_repeated_categories_are_refused(format: DatasetFormat) -> None:
    root = GOLDEN / ("images" if format == "mvtec" else "images_visa")
    with pytest.raises(DataError, match="no category 'x'; there is plate, weave"):
        read_dataset(format, root, ["weave", "x"])
    with pytest.raises(ParameterError, match="weave more than once"):
        read_dataset(format, root, ["weave", "weave"])
    with pytest.raises(ParameterError, match="give a list"):
        read_dataset(format, root, "weave")


def test_unknown_format_is_refused(tmp_path: Path) -> None:
    unknown: Any = "coco"
    with pytest.raises(ParameterError, match="'coco' is unknown; choose one of mvtec, visa"):
        read_dataset(unknown, tmp_path)


@settings(max_examples=15, deadline=None)
@given(limit=st.integers(1, 8), format=st.sampled_from(["mvtec", "visa"]))
def test_limit_keeps_the_first_of_each_defect_and_all_training_images(
    limit: int, format: DatasetFormat
) -> None:
    root = GOLDEN / ("images" if format == "mvtec" else "images_visa")
    everything = read_dataset(format, root)
    kept = read_dataset(format, root, limit=limit)
    assert [r for r in kept if r.split == "train"] == [r for r in everything if r.split == "train"]
    groups = {(r.category, r.defect) for r in everything if r.split == "test"}
    for group in groups:
        whole, part = (
            [r for r in records if r.split == "test" and (r.category, r.defect) == group]
            for records in (everything, kept)
        )
        assert part == whole[:limit]
    assert kept == [r for r in everything if r in kept]


def test_limit_below_one_is_refused() -> None:
    with pytest.raises(ParameterError, match="limit is 0, at least 1"):
        read_dataset("mvtec", GOLDEN / "images", limit=0)


def test_what_is_not_read(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "a/train/good/0.png", "a/train/good/1.heic", "a/train/good/.hidden.heic", "a/train/2.HEIC",
        "a/test/cut/0.png", "a/test/cut/1.avif", "a/test/cut/notes.txt", "a/Ground-Truth /cut/0.png",
        "b/test/cut/0.png", "b/ground_truth/cut/1.tga", "b/Train/good/0.png", "b/elsewhere/0.heic",
        "c/test/cut/3.avif",
    )  # fmt: skip
    assert almost_named(tmp_path, ["a", "b"]) == ["a/Ground-Truth ", "b/Train"]
    assert almost_named(tmp_path / "a", ["a"]) == ["Ground-Truth "]
    assert leftovers("folder", tmp_path, ["a", "b"]) == {
        ("a/train/good", "hidden"): 1,
        ("a/train/good", KIND): 1,
        ("a/train", KIND): 1,
        ("a/test/cut", KIND): 1,
        ("a/test/cut", "no image by the name"): 1,
        ("a/Ground-Truth /cut", DEEPER): 1,
        ("b/ground_truth/cut", KIND): 1,
        ("b/Train/good", DEEPER): 1,
        ("b/elsewhere", KIND): 1,
        ("c/test/cut", "of a category that dataset.categories does not name"): 1,
    }


@pytest.mark.parametrize("single", [True, False])
def test_masks_outside_of_a_defects_folder_are_stray(tmp_path: Path, single: bool) -> None:
    touch(tmp_path, "c/test/cut/0.png", "c/ground_truth/0_mask.png", "c/ground_truth/cut/9.png")
    root, prefix = (tmp_path / "c", "") if single else (tmp_path, "c/")
    stray = "a mask of no image"
    assert leftovers("folder", root) == {
        (f"{prefix}ground_truth", stray): 1, (f"{prefix}ground_truth/cut", stray): 1
    }  # fmt: skip


# Tables


def visa_root(root: Path, *rows: Sequence[str], header: Sequence[str] = VISA_HEADER) -> Path:
    touch(root, "c/1.JPG", "c/2.JPG", "c/3.JPG", "c/m.png")
    write_csv(root / "split_csv/1cls.csv", header, *rows)
    return root


def test_visa_masks_and_labels(tmp_path: Path) -> None:
    root = visa_root(
        tmp_path,
        ("c", "test", "normal", "c/1.JPG", ""),
        (),
        ("c", "test", "Anomaly", "c/2.JPG", "c/m.png"),
        ("c", "train", "normal", "c/3.JPG", ""),
    )
    records = read_dataset("visa", root)
    assert [(r.path, r.split, r.defect, r.is_anomaly, r.mask) for r in records] == [
        ("c/3.JPG", "train", "good", False, None),
        ("c/2.JPG", "test", "anomaly", True, "c/m.png"),
        ("c/1.JPG", "test", "good", False, None),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("c", "test", "normal", "/etc/x.png", ""), r"row 2: image '/etc/x\.png' is an absolute"),
        (("c", "test", "anomaly", "c/1.JPG", "../m.png"), r"row 2: mask '\.\./m\.png' has \.\."),
        (("c", "test", "normal", "c/9.JPG", ""), r"row 2: image 'c/9\.JPG' does not exist"),
        (("c", "train", "anomaly", "c/1.JPG", ""), "row 2: training image .* must be good"),
        (("c", "val", "normal", "c/1.JPG", ""), "row 2: split is 'val'"),
        (("c", "test", "normal", "c/1.JPG"), "row 2: .* has 4 cells, not 5"),
        (("", "test", "normal", "c/1.JPG", ""), "row 2: category is empty"),
        (
            ("c", "test", "norrmal", "c/1.JPG", ""),
            "row 2: label is 'norrmal', but it must be normal or",
        ),
        (
            ("c", "test", "good", "c/1.JPG", ""),
            "row 2: label is 'good', but it must be normal or anom",
        ),
        (
            ("c", "test", "0", "c/1.JPG", ""),
            "row 2: label is '0', but it must be normal or anomaly",
        ),
        (
            ("c", "test", "anomaly", "c/1.JPG", "c/1.JPG"),
            r"row 2: mask 'c/1\.JPG' is the image itself",
        ),
    ],
)
def test_visa_rows_that_are_refused(tmp_path: Path, row: Sequence[str], message: str) -> None:
    with pytest.raises(DataError, match=rf"1cls\.csv, {message}"):
        read_dataset("visa", visa_root(tmp_path, row))


def test_visa_without_header_is_refused(tmp_path: Path) -> None:
    root = visa_root(tmp_path, header=("c", "test", "normal", "c/1.JPG", ""))
    with pytest.raises(DataError, match=r"row 1: .* is not a header"):
        read_dataset("visa", root)


def test_csv_labels_order_and_columns(tmp_path: Path) -> None:
    touch(tmp_path, *(f"img/{i}.png" for i in range(9)), "m 1.png", "a.png")
    write_csv(
        tmp_path / "manifest.csv",
        ["Split", "image", "label", " category", "mask"],
        ["test", "img/0.png", "dent", "b", "m 1.png"],
        ["test", "./img/1.png", "Good", "b", ""],
        ["test", "img/2.png", "1", "b", ""],
        ["train", "img/3.png", "NORMAL", "b", ""],
        ["test", "img/4.png", "0", "a", "m 1.png"],
        ["train", "img/5.png", "ok", "b", ""],
        ["test", "a.png", "Lötfehler, groß", "a", ""],
    )
    records = read_dataset("csv", tmp_path)
    assert [(r.path, r.category, r.split, r.defect, r.mask) for r in records] == [
        ("img/4.png", "a", "test", "good", None),
        ("a.png", "a", "test", "Lötfehler, groß", None),
        ("img/3.png", "b", "train", "good", None),
        ("img/5.png", "b", "train", "good", None),
        ("img/0.png", "b", "test", "dent", "m 1.png"),
        ("img/1.png", "b", "test", "good", None),
        ("img/2.png", "b", "test", "anomaly", None),
    ]
    assert read_dataset("csv", tmp_path / "manifest.csv") == records


def test_csv_with_byte_order_mark_and_without_masks(tmp_path: Path) -> None:
    touch(tmp_path, "ä.png")
    (tmp_path / "list.csv").write_text(
        "image,category,split,label\r\nä.png,ü,test,good\r\n", encoding="utf-8-sig"
    )
    assert paths(read_dataset("csv", tmp_path / "list.csv")) == ["ä.png"]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"image": ""}, "row 2: image is empty"),
        ({"label": "", "split": "train"}, "row 2: label is empty"),
        ({"split": "valid"}, "row 2: split is 'valid', but it must be train or test"),
        ({"split": "train", "label": "dent"}, "row 2: training image .* 'dent'.*must be good"),
        ({"image": "/i/0.png"}, "row 2: image '/i/0.png' is an absolute path"),
        ({"image": "C:/i/0.png"}, "row 2: image 'C:/i/0.png' is an absolute path"),
        ({"image": "i\\0.png"}, "row 2: image .* has backslashes"),
        ({"image": "i/../i/0.png"}, r"row 2: image .* has \.\. in it"),
        ({"image": "../0.png"}, r"row 2: image .* has \.\. in it"),
        ({"image": "i/9.png"}, "row 2: image 'i/9.png' does not exist"),
        ({"image": "j/0.png"}, "row 2: image 'j/0.png' does not exist"),
        ({"image": "i"}, "row 2: image 'i' has no suffix of bmp,"),
        ({"image": "i/0.txt"}, "row 2: image 'i/0.txt' has no suffix"),
        ({"image": "i/\0.png"}, "row 2: image .* does not exist|NUL"),
        ({"image": "i\0/0.png"}, "row 2: image .* does not exist|NUL"),
        ({"mask": "/m.png"}, "row 2: mask '/m.png' is an absolute path"),
        ({"mask": "m.png"}, "row 2: mask 'm.png' does not exist"),
        ({"category": ".."}, r"row 2: category '\.\.' cannot be a folder"),
        ({"category": "a/b"}, "row 2: category 'a/b' cannot be a folder"),
        ({"category": "mean"}, "row 2: category 'mean' is the name of the averages"),
        ({"category": "\u200bMean\u2060"}, "row 2: category .* is the name of the averages"),
        ({"category": "\u200b"}, "row 2: category .* is blank; rename it"),
        ({"mask": "./i/0.png"}, "row 2: mask './i/0.png' is the image itself"),
    ],
)
def test_csv_rows_that_are_refused(tmp_path: Path, cells: dict[str, str], message: str) -> None:
    touch(tmp_path, "i/0.png", "i/0.txt")
    row = {"image": "i/0.png", "category": "c", "split": "test", "label": "dent", "mask": ""}
    table = write_csv(tmp_path / "manifest.csv", HEADER, list((row | cells).values()))
    with pytest.raises(DataError, match=message) as refused:
        read_dataset("csv", tmp_path)
    assert str(refused.value).startswith(str(table))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"image,category,split\n", "row 1: the header lacks 'label'"),
        (b"image,category,split,label,masks\n", "does not know 'masks'"),
        (b"image,category,split,label,label\n", "repeats 'label'"),
        (b"image;category;split;label\n", "separate them by commas"),
        (b"", "row 1: the header lacks 'image'"),
        (b"image,category,split,label\n", "lists no images"),
        (b"image,category,split,label\na.png,c,test\n", "row 2: .* has 3 cells, not 4"),
        (b"image,category,split,label\na.png,c,test,good\n\xe4.png,c,test,good\n", "UTF-8"),
        (b'image,category,split,label\n"a.png,c,test,good\n', "no valid CSV"),
    ],
)
def test_csv_files_that_are_refused(tmp_path: Path, text: bytes, message: str) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "manifest.csv").write_bytes(text)
    with pytest.raises(DataError, match=rf"manifest\.csv.*{message}"):
        read_dataset("csv", tmp_path)


@pytest.mark.parametrize("link", ["file", "folder"])
def test_csv_links_that_leave_the_root_are_refused(tmp_path: Path, link: str) -> None:
    touch(tmp_path, "outside/0.png", "root/inside.png")
    root = tmp_path / "root"
    if link == "file":
        (root / "0.png").symlink_to(tmp_path / "outside/0.png")
        image = "0.png"
    else:
        (root / "sub").symlink_to(tmp_path / "outside")
        image = "sub/0.png"
    write_csv(root / "manifest.csv", HEADER, [image, "c", "test", "good", ""])
    with pytest.raises(DataError, match=r"row 2: image .* outside the data set"):
        read_dataset("csv", root)
    (root / "link.png").symlink_to(root / "inside.png")
    write_csv(root / "manifest.csv", HEADER, ["link.png", "c", "test", "good", ""])
    assert paths(read_dataset("csv", root)) == ["link.png"]


def test_csv_images_listed_twice_or_alike_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "0.png", "0.jpg")
    row = ["c", "test", "good", ""]
    write_csv(tmp_path / "manifest.csv", HEADER, ["0.png", *row], ["./0.png", *row])
    with pytest.raises(DataError, match=r"0\.png is listed twice"):
        read_dataset("csv", tmp_path)
    write_csv(tmp_path / "manifest.csv", HEADER, ["0.png", *row], ["0.jpg", *row])
    with pytest.raises(DataError, match=r"0\.png and 0\.jpg differ only in suffix"):
        read_dataset("csv", tmp_path)


def test_dataset_root(tmp_path: Path) -> None:
    table = touch(tmp_path, "list.csv") / "list.csv"
    assert dataset_root("csv", table) == tmp_path
    assert dataset_root("csv", tmp_path) == tmp_path
    assert dataset_root("mvtec", tmp_path) == tmp_path


def test_each_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"c/test/cut/{i:04}.png" for i in range(300)]
    masks = [f"c/ground_truth/cut/{i:04}_mask.png" for i in range(300)]
    touch(tmp_path, *names, *masks)
    rows = [[n, "c", "test", "cut", m] for n, m in zip(names, masks, strict=True)]
    write_csv(tmp_path / "manifest.csv", HEADER, *rows)
    scanned: list[str] = []
    scandir = os.scandir

    def counting(folder: Any) -> Any:
        scanned.append(str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", counting)
    by_tree = read_dataset("mvtec", tmp_path)
    assert len(scanned) == len(set(scanned)) == 4
    scanned.clear()
    assert read_dataset("csv", tmp_path) == by_tree
    assert len(scanned) == 2
