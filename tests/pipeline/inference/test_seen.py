"""What is remembered of all that was seen takes little memory, and mixes nothing up."""

from __future__ import annotations

import tracemalloc

import pytest

from pipeline.inference import seen
from pipeline.inference.seen import DIGEST, PictureNames, Seen


def test_what_was_seen_is_known_and_nothing_else() -> None:
    held, names = Seen(), [f"/line/part_{number}.png" for number in range(40_000)]
    for name in names[::2]:
        held.add(name)
        held.add(name)
    assert len(held) == 20_000
    assert [name in held for name in names] == [True, False] * 20_000
    held.add("\udcff")  # a byte of a name that is no UTF-8
    assert "\udcff" in held


def test_the_end_of_one_digest_and_the_beginning_of_the_next_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digests = {"a": b"\0\0" + b"a" * 14, "b": b"\0\0" + b"b" * 14, "c": b"\0\0" + b"b" * 14}
    digests |= {"across": b"\0\0" + digests["a"][4:] + digests["b"][:2]}
    digests |= {"one": b"\0" * DIGEST, "zeros": b"\0\0" + b"z" * 13 + b"\0"}
    monkeypatch.setattr(seen, "_digest", digests.__getitem__)
    held = Seen()
    for name in ("zeros", "a", "b"):
        held.add(name)
    assert {name: name in held for name in digests} == {
        "a": True, "b": True, "c": True, "across": False, "one": False, "zeros": True,
    }  # fmt: skip
    held._parts[0] = bytearray(b"\1" + b"\0" * 31 + digests["a"])  # across two, and then whole
    assert "a" in held
    assert "one" in held


def test_what_is_remembered_of_a_file_does_not_depend_on_the_length_of_its_name() -> None:
    held = Seen()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(50_000):
            held.add(f"/srv/{'line/' * 40}{number}.png")
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken / 50_000 < 64  # a set of these names takes 300 bytes each


def test_a_name_that_comes_again_and_again_is_not_counted_from_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A camera that replaces one file would wait longer for each picture."""
    tried: list[str] = []
    fitting = seen.fitting_name

    def noted(name: str, room: int) -> str:
        tried.append(name)
        return fitting(name, room)

    monkeypatch.setattr(seen, "fitting_name", noted)
    names = PictureNames()
    for number in range(1, 1001):
        assert names.take("Live" if number % 2 else "live").lower() == (
            "live.png" if number == 1 else f"live-{number}.png"
        )
    assert len(tried) < 1100


def test_names_of_an_earlier_start_are_taken() -> None:
    names = PictureNames()
    for name in ("live", *(f"live-{number}" for number in range(2, 30)), "other-2"):
        names.add(name)
    assert [names.take("LIVE"), names.take("live")] == ["LIVE-30.png", "live-31.png"]
    assert [names.take("other"), names.take("other"), names.take("other-2")] == [
        "other.png", "other-3.png", "other-2-2.png",
    ]  # fmt: skip
    long = [names.take("long" * 100) for _ in range(12)]
    assert len(set(long)) == 12
    assert max(map(len, long)) <= 255
