"""Weight files for models of timm: read without running code, brought into timm's names."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.encoder import checkpoint

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    State = Mapping[str, Tensor]

ALIGNED = 64
"""Bytes that addresses of torch's memory are multiples of."""
LITE_STEM = "_conv_stem.weight"
"""First entry of EfficientNet-Lite's weights as lukemelas' EfficientNet-PyTorch names them."""


def load_checkpoint(model: nn.Module, file: Path, label: str) -> None:
    """Fill a timm model from safetensors or a plain state dict; all weights, and no others.

    Files of the official repositories (DINOv2, DINOv3) and of timm are understood, whatever
    classifier they carry.

    Args:
        model: built without a classifier.
        file: the weights.
        label: what the file was chosen by, for messages.

    Raises:
        ModelError: the file is damaged, could run code, is quantised or was made for another model.
    """
    checkpoint.load_checkpoint(model, file, label, architecture="vision.encoder", load=_load)


def _load(model: nn.Module, file: str) -> None:
    """Fill a model from a file, read as open_clip reads its own; to import that takes 30 MiB."""
    import torch
    from safetensors.torch import load_file

    if file.endswith(".safetensors"):
        content: Any = load_file(file)
    else:
        content = torch.load(file, map_location="cpu", weights_only=True)
    state = content.get("state_dict", content)
    if next(iter(state.items()))[0].startswith("module"):  # as saved from several GPUs
        state = {name[len("module.") :]: value for name, value in state.items()}
    fill(model, _in_names_of(model, state))


def is_filled_by_weights(model: nn.Module) -> bool:
    """Whether weights hold all numbers of a model: it may then be built without memory."""
    import torch

    names = set(model.state_dict())
    return all(name in names for name, _ in model.named_buffers()) and not any(
        isinstance(value, torch.Tensor)
        for module in model.modules()
        for value in vars(module).values()
    )


def fill(model: nn.Module, state: State) -> Any:
    """Load weights into a model; one that was built without memory takes them as they are.

    Raises:
        RuntimeError: they do not fit.
    """
    own = model.state_dict()
    if not any(value.is_meta for value in own.values()):
        return model.load_state_dict(dict(state), strict=True)
    taken = {
        name: _as_torch_has_it(value, own[name].dtype) if name in own else value
        for name, value in state.items()
    }
    return model.load_state_dict(taken, strict=True, assign=True)


def _as_torch_has_it(value: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor of a type in memory of torch's own: products of other addresses may round otherwise."""
    if value.is_floating_point() != dtype.is_floating_point:
        return value  # which is refused
    found = value.to(dtype).contiguous()
    return found if found.data_ptr() % ALIGNED == 0 else found.clone()


def _in_names_of(model: Any, state: State) -> dict[str, Tensor]:
    """Weights under the names of a model, a classifier that it was built without left out."""
    if LITE_STEM in state:
        return _by_order(model, state)
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    found = dict(state if convert is None else convert(dict(state), model))
    own = set(model.state_dict())
    classifiers = model.pretrained_cfg.get("classifier") or ()
    for head in (classifiers,) if isinstance(classifiers, str) else classifiers:
        for name in (f"{head}.weight", f"{head}.bias"):
            if name not in own:
                found.pop(name, None)
    return found


def _by_order(model: Any, state: State) -> dict[str, Tensor]:
    """Weights of EfficientNet-Lite under timm's names: both list the same layers in the same order."""
    given = [(name, value) for name, value in state.items() if not name.startswith("_fc.")]
    own = model.state_dict()
    for (name, value), (target, like) in zip(given, own.items(), strict=False):
        if name.rpartition(".")[2] != target.rpartition(".")[2] or value.shape != like.shape:
            raise RuntimeError(
                f"Error(s) in loading state_dict: {name} {tuple(value.shape)} stands where the model "
                f"has {target} {tuple(like.shape)}"
            )
    if len(given) != len(own):
        raise RuntimeError(
            f"Error(s) in loading state_dict: {len(given)} entries, the model has {len(own)}"
        )
    return {target: value for target, (_, value) in zip(own, given, strict=True)}
