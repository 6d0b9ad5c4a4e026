"""The finished maps of a run as pictures need them: 256 shades on one scale for all images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fade.aspect import AspectRatio
from fade.levels import UNIT, Scale
from pipeline.artefacts.maps import map_loader
from pipeline.config.schema import Params
from pipeline.evaluation.recipe import Recipe, closed, closing_of, measured_size
from pipeline.evaluation.thresholds import Threshold

if TYPE_CHECKING:
    import pandas as pd


def shade_loader(
    params: Params,
    scores: pd.DataFrame,
    listed: Callable[[str], Mapping[str, Any]],
    aspect: AspectRatio | None,
    thresholds: Sequence[Threshold],
) -> Callable[[str, int], np.ndarray | None]:
    """What reads a finished map, uint8 (H, W), by its trial's label and its row; None without maps.

    Args:
        scores: of one trial, with ``path`` and ``category`` by row.
        listed: what the manifest says of a path.
        thresholds: which say what levels stand for.

    Raises:
        StoreError: ``maps.zarr`` is missing, damaged or of another schema version.
    """
    maps = FinishedMaps.of(params, scores, listed, aspect, thresholds)

    def load(label: str, row: int) -> np.ndarray | None:
        levels, scale = maps.stored(label, row), maps.scale(label, row)
        if levels is None or maps.recipe.is_plain(scale):
            return levels
        return scale.shades(maps.finished(levels, scale, row))

    return load


def mask_loader(
    params: Params,
    scores: pd.DataFrame,
    listed: Callable[[str], Mapping[str, Any]],
    aspect: AspectRatio | None,
    thresholds: Sequence[Threshold],
) -> Callable[[str, int], np.ndarray | None] | None:
    """What reads a closed mask, bool (H, W) at evaluation size; None where masks are not closed.

    It gives None where there is no map or no threshold of pixels. Parameters and errors are those of
    :func:`shade_loader`.
    """
    closing = closing_of(params)
    if closing.is_none:
        return None
    maps = FinishedMaps.of(params, scores, listed, aspect, thresholds)

    def load(label: str, row: int) -> np.ndarray | None:
        levels, threshold = maps.stored(label, row), maps.thresholds.get(maps.place(label, row))
        if levels is None or threshold is None or threshold.pixel is None:
            return None
        finished = maps.finished(levels, threshold.map_scale, row)
        shape = (finished.shape[0], finished.shape[1])
        return closed(closing, finished, threshold.pixel, threshold.map_scale, shape)

    return load


@dataclass(frozen=True)
class FinishedMaps:
    """The maps of one trial, read and finished one by one; see :func:`shade_loader`."""

    params: Params
    paths: Sequence[str]
    categories: Sequence[str]
    listed: Callable[[str], Mapping[str, Any]]
    aspect: AspectRatio | None
    thresholds: Mapping[tuple[str, str], Threshold]
    stored: Callable[[str, int], np.ndarray | None]
    recipe: Recipe

    @classmethod
    def of(
        cls,
        params: Params,
        scores: pd.DataFrame,
        listed: Callable[[str], Mapping[str, Any]],
        aspect: AspectRatio | None,
        thresholds: Sequence[Threshold],
    ) -> FinishedMaps:
        """The maps of a run; see :func:`shade_loader`."""
        return cls(
            params, scores["path"].tolist(), scores["category"].astype(str).tolist(), listed,
            aspect, {(one.category, one.trial.label): one for one in thresholds}, map_loader(),
            Recipe.of(params),
        )  # fmt: skip

    def place(self, label: str, row: int) -> tuple[str, str]:
        """Category and trial of a map."""
        return self.categories[row], label

    def scale(self, label: str, row: int) -> Scale:
        """What levels of a map stand for."""
        threshold = self.thresholds.get(self.place(label, row))
        return UNIT if threshold is None else threshold.map_scale

    def finished(self, levels: np.ndarray, scale: Scale, row: int) -> np.ndarray:
        """A map at evaluation size, in levels."""
        image = self.listed(self.paths[row])
        measured = measured_size(self.params, image["width"], image["height"], self.aspect)
        return self.recipe.pixels(scale.middles(levels), measured, scale)
