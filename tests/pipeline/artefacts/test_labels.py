"""The file of corrected labels: what is written is read, and what cannot be meant is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from fade.errors import DataError
from pipeline.artefacts.labels import read_labels, write_labels


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    labels = {
        "a/b.png": True,
        '=odd, "name".png': False,
        "line\nbreak.png": True,
        "carriage\rreturn": True,
    }
    assert read_labels(path) == {}
    write_labels(labels, path)
    assert read_labels(path) == labels
    first, odd = path.read_text().splitlines()[1:3]
    assert first == "a/b.png,anomalous"
    assert odd.startswith("\"'=odd")  # no formula


def test_notes_of_a_person_stay_with_their_images(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text('path,label,note,by\na.png,good,"dust, no dent",Ann\nb.png,anomalous\n')
    assert read_labels(path) == {"a.png": False, "b.png": True}
    write_labels(read_labels(path) | {"a.png": True, "c.png": False}, path)
    assert path.read_text().splitlines() == [
        "path,label,note,by", 'a.png,anomalous,"dust, no dent",Ann', "b.png,anomalous", "c.png,good",
    ]  # fmt: skip
    write_labels({"b.png": True}, path)
    assert path.read_text().splitlines() == ["path,label,note,by", "b.png,anomalous"]


def test_a_note_is_no_label(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("path,label,note\na.png,good,anomalous\nb.png,anomalous,good\n")
    assert read_labels(path) == {"a.png": False, "b.png": True}


def test_what_spreadsheets_save_is_read(tmp_path: Path) -> None:
    """Rows that were emptied, columns beyond, line breaks in the header of one."""
    path = tmp_path / "labels.csv"
    path.write_bytes(b'\xef\xbb\xbfpath,label,"note\r\nby",\r\na.png,good,x,\r\n,,,\r\n,\r\n')
    assert read_labels(path) == {"a.png": False}
    write_labels(read_labels(path), path)
    assert path.read_bytes() == b'path,label,"note\r\nby",\na.png,good,x,\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("path;label\na.png;good\n", "its first line must be path,label, separated by commas"),
        (",good\n", "its first line must be path,label$"),
        ("path,label\n,good\n", "line 2: it names no image"),
        ("name,label\na.png,good\n", "its first line must be path,label"),
        ("path,label\na.png,good\nb.png,bad\n", "line 3: a line is a path .* not 'bad'"),
        ("path,label\na.png\n", "line 2: a line is a path .* not 'a.png'"),
        ("path,label\na.png,good \n", "not 'good '"),
        ("path,label\na.png,good\na.png,anomalous\n", "line 3: a.png has a label already"),
        ('path,label\n"a.png,good\n', "line 2"),
        ('path,label\n"a"b.png,good\n', "line 2: .* fix or remove it"),
        ('path,label\n"a\nb.png",good\nc.png,bad\n', "line 4: a line is a path"),
        (b"path,label\n\xff.png,good\n", "not UTF-8"),
    ],
)
def test_other_files_are_refused(text: str | bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=says):
        read_labels(path)
