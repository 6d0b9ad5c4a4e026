"""open_clip and timm, imported without torch's compiler, which nothing here uses and takes a second.

torchvision imports the whole compiler for one function, which its detection models call; timm for a
mark on a function that the compiler shall pass over. They get that function in a form that imports the
compiler when it is called, and no mark.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo.utils"


def _is_compile_supported(device_type: str) -> bool:
    from torch._dynamo.utils import is_compile_supported

    return bool(is_compile_supported(device_type))


def _unmarked(function: Any = None, **_: Any) -> Any:
    return (lambda marked: marked) if function is None else function


@contextmanager
def without_compiler() -> Iterator[None]:
    """Import torchvision, and what imports it, in this context."""
    import torch

    if _COMPILER in sys.modules or "torchvision" in sys.modules:
        yield
        return
    stand_in = ModuleType(_COMPILER)
    stand_in.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    sys.modules[_COMPILER] = stand_in
    compiler: Any = torch.compiler
    marking, compiler.disable = compiler.disable, _unmarked
    try:
        yield
    finally:
        compiler.disable = marking
        if sys.modules.get(_COMPILER) is stand_in:
            del sys.modules[_COMPILER]


def open_clip_library() -> Any:
    """The module ``open_clip``.

    Examples:
        >>> "ViT-B-16" in open_clip_library().list_models()
        True
    """
    with without_compiler():
        import open_clip
    return open_clip


def builtin_configs() -> list[Path]:
    """The config files of open_clip's own models, found without importing it.

    Examples:
        >>> "ViT-B-16" in {file.stem for file in builtin_configs()}
        True
    """
    spec = find_spec("open_clip")
    places = (spec.submodule_search_locations if spec else None) or ()
    return [file for place in places for file in Path(place, "model_configs").glob("*.json")]


def timm_library() -> Any:
    """The module ``timm``.

    Examples:
        >>> timm_library().is_model("vit_small_patch14_dinov2")
        True
    """
    with without_compiler():
        import timm
    return timm
