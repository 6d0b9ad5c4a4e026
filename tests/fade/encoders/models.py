"""Small models of timm with seeded weights, in folders as ``local-dir:`` names them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from fade.lean_import import timm_library
from tests.projects import GOLDEN

SMALL = {"embed_dim": 32, "depth": 4, "num_heads": 2}


def fill(model: Any) -> Any:
    """Weights that depend on names alone, features well spread."""
    spec = importlib.util.spec_from_file_location(
        "seeded_timm", GOLDEN / "vision" / "seeded_timm.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.fill(model)


def save_model(folder: Path, architecture: str, **settings: Any) -> Any:
    """Write config.json and model.safetensors of a seeded model; return timm's own."""
    sizes: dict[str, Any] = (
        {"dynamic_img_size": True}
        if any(kind in architecture for kind in ("vit", "eva", "deit"))
        else {}
    )
    model = fill(timm_library().create_model(architecture, num_classes=0, **settings, **sizes))
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architecture": architecture,
        "model_args": settings,
        "pretrained_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "classifier": "head"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    state = model.state_dict()
    save_file(
        {name: value.contiguous() for name, value in state.items()}, folder / "model.safetensors"
    )
    return model
