"""Marks that a run leaves in its folders."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.compute.marks import first_unseen, marked


def test_a_mark_is_seen_where_it_was_left_and_not_in_a_copy(tmp_path: Path) -> None:
    here, copy = tmp_path / "here", tmp_path / "copy"
    with marked([here, "memory://bucket"]) as marks:
        assert first_unseen(marks, 0) is None
        elsewhere = [(copy if place == here else place, name) for place, name in marks]
        assert first_unseen(elsewhere, 0) == copy
    assert list(here.iterdir()) == []


def test_a_file_that_shows_late_is_waited_for_and_looked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network file system, whose clients keep lists of a folder for some seconds."""
    now, slept = 100.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        slept.append(seconds)
        if len(slept) == 35:
            (tmp_path / "late").touch()

    clock = SimpleNamespace(monotonic=lambda: now, sleep=sleep)
    monkeypatch.setattr("pipeline.compute.marks.time", clock)
    assert first_unseen([(tmp_path, "late")], 2) == tmp_path
    assert 2 <= sum(slept) < 3
    assert first_unseen([(tmp_path, "late")], 4) is None
    (tmp_path / "late").unlink()  # as the run that ends does
    assert first_unseen([(tmp_path, "late")], 4) is None


def test_a_place_that_takes_no_file_gets_no_mark(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with marked([tmp_path / "file" / "store"]) as marks:
        assert marks == ()
