"""CLIP models of open_clip: loading them, and encoding images and texts with them."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Collection, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fade.aspect import Aspect, Shape, shape_of
from fade.device import choose_device
from fade.errors import ModelError, ParameterError
from fade.gem import GemConfig, attention, inverse_temperature, self_self_attention
from fade.types import Device, Feature, Stream, Token

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import Tensor, nn

FEATURE_VERSION = 4
"""Raised by hand when the code below gives other numbers; part of every feature's address."""

SEEDED = "seeded"
"""``pretrained`` value for weights made from parameter names alone: for tests, means nothing."""

MLP_TOKENS = {"cpu": 1 << 10, "cuda": 1 << 16}
"""Tokens that go through an MLP at a time: enough for full speed, few enough to stay in a CPU's cache
or to leave room in a GPU's memory."""

MOST_WEIGHTS = 20_000_000_000
"""In a tower: several times the largest CLIP, less than makes a machine swap for hours."""

BUGS = (AttributeError, TypeError, NameError, ImportError)
"""Errors of programs, which no network and no copied file mends: they are not reported as such."""

Precision = Literal["fp32", "bf16", "fp16"]


def _digest_state(state: Iterable[tuple[str, Tensor]]) -> str:
    """Hash of parameters: names, shapes and values, in the order of their names."""
    digest = hashlib.blake2b(digest_size=20)
    for name, tensor in sorted(state, key=lambda item: item[0]):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name}{array.shape}{array.dtype}".encode())
        digest.update(array.data if array.ndim else array.tobytes())
    return digest.hexdigest()


def fill_seeded(model: nn.Module) -> None:
    """Give every floating-point entry values that depend on its name and shape alone, in place.

    For tests and for the demo without a trained model: features are well spread, no more.
    """
    import torch

    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
        noise = torch.from_numpy(
            np.random.default_rng(seed).standard_normal(tuple(tensor.shape), dtype=np.float32)
        )
        is_norm_scale = name.endswith("weight") and any(
            part.startswith("ln_") for part in name.split(".")
        )
        if name == "logit_scale":
            noise = torch.full_like(noise, float(np.log(100.0)))
        elif is_norm_scale:
            noise = 1.0 + 0.05 * noise
        elif "positional_embedding" in name:
            noise *= 0.3 if name.startswith("visual") else 0.02
        elif tensor.ndim >= 2:
            fan_in = tensor.shape[0] if name.endswith("proj") else tensor[0].numel()
            noise *= 0.05 if "token_embedding" in name else 0.9 * fan_in**-0.5
        else:
            noise *= 0.02
        tensor.copy_(noise)


@contextmanager
def _as_local_dir(config_file: Path) -> Iterator[str]:
    """Present a config JSON the way open_clip reads local models, without touching its registry."""
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"model.name: {config_file} is no readable JSON config ({error})"
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
    _check_config(inner, str(config_file))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "open_clip_config.json").write_text(json.dumps(whole), encoding="utf-8")
        yield f"local-dir:{folder}"


def _check_config(config: Any, name: str) -> None:
    """Refuse a model config that would run code from elsewhere or fill the memory.

    Configs come with bundles and from hubs; open_clip hands ``tokenizer_kwargs`` on as they are.
    """
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if part.get("trust_remote_code"):
                raise ModelError(
                    f"model.name: the config of {name} asks for trust_remote_code, which runs code from "
                    "elsewhere: take it out, or choose another model"
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
        if weights > MOST_WEIGHTS:
            raise ModelError(
                f"model.name: {tower} of {name} stands for {weights:.1e} weights, at most "
                f"{MOST_WEIGHTS:.0e} are built: correct layers, width or vocab_size"
            )


def _load_checkpoint(model: nn.Module, file: Path, label: str) -> None:
    import open_clip

    if file.suffix in (".npz", ".npy"):
        raise ModelError(
            f"{label}: {file.name} is a big_vision checkpoint: only open_clip's are read"
        )

    def refuse_other_kinds(module: nn.Module, state: dict[str, Tensor], *_: Any) -> None:
        for name, own in module.state_dict().items():
            given = state.get(name, own)
            if own.is_floating_point() and not given.is_floating_point():
                kind = str(given.dtype).removeprefix("torch.")
                raise ModelError(
                    f"{label}: {name} in {file} is {kind}, where the model has floating-point numbers "
                    "(quantised weights lack their scale): save the weights as float32 or float16"
                )

    hook = model.register_load_state_dict_pre_hook(refuse_other_kinds)
    try:
        open_clip.load_checkpoint(model, str(file), strict=True, weights_only=True)
    except ModelError:
        raise
    except Exception as error:  # torch and safetensors raise many kinds on damaged files
        lines = str(error).strip().splitlines()
        if "loading state_dict" in str(error) or isinstance(error, AssertionError):
            detail = lines[-1].strip()[:160] if lines else "other shapes"
            raise ModelError(
                f"{label}: {file} does not fit model.name ({detail}): "
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
            f"{label}: {file} cannot be read as weights ({_first_line(error)}): "
            "is it complete? checkpoints must be safetensors or plain state dicts"
        ) from None
    finally:
        hook.remove()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__


def _create(name: str, pretrained: str) -> tuple[nn.Module, Any]:
    """Build the model and its tokenizer on the CPU in float32, weights loaded."""
    import open_clip
    from open_clip.pretrained import download_pretrained_from_hf

    tags: list[str] = []
    if name.endswith(".json"):
        if not Path(name).is_file():
            raise ModelError(f"model.name: no config file at {name}")
        with _as_local_dir(Path(name)) as local:
            model, tokenizer = _build(local, name)
    elif name.startswith(("hf-hub:", "local-dir:")):
        own = pretrained in ("", name)
        try:
            _check_config(open_clip.get_model_config(name), name)
            # open_clip would go on with random weights where it finds none
            model = open_clip.create_model(
                name, precision="fp32", device="cpu", load_weights=own, require_pretrained=own
            )
            tokenizer = open_clip.get_tokenizer(name)
        except ModelError:
            raise
        except BUGS as error:  # a hub's config can be wrong in any way, too
            raise _unbuildable(name, error) from None
        except Exception as error:
            raise ModelError(
                f"model.name: {name} could not be loaded ({_first_line(error)}): without internet, "
                "put its config and weights on this machine and name the files"
            ) from None
        if own:
            return model, tokenizer
    elif name not in open_clip.list_models():
        close = get_close_matches(name, open_clip.list_models(), n=3, cutoff=0.4)
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        raise ModelError(f"model.name: open_clip has no model {name!r}{hint}")
    else:
        tags = open_clip.list_pretrained_tags_by_model(name)
        if pretrained in tags:
            return _create_by_tag(name, pretrained)
        model, tokenizer = _build(name, name)

    if pretrained == SEEDED:
        fill_seeded(model)
    elif pretrained.startswith("hf-hub:"):
        try:
            # safetensors where the repository has them
            file = download_pretrained_from_hf(pretrained.removeprefix("hf-hub:"))
        except BUGS:
            raise
        except Exception as error:
            raise ModelError(
                f"model.pretrained: {pretrained} could not be fetched ({_first_line(error)}): copy "
                "the weights to this machine and set model.pretrained to the file's path"
            ) from None
        _load_checkpoint(model, Path(file), "model.pretrained")
    elif Path(pretrained).is_file():
        _load_checkpoint(model, Path(pretrained), "model.pretrained")
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
    import open_clip

    config: dict[str, Any] = open_clip.get_model_config(name) or {}
    made_with = bool(open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False))
    if made_with != bool(config.get("quick_gelu", False)):
        # open_clip only warns, and the features come out wrong
        other = f"{name}-quickgelu" if made_with else name.removesuffix("-quickgelu")
        raise ModelError(
            f"model.pretrained: {tag} was trained with{'' if made_with else 'out'} QuickGELU, unlike "
            f"{name}: set model.name to {other}"
        )
    try:
        model = open_clip.create_model(name, pretrained=tag, precision="fp32", device="cpu")
    except BUGS:
        raise
    except Exception as error:
        raise ModelError(
            f"model.pretrained: the weights {tag} of {name} are not on this machine "
            f"and could not be downloaded ({_first_line(error)}): copy the file here and "
            "set model.pretrained to its path"
        ) from None
    return model, open_clip.get_tokenizer(name)


def _build(address: str, name: str) -> tuple[nn.Module, Any]:
    """A model without trained weights, and its tokenizer; people know it by ``name``."""
    import open_clip

    try:
        model = open_clip.create_model(address, precision="fp32", device="cpu", load_weights=False)
        return model, open_clip.get_tokenizer(address)
    except Exception as error:  # a config can be wrong in any way
        raise _unbuildable(name, error) from None


def _unbuildable(name: str, error: Exception) -> ModelError:
    return ModelError(
        f"model.name: open_clip cannot build {name} ({_first_line(error)}): correct the config "
        "or choose another model"
    )


def _require_plain_vit(model: nn.Module, name: str) -> None:
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
        raise ModelError(
            f"model.name: {name} is no plain CLIP ViT ({reason}): choose one such as "
            "ViT-B-16-plus-240, ViT-B-16 or ViT-L-14"
        )


@dataclass(frozen=True, slots=True)
class _Block:
    """The weights of one residual attention block, the large ones in the compute precision."""

    ln_1: nn.Module
    qkv: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    scale_1: nn.Module
    ln_2: nn.Module
    up: tuple[Tensor, Tensor]
    activation: nn.Module
    down: tuple[Tensor, Tensor]
    scale_2: nn.Module
    heads: int

    @classmethod
    def of(cls, block: Any, dtype: torch.dtype) -> _Block:
        def pair(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
            return weight.detach().to(dtype), bias.detach().to(dtype)

        attn, mlp = block.attn, block.mlp
        return cls(
            ln_1=block.ln_1,
            qkv=pair(attn.in_proj_weight, attn.in_proj_bias),
            out=pair(attn.out_proj.weight, attn.out_proj.bias),
            scale_1=block.ls_1,
            ln_2=block.ln_2,
            up=pair(mlp.c_fc.weight, mlp.c_fc.bias),
            activation=mlp.gelu,
            down=pair(mlp.c_proj.weight, mlp.c_proj.bias),
            scale_2=block.ls_2,
            heads=attn.num_heads,
        )

    def project(self, normed: Tensor, parts: slice = slice(0, 3)) -> list[Tensor]:
        """Chosen ones of query, key and value of (B, N, C) tokens, each (B, heads, N, d)."""
        from torch.nn import functional as F

        width = normed.shape[-1]
        rows = slice(parts.start * width, parts.stop * width)
        joint = F.linear(normed, self.qkv[0][rows], self.qkv[1][rows])
        split = joint.unflatten(-1, (parts.stop - parts.start, self.heads, width // self.heads))
        # attention is up to a tenth faster where the tokens of a head lie side by side
        return list(split.permute(2, 0, 3, 1, 4).contiguous())

    def join(self, heads: Tensor) -> Tensor:
        """Output projection of (B, heads, N, d), as a float32 update of the residual stream."""
        from torch.nn import functional as F

        merged = heads.transpose(1, 2).flatten(2)
        return self.scale_1(F.linear(merged, *self.out).float())

    def feed_forward(self, stream: Tensor) -> Tensor:
        """The residual stream after the MLP, in place; its hidden layer exists for some tokens only."""
        from torch.nn import functional as F

        tokens = stream.view(-1, stream.shape[-1])
        for part in tokens.split(MLP_TOKENS.get(tokens.device.type, MLP_TOKENS["cuda"])):
            hidden = self.activation(F.linear(self.ln_2(part).to(self.up[0].dtype), *self.up))
            part += self.scale_2(F.linear(hidden, *self.down).float())
        return stream


@dataclass(frozen=True, slots=True)
class Encoding:
    """Embeddings of a batch that a GPU may still be computing, on their way to main memory.

    Attributes:
        tensors: by (stream, token), in main memory.
        arrival: of the last of them; None if they are there.
    """

    tensors: dict[tuple[Stream, Token], Tensor]
    arrival: torch.cuda.Event | None

    def arrays(self) -> dict[tuple[Stream, Token], np.ndarray]:
        """The embeddings, once they are there; other threads go on meanwhile."""
        if self.arrival is not None:
            self.arrival.synchronize()
        return {output: tensor.numpy() for output, tensor in self.tensors.items()}


class Encoder:
    """A plain CLIP ViT and its text tower, with both feature streams of FADE.

    The residual streams, layer norms and the projection stay in float32; matrix products and
    attention run in ``precision``.

    Attributes:
        patch_size: pixels a side of one patch.
        native_size: pixels a side of the images that the model was made for.
        dim: width of the joint embedding.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        gem: GemConfig,
        precision: Precision = "fp32",
        device: str = "cpu",
        name: str = "model",
    ) -> None:
        import open_clip
        import torch

        _require_plain_vit(model, name)
        self.name, self.gem, self.precision, self.device = name, gem, precision, device
        self._dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[
            precision
        ]
        model.eval().requires_grad_(False)
        visual: Any = model.visual
        state = list(model.state_dict().items())
        self.vision_digest = _digest_state((k, v) for k, v in state if k.startswith("visual."))
        self._text_state = [(k, v) for k, v in state if not k.startswith("visual.")]
        self._model, self._tokenizer = model.to(device), tokenizer
        self.patch_size = int(visual.patch_size[0])
        self.native_size = int(visual.image_size[0])
        self.dim = int(visual.proj.shape[1])
        preprocess = open_clip.get_model_preprocess_cfg(model)
        self.mean = tuple(float(x) for x in preprocess["mean"])
        self.std = tuple(float(x) for x in preprocess["std"])
        self._mean, self._std = (
            torch.tensor(x, device=device).view(3, 1, 1) for x in (self.mean, self.std)
        )
        self._visual = visual
        self._blocks = [_Block.of(block, self._dtype) for block in visual.transformer.resblocks]
        self._first_gem_block = gem.first_block(len(self._blocks))
        self._positions: dict[Shape, Tensor] = {}

    @classmethod
    def load(
        cls,
        name: str,
        pretrained: str,
        *,
        gem: GemConfig | None = None,
        precision: Precision = "fp32",
        device: Device = "cpu",
    ) -> Encoder:
        """Load a model by open_clip name, hub name or config JSON, with tag, file or hub weights.

        Raises:
            ModelError: unknown name, missing or unfitting weights, or a tower that is no plain ViT.
        """
        model, tokenizer = _create(name, pretrained)
        return cls(
            model,
            tokenizer,
            gem=gem or GemConfig(),
            precision=precision,
            device=choose_device(device),
            name=name,
        )

    def save_weights(self, path: Path) -> None:
        """Write all weights as a safetensors file, which :meth:`load` takes as ``pretrained``."""
        from safetensors.torch import save_file

        # clones, as tensors that share memory are refused
        state = self._model.state_dict()
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in state.items()}, path)

    @property
    def text_digest(self) -> str:
        """Hash of all weights outside the vision tower, and of what is computed with them."""
        model: Any = self._model
        tower = getattr(model, "text", model)
        layers = [
            f"{name} {type(module).__name__} {module.extra_repr()} {getattr(module, 'num_heads', '')}"
            for name, module in model.named_modules()
            if name.partition(".")[0] != "visual"
        ]
        way = [
            *layers, type(self._tokenizer).__name__, tower.context_length,
            getattr(tower, "text_pool_type", getattr(tower, "pool_type", None)),
        ]  # fmt: skip
        text = f"{_digest_state(self._text_state)}{way}"
        return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()

    def grid(self, size: int) -> int:
        """Patches a side at an input size.

        Raises:
            ParameterError: ``size`` is no multiple of the patch size.
        """
        if size < self.patch_size or size % self.patch_size:
            low = max(size // self.patch_size, 1) * self.patch_size
            raise ParameterError(
                f"image size {size} is no multiple of the patch size {self.patch_size} of "
                f"{self.name}: use {low} or {low + self.patch_size}"
            )
        return size // self.patch_size

    def patch_grid(self, size: int, aspect: Aspect | None = None) -> Shape:
        """(rows, columns) of patches that a size stands for; a square where no aspect ratio is kept.

        Raises:
            ParameterError: ``size`` is no multiple of the patch size.
        """
        return shape_of(self.grid(size), aspect)

    def grid_of(self, feature: Feature, aspect: Aspect | None = None) -> Shape:
        """(rows, columns) of patches that a feature is computed on.

        The cls token always sees a square, as it was trained to; its image is squashed.
        """
        return self.patch_grid(feature.size, aspect if feature.token == "patch" else None)

    def pixels(self, feature: Feature, aspect: Aspect | None = None) -> Shape:
        """(height, width) in pixels that an image is resized to for a feature."""
        rows, columns = self.grid_of(feature, aspect)
        return rows * self.patch_size, columns * self.patch_size

    def describe(self, feature: Feature, aspect: Aspect | None = None) -> dict[str, Any]:
        """All that a feature's numbers depend on, besides the image: the content of its address.

        An aspect ratio counts only as far as it makes the grid another one than a square.
        """
        rows, columns = self.grid_of(feature, aspect)
        rectangle = {"resize": "bicubic", "grid": [rows, columns]} if rows != columns else {}
        return {
            "kind": "feature",
            "version": FEATURE_VERSION,
            "weights": self.vision_digest,
            "architecture": {
                "patch_size": self.patch_size,
                "native_size": self.native_size,
                "blocks": len(self._blocks),
                "heads": self._blocks[0].heads,
                "activation": repr(self._blocks[0].activation),
                "epsilon": self._visual.ln_post.eps,
            },
            "mean": self.mean,
            "std": self.std,
            "resize": "bicubic-square",
            "precision": self.precision,
            "size": feature.size,
            "stream": feature.stream,
            "token": feature.token,
            "gem": [self.gem.depth, self.gem.iterations, self.gem.temperature]
            if feature.stream == "gem"
            else None,
            **rectangle,
        }

    def shape(self, feature: Feature, aspect: Aspect | None = None) -> tuple[int, ...]:
        """Shape of one image's feature: (dim,) for cls, (patches, dim) for patch."""
        rows, columns = self.grid_of(feature, aspect)
        return (self.dim,) if feature.token == "cls" else (rows * columns, self.dim)

    def encode_images(
        self, pixels: np.ndarray, outputs: Collection[tuple[Stream, Token]]
    ) -> dict[tuple[Stream, Token], np.ndarray]:
        """L2-normalised embeddings of a batch; computes only what ``outputs`` asks for.

        Args:
            pixels: (B, H, W, 3) uint8 RGB, H and W multiples of the patch size.
            outputs: wanted (stream, token) pairs.

        Returns:
            For each pair float32 (B, dim) for cls, (B, patches, dim) for patch, row by row.

        Raises:
            ParameterError: other shapes or types.
        """
        return self.start_encoding(pixels, outputs).arrays()

    def start_encoding(
        self,
        pixels: np.ndarray,
        outputs: Collection[tuple[Stream, Token]],
        dtype: Literal["float16", "float32"] = "float32",
    ) -> Encoding:
        """:meth:`encode_images` that a GPU works off while the caller goes on.

        Pixels and embeddings travel through page-locked memory, the latter in ``dtype``.
        """
        import torch

        if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.dtype != np.uint8:
            raise ParameterError(
                f"images must be (B, H, W, 3) uint8, not {pixels.shape} {pixels.dtype}"
            )
        grid = self.grid(pixels.shape[1]), self.grid(pixels.shape[2])
        waiting = self.device == "cuda"
        with torch.inference_mode():
            images = torch.from_numpy(np.ascontiguousarray(pixels))
            images = images.pin_memory().to(self.device, non_blocking=True) if waiting else images
            images = images.permute(0, 3, 1, 2).float().div_(255)
            images = images.sub_(self._mean).div_(self._std)
            streams = self._streams(self._embed(images, grid), outputs)
            found: dict[tuple[Stream, Token], Tensor] = {}
            for stream, token in outputs:
                tokens = streams[stream][:, :1] if token == "cls" else streams[stream][:, 1:]
                vectors = self._visual.ln_post(tokens) @ self._visual.proj
                vectors = torch.nn.functional.normalize(vectors, dim=-1)
                vectors = (vectors[:, 0] if token == "cls" else vectors).to(getattr(torch, dtype))
                if waiting:
                    there = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
                    vectors = there.copy_(vectors, non_blocking=True)
                found[stream, token] = vectors
            arrival = torch.cuda.Event(blocking=True) if waiting else None
            if arrival is not None:
                arrival.record()
        return Encoding(found, arrival)

    def _embed(self, images: Tensor, grid: Shape) -> Tensor:
        """Patch and position embedding and the first layer norm: (B, 1 + patches, width) float32."""
        import torch
        from torch.nn import functional as F

        visual = self._visual
        if images.device.type == "cuda":
            # as a product: convolutions take TF32 there, which leaves 10 of float32's 23 bits
            columns = F.unfold(images, self.patch_size, stride=self.patch_size).transpose(1, 2)
            patches = F.linear(columns, visual.conv1.weight.flatten(1), visual.conv1.bias)
        else:
            patches = visual.conv1(images).flatten(2).transpose(1, 2)
        cls = visual.class_embedding.expand(len(patches), 1, -1)
        return visual.ln_pre(torch.cat([cls, patches], dim=1) + self._position(grid))

    def _position(self, grid: Shape) -> Tensor:
        """Position embedding for a grid; the patch part resampled when it is not the native one."""
        import torch
        from torch.nn import functional as F

        native = self.native_size // self.patch_size
        if grid == (native, native):
            return self._visual.positional_embedding
        if grid not in self._positions:
            cls, patch = self._visual.positional_embedding.split([1, native * native])
            image = patch.T.reshape(1, -1, native, native)
            resized = F.interpolate(
                image, grid, mode="bicubic", align_corners=False, antialias=True
            )
            self._positions[grid] = torch.cat([cls, resized.flatten(2)[0].T])
        return self._positions[grid]

    def _streams(
        self, tokens: Tensor, outputs: Collection[tuple[Stream, Token]]
    ) -> dict[str, Tensor]:
        """Run the blocks: the clip stream as far as it is needed, the gem stream if it is."""
        want_gem = any(stream == "gem" for stream, _ in outputs)
        clip_tokens = {token for stream, token in outputs if stream == "clip"}
        clip, gem = tokens, None
        last = len(self._blocks) - 1
        for index, block in enumerate(self._blocks):
            normed_32 = block.ln_1(clip)
            normed = normed_32.to(self._dtype)
            gem_block = want_gem and index >= self._first_gem_block
            if gem_block and gem is None:
                gem = clip
            advance = index < last or bool(clip_tokens)
            if index == last and not gem_block and clip_tokens == {"cls"}:
                # Nobody reads the patches: only the cls token asks, feeds forward and goes on.
                (query,) = block.project(normed[:, :1], slice(0, 1))
                key, value = block.project(normed, slice(1, 3))
                clip = clip[:, :1]
            else:
                query, key, value = block.project(normed)
            if gem_block and gem is not None:
                factor = (
                    inverse_temperature(normed_32, query.shape[-1])
                    if self.gem.temperature is None
                    else normed_32.new_full((len(normed), 1, 1, 1), self.gem.temperature)
                )
                gathered = self_self_attention(query, key, value, factor, self.gem.iterations)
                gem = gem + block.join(gathered)
            if advance:
                clip = block.feed_forward(clip + block.join(attention(query, key, value)))
        return {"clip": clip} if gem is None else {"clip": clip, "gem": gem}

    def encode_texts(self, prompts: Sequence[str], batch_size: int = 64) -> np.ndarray:
        """L2-normalised text embeddings, (len(prompts), dim) float32, in float32 arithmetic.

        Raises:
            ParameterError: a prompt is longer than the model reads.
        """
        import torch

        if not prompts:
            return np.zeros((0, self.dim), np.float32)
        tokens = self._tokens(prompts)
        # short prompts together: a batch is as long as its longest
        order = tokens.argmax(dim=1).argsort(stable=True)
        vectors = np.empty((len(prompts), self.dim), np.float32)
        with torch.inference_mode():
            for batch in order.split(batch_size):
                encoded = self._encode_tokens(tokens[batch].to(self.device))
                vectors[batch.numpy()] = torch.nn.functional.normalize(encoded, dim=-1).cpu()
        return vectors

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Refuse prompts that are longer than the model reads (ParameterError)."""
        if prompts:
            self._tokens(prompts)

    def _tokens(self, prompts: Sequence[str]) -> Tensor:
        """(len(prompts), context) tokens; tokenizers cut longer prompts, which is refused here.

        Prompts that differ only behind the cut would be one and the same to the model.
        """
        tokens: Tensor = self._tokenizer(list(prompts))
        limit = tokens.shape[1]
        # one that fills the last place may have been cut: tokenize it again, with room
        padding = self._tokenizer([""])[0, -1]
        for number in (tokens[:, -1] != padding).nonzero().flatten().tolist():
            prompt = prompts[number]
            pair = self._tokenizer([prompt, ""], context_length=limit + 4 * len(prompt))
            length = int((pair[0] != pair[1]).nonzero().max()) + 1
            if length > limit:
                shown = prompt if len(prompt) <= 100 else f"{prompt[:60]} ... {prompt[-35:]}"
                raise ParameterError(
                    f"the prompt {shown!r} has {length} tokens, {self.name} reads {limit} at most: "
                    "shorten it where it stands (text.template, a prompt file, or the category's name)"
                )
        return tokens

    def _encode_tokens(self, tokens: Tensor) -> Tensor:
        """Embeddings of (B, context) tokens, without computing on the padding behind the last prompt.

        A causal tower that reads its embedding off the end token never looks at what comes after.
        Others go through open_clip as they are.
        """
        import open_clip
        import torch
        from torch import nn

        model: Any = self._model
        if (
            type(model) is not open_clip.CLIP
            or model.text_pool_type != "argmax"
            or model.attn_mask is None
            or bool(model.attn_mask.isfinite().triu(1).any())
        ):
            return model.encode_text(tokens).float()
        ends = tokens.argmax(dim=1)
        length = int(ends.max()) + 1
        stream = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
        stream = model.transformer(stream, attn_mask=model.attn_mask[:length, :length])
        pooled = model.ln_final(stream[torch.arange(len(stream), device=ends.device), ends])
        projection = model.text_projection
        if projection is None:
            return pooled
        return projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
