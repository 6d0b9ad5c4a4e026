"""Rows of the store that a block of images needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cache.keys import Keys
from cache.layout import RowLocation, Space
from cache.store import Store
from pipeline.artefacts.catalogue import TEST
from pipeline.artefacts.receipts import Located, read_receipt
from pipeline.dataset.images import test_images

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Component:
    """Rows of a score component, or of a feature, for the images of a block."""

    space: Space
    places: Sequence[RowLocation]

    def __getitem__(self, images: slice) -> Component:
        """The rows of some of the images."""
        return Component(self.space, self.places[images])

    def read(self, store: Store) -> np.ndarray:
        """(images, *shape) of the space's type."""
        return store.read(self.space, self.places)


@dataclass(frozen=True)
class ImageFeatures:
    """Where features of the scored images lie; see :meth:`open`.

    Attributes:
        test_keys: of all test images.
    """

    located: tuple[Located, ...]
    test_keys: Keys

    @classmethod
    def open(cls, labels: Sequence[str], store: Store) -> ImageFeatures:
        """Find some features of a run.

        Raises:
            StoreError: they are missing or damaged.
        """
        receipt = read_receipt(TEST)
        with receipt.discard_on_damage(store):
            located = tuple(receipt.located(store, label).check() for label in labels)
        return cls(located, Keys.join([keys for _, keys in test_images()]))

    def of(self, images: pd.DataFrame, first: int | None) -> tuple[Component, ...]:
        """The rows of some images, of each feature.

        Args:
            images: to calibrate on, with ``hash``.
            first: row of the first image among the test images; None for images to calibrate on.
        """
        if first is None:
            keys = Keys.of(images["hash"].tolist())
        else:
            keys = self.test_keys[first : first + len(images)]
        return tuple(
            Component(found.space, found.locations(keys).narrowed()) for found in self.located
        )
