"""The store survives kills, half copies, rivals and damage, and never gives a wrong row."""

from __future__ import annotations

import ast
import copy
import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cache.store
from cache.layout import RowLocation, Space, fingerprint
from cache.maintenance import verify
from cache.store import DamagedSegmentError, Store, checksum
from fade.errors import StoreError
from tests.cache.segments import plan_segments
from tests.imports import ROOT, modules
from tests.snapshots import snapshot

SPACE = Space("toy", {"model": "m"}, (5,), "float32")


def rows_of(keys: list[str], space: Space = SPACE) -> np.ndarray:
    """Rows that follow from their keys alone."""
    rows = [
        np.random.default_rng(int(fingerprint(key)[:12], 16)).normal(size=space.shape)
        for key in keys
    ]
    return np.asarray(rows).reshape(len(keys), *space.shape).astype(space.dtype)


def filled(root: Path | str, *segments: list[str], space: Space = SPACE) -> Store:
    store = Store(root)
    store.register(space)
    for keys in segments:
        store.write(space, keys, rows_of(keys, space))
    return store


def read(store: Store, keys: list[str], space: Space = SPACE) -> np.ndarray:
    index = store.index(space)
    with store.repairing():  # as stages do
        return store.read(space, [index[key] for key in keys])


def folder(store: Store, space: Space = SPACE) -> Path:
    return Path(store.root) / store.folder(space)


def data_files(store: Store, segment: str, space: Space = SPACE) -> list[Path]:
    files = (folder(store, space) / "segments" / segment).rglob("*")
    return sorted(f for f in files if f.is_file() and f.name != "zarr.json")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint16"])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 4), (2, 3, 4)])
def test_rows_come_back_bit_for_bit(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    space = Space("x", {"a": 1}, shape, dtype)
    rows = (np.random.default_rng(0).normal(size=(6, *shape)) * 20).clip(0, 100).astype(dtype)
    store = Store(tmp_path)
    store.register(space)
    keys = list("abcdef")
    places = store.write(space, keys, rows)
    assert store.index(space) == dict(zip(keys, places, strict=True))
    back = Store(tmp_path).read(space, places)
    assert back.dtype == rows.dtype
    assert back.shape == rows.shape
    assert back.tobytes() == rows.tobytes()


def test_zeros_and_signs_survive(tmp_path: Path) -> None:
    space = Space("x", {}, (2,), "float16")
    rows = np.array([[0.0, -0.0], [0.0, 0.0], [6e-8, -65504]], np.float16)
    store = Store(tmp_path)
    store.register(space)
    assert store.read(space, store.write(space, list("abc"), rows)).tobytes() == rows.tobytes()


def test_large_rows_share_a_file(tmp_path: Path) -> None:
    space = Space("x", {}, (700, 400), "float16")
    keys = [f"k{i}" for i in range(5)]
    store = filled(tmp_path, keys, space=space)
    (segment,) = {place.segment for place in store.index(space).values()}
    assert len(data_files(store, segment, space)) == 1
    for wanted in (keys, ["k4", "k0"], ["k3"], ["k1", "k1", "k0"]):
        assert np.array_equal(read(store, wanted, space), rows_of(wanted, space))


@pytest.fixture(scope="module")
def scattered(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled(tmp_path_factory.mktemp("scattered"), list("abcdefgh"), list("ij"), list("klmno"))


@given(st.lists(st.sampled_from("abcdefghijklmno"), max_size=12))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_rows_are_read_in_any_order(scattered: Store, keys: list[str]) -> None:
    assert np.array_equal(read(scattered, keys), rows_of(keys))


def test_spaces_do_not_see_each_other(tmp_path: Path) -> None:
    other = Space("toy", {"model": "n"}, (5,), "float32")
    store = filled(tmp_path, ["a"])
    assert store.index(other) == {}
    store.register(other)
    assert store.index(other) == {}
    assert {space.fingerprint for space in store.spaces()} == {
        SPACE.fingerprint, other.fingerprint,
    }  # fmt: skip


def test_nothing_is_created_before_the_first_write(tmp_path: Path) -> None:
    store = Store(tmp_path / "deep" / "store")
    assert store.index(SPACE) == {}
    assert store.spaces() == []
    assert not list(tmp_path.iterdir())


def test_no_rows_leave_no_segment(tmp_path: Path) -> None:
    store = filled(tmp_path)
    assert store.write(SPACE, [], np.empty((0, 5), np.float32)) == []
    assert not list(folder(store).glob("segments/*"))
    assert store.read(SPACE, []).shape == (0, 5)


# Kills and half copies


def test_a_segment_without_an_entry_is_not_there(tmp_path: Path) -> None:
    store = filled(tmp_path, ["a"], ["b"])
    place = store.index(SPACE)["a"]
    (folder(store) / "index" / f"{place.segment}.json").unlink()
    assert list(store.index(SPACE)) == ["b"]


def test_an_entry_cut_short_anywhere_is_ignored(tmp_path: Path) -> None:
    store = filled(tmp_path, ["a", "b"])
    (entry,) = (folder(store) / "index").iterdir()
    whole = entry.read_bytes()
    for length in range(len(whole)):
        entry.write_bytes(whole[:length])
        assert store.index(SPACE) == {}, length
    entry.write_bytes(whole)
    assert len(store.index(SPACE)) == 2


def test_an_entry_with_a_changed_byte_is_ignored(tmp_path: Path) -> None:
    store = filled(tmp_path, ["a", "b"])
    expected = store.index(SPACE)
    (entry,) = (folder(store) / "index").iterdir()
    whole = entry.read_bytes()
    for place in range(len(whole)):
        for change in (0x01, 0x80):
            damaged = bytearray(whole)
            damaged[place] ^= change
            entry.write_bytes(damaged)
            assert store.index(SPACE) in ({}, expected)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"1", b"null", b'"x"', b"{}", b"\xff\xfe", b"{" * 9]
)
def test_strange_entries_are_ignored(tmp_path: Path, content: bytes) -> None:
    store = filled(tmp_path, ["a"])
    index = folder(store) / "index"
    (index / f"{0:032x}.json").write_bytes(content)
    (index / f"{1:032x}.json").mkdir()
    assert list(store.index(SPACE)) == ["a"]


@pytest.mark.parametrize("name", ["0" * 32 + ".json", "copy of {}", "{}.bak", ".{}", "{}.part"])
def test_a_copy_of_an_entry_under_another_name_is_ignored(tmp_path: Path, name: str) -> None:
    """It could never be withdrawn: damage would then be met again by every run."""
    store = filled(tmp_path, ["a"])
    (entry,) = (folder(store) / "index").iterdir()
    shutil.copy(entry, entry.with_name(name.format(entry.name)))
    shutil.rmtree(folder(store) / "segments")
    with pytest.raises(DamagedSegmentError):
        read(store, ["a"])
    assert store.index(SPACE) == {}


@pytest.mark.parametrize("file", ["store.json", "space.json"])
def test_a_kill_while_the_store_is_made_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    replace = Path.replace

    def killed(path: Path, target: Path) -> Path:
        if target.name == file:
            path.write_bytes(path.read_bytes()[:9])
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            Store(tmp_path).register(SPACE)
    store = filled(tmp_path, ["a"])
    assert np.array_equal(read(store, ["a"]), rows_of(["a"]))
    assert store.spaces() == [SPACE]


def start_writer(root: Path | str, *segments: list[str]) -> subprocess.Popen[str]:
    """A process that says `ready` and then writes segments as fast as it can."""
    code = (
        "import json, sys, zarr, google_crc32c, numpy as np, zarr.codecs\n"
        "from cache.layout import Space\n"
        "from cache.store import Store\n"
        "root, space, segments = json.load(sys.stdin)\n"
        "space = Space.from_json(space)\n"
        "print('ready', flush=True)\n"
        "store = Store(root)\n"
        "store.register(space)\n"
        "for keys, rows in segments:\n"
        "    store.write(space, keys, np.asarray(rows, np.float32))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    work = [str(root), SPACE.to_json(), [[keys, rows_of(keys).tolist()] for keys in segments]]
    process.stdin.write(json.dumps(work))
    process.stdin.close()
    return process


def await_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


@pytest.mark.parametrize("delay", [0.0, 0.004, 0.03, 0.11])
def test_a_killed_writer_leaves_only_sound_rows(tmp_path: Path, delay: float) -> None:
    keys = [f"k{i}" for i in range(1000)]
    segments = [keys[i : i + 2] for i in range(0, 1000, 2)]
    process = start_writer(tmp_path, *segments)
    await_ready(process)
    time.sleep(delay)
    process.kill()
    process.wait()
    process.stdout.close()  # type: ignore[union-attr]

    store = Store(tmp_path)
    done = list(store.index(SPACE))
    assert np.array_equal(read(store, done), rows_of(done))
    assert done == [] or set(done) < set(keys)
    store.register(SPACE)
    present = {SPACE.fingerprint: store.index(SPACE)}
    needs = {key: [SPACE.fingerprint] for key in keys}
    for task in plan_segments(needs, present, {SPACE.fingerprint: 20}, 1 << 20, 50):
        store.write(SPACE, task.keys, rows_of(list(task.keys)))
    assert np.array_equal(read(store, keys), rows_of(keys))


def test_two_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    segments = [[f"k{i}", f"k{i + 1}"] for i in range(0, 20, 2)]
    writers = [start_writer(tmp_path, *segments), start_writer(tmp_path, *segments[::-1])]
    for writer in writers:
        await_ready(writer)
    for writer in writers:
        assert writer.wait(60) == 0
        writer.stdout.close()  # type: ignore[union-attr]
    store = Store(tmp_path)
    keys = [f"k{i}" for i in range(20)]
    assert sorted(store.index(SPACE)) == sorted(keys)
    assert len(list((folder(store) / "index").glob("*.json"))) == 2 * len(segments)
    assert np.array_equal(read(store, keys), rows_of(keys))
    assert not list(tmp_path.rglob("*.part"))


# Damage


def remove_shard(segment: Path, file: Path) -> None:
    file.unlink()


def flip_first(segment: Path, file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[3] ^= 0x10
    file.write_bytes(data)


def flip_last(segment: Path, file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 0x01
    file.write_bytes(data)


def empty_shard(segment: Path, file: Path) -> None:
    file.write_bytes(b"")


def halve_shard(segment: Path, file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def remove_segment(segment: Path, file: Path) -> None:
    shutil.rmtree(segment)


def remove_metadata(segment: Path, file: Path) -> None:
    (segment / "zarr.json").unlink()


def halve_metadata(segment: Path, file: Path) -> None:
    text = (segment / "zarr.json").read_bytes()
    (segment / "zarr.json").write_bytes(text[: len(text) // 2])


def list_metadata(segment: Path, file: Path) -> None:
    (segment / "zarr.json").write_text("[]")


def other_type(segment: Path, file: Path) -> None:
    text = (segment / "zarr.json").read_text()
    (segment / "zarr.json").write_text(
        text.replace("float32", "int32").replace("float16", "int16").replace('"NaN"', "0")
    )


DAMAGES = [
    remove_shard, flip_first, flip_last, empty_shard, halve_shard, remove_segment,
    remove_metadata, halve_metadata, list_metadata, other_type,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("space", [SPACE, Space("big", {}, (600, 1000), "float16")])
def test_damage_is_named_withdrawn_and_repaired(tmp_path: Path, space: Space, damage: Any) -> None:
    keys = ["a", "b"]
    store = filled(tmp_path, keys, ["c"], space=space)
    hurt = store.index(space)["a"].segment
    (file,) = data_files(store, hurt, space)
    damage(folder(store, space) / "segments" / hurt, file)
    with pytest.raises(DamagedSegmentError, match=rf"{hurt} of {space.label}.*computed anew") as e:
        read(store, ["c", *keys], space)
    assert "\n" not in str(e.value)
    assert list(store.index(space)) == ["c"]
    store.write(space, keys, rows_of(keys, space))
    assert np.array_equal(read(store, ["b", "c", "a"], space), rows_of(["b", "c", "a"], space))


@pytest.mark.parametrize("damage", DAMAGES)
def test_reading_changes_nothing(tmp_path: Path, damage: Any) -> None:
    store = filled(tmp_path, ["a", "b"], ["c"])
    index = store.index(SPACE)
    hurt = index["a"].segment
    damage(folder(store) / "segments" / hurt, data_files(store, hurt, SPACE)[0])
    before = snapshot(tmp_path)
    with pytest.raises(DamagedSegmentError, match="fade cache verify --repair") as raised:
        store.read(SPACE, [index["a"], index["b"]])
    store.readable(SPACE)
    assert snapshot(tmp_path) == before
    assert store.index(SPACE) == index
    there = copy.copy(raised.value)  # as it comes from a worker
    assert (str(there), there.segment, there.space) == (str(raised.value), hurt, SPACE)


def test_a_sound_duplicate_serves_instead_of_a_damaged_row(tmp_path: Path) -> None:
    store = filled(tmp_path, ["a"], ["a"])
    hurt = store.index(SPACE)["a"].segment
    remove_shard(folder(store), data_files(store, hurt)[0])
    with pytest.raises(DamagedSegmentError):
        read(store, ["a"])
    assert np.array_equal(read(store, ["a"]), rows_of(["a"]))


def test_rows_are_held_against_the_checksum_asked_for(tmp_path: Path) -> None:
    store = filled(tmp_path, ["a", "b"])
    place = store.index(SPACE)["a"]
    with pytest.raises(DamagedSegmentError, match="row 0 has another checksum"):
        store.read(SPACE, [RowLocation(place.segment, 0, place.crc ^ 1)])


def test_a_row_beyond_the_segment_is_damage(tmp_path: Path) -> None:
    store = filled(tmp_path, ["a"])
    place = store.index(SPACE)["a"]
    with pytest.raises(DamagedSegmentError, match=r"it holds \(1, 5\)"):
        store.read(SPACE, [RowLocation(place.segment, 1, place.crc)])


def test_an_entry_that_cannot_be_withdrawn_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path, ["a"])
    shutil.rmtree(folder(store) / "segments")
    (entry,) = (folder(store) / "index").iterdir()

    def refused(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(DamagedSegmentError, match=f"delete .*{entry.name}") as error:
        read(store, ["a"])
    assert "Read-only" in str(error.value)


# What is refused


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_values_that_are_no_numbers_are_refused_by_key(
    tmp_path: Path, shape: tuple[int, ...], bad: float, dtype: str
) -> None:
    space = Space("toy", {}, shape, dtype)
    store = Store(tmp_path)
    store.register(space)
    rows = np.ones((4, *shape), dtype)
    rows[2] = bad
    with pytest.raises(
        StoreError, match=r"toy: NaN or infinite values in 1 of 4 rows .*first: c\)"
    ):
        store.write(space, list("abcd"), rows)
    assert store.index(space) == {}
    assert not list(folder(store, space).glob("segments/*"))


def test_float16_overflow_is_refused(tmp_path: Path) -> None:
    space = Space("toy", {}, (2,), "float16")
    store = Store(tmp_path)
    store.register(space)
    with pytest.raises(StoreError, match=r"first: b.*float32"):
        store.write(space, ["a", "b"], np.array([[1, 2], [3, 70000]], np.float32))


@pytest.mark.parametrize("shape", [(2, 4), (3, 5), (2,), (2, 5, 1), ()])
def test_other_shapes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(StoreError, match="for 2 keys of shape"):
        filled(tmp_path).write(SPACE, ["a", "b"], np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("held", "given"),
    [("int8", "float32"), ("int8", "int64"), ("uint8", "int8"), ("float32", "object"),
     ("float32", "complex64"), ("float32", "str")],
)  # fmt: skip
def test_casts_that_change_values_are_refused(tmp_path: Path, held: str, given: str) -> None:
    space = Space("toy", {}, (5,), held)
    store = Store(tmp_path)
    store.register(space)
    with pytest.raises(StoreError, match="cannot be stored as"):
        store.write(space, ["a"], np.full((1, 5), 1).astype(given))


def test_keys_that_no_reader_would_take_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="a key has 201 characters, at most 200 are stored"):
        filled(tmp_path, ["a", "b" * 201])


@pytest.mark.parametrize("content", ['{"schema": 1}', '{"schema": 3}', "{}"])
def test_another_schema_is_refused(tmp_path: Path, content: str) -> None:
    filled(tmp_path, ["a"])
    (tmp_path / "store.json").write_text(content)
    with pytest.raises(StoreError, match=r"schema version .*this program reads 2"):
        Store(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{", "\udcff", "[" * 99_999])
def test_a_damaged_marker_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "store.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(StoreError, match=r"store\.json cannot be read"):
        Store(tmp_path)


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be read"):
        Store(tmp_path / "file" / "store")


@pytest.mark.parametrize(
    ("code", "line"),
    [(errno.ENOSPC, "no space is left"), (errno.EROFS, "read-only"), (errno.EDQUOT, "quota"),
     (errno.EACCES, "permission denied"), (errno.EIO, "Input/output error")],
)  # fmt: skip
@pytest.mark.parametrize("name", ["open", "mkdir"])
def test_a_refusal_to_write_becomes_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, line: str, name: str
) -> None:
    store = filled(tmp_path, ["a"])
    other = Space("other", {}, (5,), "float32")

    def refused(path: Path, *args: Any, **options: Any) -> None:
        raise OSError(code, os.strerror(code), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, name, refused)
        with pytest.raises(StoreError, match=line) as error:
            store.register(other)
    assert str(tmp_path) in str(error.value)
    assert list(store.index(SPACE)) == ["a"]


def test_a_disk_that_fills_up_while_writing_keeps_what_was_stored(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the system itself refuses."""
    big = Space("big", {}, (100_000,), "float32")
    store = filled(tmp_path, ["a"], space=big)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(StoreError, match="cannot write to the store at"):
            store.write(big, ["b"], rows_of(["b"], big))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(store.index(big)) == ["a"]
    store.write(big, ["b"], rows_of(["b"], big))
    assert np.array_equal(read(store, ["a", "b"], big), rows_of(["a", "b"], big))


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_an_index_that_cannot_be_read_is_no_empty_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    store = filled(tmp_path, ["a"])

    def refused(path: Path, *args: Any, **options: Any) -> str:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr("cache.files.open_plain", refused)
    with pytest.raises(StoreError, match=r"store at .* cannot be read"):
        store.index(SPACE)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_a_segment_that_cannot_be_read_now_stays_in_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    store = filled(tmp_path, ["a"])
    place = store.index(SPACE)["a"]

    def refused(*args: Any, **options: Any) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr("cache.files.open_plain", refused)
        with pytest.raises(StoreError, match="cannot be read") as error:
            store.read(SPACE, [place])
    assert not isinstance(error.value, DamagedSegmentError)
    assert np.array_equal(read(store, ["a"]), rows_of(["a"]))


def test_a_segment_is_a_zarr_array(tmp_path: Path) -> None:
    import zarr

    big = Space("big", {}, (700, 400), "float16")
    for space in (SPACE, big, Space("scalar", {}, (), "float64")):
        store = filled(tmp_path, ["a", "b", "c"], space=space)
        (segment,) = {place.segment for place in store.index(space).values()}
        array: Any = zarr.open_array(folder(store, space) / "segments" / segment, mode="r")
        assert np.array_equal(array[...], rows_of(["a", "b", "c"], space))


def test_another_layout_is_damage(tmp_path: Path) -> None:
    store = filled(tmp_path, ["a", "b"])
    place = store.index(SPACE)["b"]
    file = folder(store) / "segments" / place.segment / "zarr.json"
    meta = json.loads(file.read_text())
    meta["chunk_grid"]["configuration"]["chunk_shape"] = [1, 5]
    file.write_text(json.dumps(meta))
    with pytest.raises(DamagedSegmentError, match="laid out in another way"):
        store.read(SPACE, [place])


def test_rows_of_another_shape_are_damage(tmp_path: Path) -> None:
    """As many bytes, and another number of values in a row."""
    store = filled(tmp_path, ["a", "b"])
    place = store.index(SPACE)["a"]
    file = folder(store) / "segments" / place.segment / "zarr.json"
    meta = json.loads(file.read_text())
    meta["shape"] = meta["chunk_grid"]["configuration"]["chunk_shape"] = [5, 2]
    file.write_text(json.dumps(meta))
    with pytest.raises(DamagedSegmentError, match=r"it holds \(5, 2\)"):
        store.read(SPACE, [place])
    assert list(store.readable(SPACE)) == []


def test_damaged_descriptions_are_left_out(tmp_path: Path) -> None:
    store = filled(tmp_path, ["a"])
    for name, content in (
        ("0" * 40, "{}"),
        ("1" * 40, "x"),
        ("2" * 40, json.dumps(SPACE.to_json())),
    ):
        (tmp_path / "spaces" / name).mkdir()
        (tmp_path / "spaces" / name / "space.json").write_text(content)
    assert store.spaces() == [SPACE]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dtype", "object"), ("dtype", "O"), ("dtype", "<V8"), ("dtype", 4), ("shape", [1 << 40]),
        ("shape", [1 << 20, 1 << 20]), ("shape", [0, 1 << 60]), ("shape", [-1]), ("shape", [5, -1]),
        ("shape", ["5"]), ("shape", [5.0]), ("shape", [True]), ("shape", 5), ("shape", [1] * 99),
        ("label", "\x1b[31mred"), ("label", "a\nb"), ("label", "x" * 999), ("label", None),
        ("description", []),
    ],
)  # fmt: skip
def test_descriptions_from_a_shared_store_are_not_trusted(
    tmp_path: Path, name: str, value: Any
) -> None:
    """Their fingerprint may be right: whoever writes the file can compute it."""
    store = filled(tmp_path, ["a"])
    content = {**SPACE.to_json(), name: value}
    address = fingerprint({k: content[k] for k in ("description", "shape", "dtype")})
    (tmp_path / "spaces" / address).mkdir(exist_ok=True)
    (tmp_path / "spaces" / address / "space.json").write_text(json.dumps(content))
    assert [space for space in store.spaces() if space != SPACE] == []
    with pytest.raises((ValueError, TypeError, KeyError)):
        Space.from_json(content)


def test_a_description_without_an_address_is_left_out(tmp_path: Path) -> None:
    store = filled(tmp_path, ["a"])
    content = {**SPACE.to_json(), "description": {"mean": float("inf")}}
    (folder(store) / "space.json").write_text(json.dumps(content))
    assert store.spaces() == []


@pytest.mark.parametrize(
    "change",
    [
        {"keys": [1]}, {"keys": [["a"]]}, {"keys": "a"}, {"crc": ["1"]}, {"crc": [True]},
        {"segment": "../../../x"}, {"segment": None}, {"schema": 3}, {"keys": ["a", "b"]},
        {"crc": [-1]}, {"crc": [1 << 32]},
        {"keys": ["a" * 201]},  # in an array all keys of an index take the longest one's room
    ],
)  # fmt: skip
def test_entries_from_a_shared_store_are_not_trusted(tmp_path: Path, change: Any) -> None:
    store = filled(tmp_path, ["a"])
    (file,) = (folder(store) / "index").iterdir()
    entry = json.loads(file.read_text())
    del entry["digest"]
    entry |= change
    file.write_text(json.dumps({**entry, "digest": fingerprint(entry)}))
    assert store.index(SPACE) == {}


@pytest.mark.parametrize("file", ["store.json", "space.json", "entry", "zarr.json"])
def test_files_that_are_far_too_large_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    store = filled(tmp_path, ["a"])
    (place,) = store.index(SPACE).values()
    path = {
        "store.json": tmp_path / file,
        "space.json": folder(store) / file,
        "entry": folder(store) / "index" / f"{place.segment}.json",
        "zarr.json": folder(store) / "segments" / place.segment / file,
    }[file]
    path.write_bytes(path.read_bytes() + b" " * 10_000)
    monkeypatch.setattr(cache.store, "TEXT_BYTES", 9_999)
    monkeypatch.setattr(cache.store, "ENTRY_BYTES", 9_999)
    if file == "store.json":
        with pytest.raises(StoreError, match=r"larger than 9,999 bytes"):
            Store(tmp_path)
    elif file == "zarr.json":
        with pytest.raises(DamagedSegmentError, match=r"larger than 9,999 bytes"):
            store.read(SPACE, [place])
    else:
        assert store.spaces() == ([] if file == "space.json" else [SPACE])
        assert list(store.index(SPACE)) == ([] if file == "entry" else ["a"])


def test_checksum_is_crc32c() -> None:
    assert checksum(np.frombuffer(b"123456789", np.uint8)) == 0xE3069283


def test_no_module_unpickles() -> None:
    """Whoever can write into a store or an artefact must not run code in its readers."""
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names}
                if isinstance(node, ast.ImportFrom) and node.module:
                    names = {node.module} - ({"pickle"} if names == {"UnpicklingError"} else set())
                roots = {module.partition(".")[0] for module in names}
                assert not roots & {"pickle", "joblib", "dill", "cloudpickle", "shelve"}, name
            if isinstance(node, ast.keyword):
                value = node.value.value if isinstance(node.value, ast.Constant) else None
                assert (node.arg, value) != ("allow_pickle", True), name
                assert (node.arg, value) != ("weights_only", False), name


def test_the_store_is_plain_files(tmp_path: Path) -> None:
    store = filled(tmp_path, ["a"])
    names = {str(f.relative_to(folder(store))) for f in folder(store).rglob("*") if f.is_file()}
    segment = store.index(SPACE)["a"].segment
    assert names == {
        "space.json", f"index/{segment}.json", f"segments/{segment}/zarr.json",
        f"segments/{segment}/c/0/0",
    }  # fmt: skip
    assert json.loads((tmp_path / "store.json").read_text())["schema"] == cache.store.STORE_SCHEMA


def test_a_pipe_in_a_segments_place_is_not_waited_for(tmp_path: Path) -> None:
    store = filled(tmp_path, ["a"])
    place = store.index(SPACE)["a"]
    for path in (tmp_path / store.folder(SPACE) / "segments").rglob("*"):
        if path.is_file():
            path.unlink()
            os.mkfifo(path)
    with pytest.raises(DamagedSegmentError, match="no plain file"):
        store.read(SPACE, [place])
    assert "a" not in store.repair(SPACE)


def test_of_pipes_in_a_store_the_rest_is_read(tmp_path: Path) -> None:
    """A pipe counts as a file that is not there: verify names it, repair and a new row put it right."""
    store = filled(tmp_path, ["a"], ["b"])
    first, _ = sorted((tmp_path / store.folder(SPACE) / "index").iterdir())
    lost = next(key for key in "ab" if store.index(SPACE)[key].segment == first.stem)
    for path in (tmp_path / "store.json", first):
        path.unlink()
        os.mkfifo(path)
    kept = Store(tmp_path)
    assert set(kept.index(SPACE)) == {"a", "b"} - {lost}
    kept.register(SPACE)
    check = verify(kept, SPACE)
    assert [Path(name).name for name in check.unrecognized] == [first.name]
    assert not check.damaged
    filled(tmp_path, [lost])
    assert set(Store(tmp_path).index(SPACE)) == {"a", "b"}
    assert (tmp_path / "store.json").is_file()
