"""CLIP models whose config asks for nothing special, built without open_clip and without random numbers.

Images need the vision tower alone, whose weights are taken as they are. open_clip, which takes as long to
import as torch, comes with the text tower when somebody asks for that.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fade.channels import channel_statistics
from fade.encoder.activation import check_activation
from fade.encoder.checkpoint import MAX_WEIGHTS, as_local_dir, tokenizer_of
from fade.encoder.clip import Clip
from fade.encoder.seeded import SEEDED, SeededWeights
from fade.encoder.silence import without_warnings
from fade.files import open_plain, read_text
from fade.lean_import import builtin_configs, open_clip_library
from fade.unfilled import unfilled
from fade.weights import read_weights

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of the pixels that OpenAI's models were trained on, which configs without numbers of their own mean."""
MAX_LAYERS, MAX_NUMBER = 1_000, 1_000_000
"""Largest numbers of a config that may come from anywhere."""
_MODEL = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
_VISION = {"image_size", "layers", "width", "head_width", "patch_size"}
_TEXT = {"context_length", "vocab_size", "width", "heads", "layers"}
_VISION_DEFAULTS = {"head_width": 64}


class QuickGELU(nn.Module):
    """The activation that OpenAI's models were trained with."""

    def forward(self, x: Tensor) -> Tensor:
        """A GELU by a sigmoid."""
        return x * torch.sigmoid(1.702 * x)


class _Block(nn.Module):
    """The layers of a residual attention block, by open_clip's names."""

    def __init__(self, width: int, heads: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads)
        self.ls_1, self.ls_2 = nn.Identity(), nn.Identity()
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", activation())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))


class VisionTower(nn.Module):
    """The layers of a plain ViT, by open_clip's names; :class:`fade.encoder.Encoder` computes."""

    def __init__(self, config: Mapping[str, int], dim: int, activation: type[nn.Module]) -> None:
        super().__init__()
        width, patch, side = (config[key] for key in ("width", "patch_size", "image_size"))
        self.patch_size, self.image_size = (patch, patch), (side, side)
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty((side // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        heads = width // config["head_width"]
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(
            _Block(width, heads, activation) for _ in range(config["layers"])
        )
        self.proj = nn.Parameter(torch.empty(width, dim))


def plain_clip(name: str, pretrained: str, state: Mapping[str, Tensor] | None) -> Clip | None:
    """A model by its config, from weights that fit it exactly.

    Args:
        name: path of a JSON config of open_clip's, or the name of one of its own.
        pretrained: path of a safetensors file, or :data:`~fade.encoder.SEEDED`.
        state: the weights themselves, in place of ``pretrained``.

    Returns:
        None where model or weights are of another kind or do not fit: open_clip then builds the model or
        says what is wrong.

    Raises:
        ModelError: its pixels cannot be normalised, or the weights are of another activation.
    """
    try:
        config = json.loads(read_text(_config_file(name)))
        model, preprocessing = config.get("model_cfg", config), config.get("preprocess_cfg", {})
        vision, text = {**_VISION_DEFAULTS, **model["vision_cfg"]}, model["text_cfg"]
        if not _is_plain(model, vision, text):
            return None
        given = {"mean": MEAN, "std": STD} | {
            key: value for key, value in preprocessing.items() if value is not None
        }
        mean, std = channel_statistics(given["mean"], given["std"], f"model.name: {name}")
        expected = _shapes(model["embed_dim"], vision, text)
        if sum(map(math.prod, expected.values())) > MAX_WEIGHTS:
            return None
        seeded = state is None and pretrained == SEEDED
        named = state is None and not seeded
        if seeded:
            state = SeededWeights(expected)
        elif state is None:
            # of open_clip's own names a tag is meant where a file has none of these endings
            if not name.endswith(".json") and not pretrained.endswith(".safetensors"):
                return None
            state = _weights(Path(pretrained))
        if not seeded and not _fit(state, expected):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    quick = model.get("quick_gelu", False)
    if named:
        check_activation(pretrained, name, quick)
    with unfilled():
        visual = VisionTower(vision, model["embed_dim"], QuickGELU if quick else nn.GELU)
    own = {
        key.removeprefix("visual."): state[key].float()
        for key in state
        if key.startswith("visual.")
    }
    visual.load_state_dict(own, strict=True, assign=True)
    if not seeded:  # of the vision tower's no second copy stays
        state = {key: state[key] for key in state if not key.startswith("visual.")}
    return Clip(visual, mean, std, partial(_whole, config, state))


def _config_file(name: str) -> Path:
    """The config of a model; FileNotFoundError for a name that open_clip does not know."""
    if name.endswith(".json"):
        return Path(name)
    for file in builtin_configs():
        if file.stem == name:
            return file
    raise FileNotFoundError(name)


def _fit(state: Mapping[str, Tensor], expected: Mapping[str, Any]) -> bool:
    """Whether weights have the names and shapes that a model asks for, and are no whole numbers."""
    return {key: tuple(tensor.shape) for key, tensor in state.items()} == expected and all(
        tensor.is_floating_point() for tensor in state.values()
    )


@without_warnings()
def _whole(config: Any, state: Mapping[str, Tensor], visual: Any) -> tuple[nn.Module, Any]:
    """open_clip's model and its tokenizer.

    Args:
        config: of the model.
        state: all weights outside the vision tower, and others.
        visual: the vision tower, whose weights it shares; None: it has none.
    """
    with tempfile.TemporaryDirectory() as folder:  # its config's file may be gone by now
        file = Path(folder) / "model.json"
        file.write_text(json.dumps(config), encoding="utf-8")
        with as_local_dir(file) as local:
            with unfilled():
                model = open_clip_library().create_model(
                    local, precision="fp32", device="meta", load_weights=False
                )
            tokenizer = tokenizer_of(local)
    length = model.context_length
    # no weight: it is causal
    model.attn_mask = torch.full((length, length), float("-inf")).triu_(1)
    own = {key: state[key].float() for key in state if not key.startswith("visual.")}
    if visual is None:
        model.visual = None
    else:
        own |= {f"visual.{key}": tensor for key, tensor in visual.state_dict().items()}
    model.load_state_dict(own, strict=True, assign=True)
    return model, tokenizer


def _weights(file: Path) -> dict[str, Tensor]:
    with open_plain(file) as source:
        return read_weights(source, os.fstat(source.fileno()).st_size)


def _is_plain(model: Any, vision: Any, text: Any) -> bool:
    """Whether a config has the numbers of a plain CLIP, and nothing else."""
    numbers = [model["embed_dim"], *vision.values(), *text.values()]
    return (
        set(model) <= _MODEL
        and set(vision) == _VISION
        and set(text) == _TEXT
        and all(type(number) is int and 0 < number <= MAX_NUMBER for number in numbers)
        and max(vision["layers"], text["layers"]) <= MAX_LAYERS
        and isinstance(model.get("quick_gelu", False), bool)
        and vision["width"] % vision["head_width"] == 0
        and text["width"] % text["heads"] == 0
        and vision["image_size"] % vision["patch_size"] == 0
    )


def _shapes(dim: int, vision: Mapping[str, int], text: Mapping[str, int]) -> dict[str, Any]:
    """The names and shapes of all weights of a model, by open_clip's names."""
    width, patch = vision["width"], vision["patch_size"]
    words = text["width"]
    tokens = (vision["image_size"] // patch) ** 2 + 1
    found: dict[str, Any] = {
        "visual.conv1.weight": (width, 3, patch, patch),
        "visual.class_embedding": (width,),
        "visual.positional_embedding": (tokens, width),
        "visual.proj": (width, dim),
        "token_embedding.weight": (text["vocab_size"], words),
        "positional_embedding": (text["context_length"], words),
        "text_projection": (words, dim),
        "logit_scale": (),
    }
    for norm, side in (("visual.ln_pre", width), ("visual.ln_post", width), ("ln_final", words)):
        found |= {f"{norm}.weight": (side,), f"{norm}.bias": (side,)}
    for tower, side, layers in (
        ("visual.transformer", width, vision["layers"]),
        ("transformer", words, text["layers"]),
    ):
        for block in (f"{tower}.resblocks.{number}" for number in range(layers)):
            for layer, shape in (
                ("ln_1", (side,)),
                ("ln_2", (side,)),
                ("attn.out_proj", (side, side)),
                ("mlp.c_fc", (4 * side, side)),
                ("mlp.c_proj", (side, 4 * side)),
            ):
                found |= {f"{block}.{layer}.weight": shape, f"{block}.{layer}.bias": shape[:1]}
            found[f"{block}.attn.in_proj_weight"] = (3 * side, side)
            found[f"{block}.attn.in_proj_bias"] = (3 * side,)
    return found
