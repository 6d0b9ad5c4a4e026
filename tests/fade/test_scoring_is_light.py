"""What scores patches needs no torch: workers start in a second."""

from __future__ import annotations

import subprocess
import sys

from tests.imports import ROOT, closure

MODULES = (
    "fade.views",
    "fade.tiles",
    "fade.transforms",
    "fade.reductions",
    "fade.filters",
    "fade.foreground",
    "fade.closing",
    "fade.encoders.protocol",
    "fade.encoders.load",
    "fade.rules.nearest",
    "fade.rules.subspace",
    "fade.rules.pairs",
    "fade.rules.mutual",
    "fade.rules.thinning",
)


def test_scoring_and_choosing_an_encoder_load_no_torch() -> None:
    code = (
        f"import sys, importlib\nfor name in {MODULES}: importlib.import_module(name)\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'torch', 'timm', 'open_clip', 'sklearn'}, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_rules_reach_no_encoder() -> None:
    for module in MODULES:
        if not module.startswith("fade.encoders"):
            reached = closure(module)
            assert not any(name.startswith("fade.encoder") for name in reached), module
