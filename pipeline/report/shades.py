"""The finished maps of a run as pictures need them: 256 shades on one scale for all images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fade.aspect import AspectRatio
from fade.levels import UNIT
from pipeline.artefacts.maps import map_loader
from pipeline.config.schema import Params
from pipeline.evaluation.recipe import Recipe, measured_size
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
        params: of the run.
        scores: of one trial, with ``path`` and ``category`` by row.
        listed: what the manifest says of a path.
        aspect: that images keep.
        thresholds: which say what levels stand for.

    Raises:
        StoreError: ``maps.zarr`` is missing, damaged or of another schema version.
    """
    recipe, stored = Recipe.of(params), map_loader()
    scales = {(one.category, one.trial.label): one.map_scale for one in thresholds}
    paths, categories = scores["path"].tolist(), scores["category"].astype(str).tolist()

    def load(label: str, row: int) -> np.ndarray | None:
        levels, scale = stored(label, row), scales.get((categories[row], label), UNIT)
        if levels is None or recipe.is_plain(scale):
            return levels
        image = listed(paths[row])
        measured = measured_size(params, image["width"], image["height"], aspect)
        return scale.shades(recipe.pixels(scale.values(levels), measured, scale))

    return load
