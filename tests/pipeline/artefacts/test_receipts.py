"""Receipts vouch for rows, in bytes that depend on their content alone."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cache.layout import Space
from cache.store import DamagedSegmentError, Store
from fade.errors import StoreError
from pipeline.artefacts import receipts, tables
from pipeline.artefacts.catalogue import LANGUAGE, REFERENCES, STREAMED, TEST, VISION, Artefact
from pipeline.artefacts.receipts import (
    check_receipts,
    check_streamed,
    lost_rows,
    needed_rows,
    read_receipt,
    write_receipt,
)
from pipeline.artefacts.tables import write_table
from pipeline.config.load import load_params
from pipeline.features.kept import KeptFeatures
from pipeline.inference.lock import check_lock
from tests.projects import ROOT

A = Space("a", {"m": 1}, (3,), "float32")
B = Space("b", {"m": 2}, (), "float64")
KEYS = [f"k{i}" for i in range(6)]
ROWS = {
    A: np.arange(18, dtype="float32").reshape(6, 3),
    B: np.arange(6, dtype="float64"),
}


def filled(root: Path, segments: list[list[int]]) -> Store:
    store = Store(root)
    for space, rows in ROWS.items():
        store.register(space)
        for segment in segments:
            store.write(space, [KEYS[i] for i in segment], rows[segment])
    return store


def receipt_at(path: Path) -> Artefact:
    return replace(TEST, path=path)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Receipts of the project that is the folder here are discarded, too: not those of a clone."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled(tmp_path / "store", [[0, 1, 2, 3], [4, 5]])


@pytest.fixture
def artefact(tmp_path: Path, store: Store) -> Artefact:
    result = receipt_at(tmp_path / "receipts" / "test.parquet")
    write_receipt(result, store, {A: KEYS, B: KEYS[:4]}, {"a": {"cable": "c1"}})
    return result


def test_a_receipt_comes_back(store: Store, artefact: Artefact) -> None:
    receipt = read_receipt(artefact)
    assert receipt.space("a") == A
    assert receipt.space("b") == B
    assert receipt.compared_with == {"a": {"cable": "c1"}}
    assert {label: list(rows) for label, rows in receipt.rows.items()} == {"a": KEYS, "b": KEYS[:4]}
    for label, space in (("a", A), ("b", B)):
        places = receipt.locate(store, label, KEYS[3::-1])
        assert list(places) == KEYS[3::-1]
        assert np.array_equal(store.read(space, list(places.values())), ROWS[space][3::-1])


def test_its_bytes_depend_on_its_content_alone(tmp_path: Path, artefact: Artefact) -> None:
    other = filled(tmp_path / "other", [[5, 3, 1], [0], [2], [4, 0]])
    again = receipt_at(tmp_path / "again.parquet")
    needed = {B: [*KEYS[3::-1], KEYS[0]], A: [*KEYS[::-1], *KEYS]}
    write_receipt(again, other, needed, {"a": {"cable": "c1"}})
    assert again.path.read_bytes() == artefact.path.read_bytes()


def test_a_space_without_rows_is_known_all_the_same(tmp_path: Path, store: Store) -> None:
    artefact = receipt_at(tmp_path / "r.parquet")
    write_receipt(artefact, store, {A: []})
    receipt = read_receipt(artefact)
    assert receipt.rows == {"a": {}}
    assert receipt.locate(store, "a", []) == {}
    write_receipt(artefact, store, {})
    assert read_receipt(artefact).spaces == {}


def test_rows_that_are_not_there_get_no_receipt(tmp_path: Path, store: Store) -> None:
    artefact = receipt_at(tmp_path / "r.parquet")
    with pytest.raises(StoreError, match="not in the store"):
        write_receipt(artefact, store, {A: ["k0", "unheard-of"]})
    assert not artefact.path.exists()


def test_an_unknown_label_is_refused(store: Store, artefact: Artefact) -> None:
    with pytest.raises(StoreError, match=r"knows no c: run `fade run`"):
        read_receipt(artefact).locate(store, "c", KEYS)


def test_rows_that_are_gone_void_the_receipt(store: Store, artefact: Artefact) -> None:
    receipt = read_receipt(artefact)
    store.withdraw(A, store.index(A)["k4"].segment)
    assert len(receipt.locate(store, "a", KEYS[:4])) == 4
    with (
        pytest.raises(DamagedSegmentError, match="2 of 6 rows of a"),
        receipt.discard_on_damage(store),
    ):
        receipt.locate(store, "a", KEYS)
    assert not artefact.path.exists()


def test_a_row_with_other_content_is_refused(store: Store, artefact: Artefact) -> None:
    for space in ROWS:
        store.withdraw(space, store.index(space)["k4"].segment)
        store.write(space, KEYS[4:], ROWS[space][4:] + 1)
    with pytest.raises(DamagedSegmentError, match="2 of 6 rows"):
        read_receipt(artefact).locate(store, "a", KEYS)


def test_a_row_that_the_receipt_does_not_know_is_refused(store: Store, artefact: Artefact) -> None:
    with pytest.raises(DamagedSegmentError, match="1 of 2 rows"):
        read_receipt(artefact).locate(store, "b", ["k0", "k5"])


def test_rows_are_found_part_by_part(store: Store, artefact: Artefact) -> None:
    located = read_receipt(artefact).located(store, "a")
    keys = list(located.index.sorted_keys)
    found = located.locations_iter(keys[at : at + 1] for at in range(len(keys)))
    assert list(found) == list(located.locations(keys))
    assert list(located.locations_iter([])) == []
    with pytest.raises(DamagedSegmentError, match=f"2 of {len(keys) + 2} rows"):
        located.locations_iter([["x"], keys, ["y"]])


def test_the_same_rows_written_anew_serve(store: Store, artefact: Artefact) -> None:
    store.withdraw(A, store.index(A)["k4"].segment)
    store.write(A, ["k5", "k4"], ROWS[A][[5, 4]])
    assert len(read_receipt(artefact).locate(store, "a", KEYS)) == 6


def test_other_errors_leave_the_receipt(store: Store, artefact: Artefact) -> None:
    with pytest.raises(StoreError), read_receipt(artefact).discard_on_damage(store):
        raise StoreError("the disk is full")
    with read_receipt(artefact).discard_on_damage(store):
        pass
    assert artefact.path.exists()


def test_a_missing_receipt_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"missing: run `fade run`"):
        read_receipt(receipt_at(tmp_path / "none.parquet"))


def test_another_table_is_no_receipt(tmp_path: Path) -> None:
    artefact = receipt_at(tmp_path / "r.parquet")
    write_table(pd.DataFrame({"x": [1]}), artefact.path)
    with pytest.raises(StoreError, match="is no receipt"):
        read_receipt(artefact)
    write_table(pd.DataFrame({"x": [1]}), artefact.path, spaces=[A.to_json()], against={})
    with pytest.raises(StoreError, match="is no receipt"):
        read_receipt(artefact)


@pytest.mark.parametrize("key", [None, b"k0"])
def test_keys_that_are_no_text_are_no_receipt(
    key: bytes | None, store: Store, artefact: Artefact
) -> None:
    frame, remarks = tables.read_table(artefact.path)
    del remarks["schema"]
    keys = pd.Series([key] * len(frame), dtype=object)
    write_table(frame.assign(key=keys), artefact.path, **remarks)
    with pytest.raises(StoreError, match="is no receipt"):
        read_receipt(artefact).located(store, "a")


def test_remarks_are_readable_without_this_program(artefact: Artefact) -> None:
    import pyarrow.parquet as pq

    remarks = json.loads(pq.read_schema(artefact.path).metadata[b"fade"])
    assert remarks["schema"] == 1
    assert [space["label"] for space in remarks["spaces"]] == ["a", "b"]


def test_a_long_receipt_is_written_and_read_in_parts(
    store: Store, artefact: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read_receipt(artefact).rows
    for module in (receipts, tables):
        monkeypatch.setattr(module, "GROUP_ROWS", 2)
    for count in (5, 6):  # k5 and k4 lie in a segment of their own
        parts = receipt_at(artefact.path.with_name(f"{count}.parquet"))
        write_receipt(parts, store, {A: KEYS[:count], B: KEYS[2:3]})
        receipt = read_receipt(parts)
        assert dict(receipt.rows["a"]) == {key: whole["a"][key] for key in KEYS[:count]}
        assert dict(receipt.rows["b"]) == {"k2": whole["b"]["k2"]}
        found = receipt.located(store, "a")
        assert found.is_covered([*KEYS, "x"]).tolist() == [
            key in KEYS[:count] for key in [*KEYS, "x"]
        ]
        first, second = (store.index(A)[key].segment for key in ("k0", "k5"))
        for without, lost in (
            ([], 0),
            ([second], count - 4),
            ([first], 4),
            ([first, second], count),
        ):
            located = receipt.located(store, "a", without)
            assert located.lost == lost
            if lost:
                with pytest.raises(DamagedSegmentError, match=f"{lost} of {count} rows of a"):
                    located.check()


def test_of_two_rows_of_a_key_the_receipt_s_is_taken(store: Store, artefact: Artefact) -> None:
    for more in range(8):
        store.write(A, KEYS, ROWS[A] + 1 + more)
    receipt = read_receipt(artefact)
    places = receipt.locate(store, "a", KEYS)
    assert np.array_equal(store.read(A, list(places.values())), ROWS[A])


def test_a_receipt_of_this_folder_is_read_from_another_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_receipt(TEST, store, {A: KEYS})
    receipt = read_receipt(TEST)
    monkeypatch.chdir(tmp_path.parent)
    assert list(receipt.rows["a"]) == KEYS


def test_one_component_that_is_gone_ends_a_run_without_features(store: Store) -> None:
    write_receipt(STREAMED, store, {A: KEYS})
    check_streamed(store, 0)
    assert STREAMED.path.exists()
    with pytest.raises(DamagedSegmentError, match="gone from the store"):
        check_streamed(store, 1)
    assert not STREAMED.path.exists()


def test_receipts_of_another_run_than_dvc_notes_are_refused(store: Store, tmp_path: Path) -> None:
    """As `dvc exp apply` leaves them: results are of the experiment, receipts of the run before."""
    root = tmp_path / "project"
    for artefact in (REFERENCES, TEST, STREAMED, LANGUAGE, VISION):
        write_receipt(receipt_at(root / artefact.path), store, {A: KEYS})
    (root / "params.yaml").write_text("{}")
    params = load_params(ROOT / "params.yaml")
    check_receipts(root)  # no dvc.lock
    digest = hashlib.md5((root / VISION.path).read_bytes(), usedforsecurity=False).hexdigest()
    outs = [{"path": VISION.path.as_posix(), "md5": digest}]
    lock = root / "dvc.lock"
    lock.write_text(json.dumps({"stages": {"score_vision": {"outs": outs}}}))
    check_receipts(root)
    check_lock(root)
    assert needed_rows([root])
    assert KeptFeatures.open(params, root).labels == ["a"]
    write_receipt(receipt_at(root / VISION.path), store, {A: KEYS[1:]})
    of_another = r"project/artefacts/receipts/vision\.parquet is of another run than .*fade run"
    for read in (
        lambda: check_lock(root),
        lambda: needed_rows([root]),
        lambda: KeptFeatures.open(params, root),
    ):
        with pytest.raises(StoreError, match=of_another):
            read()
    (root / VISION.path).unlink()
    check_receipts(root)  # the next run makes it


def test_receipts_of_a_project_elsewhere_go_together(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "project"
    for artefact, space in ((TEST, A), (REFERENCES, A), (VISION, B)):
        write_receipt(receipt_at(root / artefact.path), store, {space: KEYS[4:]})
    with pytest.raises(StoreError, match="streamed"):  # a receipt is missing
        needed_rows([root])
    for artefact in (STREAMED, LANGUAGE):
        write_receipt(receipt_at(root / artefact.path), store, {B: []})
    needed = {
        fingerprint: [list(rows) for rows in parts]
        for fingerprint, parts in needed_rows([root]).items()
    }
    assert needed == {A.fingerprint: [KEYS[4:]] * 2, B.fingerprint: [[], [], KEYS[4:]]}
    assert lost_rows(store, root) == []
    segment = store.index(A)["k4"].segment
    lost = lost_rows(store, root, {A.fingerprint: [segment]})
    assert [path for path, _ in lost] == [root / REFERENCES.path, root / TEST.path]
    store.withdraw(A, segment)
    receipt = read_receipt(TEST, root)
    with (
        pytest.raises(DamagedSegmentError, match="run again") as caught,
        receipt.discard_on_damage(store),
    ):
        raise DamagedSegmentError("a fault", "it was removed; run again")
    assert caught.value.advice == "it was removed; run again"
    there = [(root / artefact.path).exists() for artefact in (TEST, REFERENCES, VISION)]
    assert there == [False, False, True]
