"""What must be in the store before components can be made of it, and where it then lies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from cache.index import Index, RowLocations
from cache.keys import Keys
from cache.layout import Space
from cache.store import Store
from fade.errors import StoreError, counted
from pipeline.compute.tasks import iterate_tasks
from pipeline.config.cluster import ClusterParams

log = logging.getLogger("fade")


class Step(Protocol):
    """Work that comes before components, cut into tasks."""

    @property
    def label(self) -> str:
        """Names the work in the progress bar."""

    @property
    def unit(self) -> str:
        """What is counted."""

    @property
    def function(self) -> Callable[[Any], int]:
        """Does a task, and says how many that were."""

    def counts(self) -> dict[Space, int]:
        """How many rows of each space are to be made."""

    def kept(self) -> dict[Space, Keys]:
        """Rows that the receipt shall name."""

    def tasks(self, store: Store) -> Iterator[Any]:
        """Tasks, each made when it is asked for; each has a ``name`` and a ``weight``.

        Raises:
            DamagedSegmentError: features are gone or changed.
        """


def run_step(step: Step, store: Store, cluster: ClusterParams) -> None:
    """Bring the store up to what a step needs."""
    total = sum(step.counts().values())
    if total:
        done = iterate_tasks(
            step.function, step.tasks(store), cluster, step.label,
            weight=lambda task: task.weight, unit=step.unit, name=lambda task: task.name, total=total,
            store=store.root,
        )  # fmt: skip
        log.info("%d %ss made now", sum(done), step.unit)


class RowIndex:
    """Where rows lie that an earlier step left in a store, looked up when they are there."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._indexes: dict[Space, Index] = {}

    def locations(self, space: Space, keys: Sequence[str]) -> RowLocations:
        """Of some rows, in the keys' order.

        Raises:
            StoreError: a row is not there.
        """
        if space not in self._indexes:
            self._indexes[space] = self.store.index(space)
        found, there = self._indexes[space].find(keys)
        if not there.all():
            raise StoreError(
                f"the store at {self.store.root} lacks {counted(int((~there).sum()), 'row')} of "
                f"{space.label} just made: was it pruned meanwhile? run again"
            )
        return found.narrowed()
