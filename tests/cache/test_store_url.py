"""A store in a bucket: the same rows as in a folder, through 503s, lost connections and kills."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache.layout import RowLocation, Space
from cache.store import DamagedSegmentError, Store
from fade.errors import StoreError
from tests.cache.test_store import SPACE, await_ready, filled, read, rows_of, start_writer
from tests.objectstore import SECRET, Bucket, Fault, always, first

BIG = Space("big", {}, (300, 400), "float16")


@pytest.fixture
def bucket(any_bucket: Bucket) -> Bucket:
    """All tests here hold for each cloud."""
    return any_bucket


@pytest.fixture
def url(bucket: Bucket) -> str:
    return f"{bucket.url}/some/store"


def index_of(bucket: Bucket, space: Space = SPACE) -> list[str]:
    return bucket.names(f"some/store/spaces/{space.fingerprint}/index/")


@pytest.mark.parametrize("space", [SPACE, BIG, Space("scalar", {}, (), "float64")])
def test_rows_come_back_bit_for_bit(url: str, space: Space) -> None:
    store = filled(url, list("abcdefgh"), list("ij"), list("klmno"), space=space)
    assert Store(store.root).spaces() == [space]
    again = Store(url)
    for keys in ("abcdefghijklmno", "ongja", "aabb", "h"):
        back = read(again, list(keys), space)
        assert back.tobytes() == rows_of(list(keys), space).tobytes()


def test_the_files_are_those_of_a_folder(bucket: Bucket, url: str, tmp_path: Path) -> None:
    """So that a folder may be copied into a bucket, and back."""
    local = filled(tmp_path / "store", ["a", "b"], ["c"], space=BIG)
    for file in sorted((tmp_path / "store").rglob("*")):
        if file.is_file():
            name = file.relative_to(tmp_path).as_posix()
            bucket.put(f"some/{name}", file.read_bytes())
    remote = Store(url)
    assert remote.index(BIG) == local.index(BIG)
    assert np.array_equal(read(remote, ["c", "a", "b"], BIG), rows_of(["c", "a", "b"], BIG))
    remote.write(BIG, ["d"], rows_of(["d"], BIG))
    for key in bucket.names("some/store"):
        file = tmp_path / "copy" / key.removeprefix("some/store/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bucket.get(key))
    back = Store(tmp_path / "copy")
    assert np.array_equal(read(back, list("dabc"), BIG), rows_of(list("dabc"), BIG))


def test_neighbouring_rows_take_few_requests(bucket: Bucket, url: str) -> None:
    keys = [f"k{i}" for i in range(200)]
    store = filled(url, keys)
    index = store.index(SPACE)
    places = [index[key] for key in keys]
    bucket.proxy.seen.clear()
    store.read(SPACE, places[20:80])
    store.read(SPACE, places[::3])
    assert len(bucket.proxy.seen) == 4  # metadata and rows, twice


def test_entries_are_read_once_and_side_by_side(bucket: Bucket, url: str) -> None:
    store = filled(url, *[[f"k{i}"] for i in range(20)])
    waiting = threading.Barrier(4, timeout=20)  # broken, if not four at a time ask

    def meet(method: str, path: str) -> Fault:
        if "/index/" in path and method == "GET":
            waiting.wait()
        return None

    bucket.proxy.faults = meet
    assert len(store.index(SPACE)) == 20
    bucket.proxy.faults = None
    bucket.proxy.seen.clear()
    store.write(SPACE, ["new"], rows_of(["new"]))
    assert len(store.index(SPACE)) == 21
    reads = [path for method, path in bucket.proxy.seen if method == "GET" and ".json" in path]
    assert len(reads) == 1


# Faults


FAULTS: list[Fault] = [503, "cut request"]


@pytest.mark.parametrize("fault", [503, 429, 500, "cut request"])
def test_writes_outlive_some_faults(bucket: Bucket, url: str, fault: Fault) -> None:
    parts = ("/store.json", "/space.json", "/c/0", "/zarr.json", "/index/")
    faults = [first(3, fault, "PUT", part) for part in parts]
    bucket.proxy.faults = lambda method, path: next(
        filter(None, (f(method, path) for f in faults)), None
    )
    store = filled(url, ["a", "b"])
    assert len(bucket.proxy.seen) >= 4 * len(parts)
    assert np.array_equal(read(store, ["b", "a"]), rows_of(["b", "a"]))


@pytest.mark.parametrize("fault", [*FAULTS, "cut answer"])
def test_reads_outlive_some_faults(bucket: Bucket, url: str, fault: Fault) -> None:
    filled(url, ["a", "b"], space=BIG)
    bucket.proxy.faults = first(2, fault, "GET")
    assert np.array_equal(read(Store(url), ["b", "a"], BIG), rows_of(["b", "a"], BIG))


@pytest.mark.parametrize("fault", [*FAULTS, 403])
@pytest.mark.parametrize("part", ["/c/0", "zarr.json", "/index/"])
def test_a_write_that_fails_publishes_nothing(
    bucket: Bucket, url: str, fault: Fault, part: str
) -> None:
    store = filled(url, ["a"], space=BIG)
    before = index_of(bucket, BIG)
    bucket.proxy.faults = always(fault, "", part)
    with pytest.raises(
        StoreError, match=r"cannot write to the store at [a-z0-9]+://.*is kept$"
    ) as error:
        store.write(BIG, ["b"], rows_of(["b"], BIG))
    assert "\n" not in str(error.value)
    assert SECRET not in str(error.value)
    assert index_of(bucket, BIG) == before
    bucket.proxy.faults = None
    assert list(Store(url).index(BIG)) == ["a"]
    store.write(BIG, ["b"], rows_of(["b"], BIG))
    assert np.array_equal(read(Store(url), ["a", "b"], BIG), rows_of(["a", "b"], BIG))


@pytest.mark.parametrize("fault", [*FAULTS, 403, "cut answer"])
@pytest.mark.parametrize(
    "ask",
    [
        lambda store, places: store.index(SPACE),
        lambda store, places: store.spaces(),
        lambda store, places: store.read(SPACE, places),
        lambda store, places: Store(store.root),
    ],
)
def test_a_store_out_of_reach_is_neither_empty_nor_damaged(
    bucket: Bucket, url: str, fault: Fault, ask: Callable[[Store, list[RowLocation]], object]
) -> None:
    places = list(filled(url, ["a"]).index(SPACE).values())
    store = Store(url)
    bucket.proxy.faults = always(fault)
    with pytest.raises(StoreError, match="cannot be read") as error:
        ask(store, places)
    assert not isinstance(error.value, DamagedSegmentError)
    assert "\n" not in str(error.value)
    bucket.proxy.faults = None
    assert np.array_equal(read(store, ["a"]), rows_of(["a"]))


@pytest.mark.parametrize("part", ["/c/0", "zarr.json", "/index/"])
def test_a_writer_killed_while_it_sends_leaves_a_sound_store(
    bucket: Bucket, url: str, part: str
) -> None:
    filled(url, ["a"])
    process = start_writer(url, ["k0", "k1"], ["k2"])

    def kill(method: str, path: str) -> Fault:
        if method != "PUT" or part not in path:
            return None
        os.kill(process.pid, signal.SIGKILL)
        return "cut request"

    bucket.proxy.faults = kill
    await_ready(process)
    assert process.wait(60) == -signal.SIGKILL
    process.stdout.close()  # type: ignore[union-attr]
    bucket.proxy.faults = None
    store = Store(url)
    assert list(store.index(SPACE)) == ["a"]
    store.write(SPACE, ["k0", "k1"], rows_of(["k0", "k1"]))
    assert np.array_equal(read(store, ["a", "k1", "k0"]), rows_of(["a", "k1", "k0"]))


def test_two_writers_at_once_lose_nothing(bucket: Bucket, url: str) -> None:
    segments = [[f"k{i}", f"k{i + 1}"] for i in range(0, 20)]
    writers = [start_writer(url, *segments), start_writer(url, *segments[::-1])]
    for writer in writers:
        await_ready(writer)
    for writer in writers:
        assert writer.wait(60) == 0
        writer.stdout.close()  # type: ignore[union-attr]
    store = Store(url)
    keys = [f"k{i}" for i in range(21)]
    assert sorted(store.index(SPACE)) == sorted(keys)
    assert len(index_of(bucket)) == 2 * len(segments)
    assert np.array_equal(read(store, keys), rows_of(keys))
    assert not [key for key in bucket.names() if key.endswith(".part")]


# Damage and rights


def cut_short(bucket: Bucket, key: str) -> None:
    bucket.put(key, bucket.get(key)[:-3])


def flip(bucket: Bucket, key: str) -> None:
    data = bytearray(bucket.get(key))
    data[5] ^= 1
    bucket.put(key, bytes(data))


@pytest.mark.parametrize("harm", [Bucket.delete, cut_short, flip])
@pytest.mark.parametrize("part", ["/c/0/0", "/zarr.json"])
def test_damage_is_named_and_withdrawn(
    bucket: Bucket, url: str, part: str, harm: Callable[[Bucket, str], None]
) -> None:
    store = filled(url, ["a", "b"], ["c"])
    segment = store.index(SPACE)["a"].segment
    harm(bucket, f"some/store/{store.folder(SPACE)}/segments/{segment}{part}")
    with pytest.raises(
        DamagedSegmentError, match=rf"{segment} of toy in [a-z0-9]+://.*computed anew"
    ):
        read(store, ["c", "a", "b"])
    assert list(store.index(SPACE)) == list(Store(url).index(SPACE)) == ["c"]


@pytest.mark.parametrize("place", ["bucket", "folder"])
def test_a_half_copy_is_repaired_in_one_run(
    url: str, tmp_path: Path, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = filled(url if place == "bucket" else tmp_path, *(list("ab"), ["c"], ["d"], ["e"]))
    index = store.index(SPACE)
    folder = f"{store.folder(SPACE)}/segments"
    store.files.delete([f"{folder}/{index['a'].segment}/c/0/0"])
    store.files.delete([f"{folder}/{index['c'].segment}/zarr.json"])
    store.files.write(f"{folder}/{index['d'].segment}/c/0/0", bytes(19))
    assert store.index(SPACE) == index
    assert store.readable(SPACE) == {"e": index["e"]}
    assert Store(store.root).index(SPACE) == index
    with caplog.at_level(logging.WARNING, "fade"):
        assert store.repair(SPACE) == {"e": index["e"]}
    (line,) = caplog.messages
    assert "removed from the index, since gone or truncated: 3 segments of toy" in line
    assert all(index[key].segment in line for key in "acd")
    assert list(Store(store.root).index(SPACE)) == ["e"]
    assert store.repair(BIG) == {}


def test_a_half_copy_that_nobody_may_mend(bucket: Bucket, url: str) -> None:
    store = filled(url, ["a"], ["b"])
    segment = store.index(SPACE)["a"].segment
    bucket.delete(f"some/store/{store.folder(SPACE)}/segments/{segment}/c/0/0")
    bucket.proxy.faults = lambda method, path: None if method in ("GET", "HEAD") else 403
    assert list(store.readable(SPACE)) == list(store.repair(SPACE)) == ["b"]
    bucket.proxy.faults = always(503)
    with pytest.raises(StoreError, match="cannot be read"):
        store.repair(SPACE)


def test_an_entry_cut_short_is_ignored(bucket: Bucket, url: str) -> None:
    filled(url, ["a"])
    (entry,) = index_of(bucket)
    whole = bucket.get(entry)
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        bucket.put(entry, whole[:length])
        assert Store(url).index(SPACE) == {}


def test_a_shared_store_that_takes_nothing(bucket: Bucket, url: str) -> None:
    filled(url, ["a"])
    bucket.proxy.faults = lambda method, path: None if method in ("GET", "HEAD") else 403
    store = Store(url)
    store.prepare({SPACE: 0, BIG: 0})
    assert np.array_equal(read(store, ["a"]), rows_of(["a"]))
    with pytest.raises(StoreError, match=r"lacks 7 rows of toy, 2 rows of big and cannot be") as e:
        store.prepare({SPACE: 7, BIG: 2})
    assert "access denied (403)" in str(e.value)
    many = {Space(f"toy-{n}", {"n": n}, (3,), "float16"): 2 for n in range(8)}
    with pytest.raises(StoreError, match=r"2 rows of toy-4, and 3 more and cannot be written"):
        store.prepare(many)
    assert "set features.store to a store of your own" in str(e.value)


def test_a_store_that_lets_nobody_delete_can_be_written(bucket: Bucket, url: str) -> None:
    bucket.proxy.faults = lambda method, path: 403 if method in ("POST", "DELETE") else None
    store = Store(url)
    store.prepare({SPACE: 1})
    store.write(SPACE, ["a"], rows_of(["a"]))
    assert np.array_equal(read(store, ["a"]), rows_of(["a"]))


def test_nothing_is_created_before_the_first_write(bucket: Bucket, url: str) -> None:
    store = Store(url)
    assert store.index(SPACE) == {}
    assert store.spaces() == []
    store.prepare({SPACE: 0})
    assert bucket.names() == []


def test_another_schema_is_refused(bucket: Bucket, url: str) -> None:
    bucket.put("some/store/store.json", json.dumps({"schema": 1}).encode())
    with pytest.raises(StoreError, match=r"store at [a-z0-9]+://.* has schema version 1"):
        Store(url)
    bucket.put("some/store/store.json", b"{" * 10_000)
    with pytest.raises(StoreError, match=r"[a-z0-9]+://.*store\.json cannot be read"):
        Store(url)


def test_importing_the_store_loads_no_client(tmp_path: Path) -> None:
    """Folders need neither obstore nor boto3, nor the time to load them."""
    code = (
        "import sys\n"
        "from cache.store import Store\n"
        "Store(sys.argv[1]).spaces()\n"
        "assert not {'obstore', 'boto3', 'botocore'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
