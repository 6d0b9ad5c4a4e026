"""Data sets in a bucket are read as data sets in a folder are."""

from __future__ import annotations

import csv
import pickle
import time
from pathlib import Path

import pytest

from cache.location import open_path
from cache.objectpath import ObjectPath
from fade.datasets import dataset_root, read_dataset
from fade.datasets.leftovers import Account
from fade.errors import DataError, ParameterError
from fade.types import DatasetFormat
from tests.objectstore import Bucket, always, first
from tests.projects import GOLDEN


def upload(folder: Path, bucket: Bucket, prefix: str) -> str:
    """Put a folder's files into the bucket; the URL there."""
    for file in folder.rglob("*"):
        if file.is_file():
            bucket.put(f"{prefix}/{file.relative_to(folder).as_posix()}", file.read_bytes())
    return f"{bucket.url}/{prefix}"


def table_of(folder: Path) -> None:
    """A csv data set: the images of a golden category and a table of them."""
    records = read_dataset("mvtec", GOLDEN / "images", ["weave"])
    with (folder / "list.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "category", "split", "label", "mask"])
        for record in records:
            for path in filter(None, (record.path, record.mask)):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes((GOLDEN / "images" / path).read_bytes())
            rows.writerow([record.path, "weave", record.split, record.defect, record.mask or ""])


@pytest.mark.parametrize(
    ("format", "prefix"),
    [("mvtec", "data sets/ü"), ("visa", "deep/er/visa"), ("folder", "plate"), ("csv", "tables")],
)
def test_records_are_those_of_a_folder(
    bucket: Bucket, tmp_path: Path, format: DatasetFormat, prefix: str
) -> None:
    folder = {
        "mvtec": GOLDEN / "images", "visa": GOLDEN / "images_visa",
        "folder": GOLDEN / "images" / "plate", "csv": tmp_path,
    }[format]  # fmt: skip
    if format == "csv":
        table_of(tmp_path)
    url = upload(folder, bucket, prefix)
    bucket.put(f"{prefix}/.hidden", b"x")
    there, here = open_path(url), open_path(folder)
    if format == "csv":
        there, here = there / "list.csv", here / "list.csv"
    found = read_dataset(format, there)
    assert found == read_dataset(format, here)
    assert len(found) > 10
    root = dataset_root(format, there)
    assert str(root) == url
    assert str(dataset_root(format, here)) == str(folder)
    for record in found[::5]:
        assert (root / record.path).read_bytes() == (folder / record.path).read_bytes()
    if format in ("mvtec", "folder"):
        bucket.put(f"{prefix}/{'plate/' * (format == 'mvtec')}ground_truth/scratch/no.png", b"")
        account = Account()
        for record in found:
            account.use(record)
        masks = [
            sum(left.count for left in account.leftovers(place) if "mask" in left.reason)
            for place in (open_path(url), folder)
        ]
        assert masks[0] == 1 + masks[1]


def test_each_folder_is_listed_once(bucket: Bucket) -> None:
    url = upload(GOLDEN / "images", bucket, "images")
    bucket.proxy.seen.clear()
    read_dataset("mvtec", open_path(url))
    assert len(set(bucket.proxy.seen)) == len(bucket.proxy.seen)
    assert {method for method, _ in bucket.proxy.seen} == {"GET"}


def test_paths_open_again_elsewhere(bucket: Bucket) -> None:
    bucket.put("a/b c.png", b"x")
    path = open_path(f"{bucket.url}/a/") / "b c.png"
    again = pickle.loads(pickle.dumps(path))  # noqa: S301
    assert again == path
    assert again.read_bytes() == b"x"
    assert again.stat().st_size == 1
    assert abs(again.stat().st_mtime_ns / 1e9 - time.time()) < 3600
    with pytest.raises(FileNotFoundError):
        (again.parent / "none").stat()
    assert again.absolute().resolve().name == "b c.png"
    assert repr(again.parent) == f"ObjectPath('{bucket.url}/a')"
    named = open_path(f"{bucket.url}/a/b c.png")  # and not found in a listing
    assert (named.is_file(), named.is_dir(), named.exists()) == (True, False, True)
    top = open_path(bucket.url)
    assert isinstance(top, ObjectPath)
    assert top.is_dir()
    assert top.name == bucket.url.removeprefix("s3://")
    assert (top / "a").is_dir()
    assert not (top / "a").is_file()
    assert not (top / "b").exists()
    assert not top.is_file()


def test_local_places_are_paths(tmp_path: Path) -> None:
    assert open_path(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    assert open_path("data/x") == open_path(Path("data/x")) == Path("data/x")
    with pytest.raises(ParameterError, match="starts with none of"):
        open_path("http://host/x")


@pytest.mark.parametrize("format", ["mvtec", "folder", "visa", "csv"])
def test_what_is_wrong_is_a_line(bucket: Bucket, format: DatasetFormat) -> None:
    with pytest.raises(DataError, match=r"does not exist") as error:
        read_dataset(format, open_path(f"{bucket.url}/none"))
    bucket.proxy.faults = first(2, 503)
    with pytest.raises(DataError, match=r"does not exist"):
        read_dataset(format, open_path(f"{bucket.url}/none"))
    for fault, line in ((403, "access denied"), (503, "error 503, after 4 retries")):
        bucket.proxy.faults = always(fault)
        with pytest.raises(DataError, match=line) as error:
            read_dataset(format, open_path(f"{bucket.url}/none"))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "line"),
    [("../x.png,a,test,good,", "has .. in it"), ("/x.png,a,test,good,", "is an absolute path"),
     ("none/x.png,a,test,good,", "does not exist"), ("y.png,a,test,good,", "'y.png' does not"),
     ("x.png,a,test,bad,none.png", "mask 'none.png' does not exist")],
)  # fmt: skip
def test_tables_are_held_against_the_bucket(bucket: Bucket, row: str, line: str) -> None:
    bucket.put("d/x.png", b"")
    bucket.put("x.png", b"")
    bucket.put("d/manifest.csv", f"image,category,split,label,mask\n{row}\n".encode())
    with pytest.raises(DataError, match=rf"s3://.*/d/manifest\.csv, row 2: .*{line}"):
        read_dataset("csv", open_path(f"{bucket.url}/d"))
