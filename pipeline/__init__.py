"""The pipeline around the method: parameters, artefacts, clusters, command line, demo, report.

The names below are imported when they are first used, so that ``import pipeline`` costs nothing.

>>> from pipeline import Region
>>> Region((0, 0, 16, 16), 4, 231, 0, 1, None, (), ()).box  # left, top, right, bottom
(0, 0, 16, 16)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.inference.prediction import Prediction as Prediction
    from pipeline.inference.prediction import Region as Region
    from pipeline.inference.predictor import Predictor as Predictor

_HOMES = {
    "Prediction": "pipeline.inference.prediction",
    "Predictor": "pipeline.inference.predictor",
    "Region": "pipeline.inference.prediction",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
