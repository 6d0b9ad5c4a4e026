"""Keys in arrays: the same keys, in the same order, in less room."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache import keys as module
from cache.keys import Keys
from cache.layout import content_key

HASHES = st.binary(min_size=20, max_size=20).map(bytes.hex)
"""Also with zeros at their ends, which numpy would strip from bytes."""
ANY = st.one_of(
    st.lists(HASHES), st.lists(st.tuples(HASHES, HASHES).map(":".join)),
    st.lists(st.one_of(HASHES, st.text("abé:0", min_size=1, max_size=5))),
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def few_at_once() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "AT_ONCE", 3)
        yield


@given(ANY)
@settings(max_examples=50, deadline=None)
def test_they_come_back_and_sort_as_strings_do(texts: list[str]) -> None:
    found = Keys.of(texts)
    assert list(found) == texts
    assert [found[i] for i in range(len(texts))] == texts
    assert list(found[1:]) == texts[1:]
    assert list(found.distinct()) == sorted(set(texts))
    assert list(found.take(found.first())) == list(dict.fromkeys(texts))
    assert list(found.as_utf8()) == texts


@given(ANY)
@settings(max_examples=40, deadline=None)
def test_factorize(texts: list[str]) -> None:
    ordered = sorted(set(texts))
    codes, first = Keys.of(texts).factorize()
    assert first.tolist() == [texts.index(key) for key in ordered]
    assert [ordered[code] for code in codes] == texts


@given(ANY, ANY)
@settings(max_examples=50, deadline=None)
def test_get_indexer(texts: list[str], others: list[str]) -> None:
    ordered = Keys.of(others).distinct()
    positions = {key: position for position, key in enumerate(ordered)}
    expected = [positions.get(key, -1) for key in texts]
    assert ordered.get_indexer(texts).tolist() == expected


def test_looking_for_no_key_takes_no_memory() -> None:
    """A run without images to calibrate on looks for none among those of all its images."""
    held = Keys(np.arange(40 * 10_000, dtype=np.uint8).view("S40"), hashes=True)
    tracemalloc.start()
    try:
        assert held.get_indexer([]).tolist() == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000


@given(ANY, st.one_of(HASHES, st.just("x")))
@settings(max_examples=40, deadline=None)
def test_joined(texts: list[str], digest: str) -> None:
    assert list(Keys.of(texts).with_suffix(digest)) == [f"{key}:{digest}" for key in texts]
    assert list(Keys.join([Keys.of(texts), Keys.of([digest])])) == [*texts, digest]


@given(st.lists(ANY, max_size=4))
@settings(max_examples=50, deadline=None)
def test_concat_iter(parts: list[list[str]]) -> None:
    keys = [Keys.of(texts) for texts in parts]
    found = Keys.concat_iter(iter(keys))
    assert list(found) == [key for texts in parts for key in texts]
    assert found.hashes == Keys.join(keys).hashes


@given(ANY)
@settings(max_examples=40, deadline=None)
def test_again(texts: list[str]) -> None:
    ordered = sorted(texts)
    expected = [n > 0 and ordered[n - 1] == key for n, key in enumerate(ordered)]
    assert Keys.of(ordered).duplicated().tolist() == expected


def test_room() -> None:
    found = Keys.of(content_key(str(number).encode()) for number in range(1000))
    assert found.data.nbytes == 20_000
    joined = found.with_suffix(content_key(b""))
    assert joined.data.nbytes == Keys.of(list(joined)).data.nbytes == 40_000


def test_no_such_place() -> None:
    with pytest.raises(IndexError):
        Keys.of(["a"])[1]
    assert list(Keys.of(["a", "b"]).take(np.array([False, True]))) == ["b"]
