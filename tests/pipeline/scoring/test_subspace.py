"""Scores of rule subspace in blocks of images."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cache.keys import Keys
from cache.layout import Space
from cache.store import Store
from fade.rules.subspace import Subspace
from fade.types import Feature
from fade.views import View
from pipeline.config.load import parse_params
from pipeline.scoring.plan import ComponentWork
from pipeline.scoring.subspace import SubspaceScorer, plan_subspace
from pipeline.scoring.views import FeatureView
from tests.stages.test_vision_encoder import vision_params


@pytest.mark.parametrize("side", [7, 14, 15])
def test_an_image_scores_alike_whatever_stands_beside_it(
    side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    axes = np.linalg.qr(generator.standard_normal((2, 768, 51)))[0].astype(np.float32)
    fits = iter([Subspace(np.zeros(768, np.float32), one.T.copy(), 1) for one in axes] * 4)
    monkeypatch.setattr("pipeline.scoring.subspace.open_fit", lambda *_: next(fits))
    feature = Feature(96, "vision", "patch", (2,))
    view = FeatureView(View(96, (2,)), (feature,), "96")
    stored = Space(feature.label, {"grid": [side, side]}, (side * side, 768), "float32")
    scorer = SubspaceScorer("x", "", (view,), (stored,), ((None, None),))  # type: ignore[arg-type]
    images = generator.standard_normal((20, side * side, 768)).astype(np.float32)
    together = scorer.rows(stored, [stored], [images]).reshape(20, 2, side, side)
    assert (together[:, 0] != together[:, 1]).any()
    for part in (slice(3, 20), slice(7, 8), slice(19, 20)):
        found = scorer.rows(stored, [stored], [images[part]])
        np.testing.assert_array_equal(found.reshape(-1, 2, side, side), together[part])


SELECTION = pd.DataFrame(
    [("nut", seed, rank, key) for seed, keys in enumerate(("ab", "ba", "ac"))
     for rank, key in enumerate(keys)],
    columns=["category", "seed", "rank", "hash"],
)  # fmt: skip


def planned(
    monkeypatch: pytest.MonkeyPatch,
    root: Path,
    tests: str = "st",
    normal: str = "",
    changed: tuple[str, str] | None = None,
    **leaves: Any,
) -> ComponentWork:
    """What a run with three seeds plans, where references have these checksums."""
    given = {"rule": "subspace", "transforms": "flips", "shots": [2], "seeds": [0, 1, 2], **leaves}
    params = parse_params(
        vision_params(**{f"vision__{name}": value for name, value in given.items()})
    )
    labels = [feature.label for feature in params.bank_features("nut")]
    rows = {label: {key: 3 * n + ord(key) for key in "abc"} for n, label in enumerate(labels)}
    if changed:
        rows[labels[int(changed[0])]][changed[1]] += 1
    references: Any = SimpleNamespace(spaces=labels, rows=rows)
    monkeypatch.setattr("pipeline.scoring.subspace.read_table", lambda path: (SELECTION, {}))
    monkeypatch.setattr("pipeline.scoring.subspace.read_receipt", lambda artefact: references)
    receipt: Any = SimpleNamespace(space=lambda label: Space(label, {}, (16, 4), "float32"))
    store, output = Store(root), Space("vision-map", {}, (4, 4), "float32")
    store.register(output)
    trials = [
        trial for trial in params.trials() if params.vision.rule_at(trial.shots) == "subspace"
    ]
    of_tests = {"nut": Keys.of(tests)} if tests else {}
    return plan_subspace(
        params, trials, of_tests, {"nut": Keys.of(normal)}, receipt, store, output,
        store.index(output),
    )  # fmt: skip


def test_subspaces_of_other_images_lie_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def digests(**given: Any) -> list[str]:
        against = planned(monkeypatch, tmp_path, **given).against
        assert against is not None
        return list(against["vision-map"]["nut"].values())

    first, turned, other = digests()
    assert first == turned != other  # of the same references in another order
    assert digests(tests="tuv") == [first, turned, other]
    for copy in "012":  # one of the flipped images changed
        assert digests(changed=(copy, "a"))[0] != first
        assert digests(changed=(copy, "c"))[0] == first
    for leaves in ({"variance": 0.5}, {"components": 3}, {"pooling": [3]}, {"transforms": "none"}):
        assert digests(**leaves)[0] != first
    batch = {"bank": "references_and_batch"}
    with_batch = digests(**batch)[0]
    assert with_batch == digests(**batch, tests="ts")[0] != digests(**batch, tests="s")[0]
    assert with_batch not in (first, digests(**batch, changed=("1", "b"))[0])
    by_shots = {"bank": {"zero_shot": "batch", "few_shot": "references"}, "shots": [0, 2]}
    zero, *few = digests(**by_shots)
    assert few == [first, turned, other]
    assert zero != digests(**by_shots, tests="s")[0]


def test_what_is_compared_with_which_subspace(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    work = planned(monkeypatch, tmp_path, normal="ab")
    assert work.against is not None
    held_out = work.against["held-out"]["nut"]
    assert set(held_out) == {"shots2_seed0", "shots2_seed1"}  # of the third b is no reference
    assert set(held_out["shots2_seed0"]) == {"a", "b"}
    (step,) = work.before
    assert set(step.counts().values()) == {4}  # ab, ac, and each of a and b alone
    assert all(len(keys) == 4 for keys in step.kept().values())
    store = Store(tmp_path)
    for space, lost in zip(step.counts(), [1], strict=True):
        there = list(step.kept()[space])[lost:]
        store.register(space)
        store.write(space, there, np.zeros((len(there), *space.shape), np.float32))
    (again,) = planned(monkeypatch, tmp_path, normal="ab").before
    assert set(again.counts().values()) == {1}  # what is there is not fitted again
    alone = planned(monkeypatch, tmp_path, tests="", normal="ab")  # images to calibrate on alone
    assert alone.total == work.total - 2 * 2


def test_the_selection_is_not_searched_for_each_category(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else planning would grow by the square of categories."""
    compare, seen = pd.Series.__eq__, 0

    def counted(self: pd.Series, other: object) -> Any:
        nonlocal seen
        seen += len(self)
        return compare(self, other)

    monkeypatch.setattr(pd.Series, "__eq__", counted)
    against, alone = planned(monkeypatch, tmp_path, normal="ab").against, seen
    others = [SELECTION.assign(category=f"part{number}") for number in range(9)]
    monkeypatch.setitem(globals(), "SELECTION", pd.concat([SELECTION, *others]))
    assert planned(monkeypatch, tmp_path, normal="ab").against == against
    assert seen == 2 * alone > 0
