"""Tables come back as they were, or are refused with a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pipeline.artefacts.tables as tables
from fade.errors import StoreError
from pipeline.artefacts.tables import (
    read_csv,
    read_json,
    read_table,
    table_columns,
    table_parts,
    table_writer,
    write_csv,
    write_json,
    write_table,
)

FRAME = pd.DataFrame(
    {
        "category": ["NA", "007", "", "Kabel ä"],
        "score": [0.1 + 0.2, np.nan, -0.0, 1e-300],
        "is_anomaly": [True, False, True, True],
        "crc": pd.Series([0, 2**32 - 1, 1, 2], dtype="uint32"),
    }
)


def test_parquet_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "t.parquet"
    write_table(FRAME, path, remark={"x": [1, None, "ä"]})
    frame, remarks = read_table(path)
    pd.testing.assert_frame_equal(frame, FRAME, check_dtype=False)
    assert frame["crc"].dtype == "uint32"
    assert remarks == {"schema": 1, "remark": {"x": [1, None, "ä"]}}


def test_columns_of_some_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(FRAME.iloc[[3, 1, 2]], path)
    whole, _ = read_table(path)
    assert list(whole) == table_columns(path)[0] == list(FRAME)  # the index is none
    frame, _ = read_table(path, ["crc", "category"], is_anomaly=True)
    assert frame.to_dict("list") == {"crc": [2, 1], "category": ["Kabel ä", ""]}


def test_parts_of_a_long_table(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    groups = [("aa", "kl"), ("ab", "mn"), ("bc", "op"), ("ca", "qr"), ((None, None), "st")]
    with table_writer(path, {"space": "string", "key": "string"}) as write:
        for space, key in groups:
            write({"space": list(space), "key": list(key)})
    for space, keys in (("a", "klmr"), ("b", "no"), ("c", "pq"), ("d", "")):
        parts = list(table_parts(path, ["key"], space=space))
        assert {name for part in parts for name in part} <= {"key"}
        assert "".join(key for part in parts for key in part["key"].to_pylist()) == keys
    data = bytearray(path.read_bytes())
    data[data.index(b"klk") if b"klk" in data else data.index(b"k", 4)] ^= 4
    path.write_bytes(data)
    with pytest.raises(StoreError, match="cannot be read"):
        list(table_parts(path, ["key"], space="a"))


def test_json_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "t.json"
    write_json({"a": 0.1 + 0.2, "ä": [None, "NA"]}, path)
    assert read_json(path) == {"schema": 1, "a": 0.1 + 0.2, "ä": [None, "NA"]}
    assert "ä" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_holds_no_value_that_is_none(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"a": value}, tmp_path / "t.json")
    assert not (tmp_path / "t.json").exists()


@pytest.mark.parametrize(
    "name",
    ["NA", "N/A", "null", "None", "nan", "NaN", "007", "1e5", "1.0", "True", "-", "#x", " x ",
     'a "b"', "a,b", "a;b", "a\nb", "Ä", "inf", "'", "2024-01-01"],
)  # fmt: skip
def test_category_names_survive_csv(tmp_path: Path, name: str) -> None:
    path = tmp_path / "t.csv"
    write_csv(pd.DataFrame({"category": [name, "mean"], "auroc": [0.5, np.nan]}), path)
    frame = read_csv(path)
    assert frame["category"].tolist() == [name, "mean"]
    assert frame["auroc"][0] == 0.5
    assert np.isnan(frame["auroc"][1])


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_numbers_survive_csv_bit_for_bit(tmp_path: Path, numbers: list[float]) -> None:
    path = tmp_path / "t.csv"
    write_csv(pd.DataFrame({"category": "c", "value": numbers, "shots": 4}), path)
    frame = read_csv(path)
    assert frame["value"].to_numpy(float).tobytes() == np.array(numbers).tobytes()
    assert frame["shots"].dtype == "int64"
    assert list(frame) == ["category", "value", "shots"]


def test_columns_that_came_later_lie_last(tmp_path: Path) -> None:
    frame = pd.DataFrame({"late": [1], "category": ["nut"], "value": [0.5]})
    write_csv(frame, tmp_path / "t.csv", ["late"])
    assert (tmp_path / "t.csv").read_text() == "category,value,schema,late\nnut,0.5,1,1\n"
    assert read_csv(tmp_path / "t.csv").to_dict("list") == {
        "category": ["nut"], "value": [0.5], "late": [1],
    }  # fmt: skip


def test_an_empty_csv_comes_back(tmp_path: Path) -> None:
    write_csv(FRAME.iloc[:0], tmp_path / "t.csv")
    assert list(read_csv(tmp_path / "t.csv")) == list(FRAME)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "parquet": lambda path: write_table(FRAME, path),
    "json": lambda path: write_json({"rows": [1, 2, 3]}, path),
    "csv": lambda path: write_csv(FRAME, path),
}
READERS: dict[str, Callable[[Path], Any]] = {
    "parquet": read_table, "json": read_json, "csv": read_csv,
}  # fmt: skip
kinds = pytest.mark.parametrize("kind", list(WRITERS))


@kinds
@pytest.mark.parametrize("version", [0, 2])
def test_other_versions_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, version: int
) -> None:
    path = tmp_path / f"t.{kind}"
    with monkeypatch.context() as patch:
        patch.setattr(tables, "TABLE_SCHEMA", version)
        WRITERS[kind](path)
    for reader in (READERS[kind], *([table_columns] if kind == "parquet" else ())):
        with pytest.raises(StoreError, match=rf"schema version {version}, this program reads 1"):
            reader(path)


def test_rows_of_two_versions_are_refused(tmp_path: Path) -> None:
    FRAME.assign(schema=[1, 1, 2, 1]).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(StoreError, match="schema version"):
        read_csv(tmp_path / "t.csv")


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "t.parquet")
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "t.json").write_text(json.dumps({"rows": []}))
    for kind, reader in READERS.items():
        with pytest.raises(StoreError, match="schema version None"):
            reader(tmp_path / f"t.{kind}")


@kinds
def test_missing_files_name_the_way_out(tmp_path: Path, kind: str) -> None:
    with pytest.raises(StoreError, match="missing: run `fade run`"):
        READERS[kind](tmp_path / "none")


@kinds
@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00\x01", b"PAR1PAR1", b"[1]", b'"a\nb,c,d\n1']
)
def test_damaged_files_are_refused(tmp_path: Path, kind: str, content: bytes) -> None:
    path = tmp_path / f"t.{kind}"
    path.write_bytes(content)
    with pytest.raises(StoreError) as error:
        READERS[kind](path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("kind", ["parquet", "json"])
def test_files_cut_short_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"t.{kind}"
    WRITERS[kind](path)
    whole = path.read_bytes().rstrip()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(StoreError):
            READERS[kind](path)


def test_flipped_bytes_in_a_table_never_change_a_row_unseen(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    frame = pd.DataFrame({"key": [f"{i:040x}" for i in range(50)], "crc": range(50)})
    write_table(frame, path)
    whole = path.read_bytes()
    refused = 0
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    for place in range(4, len(whole) - footer, 11):
        damaged = bytearray(whole)
        damaged[place] ^= 0x04
        path.write_bytes(damaged)
        try:
            read, _ = read_table(path)
        except StoreError:
            refused += 1
        else:
            pd.testing.assert_frame_equal(read, frame, check_dtype=False)
    assert refused > 20


def test_lines_stay_lines(tmp_path: Path) -> None:
    """Git and DVC compare text files byte by byte, on every system."""
    write_csv(FRAME, tmp_path / "t.csv")
    write_json({"a": 1}, tmp_path / "t.json")
    for name in ("t.csv", "t.json"):
        data = (tmp_path / name).read_bytes()
        assert b"\r" not in data
        assert data.endswith(b"\n")
