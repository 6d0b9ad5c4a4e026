"""Data sets as they unpack: what is found, what is counted as left out, which format is detected."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fade.datasets import detect_format, iterate_dataset, read_dataset
from fade.datasets.labels import meaning
from fade.datasets.leftovers import Account
from fade.errors import DataError
from fade.types import DatasetFormat, ImageRecord

Layout = Callable[[Path], None]


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def mvtec_ad_2(root: Path) -> None:
    touch(
        root, "can/train/good/000_regular.png", "can/validation/good/000_regular.png",
        "can/test_public/good/000_regular.png", "can/test_public/bad/000_shift_1.png",
        "can/test_public/ground_truth/bad/000_shift_1_mask.png", "can/test_private/000.png",
        "can/test_private/001.png", "can/test_private_mixed/000_mixed.png", "license.txt",
    )  # fmt: skip


def mvtec_loco(root: Path) -> None:
    logical, structural = "logical_anomalies", "structural_anomalies"
    touch(
        root, "box/train/good/000.png", "box/validation/good/000.png", "box/test/good/000.png",
        f"box/test/{logical}/000.png", f"box/test/{structural}/000.png", "box/defects_config.json",
        f"box/ground_truth/{logical}/000/000.png", f"box/ground_truth/{logical}/000/001.png",
        f"box/ground_truth/{structural}/000/000.png",
    )  # fmt: skip


def visa(root: Path, table: str = "1cls") -> None:
    images = "candle/Data/Images"
    rows = [
        ["object", "split", "label", "image", "mask"],
        ["candle", "train", "normal", f"{images}/Normal/0000.JPG", ""],
        ["candle", "test", "normal", f"{images}/Normal/0001.JPG", ""],
        [
            "candle",
            "test",
            "anomaly",
            f"{images}/Anomaly/000.JPG",
            "candle/Data/Masks/Anomaly/000.png",
        ],
    ]
    if table != "1cls":
        mask = "candle/Data/Masks/Anomaly/001.png"
        rows.append(["candle", "train", "anomaly", f"{images}/Anomaly/001.JPG", mask])
    for row in rows[1:]:
        touch(root, *filter(None, row[3:]))
    (root / "split_csv").mkdir()
    with (root / "split_csv" / f"{table}.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def btad(root: Path) -> None:
    touch(
        root, "01/train/ok/0.bmp", "01/test/ok/1.bmp", "01/test/ko/2.bmp", "01/ground_truth/ko/2.png"
    )  # fmt: skip


def mpdd(root: Path) -> None:
    touch(
        root, "tubes/train/good/000.png", "tubes/test/good/000.png", "tubes/test/anomalous/000.png",
        "tubes/ground_truth/anomalous/000_mask.png",
    )  # fmt: skip


def ksdd2(root: Path) -> None:
    for split in ("train", "test"):
        (root / split).mkdir(parents=True)
        for name, level in (("10000", 0), ("10001", 255)):
            Image.fromarray(np.full((4, 3), 90, np.uint8)).save(root / split / f"{name}.png")
            Image.fromarray(np.full((4, 3), level, np.uint8)).save(root / split / f"{name}_GT.png")


def real_iad(root: Path, split: str = "realiad_jsons") -> None:
    def row(path: str, kind: str, mask: str | None = None) -> dict[str, str | None]:
        return {"category": "usb", "anomaly_class": kind, "image_path": path, "mask_path": mask}

    train = [row("OK/S1/a_C1.jpg", "OK"), row("NG/BX/S1/b_C1.jpg", "BX", "NG/BX/S1/b_C1.png")]
    test = [row("OK/S2/c_C1.jpg", "OK"), row("NG/AK/S2/d_C1.jpg", "AK", "NG/AK/S2/d_C1.png")]
    for item in (*train, *test):
        touch(root / "realiad_1024/usb", *filter(None, (item["image_path"], item["mask_path"])))
    (root / split / split).mkdir(parents=True)
    content = {"meta": {"prefix": "usb/", "normal_class": "OK"}, "train": train, "test": test}
    (root / split / split / "usb.json").write_text(json.dumps(content))


def good_only(root: Path) -> None:
    touch(root, "0.png", "1.jfif", "2.PNM", "notes.txt")


LAYOUTS: dict[DatasetFormat, tuple[Layout, int, dict[str, int]]] = {
    "mvtec-ad-2": (mvtec_ad_2, 1, {"no image by the name": 1,
        "a validation image, which no stage uses": 1}),
    "mvtec-loco": (mvtec_loco, 2, {"no image by the name": 1,
        "a validation image, which no stage uses": 1}),
    "visa": (visa, 1, {}),
    "visa-2cls-highshot": (lambda root: visa(root, "2cls_highshot"), 1,
        {"a training image with a defect": 2}),
    "visa-2cls-fewshot": (lambda root: visa(root, "2cls_fewshot"), 1,
        {"a training image with a defect": 2}),
    "btad": (btad, 1, {}),
    "mpdd": (mpdd, 1, {}),
    "ksdd2": (ksdd2, 1, {"a training image with a defect": 2}),
    "real-iad": (real_iad, 1, {"a training image with a defect": 2}),
    "real-iad-sv": (lambda root: real_iad(root, "realiad_jsons_sv"), 1,
        {"a training image with a defect": 2}),
}  # fmt: skip


def account_for(format: DatasetFormat, root: Path) -> tuple[list[ImageRecord], dict[str, int]]:
    from fade.datasets.read import TABLE_FORMATS, table_files

    account = Account()
    records = list(iterate_dataset(format, root, note=account.note))
    for record in records:
        account.use(record)
    counts: dict[str, int] = {}
    tables = table_files(format, root)
    for left in account.leftovers(root, tables, listed=format in TABLE_FORMATS):
        counts[left.reason] = counts.get(left.reason, 0) + left.count
    return records, counts


@pytest.mark.parametrize("format", LAYOUTS)
def test_as_it_unpacks(format: DatasetFormat, tmp_path: Path) -> None:
    lay, defects, left = LAYOUTS[format]
    root = tmp_path / "set"
    root.mkdir()
    lay(root)
    records, counts = account_for(format, root)
    assert counts == left
    assert detect_format(root) == ("mvtec" if format == "mpdd" else format)  # the same layout
    train = [record for record in records if record.split == "train"]
    anomalous = [record for record in records if record.is_anomaly]
    assert [record.is_anomaly for record in train] == [False]
    assert [bool(record.mask) for record in anomalous] == [True] * defects
    unlabelled = [record for record in records if record.is_anomaly is None]
    assert all((r.split, r.defect, r.mask) == ("test", "", None) for r in unlabelled)
    assert len(records) - len(unlabelled) == defects + 2
    assert len(unlabelled) == (3 if format == "mvtec-ad-2" else 0)
    for record in records:
        assert (root / record.path).is_file()
        assert record.mask is None or (root / record.mask).exists()


def test_the_mask_of_several_files_is_their_folder(tmp_path: Path) -> None:
    mvtec_loco(tmp_path)
    masks = [r.mask for r in read_dataset("mvtec-loco", tmp_path) if r.is_anomaly]
    truth = "box/ground_truth"
    assert masks == [
        f"{truth}/logical_anomalies/000/", f"{truth}/structural_anomalies/000/000.png"
    ]  # fmt: skip


def test_good_images_alone(tmp_path: Path) -> None:
    good_only(tmp_path / "parts")
    records, counts = account_for("folder", tmp_path / "parts")
    assert [(r.path, r.category, r.split) for r in records] == [
        (name, "parts", "train") for name in ("0.png", "1.jfif", "2.PNM")
    ]
    assert counts == {"no image by the name": 1}
    assert detect_format(tmp_path / "parts") == "folder"


def test_detection_of_what_is_no_layout_of_its_own(tmp_path: Path) -> None:
    touch(tmp_path, "m/c/train/good/0.png", "m/c/test/cut/0.png", "t/manifest.csv", "e/notes.txt")
    assert detect_format(tmp_path / "m") == "mvtec"
    assert detect_format(tmp_path / "m/c") == "folder"
    assert detect_format(tmp_path / "t") == detect_format(tmp_path / "t/manifest.csv") == "csv"
    assert detect_format(tmp_path / "e") is detect_format(tmp_path / "gone") is None


def test_images_without_a_label(tmp_path: Path) -> None:
    mvtec_ad_2(tmp_path / "ad2")
    found = [(r.name, r.category) for r in read_dataset("mvtec-ad-2", tmp_path / "ad2")[-3:]]
    private = ("test_private/000", "test_private/001", "test_private_mixed/000_mixed")
    assert found == [(f"can/{name}", "can") for name in private]
    touch(
        tmp_path / "flat",
        *("c/train/good/0.png", "c/test/0.png", "c/test/1.png"),
        *("d/test/cut/0.png", "d/test/good/1.png"),
    )
    assert detect_format(tmp_path / "flat") == "folder"  # mvtec would refuse it
    records = read_dataset("folder", tmp_path / "flat")
    assert [r.is_anomaly for r in records] == [False, None, None, True, False]
    assert len(read_dataset("folder", tmp_path / "flat", limit=1)) == 4
    with pytest.raises(DataError, match=r"dataset\.format to folder if nobody knows"):
        read_dataset("mvtec", tmp_path / "flat")
    table = tmp_path / "flat/manifest.csv"
    table.write_text("image,category,split,label,mask\nc/test/0.png,c,test,,\n")
    (record,) = read_dataset("csv", tmp_path / "flat")
    assert (record.name, record.defect, record.is_anomaly) == ("c/test/0", "", None)
    table.write_text("image,category,split,label,mask\nc/test/0.png,c,test,,c/test/1.png\n")
    with pytest.raises(DataError, match="row 2: label is empty, but there is a mask"):
        read_dataset("csv", tmp_path / "flat")


@pytest.mark.parametrize(
    ("format", "lay", "message"),
    [
        ("mvtec", mvtec_ad_2, "set dataset.format to mvtec-ad-2"),
        ("folder", mvtec_ad_2, "set dataset.format to mvtec-ad-2"),
        ("folder", ksdd2, "set dataset.format to ksdd2"),
        ("visa", lambda root: visa(root, "2cls_fewshot"), "set dataset.format to visa-2cls-fewshot"),
        ("real-iad", lambda root: real_iad(root, "realiad_jsons_sv"), "format to real-iad-sv"),
        ("mvtec", lambda root: touch(root, "c/train/good/0.png", "c/test/dent/up/0.png"), "such as up"),
        ("folder", lambda root: touch(root, "train/good/0.png", "test/true/0.png"), "not say whether"),
        ("folder", lambda root: touch(root, "train/good/0.png", "train/true/0.png"), "not say whether"),
        ("folder", lambda root: touch(root, "test/0/0.png", "test/2/0.png"), "does not say whether"),
        ("folder", lambda root: touch(root, "test/0.0/0.png", "test/good/0.png"), "does not say whether"),
        ("folder", lambda root: touch(root, "test/0.0/0.png", "test/2.0/0.png"), "does not say whether"),
        ("folder", lambda root: touch(root, "OK/0.png", "NG/0.png"), "NG to test/NG"),
        ("mvtec", lambda root: touch(root, "c/ok/0.png", "c/cut/0.png"), "c/ok to c/train/good"),
        ("mvtec", lambda root: touch(root, "c/TRAIN/0.png", "c/Testing/0.png"), "c/TRAIN to c/train"),
        ("folder", lambda root: touch(root, "good/0.png"), r"good images alone name .*good$"),
        ("folder", lambda root: touch(root, "in/here/train/good/0.png"), r"deeper: name .*in$"),
    ],
)  # fmt: skip
def test_what_would_be_read_wrongly_is_refused(
    format: DatasetFormat, lay: Layout, message: str, tmp_path: Path
) -> None:
    lay(tmp_path)
    with pytest.raises(DataError, match=message):
        read_dataset(format, tmp_path)


def test_an_empty_folder_for_training_is_none(tmp_path: Path) -> None:
    touch(tmp_path, "c/test/good/0.png")
    (tmp_path / "c/train").mkdir()
    for format in ("mvtec", "folder"):
        assert [r.path for r in read_dataset(format, tmp_path)] == ["c/test/good/0.png"]


def test_the_usual_words_for_good(tmp_path: Path) -> None:
    touch(tmp_path, *(f"train/{name}/0.png" for name in ("Good", "OK")))
    touch(
        tmp_path, *(f"test/{name}/0.png" for name in ("Normal", "pass", "NG", "okay", "no_defect"))
    )
    found = {r.path.split("/")[1]: r.is_anomaly for r in read_dataset("folder", tmp_path)}
    assert [name for name, anomalous in found.items() if anomalous] == ["NG"]
    touch(tmp_path / "numbers", *(f"test/{name}/0.png" for name in ("0.0", "1.0")))
    numbers = {r.defect: r.is_anomaly for r in read_dataset("folder", tmp_path / "numbers")}
    assert numbers == {"good": False, "1.0": True}


@pytest.mark.parametrize(
    ("label", "said"),
    [("0.0", "good"), ("1.0", "defect"), ("Defect-Free", "good"), ("N/A", "unclear"), ("0.7", "unclear"),
     ("-1", "unclear"), ("TRUE", "unclear"), ("2", "kind"), ("01", "kind"), ("crack", "kind")],
)  # fmt: skip
def test_what_labels_mean(label: str, said: str) -> None:
    assert meaning(label) == said
