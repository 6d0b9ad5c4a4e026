"""Names in CSV files come back as they were, and none begins as a formula does."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.artefacts.csv_text import marked, unmarked
from pipeline.artefacts.tables import read_csv, write_csv

STARTS = "=+-@\t\r\n"


@given(st.text(st.sampled_from(STARTS + "'a1\uff1d "), max_size=5))
@settings(max_examples=50, deadline=None)
def test_names_come_back(name: str) -> None:
    assert unmarked(marked(name)) == name
    assert not marked(name).startswith(tuple(STARTS))
    if not name.startswith("'"):
        assert unmarked(name) == name  # as files of others have it


def test_full_width_signs_begin_a_formula_too() -> None:
    for sign in map(chr, (0xFF1D, 0xFF0B, 0xFF0D, 0xFF20)):
        assert marked(sign) == f"'{sign}"


def test_categories_of_metrics(tmp_path: Path) -> None:
    names = ["=cmd|' /C calc'!A0", "-1", "'=x", "cable", "01"]
    frame = pd.DataFrame({"category": names, "value": [-1.5, 2.0, 3.0, 4.0, 5.0]})
    write_csv(frame, tmp_path / "metrics.csv")
    text = (tmp_path / "metrics.csv").read_text(encoding="utf-8")
    assert text.splitlines()[1:3] == ["'=cmd|' /C calc'!A0,-1.5,1", "'-1,2.0,1"]
    found = read_csv(tmp_path / "metrics.csv")
    assert found["category"].tolist() == names
    assert found["value"].tolist() == frame["value"].tolist()


def test_a_carriage_return_ends_no_row(tmp_path: Path) -> None:
    """A CSV writer that ends rows with a line feed alone puts no quotes around one."""
    file = tmp_path / "kinds.csv"
    write_csv(pd.DataFrame({"defect": ["a\rb", "c\r\nd", "e"], "value": [1, 2, 3]}), file)
    assert file.read_bytes() == b'defect,value,schema\n"a\rb",1,1\n"c\r\nd",2,1\ne,3,1\n'
    assert read_csv(file)["value"].tolist() == [1, 2, 3]
    with file.open(encoding="utf-8", newline="") as lines:
        assert [row[0] for row in csv.reader(lines)][1:] == ["a\rb", "c\r\nd", "e"]
