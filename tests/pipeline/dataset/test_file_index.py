"""The listing of a data set: rewritten when content changes, and then only."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import pipeline.dataset.file_index
from fade.errors import DataError, ParameterError, StoreError
from fade.files import read_data
from pipeline.artefacts.catalogue import MANIFEST, SKIPPED
from pipeline.config.load import parse_params
from pipeline.config.schema import Params
from pipeline.dataset.file_index import Scan, open_file_index, scan
from tests.projects import GOLDEN, changed, golden_params, project, run_stages


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    shutil.copytree(GOLDEN / "images", tmp_path / "images")
    return changed(
        golden_params("fewshot1_both_seed0", Path("w.pt")),
        dataset__path="images",
        dataset__watch="listing.parquet",
    )


@pytest.fixture
def params(content: dict[str, Any], tmp_path: Path) -> Iterator[Params]:
    with project(tmp_path, content):
        yield parse_params(content)


def size_of(file: Path) -> tuple[int, int]:
    with Image.open(file) as image:
        return image.size


def no_colours(data: bytes, name: str) -> bool:
    return False


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*.png"))


def again(params: Params, **options: bool) -> tuple[Scan, bool]:
    """A scan, and whether the listing's bytes changed."""
    before = Path("listing.parquet").read_bytes()
    found = scan(params, **options)
    return found, Path("listing.parquet").read_bytes() != before


def test_first_scan_and_one_without_news(params: Params) -> None:
    count = len(files(Path("images")))
    assert scan(params) == Scan(count, count, 0, 0, 0, count, True)
    time = Path("listing.parquet").stat().st_mtime_ns
    assert again(params) == (Scan(count, 0, 0, 0, 0, 0, False), False)
    assert again(params, everything=True) == (Scan(count, 0, 0, 0, 0, count, False), False)
    assert Path("listing.parquet").stat().st_mtime_ns == time
    assert not list(Path().glob("listing.parquet.*"))


def test_a_touched_file_is_no_news(params: Params) -> None:
    scan(params)
    os.utime("images/weave/test/hole/000.png", ns=(1, 1))
    for _ in range(2):  # it is read each time, until its time is noted
        found, other = again(params)
        assert (found.touched, found.read, found.written, other) == (1, 1, False, False)
    found, other = again(params, refresh=True)
    assert found.written
    assert other
    found, other = again(params)
    assert (found.touched, found.read, other) == (0, 0, False)


def test_changes_are_told_apart(params: Params) -> None:
    scan(params)
    first, second, *_ = files(Path("images/weave/test/good"))
    first.write_bytes(second.read_bytes())
    found, other = again(params)
    assert (found.added, found.changed, found.removed, other) == (0, 1, 0, True)
    first.unlink()
    found, other = again(params)
    assert (found.added, found.changed, found.removed, other) == (0, 0, 1, True)
    second.rename(second.with_name("zzz.png"))
    found, other = again(params)
    assert (found.added, found.changed, found.removed, other) == (1, 0, 1, True)


def test_same_size_and_time_is_taken_as_same_unless_all_are_read(params: Params) -> None:
    scan(params)
    victim = Path("images/weave/test/hole/000.png")
    stat = victim.stat()
    victim.write_bytes(bytes(reversed(victim.read_bytes())))
    os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not again(params)[1]
    found, other = again(params, everything=True)
    assert (found.changed, other) == (1, True)


def test_a_worker_that_sees_other_files_is_refused(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "copy"
    shutil.copytree(tmp_path / "images", data)
    for image in files(data):
        os.utime(image, ns=(1, 1))  # which says nothing of what it shows

    def elsewhere(function: Any, tasks: Any, *_: Any, **__: Any) -> Iterator[Any]:
        return (function(replace(task, root=data)) for task in tasks)

    monkeypatch.setattr(pipeline.dataset.file_index, "iterate_tasks", elsewhere)
    there = {"kind": "address", "address": "tcp://127.0.0.1:9"}
    with project(tmp_path, changed(content, cluster=there)):
        params = parse_params(changed(content, cluster=there))
        assert scan(params).written, "what it sees is the same"
        for image in files(data):
            image.write_bytes(image.read_bytes() + b"more")
        with pytest.raises(DataError, match=r"a worker .* does not see \S+ as this machine does"):
            scan(params)


def test_links_are_followed(params: Params, tmp_path: Path) -> None:
    victim = Path("images/weave/test/hole/000.png")
    elsewhere = tmp_path / "elsewhere.png"
    victim.rename(elsewhere)
    victim.symlink_to(elsewhere)
    scan(params)
    other = files(Path("images/weave/test/good"))[0]
    elsewhere.write_bytes(other.read_bytes())
    found, news = again(params)
    assert (found.changed, news) == (1, True)
    elsewhere.unlink()
    with pytest.raises(DataError, match="link to nothing"):
        scan(params)


def test_labels_of_a_table_are_content(content: dict[str, Any], tmp_path: Path) -> None:
    content = changed(content, dataset__format="csv", dataset__categories=None)
    table = tmp_path / "images" / "manifest.csv"
    text = "image,category,split,label\nweave/test/hole/000.png,weave,test,hole\n"
    table.write_text(text)
    with project(tmp_path, content):
        params = parse_params(content)
        assert scan(params).files == 2
        table.write_text(text.replace("hole\n", "cut\n"))
        found, other = again(params)
    assert (found.changed, other) == (1, True)


def test_a_mask_of_several_images_is_listed_once(content: dict[str, Any], tmp_path: Path) -> None:
    rows = ["image,category,split,label,mask"]
    for name in ("000", "001"):
        rows.append(
            f"weave/test/hole/{name}.png,weave,test,hole,weave/ground_truth/hole/000_mask.png"
        )
    (tmp_path / "images" / "list.csv").write_text("\n".join(rows))
    content = changed(
        content, dataset__format="csv", dataset__categories=None, dataset__path="images/list.csv"
    )
    with project(tmp_path, content):
        params = parse_params(content)
        assert scan(params).files == 4
        assert again(params) == (Scan(4, 0, 0, 0, 0, 0, False), False)


def test_the_bytes_of_a_listing_are_those_of_its_data_alone(params: Params) -> None:
    """Stages run again when they change; rows in an order of another version are put right."""
    scan(params)
    before, table = Path("listing.parquet").read_bytes(), pq.read_table("listing.parquet")
    pq.write_table(table.take(pa.array(range(len(table) - 1, -1, -1))), "listing.parquet")
    found, other = again(params)
    assert (found.added, found.changed, found.removed, found.written, other) == (
        0,
        0,
        0,
        True,
        True,
    )
    assert Path("listing.parquet").read_bytes() == before


def test_a_listing_needs_a_file_of_its_own(content: dict[str, Any], tmp_path: Path) -> None:
    with project(tmp_path, content):
        for watch in ("images", "."):
            with pytest.raises(ParameterError, match=r"name a file for the listing"):
                scan(parse_params(changed(content, dataset__watch=watch)))
        Path("notes.txt").write_text("mine")
        pq.write_table(pa.table({"path": ["0.png"]}), "mine.parquet")
        for watch in ("notes.txt", "mine.parquet"):
            before = Path(watch).read_bytes()
            own = parse_params(changed(content, dataset__watch=watch))
            assert open_file_index(own.dataset) is None
            told = rf"{watch}, which `fade scan` did not write and leaves alone: a list of your own"
            with pytest.raises(ParameterError, match=told):
                scan(own)
            assert Path(watch).read_bytes() == before


def test_a_listing_that_is_damaged(params: Params) -> None:
    scan(params)
    listing = Path("listing.parquet")
    listing.write_bytes(listing.read_bytes()[:-9])
    for act in (scan, lambda params: open_file_index(params.dataset)):
        with pytest.raises(
            StoreError, match=r"^listing.parquet cannot be read .*`fade scan` wrote it"
        ):
            act(params)


def test_the_manifest_is_the_same_and_reads_no_image(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stages(tmp_path, changed(content, dataset__watch="images"), "manifest")
    plain = [(tmp_path / a.path).read_bytes() for a in (MANIFEST, SKIPPED)]
    with project(tmp_path, content):
        scan(parse_params(content))
    touched, changed_file = "weave/test/hole/000.png", "weave/test/good/000.png"
    os.utime(tmp_path / "images" / touched, ns=(1, 1))
    read: list[str] = []

    def noted(path: Path, name: str) -> bytes:
        read.append(str(path))
        return read_data(path, name)

    monkeypatch.setattr("pipeline.dataset.manifest.read_data", noted)
    run_stages(tmp_path, content, "manifest")
    monkeypatch.undo()
    images = [name for name in read if name.endswith(".png")]
    assert len(images) == 1
    assert images[0].endswith(touched)
    assert [(tmp_path / a.path).read_bytes() for a in (MANIFEST, SKIPPED)] == plain
    # and a change that nobody scanned is seen all the same
    image = tmp_path / "images" / changed_file
    image.write_bytes((tmp_path / "images" / touched).read_bytes())
    run_stages(tmp_path, content, "manifest")
    assert (tmp_path / MANIFEST.path).read_bytes() != plain[0]


def test_colours_of_listed_masks_are_warned_of(
    content: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    mask = tmp_path / "images" / "weave" / "ground_truth" / "hole" / "000_mask.png"
    Image.fromarray(np.full((64, 64, 3), (0, 0, 255), np.uint8)).resize(size_of(mask)).save(mask)
    with project(tmp_path, content):
        params = parse_params(content)
        with monkeypatch.context() as before:  # a listing of a version that did not look
            before.setattr("pipeline.dataset.file_index.has_colours_without_red", no_colours)
            scan(params)
        found, other = again(params, everything=True)
        assert (found.changed, other) == (1, True)
        assert not again(params, everything=True)[1]
    run_stages(tmp_path, content, "manifest")
    assert "1 mask has colours without red" in caplog.text


def test_a_watched_folder_is_no_listing(params: Params) -> None:
    assert open_file_index(params.dataset) is None  # not written yet
    assert open_file_index(params.dataset.model_copy(update={"watch": "images"})) is None
    scan(params)
    assert len(open_file_index(params.dataset) or ()) == len(files(Path("images")))
