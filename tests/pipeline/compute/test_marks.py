"""Marks that a run leaves in its folders."""

from __future__ import annotations

from pathlib import Path

from pipeline.compute.marks import first_unseen, marked


def test_a_mark_is_seen_where_it_was_left_and_not_in_a_copy(tmp_path: Path) -> None:
    here, copy = tmp_path / "here", tmp_path / "copy"
    with marked([here, "memory://bucket"]) as marks:
        assert first_unseen(marks, 0) is None
        elsewhere = [(copy if place == here else place, name) for place, name in marks]
        assert first_unseen(elsewhere, 0) == copy
    assert list(here.iterdir()) == []


def test_a_place_that_takes_no_file_gets_no_mark(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with marked([tmp_path / "file" / "store"]) as marks:
        assert marks == ()
