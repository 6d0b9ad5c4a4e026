"""Vision components: what a run needs of them, and the arithmetic of one block of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cache.index import Index
from cache.keys import Keys
from cache.layout import Space
from cache.store import Store
from fade.types import Trial
from pipeline.artefacts.catalogue import REFERENCES, SELECTION
from pipeline.artefacts.receipts import Receipt, read_receipt
from pipeline.artefacts.tables import read_table
from pipeline.config.rules import Rule
from pipeline.config.schema import Params
from pipeline.dataset.images import by_category, calibration_images, references_of, test_images
from pipeline.scoring.bank_plan import VisionPlan
from pipeline.scoring.banks import (
    BANK_TABLE,
    Bank,
    Comparison,
    bank_copies,
    comparison_digest,
)
from pipeline.scoring.before import Step
from pipeline.scoring.components import map_space
from pipeline.scoring.mutual import plan_mutual
from pipeline.scoring.nearest import Nearest
from pipeline.scoring.pairs import PairStep
from pipeline.scoring.plan import ComparedWith, ComponentWork, missing_components
from pipeline.scoring.subspace import plan_subspace
from pipeline.scoring.union import Union, UnionPlan
from pipeline.scoring.views import described, view_plan


def plan_vision(params: Params, receipt: Receipt, store: Store) -> ComponentWork:
    """What the parameters need of vision; nothing where it has no part or there are no images.

    Args:
        receipt: of the scored images' features, whose spaces count.
        store: that has some of the maps; segments of them that are gone leave its index.

    Raises:
        ParameterError: a category has too few test images for a batch.
        StoreError: artefacts of earlier stages are missing or damaged, or the store cannot be read.
    """
    if not params.needs_vision:
        return ComponentWork()
    tests, calibration = by_category(test_images()), by_category(calibration_images())
    if not tests and not calibration:
        return ComponentWork()
    features = tuple(receipt.space(feature.label) for feature in params.vision_features())
    output = map_space("vision-map", features, views=described(view_plan(params), features))
    index = store.repair(output)
    work = ComponentWork()
    by_rule: dict[Rule, list[Trial]] = {}
    for trial in params.trials():
        by_rule.setdefault(params.vision.rule_at(trial.shots), []).append(trial)
    nearest = by_rule.get("nearest", [])
    if alone := [trial for trial in nearest if not params.vision.has_batch(trial.shots)]:
        work = _plan(params, alone, tests, calibration, features, output, index)
    if together := [trial for trial in nearest if trial not in alone]:
        union = Union.plan(params, tests, calibration, receipt, store)
        part = _plan(params, together, tests, calibration, features, output, index, union)
        work = work.joined(part)
    if mutual := by_rule.get("mutual"):
        work = work.joined(plan_mutual(params, mutual, tests, calibration, receipt, store, index))
    if subspace := by_rule.get("subspace"):
        work = work.joined(
            plan_subspace(params, subspace, tests, calibration, receipt, store, output, index)
        )
    return replace(work, before=_each_pair_once(work.before))


def _each_pair_once(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Steps of which no two compare the same pair of images."""
    found: list[Step] = []
    for step in steps:
        if isinstance(step, PairStep):
            for earlier in found:
                if isinstance(earlier, PairStep):
                    step = step.without(earlier)
        found.append(step)
    return tuple(found)


def _plan(
    params: Params,
    wanted: Sequence[Trial],
    tests: Mapping[str, Keys],
    calibration: Mapping[str, Keys],
    features: tuple[Space, ...],
    output: Space,
    index: Index,
    union: Union | None = None,
) -> ComponentWork:
    """Plans of all categories, and what is compared with: by category and trial, and of references
    that are held out also by image.
    """
    selection, _ = read_table(SELECTION.path)
    selections = dict(tuple(selection.groupby("category", sort=False)))
    table, _ = read_table(BANK_TABLE)
    references = read_receipt(REFERENCES)
    views = tuple(view_plan(params))
    positions = {
        category: dict(zip(rows["hash"], rows["position"].astype(int), strict=True))
        for category, rows in table.groupby("category", sort=False)
    }
    grids = {view.label: view.grid(features) for view in views}
    by_digest: dict[str, dict[str, Comparison]] = {}

    def digest_of(category: str, trial: Trial, keys: list[str]) -> str:
        places = tuple(positions[category][key] for key in keys)
        comparison = Comparison(trial, places, params.query_in_bank(trial))
        labels = [feature.label for feature in params.bank_features(category)]
        batch = None if union is None else union.digest(category)
        digest = comparison_digest(comparison, keys, references, labels, params, batch)
        by_digest.setdefault(category, {}).setdefault(digest, comparison)
        return digest

    plans: list[VisionPlan] = []
    # an index of its own for each trial has no part that could be left out
    compared = ComparedWith(digest_of, hold_out=Bank.shared(params))
    for category in dict.fromkeys([*tests, *calibration]):
        own = selections.get(category, selection.iloc[:0])
        groups = compared.add(
            category,
            tests.get(category, Keys.of(())),
            list(calibration.get(category, ())),
            {trial: references_of(own, trial) for trial in wanted},
        )
        bank = Bank(
            category, tuple(grids), Bank.shared(params),
            root=Path.cwd(), grids=grids, device=params.runtime.device,
            copies=bank_copies(params, category),
            rule=Nearest.of(params.vision),
        )  # fmt: skip
        missing = missing_components(groups, index)
        given = (output, features, groups, missing, bank, by_digest.get(category, {}), views)
        if union is None or category not in union.batches:
            plans.append(VisionPlan(*given))
        else:
            plans.append(UnionPlan(*given, union.batches[category], union.views, union.pairs))
    before = () if union is None else (union.step(plans),)
    against = {"vision-map": compared.trials, "held-out": compared.held_out}
    return ComponentWork(plans, against, before)
