"""Features of a project's images that its store keeps, by the receipts of stage extract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cache.layout import RowLocation, Space
from cache.store import Store
from fade.errors import ParameterError
from pipeline.artefacts.catalogue import REFERENCES, TEST, store_root
from pipeline.artefacts.receipts import Located, Receipt, check_receipts, read_receipt
from pipeline.config.schema import Params

if TYPE_CHECKING:
    import pandas as pd

IMAGE_COLUMNS = ("path", "category", "split", "hash")
"""Columns of the manifest that tell whose a feature is."""


@dataclass(frozen=True)
class KeptFeatures:
    """Features of test images, of images to calibrate on, and of references.

    Attributes:
        receipts: that vouch for them.
    """

    store: Store
    receipts: tuple[Receipt, ...]

    @classmethod
    def open(cls, params: Params, folder: Path = Path()) -> KeptFeatures:
        """Those of the project in a folder.

        Raises:
            StoreError: a receipt is missing, damaged or of another run.
        """
        check_receipts(folder)
        receipts = tuple(read_receipt(one, folder) for one in (TEST, REFERENCES))
        return cls(Store(store_root(params.features.store, folder)), receipts)

    @property
    def labels(self) -> list[str]:
        """The features that there are, in alphabetical order."""
        return sorted({label for receipt in self.receipts for label in receipt.spaces})

    def located(self, label: str) -> KeptFeature:
        """One feature, found in the store.

        Raises:
            ParameterError: there is no such feature.
        """
        found = [
            receipt.located(self.store, label)
            for receipt in self.receipts
            if label in receipt.spaces
        ]
        if not found:
            raise ParameterError(
                f"there is no feature {label!r}: this run has {', '.join(self.labels)}"
            )
        return KeptFeature(label, self.store, tuple(found))


@dataclass(frozen=True)
class KeptFeature:
    """One feature of the images of which it is kept.

    Attributes:
        rows: by receipt, where they lie.
    """

    label: str
    store: Store
    rows: tuple[Located, ...]

    @property
    def space(self) -> Space:
        """Of its rows."""
        return self.rows[0].space

    def read(self, keys: Sequence[str]) -> np.ndarray:
        """The feature of some images, of all of which it is kept: (len(keys), *shape).

        Raises:
            DamagedSegmentError: rows are damaged or gone.
        """
        places: dict[str, RowLocation] = {}
        for rows in self.rows:
            lacking = [key for key in dict.fromkeys(keys) if key not in places]
            there = [
                key for key, known in zip(lacking, rows.is_covered(lacking), strict=True) if known
            ]
            places |= zip(there, rows.locations(there), strict=True)
        return self.store.read(self.space, [places[key] for key in keys])


def with_feature(images: pd.DataFrame, feature: KeptFeature) -> pd.DataFrame:
    """Those rows of a manifest of whose images a feature is kept."""
    keys = images["hash"].astype(str).tolist()
    kept = np.logical_or.reduce([rows.is_covered(keys) for rows in feature.rows])
    return images[kept].reset_index(drop=True)
