"""FADE: few-shot and zero-shot visual anomaly detection from CLIP and GEM features.

The names below are imported when they are first used, so that ``import fade`` costs nothing.

>>> from fade import Settings
>>> Settings(mode="language").mode
'language'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fade.aspect import Aspect as Aspect
    from fade.aspect import AspectRatio as AspectRatio
    from fade.datasets import read_dataset as read_dataset
    from fade.encoder import Encoder as Encoder
    from fade.errors import DataError as DataError
    from fade.errors import FadeError as FadeError
    from fade.errors import ModelError as ModelError
    from fade.errors import ParameterError as ParameterError
    from fade.errors import StoreError as StoreError
    from fade.preprocess import decode_rgb as decode_rgb
    from fade.scoring import Detector as Detector
    from fade.scoring import Inspection as Inspection
    from fade.scoring import Settings as Settings

__version__ = "0.1.0"
_HOMES = {
    "Aspect": "fade.aspect",
    "AspectRatio": "fade.aspect",
    "DataError": "fade.errors",
    "Detector": "fade.scoring",
    "Encoder": "fade.encoder",
    "FadeError": "fade.errors",
    "Inspection": "fade.scoring",
    "ModelError": "fade.errors",
    "ParameterError": "fade.errors",
    "Settings": "fade.scoring",
    "StoreError": "fade.errors",
    "decode_rgb": "fade.preprocess",
    "read_dataset": "fade.datasets",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
