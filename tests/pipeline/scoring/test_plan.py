"""What components a run needs and lacks, and what images are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cache.keys import Keys
from cache.layout import Group, Space
from cache.store import Store
from fade.types import Trial
from pipeline.scoring.plan import ComparedWith, ComponentPlan, ComponentWork, missing_components
from pipeline.scoring.streaming import Lacking

FEATURES = tuple(Space(f"f{n}", {"n": n}, (5,), "float16") for n in range(2))
MAPS, SCORES = Space("maps", {}, (2, 2), "float32"), Space("scores", {}, (), "float64")
GROUPS = (Group(Keys.of("cab"), ("x", "y")), Group(Keys.of("ed"), ("z",)))
MISSING = (np.array([[1, 0], [0, 0], [1, 1]], bool), np.array([[1], [0]], bool))


class Numbers:
    """Stands for a scorer: each row tells its image's and its comparison's place."""

    name = "some"

    def __init__(self, keys: Sequence[str], against: Sequence[str]) -> None:
        self.keys, self.against = keys, against

    def rows(
        self, output: Space, features: Sequence[Space], vectors: Sequence[np.ndarray]
    ) -> np.ndarray:
        return np.array(
            [10 * n + m for n in range(len(self.keys)) for m in range(len(self.against))]
        )


class Plan(ComponentPlan):
    block_images = 2

    def scorer(self, keys: tuple[str, ...], against: Sequence[str]) -> Any:
        return Numbers(keys, against)


class PlanAtOnce(Plan):
    reads_once = True


def test_what_a_plan_lacks_and_reads() -> None:
    plan, at_once = (kind(MAPS, FEATURES, GROUPS, MISSING) for kind in (Plan, PlanAtOnce))
    assert (plan.lacking, plan.lacking_components, plan.total) == (3, 4, 8)
    assert (plan.read_bytes, at_once.read_bytes) == (20, 7)  # a third for each digest, rounded up
    assert PlanAtOnce(MAPS, FEATURES, (), ()).read_bytes == 20
    assert list(plan.keys()) == ["c:x", "a:x", "b:x", "c:y", "a:y", "b:y", "e:z", "d:z"]
    assert [(block.keys, block.against) for block in plan.blocks()] == [
        (("c",), ("x",)), (("b",), ("x", "y")), (("e",), ("z",)),
    ]  # fmt: skip


def test_rows_of_a_block_are_those_of_its_keys(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.register(SCORES)
    Plan(SCORES, FEATURES, GROUPS, MISSING).block(("c", "b"), ("x", "y")).write(store, [])
    index = store.index(SCORES)
    found = store.read(SCORES, [index[key] for key in ("c:x", "c:y", "b:x", "b:y")])
    assert found.tolist() == [0, 1, 10, 11]
    lacks = missing_components([Group(Keys.of("bd"), ("x", "z"))], index)
    assert [part.tolist() for part in lacks] == [[[False, True], [True, True]]]


def test_work_of_several_plans() -> None:
    pairs = zip(GROUPS, MISSING, strict=True)
    plans = [Plan(MAPS, FEATURES, (group,), (lacks,)) for group, lacks in pairs]
    other = Plan(SCORES, FEATURES, GROUPS, MISSING)
    work = ComponentWork(plans, {"map": {"nut": {"1": "x"}}}).joined(
        ComponentWork([other], {"map": {"nut": {"0": "y"}, "cable": {"0": "z"}}, "score": {}})
    )
    assert work.against == {"map": {"nut": {"1": "x", "0": "y"}, "cable": {"0": "z"}}}
    assert (work.lacking, work.lacking_components, work.total) == (6, 8, 16)
    needed = {space.label: list(keys()) for space, keys in work.needed().items()}
    assert needed == {"maps": list(other.keys()), "scores": list(other.keys())}
    prepared: list[dict[Space, int]] = []
    store: Any = type("Noted", (), {"prepare": lambda self, counts: prepared.append(counts)})()
    work.prepare(store)
    assert prepared == [{MAPS: 4, SCORES: 4}]


def test_what_comes_before_is_prepared_and_kept() -> None:
    before = [Space(name, {"of": name}, (), "float32") for name in ("first", "second", "third")]

    def step(number: int, count: int) -> Any:
        space = before[number]
        keys = Keys.of([f"k{number}"])
        return SimpleNamespace(counts=lambda: {space: count}, kept=lambda: {space: keys})

    plan = Plan(MAPS, FEATURES, GROUPS, MISSING)
    work = ComponentWork([plan], before=(step(0, 5), step(1, 0)))
    work = work.joined(ComponentWork([], before=(step(2, 7),)))
    assert work.against is None
    prepared: list[dict[Space, int]] = []
    store: Any = SimpleNamespace(prepare=prepared.append)
    work.prepare(store)
    assert prepared == [{MAPS: 4, before[0]: 5, before[2]: 7}]
    needed = {space.label: list(keys()) for space, keys in work.needed().items()}
    assert needed == {"maps": list(plan.keys()), "first": ["k0"], "second": ["k1"], "third": ["k2"]}


def test_features_are_looked_up_for_plans_that_lack_something() -> None:
    asked = []

    def located(store: object, label: str) -> Any:
        asked.append(label)
        found = SimpleNamespace(
            locations=lambda keys: SimpleNamespace(narrowed=lambda: (label, *keys))
        )
        found.check = lambda: found
        return found

    own = Space("own", {}, (5,), "float16")
    plans = [
        Plan(MAPS, (own,), GROUPS, [np.zeros_like(lacks) for lacks in MISSING]),
        Plan(SCORES, FEATURES[:1], GROUPS[1:], MISSING[1:]),
        Plan(MAPS, FEATURES[:1], GROUPS[1:], MISSING[1:]),
        Plan(MAPS, FEATURES, GROUPS[1:], MISSING[1:]),
    ]
    receipt: Any = SimpleNamespace(located=located)
    tasks = list(ComponentWork(plans).tasks(receipt, SimpleNamespace(root="root")))  # type: ignore[arg-type]
    assert asked == ["f0", "f0", "f1"]
    assert [task.places for task in tasks] == [
        (("f0", "e"),), (("f0", "e"),), (("f0", "e"), ("f1", "e")),
    ]  # fmt: skip


@pytest.mark.parametrize("hold_out", [True, False])
def test_references_are_compared_with_the_others(hold_out: bool) -> None:
    compared = ComparedWith(
        lambda _, trial, keys: f"{trial.shots}{''.join(keys)}", hold_out=hold_out
    )
    trials = {Trial(1, 0): ["a"], Trial(2, 0): ["a", "b"]}
    groups = {
        key: group.spaces
        for group in compared.add("nut", Keys.of("st"), ["a", "b"], trials)
        for key in group.keys
    }
    assert compared.trials == {"nut": {"shots1_seed0": "1a", "shots2_seed0": "2ab"}}
    alone = {"s": ("1a", "2ab"), "t": ("1a", "2ab")}
    if not hold_out:
        assert groups == alone | {"b": ("1a",)}
        assert compared.held_out == {}
        return
    assert groups == alone | {"a": ("2b",), "b": ("1a", "2a")}
    assert compared.held_out == {"nut": {"shots2_seed0": {"a": "2b", "b": "2a"}}}


def test_what_images_lack_is_found_by_key() -> None:
    lacking = Lacking(GROUPS, MISSING)
    assert lacking.any(Keys.of("abcdef")).tolist() == [False, True, True, False, True, False]
    assert lacking.of(Keys.of("fedcba")) == {("z",): ["e"], ("x",): ["c"], ("x", "y"): ["b"]}
