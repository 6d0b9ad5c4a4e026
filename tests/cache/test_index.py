"""The index in arrays says what the entries say."""

from __future__ import annotations

import tracemalloc
import uuid
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.entries import Entry
from cache.index import Index, Published, RowLocations
from cache.keys import Keys
from cache.layout import RowLocation, Space, content_key
from cache.store import Store


def entry(segment: str, keys: Sequence[str], crcs: Sequence[int]) -> Entry:
    return Entry(segment, Keys.of(keys), np.array(crcs, np.uint32))


@st.composite
def entries(draw: st.DrawFn) -> list[Entry]:
    """Segments of few keys, so that duplicates are common."""
    found = []
    for number in range(draw(st.integers(0, 5))):
        keys = draw(st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=5))
        crcs = [draw(st.integers(0, 2**32 - 1)) for _ in keys]
        found.append(entry(f"s{number}", keys, crcs))
    return found


@given(entries())
@settings(max_examples=50, deadline=None)
def test_the_first_of_duplicates_serves(found: list[Entry]) -> None:
    expected: dict[str, RowLocation] = {}
    for entry in found:
        for row, (key, crc) in enumerate(zip(entry.keys, entry.crcs.tolist(), strict=True)):
            expected.setdefault(key, RowLocation(entry.segment, row, crc))
    index = Index.build(found)
    assert dict(index) == expected
    assert list(index) == sorted(expected)
    asked = ["h", "a", "zz", "a"]
    assert index.has(asked).tolist() == [key in expected for key in asked]
    places, there = index.find(asked)
    assert there.tolist() == [key in expected for key in asked]
    assert list(places.take(there)) == [expected[key] for key in asked if key in expected]


@given(entries())
@settings(max_examples=50, deadline=None)
def test_of_duplicates_the_first_that_is_preferred_serves(found: list[Entry]) -> None:
    rows: dict[str, list[RowLocation]] = {}
    for entry in found:
        for row, (key, crc) in enumerate(zip(entry.keys, entry.crcs.tolist(), strict=True)):
            rows.setdefault(key, []).append(RowLocation(entry.segment, row, crc))
    asked: list[tuple[str, int]] = []

    def odd(keys: Keys, crcs: np.ndarray) -> np.ndarray:
        asked.extend(zip(keys, crcs.tolist(), strict=True))
        return np.asarray(crcs % 2 == 1)

    chosen = {key: next((r for r in of if r.crc % 2), of[0]) for key, of in rows.items()}
    assert dict(Index.build(found, odd)) == chosen
    twice = [(key, row.crc) for key, of in rows.items() if len(of) > 1 for row in of]
    assert sorted(asked) == sorted(twice)


@given(entries())
@settings(max_examples=40, deadline=None)
def test_what_is_published_is_found_by_segment(found: list[Entry]) -> None:
    published = Published.of(found)
    by_segment = dict(published.segments())
    assert list(by_segment) == [entry.segment for entry in found]
    for entry in found:
        rows = by_segment[entry.segment]
        assert list(published.keys[rows]) == list(entry.keys)
        assert list(published.locations[rows]) == [
            RowLocation(entry.segment, row, crc) for row, crc in enumerate(entry.crcs.tolist())
        ]
    odd = published.take(np.arange(1, len(published.keys), 2))
    assert [key for _, rows in odd.segments() for key in odd.keys[rows]] == list(published.keys)[
        1::2
    ]


def test_places_narrow_to_their_own_segments() -> None:
    index = Index.build(entry(f"s{n}", [f"k{n}", f"l{n}"], [n, n + 1]) for n in range(100))
    places, _ = index.find(["k7", "l50", "l7"])
    narrow = places.narrowed()
    assert list(narrow) == list(places) == list(places[:]) == [
        RowLocation("s7", 0, 7), RowLocation("s50", 1, 51), RowLocation("s7", 1, 8),
    ]  # fmt: skip
    assert set(narrow.names) == {"s50", "s7"}
    assert isinstance(narrow[1:], RowLocations)


def test_a_missing_key_is_none() -> None:
    with pytest.raises(KeyError):
        Index.build([])["a"]


def test_what_stays_of_entries_is_small() -> None:
    """A bucket's entries are kept, so that they are asked for once."""
    store = Store(f"memory://{uuid.uuid4().hex}")
    space = Space("numbers", {}, (4,), "float32")
    count, rows = 20, 256
    for number in range(count):
        keys = [content_key(f"{number} {row}".encode()) for row in range(rows)]
        store.write(space, keys, np.zeros((rows, 4), np.float32))
    list(store.entries(space))  # what is loaded at first does not count
    again = Store(store.root)
    tracemalloc.start()
    try:
        for _ in again.entries(space):
            pass
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(again._read_entries) == count
    assert held < 40 * count * rows
