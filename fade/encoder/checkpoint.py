"""Checkpoints and configs of open_clip: from a name and weights to a model and its tokenizer."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from fade.encoder.activation import check_activation
from fade.encoder.names import check_name, check_weights, not_plain
from fade.encoder.seeded import SEEDED, fill_seeded
from fade.encoder.silence import without_warnings
from fade.errors import ModelError, first_line
from fade.files import read_text
from fade.lean_import import open_clip_library
from fade.weights_file import check_complete

if TYPE_CHECKING:
    from torch import Tensor, nn


MAX_WEIGHTS = 20_000_000_000
"""Largest number of weights of a tower: several times the largest CLIP's."""


PROGRAMMING_ERRORS = (AttributeError, TypeError, NameError, ImportError)
"""Errors of code. They are never reported as a problem of a download or a file."""


@contextmanager
def as_local_dir(config_file: Path, held: int | None = None) -> Iterator[str]:
    """Present a config JSON the way open_clip reads local models, without touching its registry.

    Args:
        held: how many weights the model is going to be filled with, if that is known.
    """
    try:
        config = json.loads(read_text(config_file))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"model.name: {config_file} is not a valid JSON config ({error})"
        ) from None
    if not isinstance(config, dict):
        raise ModelError(
            f"model.name: {config_file} holds no JSON object: expected an open_clip config"
        )
    whole = config if "model_cfg" in config else {"model_cfg": config, "preprocess_cfg": {}}
    inner = whole["model_cfg"] if isinstance(whole["model_cfg"], dict) else {}
    missing = {"embed_dim", "vision_cfg", "text_cfg"} - set(inner)
    if missing:
        raise ModelError(
            f"model.name: {config_file} lacks {', '.join(sorted(missing))}: expected an open_clip config"
        )
    _check_config(inner, str(config_file), held)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "open_clip_config.json").write_text(json.dumps(whole), encoding="utf-8")
        yield f"local-dir:{folder}"


def _check_config(config: Any, name: str, held: int | None = None) -> None:
    """Refuse a model config that would run code from elsewhere or fill the memory.

    Configs come with bundles and from hubs; open_clip hands ``tokenizer_kwargs`` on as they are.

    Args:
        held: see :func:`as_local_dir`: no model is built to be told that it has more.
    """
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if part.get("trust_remote_code"):
                raise ModelError(
                    f"model.name: the config of {name} asks for trust_remote_code, which runs code from "
                    "elsewhere: remove it, or choose another model"
                )
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    for tower in ("vision_cfg", "text_cfg"):
        found = config.get(tower) if isinstance(config, dict) else None
        if not isinstance(found, dict):
            continue
        sizes = [found.get(key, 0) for key in ("layers", "width", "vocab_size")]
        if not all(isinstance(size, int) for size in sizes):
            continue
        layers, width, words = sizes
        weights = 12 * layers * width**2 + words * width
        if weights > MAX_WEIGHTS:
            raise ModelError(
                f"model.name: {tower} of {name} stands for {weights:.1e} weights, at most "
                f"{MAX_WEIGHTS:.0e} are built: correct layers, width or vocab_size"
            )
        least = weights - 8 * layers * width**2  # attention alone, as an MLP may be of any width
        if held is not None and least > held:
            raise ModelError(
                f"model.name: {tower} of {name} stands for {least:,} weights or more, and the weights "
                f"are {held:,}: give the architecture that they were made for, or other weights"
            )


@contextmanager
def _floating_only(model: nn.Module, label: str, source: str) -> Iterator[None]:
    """Refuse weights of another kind than the model's while they are loaded (ModelError)."""

    def refuse_other_kinds(module: nn.Module, state: dict[str, Tensor], *_: Any) -> None:
        for name, own in module.state_dict().items():
            given = state.get(name, own)
            if own.is_floating_point() and not given.is_floating_point():
                kind = str(given.dtype).removeprefix("torch.")
                raise ModelError(
                    f"{label}: {name} in {source} is {kind}, where the model has floating-point numbers "
                    "(quantised weights lack their scale): save the weights as float32 or float16"
                )

    hook = model.register_load_state_dict_pre_hook(refuse_other_kinds)
    try:
        yield
    finally:
        hook.remove()


def _load_state(model: nn.Module, state: Mapping[str, Tensor], label: str) -> None:
    """Load tensors that were saved from a model of the same architecture."""
    try:
        with _floating_only(model, label, "the weights"):
            model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        detail = str(error).strip().splitlines()[-1].strip()[:160]
        raise ModelError(
            f"{label}: the weights do not fit model.name ({detail}): give the architecture that they "
            "were made for, or other weights"
        ) from None


def _load_open_clip(model: nn.Module, file: str) -> None:
    open_clip_library().load_checkpoint(model, file, strict=True, weights_only=True)


def load_checkpoint(
    model: nn.Module,
    file: Path,
    label: str,
    architecture: str = "model.name",
    load: Callable[[nn.Module, str], None] = _load_open_clip,
) -> None:
    """Fill a model from a file of weights that can hold no code; all weights, and no others.

    Args:
        model: to be filled.
        file: safetensors or a plain state dict.
        label: the parameter that names the file, for messages.
        architecture: the parameter that names the model, for messages.
        load: reads a file into a model.

    Raises:
        ModelError: the file is damaged, could run code, is quantised or was made for another model.

    Examples:
        >>> load_checkpoint(..., Path("b16.npz"), "model.pretrained")
        Traceback (most recent call last):
            ...
        fade.errors.ModelError: model.pretrained: b16.npz is a big_vision checkpoint: ...
    """
    if file.suffix in (".npz", ".npy"):
        raise ModelError(
            f"{label}: {file.name} is a big_vision checkpoint: only open_clip's are read"
        )
    check_complete(file, label)
    try:
        with _floating_only(model, label, str(file)):
            load(model, str(file))
    except ModelError:
        raise
    except Exception as error:  # torch and safetensors raise many kinds on damaged files
        lines = str(error).strip().splitlines()
        if "loading state_dict" in str(error) or isinstance(error, AssertionError):
            detail = lines[-1].strip()[:160] if lines else "other shapes"
            raise ModelError(
                f"{label}: {file} does not fit {architecture} ({detail}): "
                "give the architecture that these weights were made for, or another file"
            ) from None
        if "TorchScript" in str(error):
            raise ModelError(
                f"{label}: {file} is a TorchScript archive, which can hold code: load it with "
                "torch.jit.load where you trust it and save its state_dict() with torch.save"
            ) from None
        if isinstance(error, UnpicklingError):
            raise ModelError(
                f"{label}: {file} is no plain state dict, and other pickled objects are refused "
                "because they could run code: save the model's state_dict() alone, or safetensors"
            ) from None
        raise ModelError(
            f"{label}: {file} cannot be read as weights ({kind_and_line(error)}): "
            "is it complete? checkpoints must be safetensors or plain state dicts"
        ) from None


def kind_and_line(error: Exception) -> str:
    """Kind and first line of an error of another library.

    Examples:
        >>> kind_and_line(ValueError("no header\\nat byte 7"))
        'ValueError: no header'
    """
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line[:160]}"


@without_warnings()
def create_model(
    name: str, pretrained: str, state: Mapping[str, Tensor] | None = None
) -> tuple[nn.Module, Any]:
    """Build the model and its tokenizer on the CPU in float32, weights loaded."""
    open_clip = open_clip_library()
    from open_clip.pretrained import download_pretrained_from_hf

    check_name(name)
    held = None if state is None else sum(tensor.numel() for tensor in state.values())
    if state is None:
        check_weights(pretrained)
    tags: list[str] = []
    if name.endswith(".json"):
        if not Path(name).is_file():
            raise ModelError(f"model.name: no config file at {name}")
        with as_local_dir(Path(name), held) as local:
            model, tokenizer = _build(local, name)
    elif name.startswith(("hf-hub:", "local-dir:")):
        own = pretrained in ("", name) and state is None
        try:
            _check_config(open_clip.get_model_config(name), name, held)
            # open_clip would go on with random weights where it finds none
            model = open_clip.create_model(
                name, precision="fp32", device="cpu", load_weights=own, require_pretrained=own
            )
            tokenizer = open_clip.get_tokenizer(name)
        except ModelError:
            raise
        except PROGRAMMING_ERRORS as error:  # a hub's config can be wrong in any way, too
            raise _unbuildable(name, error) from None
        except Exception as error:
            raise ModelError(
                f"model.name: {name} could not be loaded ({kind_and_line(error)}): without internet, "
                "put its config and weights on this machine and name the files"
            ) from None
        if own:
            return model, tokenizer
    else:
        tags = open_clip.list_pretrained_tags_by_model(name)
        if pretrained in tags and state is None:
            return _create_by_tag(name, pretrained)
        model, tokenizer = _build(name, name)

    if state is not None:
        _load_state(model, state, "model.pretrained")
    elif pretrained == SEEDED:
        fill_seeded(model)
    elif pretrained.startswith("hf-hub:"):
        check_activation(pretrained, name, is_quick_gelu(model))
        try:
            # safetensors where the repository has them
            file = download_pretrained_from_hf(pretrained.removeprefix("hf-hub:"))
        except PROGRAMMING_ERRORS:
            raise
        except Exception as error:
            raise ModelError(
                f"model.pretrained: {pretrained} could not be fetched ({kind_and_line(error)}): copy "
                "the weights to this machine and set model.pretrained to the file's path"
            ) from None
        load_checkpoint(model, Path(file), "model.pretrained")
    elif Path(pretrained).is_file():
        check_activation(pretrained, name, is_quick_gelu(model))
        load_checkpoint(model, Path(pretrained), "model.pretrained")
    else:
        known = f" Tags of {name}: {', '.join(tags)}." if tags else ""
        raise ModelError(
            f"model.pretrained: {pretrained!r} is no file here and no tag of {name}: give a "
            f"checkpoint's path, hf-hub:ORG/REPO, a tag, or '{SEEDED}' for weights that mean "
            f"nothing.{known}"
        )
    return model, tokenizer


def _create_by_tag(name: str, tag: str) -> tuple[nn.Module, Any]:
    """A model of open_clip with weights that it knows by a tag."""
    open_clip = open_clip_library()

    # open_clip only warns, and the features come out wrong
    config = open_clip.get_model_config(name) or {}
    check_activation(tag, name, bool(config.get("quick_gelu")))
    try:
        model = open_clip.create_model(name, pretrained=tag, precision="fp32", device="cpu")
    except PROGRAMMING_ERRORS:
        raise
    except Exception as error:
        raise ModelError(
            f"model.pretrained: the weights {tag} of {name} are not on this machine "
            f"and could not be downloaded ({kind_and_line(error)}): copy the file here and "
            "set model.pretrained to its path"
        ) from None
    return model, tokenizer_of(name)


def tokenizer_of(address: str) -> Any:
    """The tokenizer of a model.

    Where it is CLIP's own, the one that open_clip holds is taken: to read its words again would take
    longer than to build a small model.
    """
    open_clip = open_clip_library()
    from open_clip.tokenizer import _tokenizer as held

    text: Any = (open_clip.get_model_config(address) or {}).get("text_cfg", {})
    if "siglip" in address.lower() or text.get("hf_tokenizer_name") or text.get("tokenizer_kwargs"):
        return open_clip.get_tokenizer(address)
    own = copy.copy(held)
    own.context_length = text.get("context_length", own.context_length)
    return own


def _build(address: str, name: str) -> tuple[nn.Module, Any]:
    """A model without trained weights, and its tokenizer; people know it by ``name``."""
    open_clip = open_clip_library()

    try:
        model = open_clip.create_model(address, precision="fp32", device="cpu", load_weights=False)
        return model, tokenizer_of(address)
    except Exception as error:  # a config can be wrong in any way
        raise _unbuildable(name, error) from None


def _unbuildable(name: str, error: Exception) -> ModelError:
    return ModelError(
        f"model.name: open_clip cannot build {name} ({kind_and_line(error)}): correct the config "
        "or choose another model"
    )


def is_quick_gelu(model: nn.Module) -> bool:
    """Whether any of a model's blocks computes with QuickGELU."""
    from open_clip.transformer import QuickGELU

    return any(isinstance(module, QuickGELU) for module in model.modules())


def require_plain_vit(model: nn.Module, name: str) -> None:
    """Refuse a vision tower whose blocks FADE's two streams do not know (ModelError)."""
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
    from torch import nn

    visual: Any = model.visual
    reason = None
    if not isinstance(visual, VisionTransformer):
        reason = (
            f"its vision tower is a {type(visual).__module__.split('.')[0]} {type(visual).__name__}"
        )
    elif visual.attn_pool is not None:
        reason = "it pools by attention"
    elif visual.pool_type != "tok":
        reason = f"it pools by {visual.pool_type!r} instead of a class token"
    elif visual.final_ln_after_pool:
        reason = "its final layer norm comes after pooling"
    elif visual.proj is None:
        reason = "it has no projection"
    elif visual.patch_size[0] != visual.patch_size[1] or visual.grid_size[0] != visual.grid_size[1]:
        reason = "its patches or its native grid are not square"
    elif not all(
        type(block) is ResidualAttentionBlock and isinstance(block.attn, nn.MultiheadAttention)
        for block in visual.transformer.resblocks
    ):
        reason = "its blocks are not open_clip's plain residual attention blocks"
    if reason:
        raise not_plain(name, reason)
