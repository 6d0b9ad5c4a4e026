"""What the manifest says of single images."""

from __future__ import annotations

from functools import cached_property, lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from fade.errors import StoreError
from pipeline.artefacts.catalogue import MANIFEST
from pipeline.artefacts.tables import table_parts

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("hash", "mask", "mask_hash", "width", "height")
KEPT = 1024
"""Images of a long manifest that are kept, as several pictures ask for an image."""


class ListedImages:
    """What the manifest of this project says of an image, by its path.

    A short manifest is read once. Of a long one, whose rows would take room, an image is looked up when
    it is asked for.
    """

    def __init__(self) -> None:
        self._looked_up = lru_cache(KEPT)(self._look_up)

    def __call__(self, path: str) -> dict[str, Any]:
        """Hash, mask, its hash, width and height of an image.

        Raises:
            StoreError: the manifest is missing or damaged, or does not list it.
        """
        if self._short is None:
            return self._looked_up(path)
        places, rows = self._short
        if path not in places:
            raise self._unknown(path)
        return _row(rows, places[path])

    @cached_property
    def _short(self) -> tuple[dict[str, int], dict[str, pa.Array]] | None:
        """Where each path stands, and the rows; None where there are more than one part."""
        parts = list(islice(table_parts(MANIFEST.path, (*COLUMNS, "path")), 2))
        if len(parts) > 1:
            return None
        rows = parts[0] if parts else {"path": []}
        return {str(path): place for place, path in enumerate(rows.pop("path"))}, rows

    def _look_up(self, path: str) -> dict[str, Any]:
        for part in table_parts(MANIFEST.path, COLUMNS, path=path):
            if len(part["hash"]):
                return _row(part, 0)
        raise self._unknown(path)

    @staticmethod
    def _unknown(path: str) -> StoreError:
        return StoreError(f"{MANIFEST.path} does not list {path}: run `fade run`")


def _row(rows: dict[str, pa.Array], place: int) -> dict[str, Any]:
    return {name: column[place].as_py() for name, column in rows.items()}
