"""Both feature streams of a CLIP model, and its text embeddings: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from fade.aspect import AspectRatio, Shape, SmallerEdge, count_patches, shape_of
from fade.device import choose_device, torch_dtype
from fade.encoder.block import TransformerBlock
from fade.encoder.checkpoint import create_model
from fade.encoder.clip import Clip
from fade.encoder.encoding import Encoding
from fade.encoder.positions import resample_positions
from fade.encoder.text_tower import embed_tokens, text_digest, tokenize
from fade.errors import ParameterError
from fade.gem import GemConfig, inverse_temperature, self_self_attention
from fade.preprocess import resampling
from fade.types import Device, Feature, Precision, Stream, Token
from fade.weights import digest_state, write_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

FEATURE_VERSION = 4
"""Raised by hand when the code below gives other numbers; part of every feature's address."""


class Encoder:
    """A plain CLIP ViT and its text tower, with both feature streams of FADE.

    The residual streams, layer norms and the projection stay in float32; matrix products and
    attention run in ``precision``.

    Attributes:
        patch_size: pixels a side of one patch.
        native_size: pixels a side of the images that the model was made for.
        width: of the vision tower.
        depth: its number of blocks.
        dim: width of the joint embedding.

    Examples:
        >>> from importlib.resources import files
        >>> demo = files("pipeline.demo")
        >>> model = Encoder.load(str(demo / "fade-demo.json"), str(demo / "fade-demo.safetensors"))
        >>> images = np.zeros((2, 128, 64, 3), np.uint8)  # 16 x 8 patches of 8 pixels
        >>> model.encode_images(images, [("gem", "patch")])["gem", "patch"].shape
        (2, 128, 128)
        >>> model.encode_texts(["a plate with a scratch"]).shape
        (1, 128)
    """

    def __init__(
        self,
        clip: Clip,
        *,
        gem: GemConfig,
        precision: Precision = "fp32",
        device: str = "cpu",
        name: str = "model",
    ) -> None:
        import torch

        self.name, self.gem, self.precision, self.device = name, gem, precision, device
        self._dtype = torch_dtype(precision)
        self.mean, self.std, self._parts = clip.mean, clip.std, clip.whole
        self._visual: Any = (visual := clip.visual.eval().requires_grad_(False))
        state = visual.state_dict().items()
        self.vision_digest = digest_state((f"visual.{name}", tensor) for name, tensor in state)
        visual.to(device)
        self.patch_size = int(visual.patch_size[0])
        self.native_size = int(visual.image_size[0])
        self.width, self.dim = (int(side) for side in visual.proj.shape)
        self._mean, self._std = (
            torch.tensor(x, device=device).view(3, 1, 1) for x in (self.mean, self.std)
        )
        self._blocks = [TransformerBlock.of(b, self._dtype) for b in visual.transformer.resblocks]
        self.depth = len(self._blocks)
        self._first_gem_block = gem.first_block(self.depth)
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
        state: Mapping[str, Tensor] | None = None,
    ) -> Encoder:
        """Load a model by open_clip name, hub name or config JSON, with tag, file or hub weights.

        Args:
            name: of the model.
            pretrained: its weights.
            gem: how the gem stream is computed; None for the published settings.
            precision: of matrix products and attention.
            device: where it computes; auto takes a GPU if there is one.
            state: the weights themselves, as :meth:`save_weights` wrote them, in place of ``pretrained``.

        Raises:
            ModelError: unknown name, missing or unfitting weights, or a tower that is no plain ViT.
        """
        from fade.encoder.plain_clip import plain_clip

        plain = plain_clip(name, pretrained, state)
        return cls(
            plain or Clip.of(*create_model(name, pretrained, state), name),
            gem=gem or GemConfig(),
            precision=precision,
            device=choose_device(device),
            name=name,
        )

    @cached_property
    def _whole(self) -> tuple[nn.Module, Any, list[tuple[str, Tensor]]]:
        """The model with its text tower, its tokenizer, and all weights outside the vision tower."""
        model, tokenizer = self._parts(self._visual)
        model.eval().requires_grad_(False)
        rest = [(k, v) for k, v in model.state_dict().items() if not k.startswith("visual.")]
        return model.to(self.device), tokenizer, rest

    _model: Any = cached_property(lambda self: self._whole[0])
    _tokenizer: Any = cached_property(lambda self: self._whole[1])

    def without_vision(self) -> Encoder:
        """The same model for texts alone; it keeps no vision tower that was built for images."""
        found = copy(self)
        found._visual, found._blocks = None, []
        return found

    def save_weights(self, file: BinaryIO) -> None:
        """Write all weights as a safetensors file, which :meth:`load` takes as ``pretrained``."""
        write_weights(self._model.state_dict(), file)

    @property
    def tower(self) -> tuple[Any, Sequence[TransformerBlock]]:
        """open_clip's vision tower, and its blocks in the compute precision."""
        return self._visual, self._blocks

    @cached_property
    def text_digest(self) -> str:
        """Hash of all weights outside the vision tower, and of what is computed with them."""
        return text_digest(*self._whole)

    def grid(self, size: int) -> int:
        """Patches a side at an input size.

        Raises:
            ParameterError: ``size`` is no multiple of the patch size.
        """
        of = f"the patch size {self.patch_size} of {self.name}"
        return count_patches(size, self.patch_size, "image size", of)

    def patch_grid(self, size: int, aspect: AspectRatio | None = None) -> Shape:
        """(rows, columns) of patches that a size stands for; a square where no aspect ratio is kept.

        Raises:
            ParameterError: ``size`` is no multiple of the patch size.
        """
        return shape_of(self.grid(size), aspect)

    def grid_of(self, feature: Feature, aspect: AspectRatio | None = None) -> Shape:
        """(rows, columns) of patches that a feature is computed on.

        The cls token always sees a square, as it was trained to; its image is squashed.
        """
        return self.patch_grid(feature.size, aspect if feature.token == "patch" else None)

    def pixels(self, feature: Feature, aspect: AspectRatio | None = None) -> Shape:
        """(height, width) in pixels that an image is resized to for a feature."""
        rows, columns = self.grid_of(feature, aspect)
        return rows * self.patch_size, columns * self.patch_size

    @property
    def architecture(self) -> dict[str, Any]:
        """What weights alone do not say of the vision tower."""
        return {
            "patch_size": self.patch_size,
            "native_size": self.native_size,
            "blocks": len(self._blocks),
            "heads": self._blocks[0].heads,
            "activation": repr(self._blocks[0].activation),
            "epsilon": self._visual.ln_post.eps,
        }

    def describe(self, feature: Feature, aspect: AspectRatio | None = None) -> dict[str, Any]:
        """All that a feature's numbers depend on, besides the image: the content of its address.

        An aspect ratio counts only as far as it makes the grid another one than a square.
        """
        rows, columns = self.grid_of(feature, aspect)
        resize = "bicubic-cropped" if isinstance(aspect, SmallerEdge) else "bicubic"
        rectangle = {"resize": resize, "grid": [rows, columns]} if rows != columns else {}
        return {
            "kind": "feature",
            "version": FEATURE_VERSION,
            "weights": self.vision_digest,
            "architecture": self.architecture,
            "mean": self.mean,
            "std": self.std,
            "resize": "bicubic-square",
            "precision": self.precision,
            **({"attention": "fused"} if self.precision == "bf16" else {}),  # once in panels
            "size": feature.size,
            "stream": feature.stream,
            "token": feature.token,
            "gem": self.gem.describe() if feature.stream == "gem" else None,
            **rectangle,
            **resampling(),
        }

    def shape(self, feature: Feature, aspect: AspectRatio | None = None) -> tuple[int, ...]:
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
        if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.dtype != np.uint8:
            raise ParameterError(
                f"images must be (B, H, W, 3) uint8, not {pixels.shape} {pixels.dtype}"
            )
        return self._encoded(pixels, outputs, dtype)

    def _encoded(
        self,
        pixels: np.ndarray,
        outputs: Collection[tuple[Stream, Token]],
        dtype: Literal["float16", "float32"],
    ) -> Encoding:
        """See :meth:`start_encoding`; a CPU takes one image at a time."""
        import torch

        if self.device == "cpu" and len(pixels) > 1:
            # last bits depend on a product's rows: alone, an image has them whatever lies beside it
            each = [self._encoded(one, outputs, dtype).tensors for one in pixels[:, None]]
            return Encoding({key: torch.cat([one[key] for one in each]) for key in each[0]}, None)
        waiting = self.device == "cuda"
        with torch.inference_mode():
            streams = self._streams(self._embed(self._normalized(pixels)), outputs)
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

    def encode_blocks(
        self, pixels: np.ndarray, blocks: Collection[int], *, norm: bool = False
    ) -> dict[int, np.ndarray]:
        """Raw tokens behind some blocks, before the projection; later blocks are not computed.

        Args:
            pixels: (B, H, W, 3) uint8 RGB, H and W multiples of the patch size.
            blocks: counted from 0.
            norm: whether the tower's last layer norm is applied.

        Returns:
            For each block (B, 1 + patches, width) float32, the class token first.
        """
        import torch

        if self.device == "cpu" and len(pixels) > 1:  # as above
            each = [self.encode_blocks(one, blocks, norm=norm) for one in pixels[:, None]]
            return {block: np.concatenate([one[block] for one in each]) for block in each[0]}
        found: dict[int, np.ndarray] = {}
        with torch.inference_mode():
            tokens = self._embed(self._normalized(pixels))
            for index, block in enumerate(self._blocks[: max(blocks) + 1]):
                query, key, value = block.project(block.ln_1(tokens).to(self._dtype))
                attended = torch.nn.functional.scaled_dot_product_attention(query, key, value)
                tokens = block.feed_forward(tokens + block.join(attended))
                if index in blocks:
                    kept = self._visual.ln_post(tokens) if norm else tokens
                    found[index] = kept.float().cpu().numpy()
        return found

    def _normalized(self, pixels: np.ndarray) -> Tensor:
        """(B, H, W, 3) uint8 pixels as the model takes them, on its device: (B, 3, H, W) float32."""
        import torch

        images = torch.from_numpy(np.ascontiguousarray(pixels))
        if self.device == "cuda":
            images = images.pin_memory().to(self.device, non_blocking=True)
        images = images.permute(0, 3, 1, 2).float().div_(255)
        return images.sub_(self._mean).div_(self._std)

    def _embed(self, images: Tensor) -> Tensor:
        """Patch and position embedding and the first layer norm: (B, 1 + patches, width) float32."""
        import torch
        from torch.nn import functional as F

        visual, grid = self._visual, (self.grid(images.shape[2]), self.grid(images.shape[3]))
        if images.device.type == "cuda":
            # as a product: convolutions take TF32 there, which leaves 10 of float32's 23 bits
            columns = F.unfold(images, self.patch_size, stride=self.patch_size).transpose(1, 2)
            patches = F.linear(columns, visual.conv1.weight.flatten(1), visual.conv1.bias)
        else:
            patches = visual.conv1(images).flatten(2).transpose(1, 2)
        cls = visual.class_embedding.expand(len(patches), 1, -1)
        return visual.ln_pre(torch.cat([cls, patches], dim=1) + self.position(grid))

    def position(self, grid: Shape) -> Tensor:
        """Position embedding (1 + patches, width) of a grid; resampled if it is not the native one."""
        native, own = self.native_size // self.patch_size, self._visual.positional_embedding
        if grid == (native, native):
            return own
        if grid not in self._positions:
            self._positions[grid] = resample_positions(own, native, grid)
        return self._positions[grid]

    def _streams(
        self, tokens: Tensor, outputs: Collection[tuple[Stream, Token]]
    ) -> dict[str, Tensor]:
        """Run the blocks: the clip stream as far as it is needed, the gem stream if it is."""
        from torch.nn import functional as F

        want_clip, want_gem = (any(one == name for one, _ in outputs) for name in ("clip", "gem"))
        clip, gem = tokens, None
        for index, block in enumerate(self._blocks):
            normed_32 = block.ln_1(clip)
            normed = normed_32.to(self._dtype)
            gem_block = want_gem and index >= self._first_gem_block
            if gem_block and gem is None:
                gem = clip
            query, key, value = block.project(normed)
            if gem_block and gem is not None:
                factor = (
                    inverse_temperature(normed_32, query.shape[-1])
                    if self.gem.temperature is None
                    else normed_32.new_full((len(normed), 1, 1, 1), self.gem.temperature)
                )
                gathered = self_self_attention(query, key, value, factor, self.gem.iterations)
                gem = gem + block.join(gathered)
            if want_clip or index < self.depth - 1:
                attended = F.scaled_dot_product_attention(query, key, value)
                clip = block.feed_forward(clip + block.join(attended))
        return {"clip": clip} if gem is None else {"clip": clip, "gem": gem}

    def encode_texts(
        self, prompts: Sequence[str], advance: Callable[[int], object] | None = None
    ) -> np.ndarray:
        """L2-normalised text embeddings, (len(prompts), dim) float32, in float32 arithmetic.

        Args:
            prompts: sentences.
            advance: is told of each batch how many of them it has.

        Raises:
            ParameterError: a prompt is longer than the model reads.
        """
        if not prompts:
            return np.zeros((0, self.dim), np.float32)
        tokens = tokenize(self._tokenizer, prompts, self.name)
        return embed_tokens(self._model, tokens, self.device, advance)

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Refuse prompts that are longer than the model reads (ParameterError)."""
        if prompts:
            tokenize(self._tokenizer, prompts, self.name)
