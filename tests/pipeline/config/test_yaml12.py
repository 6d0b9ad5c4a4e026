"""YAML is read as DVC reads it, whatever is written."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import parse_yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fade.errors import ParameterError
from pipeline.config.load import load_params
from pipeline.config.yaml12 import dump_yaml, flow_yaml, load_yaml
from tests.projects import ROOT

SCALARS: dict[str, Any] = {
    "1e-5": 1e-5, "1e-05": 1e-5, "1e3": 1000.0, "-1.5E+3": -1500.0, "+.5": 0.5, "1.": 1.0,
    "-.inf": -math.inf,
    "010": 10, "08": 8, "-1_000": -1000, "0o10": 8, "0x1F": 31, "0b11": 3,
    "1:30": "1:30", "1:30.5": "1:30.5", "1e": "1e", "e5": "e5", "0o8": "0o8",
    "no": "no", "on": "on", "YES": "YES", "y": "y",
    "true": True, "False": False, "null": None, "~": None,
}  # fmt: skip
"""What YAML 1.2 makes of them."""

PIECES = (
    *SCALARS, "a", "b: ", "- ", "\n", "\n  ", " ", "[", "]", "{", "}", ",", "'", '"', "#", "&x ",
    "*x", "<<: ", "? ", "| ", "> ", "!!str ", "!!int ", "!!float ", "!!python/name:x ", "%YAML 1.1\n",
    "---\n", "...\n", "=", "2020-01-01", "\\", "\t", "é", "\x85", "\ufeff", "\u2028", "_", "-", ".", "0",
)  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Equal with equal types, NaN included."""
    return type(one) is type(other) and repr(one) == repr(other)


@pytest.mark.parametrize("written", SCALARS)
def test_scalars_are_read_as_dvc_reads_them(written: str) -> None:
    (found,) = load_yaml(f"[{written}]")
    assert (type(found), found) == (type(SCALARS[written]), SCALARS[written])
    assert parse_yaml(f"[{written}]", "x") == [found]


@settings(max_examples=150)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@example("a: 1\na: 1")
@example("? [1, 2]\n: 3")
@example("!!int x")
@example("a: !!float\n")
@example("1e-5\t")
def test_any_text_is_read_as_dvc_reads_it_or_refused_in_a_line(text: str) -> None:
    refusal: ValueError | None = None
    try:
        found = load_yaml(text)
    except ValueError as error:
        refusal = error
    if refusal is None:
        assert same(found or {}, parse_yaml(text, "x"))
    else:
        assert str(refusal)
        assert "\n" not in str(refusal)


def test_the_shipped_files_are_read_as_dvc_reads_them() -> None:
    for file in ("params.yaml", "dvc.yaml", "demo/dvc.yaml"):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert same(load_yaml(text), parse_yaml(text, file))


def test_values_that_were_read_are_the_readers_own() -> None:
    text = "{a: {b: [1]}}"
    load_yaml(text)["a"]["b"].append(2)
    assert load_yaml(text) == {"a": {"b": [1]}}


SCALAR = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([*SCALARS, "", "=", "<<", "2020-01-01", "a: b", "# no", "a, b", "x ", "..."])
)


@settings(max_examples=40)
@given(SCALAR | st.lists(SCALAR, max_size=4), st.text(max_size=4))
def test_what_is_written_is_read_as_it_was(value: Any, key: str) -> None:
    flow = flow_yaml(value)
    for text in (dump_yaml({"k": {key: value}}), "{k: {x: " + flow + "}}", "k:\n  x: " + flow):
        (inner,) = load_yaml(text)["k"].values()
        assert same(inner, value)
        assert same(parse_yaml(text, "x"), load_yaml(text))
    assert list(load_yaml(dump_yaml({key: value}))) == [key]


def test_repeated_keys_are_found_by_line(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n")
    with pytest.raises(ParameterError, match="c is given twice, in line 3 and again in line 5"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("text", "clue"),
    [
        ("a: 1\nb: [\n", "line 3: "),
        ("a: 1\n\tb: 2\n", "line 2: "),
        ("a: !!python/object:os.system {}", "line 1: could not determine a constructor"),
        ("[" * 2000, "nested too deep"),
        ("a: 1\n---\nb: 2\n", "line 2: "),
    ],
)
def test_what_is_not_valid_is_named_with_its_line(text: str, clue: str) -> None:
    with pytest.raises(ValueError, match=clue) as caught:
        load_yaml(text)
    assert "\n" not in str(caught.value)
