"""Vision components: what a run needs of them, and the arithmetic of one block of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.index import Index
from cache.keys import Keys
from cache.layout import Group, Space, group_needs
from cache.store import Store
from pipeline.artefacts.catalogue import REFERENCES, SELECTION
from pipeline.artefacts.receipts import Receipt, read_receipt
from pipeline.artefacts.tables import read_table
from pipeline.config.schema import Params
from pipeline.dataset.images import by_category, calibration_images, test_images
from pipeline.scoring.banks import BANK_TABLE, Bank, Comparison, comparison_digest, comparisons
from pipeline.scoring.calibration import trial_images
from pipeline.scoring.components import patch_grid, vision_map_space


@dataclass(frozen=True)
class VisionPlan:
    """The work on one category.

    Attributes:
        bank: of the category.
        comparisons: by digest; digests stand for spaces.
        groups: images by the comparisons that they need.
        missing: for each group (images, comparisons), whether the store lacks the map.
    """

    bank: Bank
    comparisons: Mapping[str, Comparison]
    groups: Sequence[Group]
    missing: Sequence[NDArray[np.bool_]]

    @property
    def lacking(self) -> int:
        """How many images the store lacks a map of."""
        return sum(int(np.count_nonzero(lacks.any(axis=1))) for lacks in self.missing)

    def keys(self) -> Keys:
        """Keys of all maps."""
        return Keys.join(
            [group.keys.joined(digest) for group in self.groups for digest in group.spaces]
        )


@dataclass(frozen=True)
class VisionWork:
    """The work on all categories.

    Attributes:
        output: space of the maps.
        features: spaces of the features, by size ascending.
        plans: of the categories.
        against: what is compared with, by category and trial; of references that are held out also
            by image.
    """

    output: Space
    features: Sequence[Space]
    plans: Sequence[VisionPlan]
    against: Mapping[str, Any]

    @property
    def lacking(self) -> int:
        """How many images the store lacks a map of."""
        return sum(plan.lacking for plan in self.plans)

    def keys(self) -> Keys:
        """Keys of all maps."""
        return Keys.join([plan.keys() for plan in self.plans])


def plan_vision(params: Params, receipt: Receipt, store: Store) -> VisionWork | None:
    """What the parameters need of vision; None where vision has no part or there are no images.

    Args:
        params: of the run.
        receipt: of the scored images' features, whose spaces count.
        store: of the maps.

    Raises:
        StoreError: the store lacks maps and cannot be written to.
    """
    if not params.needs_vision:
        return None
    tests, calibration = by_category(test_images()), by_category(calibration_images())
    if not tests and not calibration:
        return None
    features = [receipt.space(feature.label) for feature in params.vision_features()]
    output = vision_map_space(features)
    plans, against = _plan(params, tests, calibration, features, store.repair(output))
    work = VisionWork(output, features, plans, against)
    store.prepare({output: sum(int(np.count_nonzero(m)) for plan in plans for m in plan.missing)})
    return work


def vision_rows(
    bank: Bank, comparisons: Sequence[Comparison], vectors: Sequence[np.ndarray]
) -> np.ndarray:
    """Vision maps of some images; those of one do not depend on which others there are.

    Args:
        bank: of their category.
        comparisons: what each is compared with.
        vectors: at each of the bank's sizes (images, patches, dim), L2-normalised.

    Returns:
        (images x comparisons, *grid), the comparisons of an image one after the other.
    """
    return np.concatenate(
        [
            bank.vision_maps(dict(zip(bank.sizes, of_image, strict=True)), comparisons)
            for of_image in zip(*vectors, strict=True)
        ]
    )


def _plan(
    params: Params,
    tests: Mapping[str, Keys],
    calibration: Mapping[str, Keys],
    features: Sequence[Space],
    present: Index,
) -> tuple[list[VisionPlan], dict[str, Any]]:
    """Plans of all categories, and what is compared with: by category and trial, and of references
    that are held out also by image.
    """
    selection, _ = read_table(SELECTION.path)
    table, _ = read_table(BANK_TABLE)
    references = read_receipt(REFERENCES)
    labels = [feature.label for feature in params.vision_features()]
    sizes = tuple(feature.size for feature in params.vision_features())
    chosen_of, banks = (
        dict(tuple(frame.groupby("category", sort=False))) for frame in (selection, table)
    )
    grids = dict(zip(sizes, map(patch_grid, features), strict=True))
    plans: list[VisionPlan] = []
    against: dict[str, dict[str, str]] = {}
    held_out: dict[str, dict[str, dict[str, str]]] = {}
    for category in dict.fromkeys([*tests, *calibration]):
        bank_rows = banks.get(category, table.iloc[:0])
        positions = dict(zip(bank_rows["hash"], bank_rows["position"].astype(int), strict=True))
        trials = comparisons(chosen_of.get(category, selection.iloc[:0]), positions, params)
        images = tests.get(category, Keys.of(()))
        candidates = list(calibration.get(category, ()))
        by_digest: dict[str, Comparison] = {}
        needs: list[tuple[Keys, list[str]]] = [(images, [])]
        for comparison, keys in trials:
            digest = comparison_digest(comparison, keys, references, labels, params)
            by_digest.setdefault(digest, comparison)
            against.setdefault(str(category), {})[comparison.trial.label] = digest
            needs[0][1].append(digest)
            chosen = trial_images(candidates, keys)
            needs.append((Keys.of(() if chosen.held_out else chosen.keys), [digest]))
            # an index of its own for each trial has no part that could be left out
            for key in chosen.keys if chosen.held_out and Bank.shared(params) else ():
                others = [other for other in keys if other != key]
                rest = replace(comparison, references=tuple(positions[k] for k in others))
                digest = comparison_digest(rest, others, references, labels, params)
                by_digest.setdefault(digest, rest)
                needs.append((Keys.of([key]), [digest]))
                of_trial = held_out.setdefault(str(category), {})
                of_trial.setdefault(comparison.trial.label, {})[key] = digest
        groups = group_needs(needs)
        missing = [
            np.stack([~present.has(group.keys.joined(digest)) for digest in group.spaces], axis=1)
            for group in groups
        ]
        bank = Bank(
            str(category), sizes, Bank.shared(params),
            root=Path.cwd(), grids=grids, device=params.runtime.device,
        )  # fmt: skip
        plans.append(VisionPlan(bank, by_digest, groups, missing))
    return plans, {"vision-map": against, "held-out": held_out}
