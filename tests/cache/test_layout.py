"""Planning: every missing row once, and the same tasks after a kill as without one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.keys import Keys
from cache.layout import (
    SegmentTask,
    Space,
    batched,
    content_key,
    fingerprint,
    group_needs,
)
from tests.cache.segments import plan_segments

SPACES = ("a", "b", "c")


@st.composite
def situations(draw: st.DrawFn) -> dict[str, Any]:
    keys = draw(st.lists(st.text("xyz", min_size=1, max_size=4), unique=True, max_size=12))
    subset = st.sets(st.sampled_from(SPACES))
    return {
        "needs": {key: draw(subset) for key in keys},
        "present": {space: {k for k in keys if draw(st.booleans())} for space in SPACES},
        "row_bytes": {space: draw(st.integers(1, 100)) for space in SPACES},
        "target_bytes": draw(st.integers(1, 500)),
        "max_rows": draw(st.integers(1, 5)),
    }


def pairs(tasks: list[SegmentTask]) -> Counter[tuple[str, str]]:
    return Counter((key, space) for task in tasks for key in task.keys for space in task.spaces)


@given(situations())
@settings(max_examples=40, deadline=None)
def test_each_missing_row_is_planned_once_and_no_other(situation: dict[str, Any]) -> None:
    missing = Counter(
        (key, space)
        for key, spaces in situation["needs"].items()
        for space in spaces
        if key not in situation["present"][space]
    )
    assert pairs(plan_segments(**situation)) == missing


@given(situations())
@settings(max_examples=40, deadline=None)
def test_tasks_are_bounded_and_never_empty(situation: dict[str, Any]) -> None:
    for task in plan_segments(**situation):
        assert task.spaces
        assert 1 <= len(task.keys) <= situation["max_rows"]
        size = len(task.keys) * sum(situation["row_bytes"][space] for space in task.spaces)
        assert size <= situation["target_bytes"] or len(task.keys) == 1


@given(situations())
@settings(max_examples=40, deadline=None)
def test_keys_keep_their_order(situation: dict[str, Any]) -> None:
    place = {key: i for i, key in enumerate(situation["needs"])}
    for task in plan_segments(**situation):
        order = [place[key] for key in task.keys]
        assert order == sorted(order)
    undisturbed = situation | {"present": {space: set() for space in SPACES}}
    groups: dict[tuple[str, ...], list[str]] = {}
    for task in plan_segments(**undisturbed):
        groups.setdefault(task.spaces, []).extend(task.keys)
    for spaces, keys in groups.items():
        assert keys == [k for k, need in situation["needs"].items() if need == set(spaces)]


@given(situations(), st.data())
@settings(max_examples=40, deadline=None)
def test_what_a_kill_leaves_are_exactly_the_other_tasks(
    situation: dict[str, Any], data: st.DataObject
) -> None:
    tasks = plan_segments(**situation)
    finished = [task for task in tasks if data.draw(st.booleans())]
    for task in finished:
        for space in task.spaces:
            situation["present"][space] |= set(task.keys)
    assert plan_segments(**situation) == [task for task in tasks if task not in finished]


def test_a_space_that_is_needed_twice_is_computed_once() -> None:
    tasks = plan_segments({"k": ["a", "a"]}, {"a": ()}, {"a": 10}, 100, 100)
    assert tasks == [SegmentTask(("k",), ("a",))]


@given(st.integers(0, 200), st.integers(1, 40))
def test_tasks_of_one_kind_are_even_and_as_few_as_can_be(count: int, most: int) -> None:
    needs = {str(number): ["a"] for number in range(count)}
    sizes = [len(t.keys) for t in plan_segments(needs, {"a": ()}, {"a": 1}, 1000, most)]
    assert len(sizes) == -(-count // most)
    assert not sizes or max(sizes) - min(sizes) <= 1


def test_a_row_larger_than_a_segment_still_gets_one() -> None:
    tasks = plan_segments({"k": ["a"], "l": ["a"]}, {"a": ()}, {"a": 1000}, 10, 100)
    assert [task.keys for task in tasks] == [("k",), ("l",)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4))
@settings(max_examples=30, deadline=None)
def test_fingerprint_is_blind_to_key_order_alone(content: dict[str, Any]) -> None:
    assert fingerprint(dict(reversed(content.items()))) == fingerprint(content)
    for key in content:
        assert fingerprint({k: v for k, v in content.items() if k != key}) != fingerprint(content)
        assert fingerprint(content | {key: [content[key]]}) != fingerprint(content)


def test_fingerprint_is_always_the_same() -> None:
    """Stores on disk are found by it: another value would orphan every one of them."""
    assert fingerprint({"b": [1, 2.5, None], "ä": {"y": True, "x": "é"}}) == (
        "1b3ab0bda385a47649eaea8343c12972ad830af2"
    )
    assert content_key(b"image") == "882fa9b0f178e511c94515fe60795f262322904f"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_fingerprint_refuses_what_json_has_not(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprint({"x": value})


def test_spaces_are_equal_when_their_rows_may_be_compared() -> None:
    space = Space("name", {"model": "m", "size": 7}, (2, 3), "float16")
    assert space == Space("other name", {"size": 7, "model": "m"}, (2, 3), "float16")
    assert hash(space) == hash(Space("other name", {"size": 7, "model": "m"}, (2, 3), "float16"))
    assert space == Space.from_json(space.to_json())
    assert Space.from_json(space.to_json()).shape == (2, 3)
    for other in (
        Space("name", {"model": "n", "size": 7}, (2, 3), "float16"),
        Space("name", {"model": "m", "size": 8}, (2, 3), "float16"),
        Space("name", {"model": "m"}, (2, 3), "float16"),
        Space("name", {"model": "m", "size": 7}, (3, 2), "float16"),
        Space("name", {"model": "m", "size": 7}, (2, 3), "float32"),
    ):
        assert space != other
    assert space != "name"


def test_bytes_of_a_row() -> None:
    assert Space("x", {}, (), "float64").row_bytes == 8
    assert Space("x", {}, (3136, 640), "float16").row_bytes == 3136 * 640 * 2


@given(st.lists(st.integers(), max_size=20), st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_batches_lose_nothing(items: list[int], size: int) -> None:
    pieces = list(batched(items, size))
    assert [item for piece in pieces for item in piece] == items
    assert all(len(piece) == size for piece in pieces[:-1])
    assert all(pieces)


def test_batches_refuse_pieces_of_nothing() -> None:
    with pytest.raises(ValueError, match="not 0"):
        next(batched([1], 0))


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from("uvwxyz"), max_size=4), st.sets(st.sampled_from(SPACES))
        ),
        max_size=5,
    )
)
@settings(max_examples=50, deadline=None)
def test_groups_are_of_equal_needs_by_first_appearance(
    needs: list[tuple[list[str], set[str]]],
) -> None:
    expected: dict[str, set[str]] = {}
    for keys, spaces in needs:
        for key in keys:
            expected.setdefault(key, set()).update(spaces)
    groups: dict[tuple[str, ...], list[str]] = {}
    for key, spaces in expected.items():
        groups.setdefault(tuple(sorted(spaces)), []).append(key)
    found = group_needs([(Keys.of(keys), spaces) for keys, spaces in needs])
    assert [(group.spaces, list(group.keys)) for group in found] == list(groups.items())
