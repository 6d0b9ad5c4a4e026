"""Vision transformers of timm: DINOv2, with registers, DINOv3 with rotary positions, SigLIP, DeiT.

Sources: Oquab et al., DINOv2, arXiv 2304.07193; Darcet et al., registers, arXiv 2309.16588; Siméoni
et al., DINOv3, arXiv 2508.10104.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from fade.aspect import Shape
from fade.device import torch_dtype
from fade.encoders.half import halve_linear_layers
from fade.encoders.protocol import TRANSFORMER_PIXELS, Output, checked_layers
from fade.encoders.tower import Tower
from fade.errors import ModelError, ParameterError
from fade.types import Token

if TYPE_CHECKING:
    from torch import Tensor

FULL = 32
"""Torch's attention in bf16 on a CPU is fastest for multiples of so many tokens."""


class TimmViT(Tower):
    """A ``VisionTransformer`` or ``Eva`` of timm that takes images of any size.

    Residual streams and layer norms stay in float32; linear layers and attention run in
    ``precision``.

    Attributes:
        patch_size: pixels a side of one patch.
        native_size: pixels a side of the images that the model was made for.
        depth: number of blocks.

    Examples:
        >>> import numpy as np
        >>> import timm
        >>> network, half = timm.create_model("test_vit", dynamic_img_size=True), (0.5, 0.5, 0.5)
        >>> encoder = TimmViT(network, name="small", mean=half, std=half)
        >>> block, images = encoder.output([-1]), np.zeros((1, 64, 32, 3), np.uint8)
        >>> encoder.stride(block), encoder.encode(images, [block])[block].shape
        (16, (1, 4, 2, 64))
    """

    kind = "timm-vit"
    cpu_pixels = TRANSFORMER_PIXELS

    def _adopt(self) -> None:
        embed = self._model.patch_embed
        self.patch_size = int(embed.patch_size[0])
        self._native: Shape = tuple(embed.grid_size)
        self.native_size = self._native[0] * self.patch_size
        self.depth = len(self._model.blocks)
        self._width = int(self._model.embed_dim)
        self._prefix = int(self._model.num_prefix_tokens)
        self._positions: dict[Shape, tuple[Tensor | None, Any]] = {}
        for block in self._model.blocks:
            if hasattr(block.attn, "fused_attn"):
                block.attn.fused_attn = True
            if hasattr(block.attn, "qkv_bias_separate"):
                block.attn.qkv_bias_separate = self.precision != "fp32"  # through the layer itself
        # other kinds of blocks take no mask
        plain = all(type(block).__name__ == "Block" for block in self._model.blocks)
        self._fills = plain and self.precision == "bf16" and self.device == "cpu"
        if self.precision != "fp32":
            halve_linear_layers(self._model.blocks, self._dtype)

    @staticmethod
    def check(model: Any, name: str) -> None:
        """Refuse models whose tokens do not stay one grid of square patches (ModelError)."""
        from timm.models.eva import Eva
        from timm.models.vision_transformer import VisionTransformer

        reason = None
        if type(model) not in (VisionTransformer, Eva):
            reason = f"it is a {type(model).__name__}"
        else:
            embed = model.patch_embed
            if not hasattr(embed, "proj") or not hasattr(embed, "grid_size"):
                reason = "its patches are not cut by one convolution"
            elif embed.patch_size[0] != embed.patch_size[1]:
                reason = "its patches are not square"
            elif not model.dynamic_img_size and embed.grid_size[0] != embed.grid_size[1]:
                reason = "its native grid is not square"
        if reason:
            raise ModelError(
                f"vision.encoder: {name} is no plain vision transformer ({reason}): choose one such as "
                "vit_small_patch14_dinov2.lvd142m or vit_small_patch16_dinov3.lvd1689m"
            )

    def output(
        self, layers: Collection[int], *, norm: bool = False, token: Token = "patch"
    ) -> Output:
        """The output of these blocks, their mean where there are several.

        Raises:
            ParameterError: there is no such block, or no final norm to apply.
        """
        from torch import nn

        found = checked_layers(layers, self.depth, self.name, "block")
        if norm and isinstance(self._model.norm, nn.Identity):
            raise ParameterError(
                f"{self.name} has no layer norm behind its last block that patches go through: "
                "take blocks before the norm"
            )
        return Output(found, norm, token)

    def stride(self, output: Output) -> int:
        """Pixels a side of one patch."""
        return self.patch_size

    def dim(self, output: Output) -> int:
        """Width of the transformer."""
        return self._width

    def _layers_of(self, output: Output) -> dict[str, Any]:
        filled = {"attention": "filled"} if self.precision == "bf16" else {}  # rounds otherwise
        return {"blocks": list(output.layers), "norm": output.norm, **filled}

    def tensors(self, images: Tensor, outputs: Collection[Output]) -> dict[Output, Tensor]:
        """See :class:`Tower`; patches are without class and register tokens."""
        height, width = images.shape[2:]
        grid = height // self.patch_size, width // self.patch_size
        wanted = {layer for output in outputs for layer in output.layers}
        blocks = self._run(images, grid, wanted)
        return {output: self._read(blocks, output, grid) for output in outputs}

    def _run(self, images: Tensor, grid: Shape, wanted: set[int]) -> dict[int, Tensor]:
        """Tokens (B, prefix + patches, width) behind each wanted block."""
        model = self._model
        tokens, rope = self._embed(images, grid)
        tokens = model.norm_pre(tokens)
        count, mask = tokens.shape[1], None
        if rope is None and self._fills:
            tokens, mask = _filled(tokens)
        found = {}
        for index, block in enumerate(model.blocks[: max(wanted, default=-1) + 1]):
            if rope is None:
                tokens = block(tokens) if mask is None else block(tokens, attn_mask=mask)
            else:
                tokens = block(tokens, rope=rope[index] if self._model.rope_mixed else rope)
            if index in wanted:
                found[index] = tokens[:, :count]
        return found

    def _read(self, blocks: dict[int, Tensor], output: Output, grid: Shape) -> Tensor:
        """An output from the tokens of the blocks."""
        import torch

        parts = [blocks[layer] for layer in output.layers]
        if output.norm:
            parts = [self._model.norm(part) for part in parts]
        tokens = parts[0] if len(parts) == 1 else torch.stack(parts).mean(dim=0)
        patches = tokens[:, self._prefix :]
        if output.token == "patch":
            found = patches.unflatten(1, grid)
        elif getattr(self._model, "cls_token", None) is not None:
            found = tokens[:, 0]
        else:
            found = patches.mean(dim=1)
        return found.float()

    def _embed(self, images: Tensor, grid: Shape) -> tuple[Tensor, Any]:
        """Tokens with positions, (B, prefix + patches, width), and rotary positions or None."""
        import torch
        from torch.nn import functional as F

        model = self._model
        proj = model.patch_embed.proj
        if images.device.type == "cuda":
            # as a product: convolutions take TF32 there, which leaves 10 of float32's 23 bits
            columns = F.unfold(images, self.patch_size, stride=self.patch_size).transpose(1, 2)
            patches = F.linear(columns, proj.weight.flatten(1), proj.bias)
        else:
            patches = proj(images).flatten(2).transpose(1, 2)
        patches = model.patch_embed.norm(patches)
        position, rope = self._position(grid)
        prefix = [
            token.expand(len(patches), -1, -1)
            for token in (getattr(model, "cls_token", None), getattr(model, "reg_token", None))
            if token is not None
        ]
        if position is not None and model.no_embed_class:
            patches = patches + position
        tokens = torch.cat([*prefix, patches], dim=1) if prefix else patches
        if position is not None and not model.no_embed_class:
            tokens = tokens + position
        return tokens, rope

    def _position(self, grid: Shape) -> tuple[Tensor | None, Any]:
        """Position embedding of a grid and rotary positions, computed once for each grid."""
        from timm.layers import resample_abs_pos_embed

        if grid not in self._positions:
            model = self._model
            position, rope = model.pos_embed, getattr(model, "rope", None)
            if position is not None and grid != self._native:
                prefix = 0 if model.no_embed_class else self._prefix
                position = resample_abs_pos_embed(
                    position, list(grid), list(self._native), num_prefix_tokens=prefix
                )
            rotary = None if rope is None else rope.get_embed(shape=list(grid))
            self._positions[grid] = position, rotary
        return self._positions[grid]


def _filled(tokens: Tensor) -> tuple[Tensor, Tensor | None]:
    """Tokens up to a multiple of :data:`FULL`, and a mask that gives the added ones no weight."""
    from torch.nn import functional as F

    lacking = -tokens.shape[1] % FULL
    if not lacking:
        return tokens, None
    filled = F.pad(tokens, (0, 0, 0, lacking))
    mask = filled.new_zeros(filled.shape[1], dtype=torch_dtype("bf16"))
    mask[-lacking:] = float("-inf")
    return filled, mask.expand(1, 1, len(mask), len(mask))
