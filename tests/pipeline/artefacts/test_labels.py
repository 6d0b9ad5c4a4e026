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
    assert path.read_text().splitlines()[1] == "a/b.png,anomalous"


def test_notes_of_a_person_stay_with_their_images(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text('path,label,note,by\na.png,good,"dust, no dent",Ann\nb.png,anomalous\n')
    write_labels(read_labels(path) | {"a.png": True, "c.png": False}, path)
    assert path.read_text().splitlines() == [
        "path,label,note,by", 'a.png,anomalous,"dust, no dent",Ann', "b.png,anomalous", "c.png,good",
    ]  # fmt: skip
    write_labels({"b.png": True}, path)
    assert path.read_text().splitlines() == ["path,label,note,by", "b.png,anomalous"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,label\na.png,good\n", "its first line must be path,label"),
        ("path,label\na.png,good\nb.png,bad\n", "line 3: a line is a path .* not 'bad'"),
        ("path,label\na.png\n", "line 2: a line is a path .* not 'a.png'"),
        ("path,label\na.png,good \n", "not 'good '"),
        ("path,label\na.png,good\na.png,anomalous\n", "line 3: a.png has a label already"),
        ('path,label\n"a.png,good\n', "line 2"),
        (b"path,label\n\xff.png,good\n", "not UTF-8"),
    ],
)
def test_other_files_are_refused(text: str | bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=says):
        read_labels(path)
