"""The book of corrected labels, with two servers at once."""

from __future__ import annotations

import os
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from pipeline.artefacts.labels import read_labels, write_labels
from pipeline.serve import label_book
from pipeline.serve.label_book import LabelBook


def test_two_servers_lose_no_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One changes a label just when the other has read the file."""
    file = tmp_path / "labels.csv"
    first, second = LabelBook(file), LabelBook(file)
    other = threading.Thread(target=second.set, args=("b.png", False))

    def write(labels: Any, path: Path) -> None:
        if "a.png" in labels and not other.ident:
            other.start()
            other.join(0.2)
        write_labels(labels, path)

    monkeypatch.setattr(label_book, "write_labels", write)
    first.set("a.png", True)
    other.join()
    assert read_labels(file) == first.labels() == {"a.png": True, "b.png": False}


def test_two_pages_of_a_server_lose_no_label_without_locks_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = LabelBook(tmp_path / "labels.csv")

    def write(labels: Any, path: Path) -> None:
        time.sleep(0.05)
        write_labels(labels, path)

    monkeypatch.setattr(label_book, "_alone", lambda folder: nullcontext())
    monkeypatch.setattr(label_book, "write_labels", write)
    pages = [threading.Thread(target=book.set, args=(name, True)) for name in "abc"]
    for page in pages:
        page.start()
    for page in pages:
        page.join()
    assert read_labels(book.path) == dict.fromkeys("abc", True)


def test_a_file_of_the_same_size_and_time_is_another_one(tmp_path: Path) -> None:
    """A file system's clock may tick slower than two servers write."""
    file = tmp_path / "labels.csv"
    write_labels({"a.png": True}, file)
    os.utime(file, (1, 1))
    book = LabelBook(file)
    write_labels({"b.png": True}, tmp_path / "other.csv")
    os.utime(tmp_path / "other.csv", (1, 1))
    os.replace(tmp_path / "other.csv", file)
    assert book.changed()
    assert book.labels() == {"b.png": True}


def test_a_label_that_is_refused_is_not_kept(tmp_path: Path) -> None:
    """What refuses it sees the file, where another server may have written meanwhile."""
    book = LabelBook(tmp_path / "labels.csv")
    write_labels({"a.png": True}, book.path)
    seen: list[bool | None] = []

    def refuse(kept: bool | None) -> None:
        seen.append(kept)
        raise ValueError("somebody else was faster")

    for image in ("a.png", "b.png"):
        with pytest.raises(ValueError, match="faster"):
            book.set(image, False, refuse)
    assert seen == [True, None]
    assert read_labels(book.path) == book.labels() == {"a.png": True}
    assert not book.changed()


def test_a_label_is_kept_until_it_is_forgotten(tmp_path: Path) -> None:
    book = LabelBook(tmp_path / "labels.csv")
    assert book.set("a.png", True) is None  # there was no file
    stat = book.path.stat()
    assert book.set("b.png", False) == (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    assert (
        read_labels(book.path) == LabelBook(book.path).labels() == {"a.png": True, "b.png": False}
    )
    book.set("a.png", None)
    book.set("c.png", None)
    assert read_labels(book.path) == {"b.png": False}


def test_a_link_to_labels_that_projects_share_stays_one(tmp_path: Path) -> None:
    shared, link = tmp_path / "shared" / "labels.csv", tmp_path / "project" / "labels.csv"
    for file in (shared, link):
        file.parent.mkdir()
    link.symlink_to(shared)
    LabelBook(link).set("a.png", True)
    assert link.is_symlink()
    assert read_labels(shared) == {"a.png": True}
