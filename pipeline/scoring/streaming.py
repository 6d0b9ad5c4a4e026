"""Images into score components at once, for data too large to keep features of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from cache.files import Location
from cache.keys import Keys
from cache.layout import Group, SegmentTask, Space
from cache.store import Store
from fade.aspect import AspectRatio
from fade.types import Feature
from pipeline.config.schema import Params
from pipeline.dataset.loader import ImageSource
from pipeline.features.extraction import EncodeTask, encode_segment
from pipeline.scoring.plan import ComponentBlock, ComponentPlan

if TYPE_CHECKING:
    from pipeline.features.models import ImageEncoder


@dataclass(frozen=True)
class StreamTask(EncodeTask):
    """A block of images to be encoded and scored.

    Attributes:
        blocks: what is to be made of the features.
    """

    blocks: tuple[ComponentBlock, ...]


class _Held:
    """Stands for a store while a block is scored: takes rows, and gives them back."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[dict[str, int], np.ndarray]] = {}

    def write(self, space: Space, keys: Sequence[str], rows: np.ndarray) -> None:
        self._rows[space.fingerprint] = {key: n for n, key in enumerate(keys)}, rows

    def read(self, space: Space, keys: Sequence[str]) -> np.ndarray:
        numbers, rows = self._rows[space.fingerprint]
        return rows[[numbers[key] for key in keys]]

    def of(self, keys: Sequence[str]) -> tuple[str, ...]:
        """Those of the keys that could be encoded."""
        known = next(iter(self._rows.values()), ({}, None))[0]
        return tuple(key for key in keys if key in known)


def stream_block(task: StreamTask, encoder: ImageEncoder | None = None) -> list[str]:
    """Encode, score and store one block; what is wrong with images that were left out.

    Args:
        encoder: the model, where this is no worker that has its own.

    Raises:
        ModelError: a worker's model is another one.
    """
    from threadpoolctl import threadpool_limits

    held = _Held()
    problems = encode_segment(task, cast(Store, held), encoder)
    store = Store(task.store)
    with threadpool_limits(limits=task.params.cluster.threads_per_worker):
        for block in task.blocks:
            if keys := held.of(block.keys):
                vectors = [held.read(space, keys) for space in block.features]
                replace(block, keys=keys).write(store, vectors)
    return problems


class Lacking:
    """What some images lack, found by key."""

    def __init__(self, groups: Sequence[Group], missing: Sequence[NDArray[np.bool_]]) -> None:
        self._parts = []
        for group, lacks in zip(groups, missing, strict=True):
            order = np.argsort(group.keys.data)
            self._parts.append((group.keys.take(order), order, group.spaces, lacks))

    def any(self, keys: Keys) -> NDArray[np.bool_]:
        """For each key whether it lacks something."""
        found = np.zeros(len(keys), bool)
        for ordered, order, _, lacks in self._parts:
            at = ordered.get_indexer(keys)
            found[at >= 0] |= lacks[order[at[at >= 0]]].any(axis=1)
        return found

    def of(self, keys: Keys) -> dict[tuple[str, ...], list[str]]:
        """Keys by what they lack, those that lack nothing left out."""
        found: dict[tuple[str, ...], list[str]] = {}
        for ordered, order, spaces, lacks in self._parts:
            for number, at in enumerate(ordered.get_indexer(keys)):
                if at >= 0:
                    row = lacks[order[at]]
                    lacked = tuple(
                        s for s, is_missing in zip(spaces, row, strict=True) if is_missing
                    )
                    if lacked:
                        found.setdefault(lacked, []).append(keys[number])
        return found


@dataclass(frozen=True)
class Streaming:
    """All the work of a streaming run."""

    plans: Sequence[ComponentPlan]

    def wanted(self) -> list[Lacking]:
        """What images lack of each plan."""
        return [Lacking(plan.groups, plan.missing) for plan in self.plans]

    def tasks(
        self,
        segments: Iterator[SegmentTask],
        wanted: Sequence[Lacking],
        store: Location,
        params: Params,
        features: Mapping[str, tuple[Feature, Space]],
        sources: Mapping[str, ImageSource],
        aspect: AspectRatio | None,
    ) -> Iterator[StreamTask]:
        """Tasks, each made when it is asked for.

        Args:
            segments: blocks of images and what is encoded of them.
            wanted: see :meth:`wanted`.
            params: with absolute paths.
            features: by fingerprint of their spaces.
        """
        for segment in segments:
            keys = Keys.of(segment.keys)
            blocks = tuple(
                plan.block(tuple(lacking), against)
                for plan, lacks in zip(self.plans, wanted, strict=True)
                # of two models, each encodes for its own plans
                if {space.fingerprint for space in plan.features} <= set(segment.spaces)
                for against, lacking in lacks.of(keys).items()
            )
            yield StreamTask(
                store, params, segment, tuple(sources[key] for key in segment.keys),
                tuple(features[space] for space in segment.spaces), aspect, blocks,
            )  # fmt: skip
