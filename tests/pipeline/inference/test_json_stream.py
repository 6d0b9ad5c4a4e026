"""Objects that are written piece by piece."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import pytest

from fade.errors import StoreError
from pipeline.inference.json_stream import write_json_stream


def test_a_line_for_each_entry_of_a_list(tmp_path: Path) -> None:
    content = {
        "a": ({"x": n} for n in (1, 2)), "b": OrderedDict(c=["d"]), "e": "ä\udcff", "f": [],
    }  # fmt: skip
    write_json_stream(content, tmp_path / "new.json")
    text = (tmp_path / "new.json").read_bytes().decode("ascii")
    assert text == (
        '{"a": [\n{"x": 1},\n{"x": 2}],\n"b": {"c": ["d"]},\n"e": "\\u00e4\\udcff",\n"f": []}\n'
    )
    assert json.loads(text)["e"] == "ä\udcff"


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json_stream({"a": [1, float("nan")]}, tmp_path / "new.json")
    assert not (tmp_path / "new.json").exists()
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        write_json_stream({"a": 1}, tmp_path / "file" / "new.json")
