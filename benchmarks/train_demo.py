"""Train the demo's model: ``python -m benchmarks.train_demo OUT.safetensors [--steps N]``.

A small CLIP learns from the generator's training families and training defects alone what prompts
about flawless and damaged things mean, through the same two streams and formulas that inference
uses: docs/demo-model.md.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fade.errors import FadeError, ParameterError
from fade.files import atomic_write as whole_file
from pipeline.demo.defects import DEFECTS, TRAIN_DEFECTS
from pipeline.demo.families import FAMILIES, TRAIN_FAMILIES
from pipeline.demo.generate import GOOD_PHRASES, Nuisance, style_of

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG = Path(__file__).parents[1] / "pipeline" / "demo" / "fade-demo.json"
STYLE_OFFSET = 2**40
"""Styles of training start here; those of data sets are drawn below 2**32."""
SIDE, NATIVE, PIECES, VERSIONS = 256, 128, 2, 3
"""Pixels a side of drawn pictures and of what the model sees at once; pieces of each product, and
pictures of each piece: a good one, and two with different defects."""


# --- pictures -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Pool:
    """Pictures to train on, product by product.

    Attributes:
        images: (products, PIECES, VERSIONS, SIDE, SIDE, 3) uint8; version 0 is good.
        covers: (products, PIECES, VERSIONS, SIDE, SIDE) bool, what the defect changed.
    """

    images: NDArray[np.uint8]
    covers: NDArray[np.bool_]


def draw_product(task: tuple[int, int, int]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw the pieces of one product, good and defective, as :class:`Pool` has them.

    ``task`` is (seed, position in TRAIN_FAMILIES, number of the product).
    """
    import cv2

    cv2.setNumThreads(1)
    seed, position, number = task
    family = FAMILIES[TRAIN_FAMILIES[position]]
    style = style_of(family, STYLE_OFFSET + 2**24 * seed + 2**16 * position + number)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 3, position, number]))
    nuisance = Nuisance()
    images = np.empty((PIECES, VERSIONS, SIDE, SIDE, 3), np.uint8)
    covers = np.zeros((PIECES, VERSIONS, SIDE, SIDE), np.bool_)
    kinds = iter(rng.permutation(len(TRAIN_DEFECTS)))
    for piece in range(PIECES):
        drawing = family.render(style, rng, round(SIDE * 1.43))
        placed, foreground = nuisance.place(*drawing, rng, SIDE)
        for version in range(VERSIONS):
            picture = placed
            if version:
                defect = DEFECTS[TRAIN_DEFECTS[int(next(kinds))]]
                severity = float(rng.uniform(0.25, 1))
                picture, covers[piece, version] = defect.apply(placed, foreground, rng, severity)
            images[piece, version] = np.round(nuisance.expose(picture, rng) * 255)
    return images, covers


def draw_pool(folder: Path, products: int, seed: int, workers: int) -> None:
    """Draw so many products of each training family; equal arguments give equal files.

    The files are ``images.npy`` and ``covers.npy`` of :func:`read_pool`, whole or not at all.
    """
    tasks = [(seed, p, n) for p in range(len(TRAIN_FAMILIES)) for n in range(products)]
    shape = (len(tasks), PIECES, VERSIONS, SIDE, SIDE)
    folder.mkdir(parents=True, exist_ok=True)
    with (
        whole_file(folder / POOL_FILES[0]) as images_file,
        whole_file(folder / POOL_FILES[1]) as covers_file,
        multiprocessing.get_context("spawn").Pool(workers) as processes,
    ):
        images = np.lib.format.open_memmap(images_file, "w+", np.uint8, (*shape, 3))
        covers = np.lib.format.open_memmap(covers_file, "w+", np.bool_, shape)
        for row, drawn in enumerate(processes.imap(draw_product, tasks, chunksize=4)):
            images[row], covers[row] = drawn
        images.flush()
        covers.flush()


POOL_FILES = ("images.npy", "covers.npy")


def read_pool(folder: Path) -> Pool:
    """Read the products that :func:`draw_pool` drew; they stay on disk."""
    images, covers = (
        np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in POOL_FILES
    )
    return Pool(images, covers)


# --- sentences ----------------------------------------------------------------------------------

_GROUPS, _GROUP = 4, 10
_PLAIN_WORDS = ("object", "item", "part", "product", "piece", "surface", "thing", "material")
_PLACES = ("", "", " on the left", " on the right", " on the top", " on the bottom",
           " in the center", " on the top left", " on the bottom right")  # fmt: skip


class Sentences:
    """Draws sentences about flawless and about damaged things, of many names and of none.

    Most names are random words, so that the states count and not the nouns; the words of the
    demo's own families are left out.
    """

    def __init__(self, tokenizer: Any) -> None:
        from fade.prompts import load_ensemble
        from pipeline.demo.families import DEMO_FAMILIES

        self._tokenizer = tokenizer
        held_out = {w for name in DEMO_FAMILIES for phrase in FAMILIES[name].words
                    for w in phrase.split()}  # fmt: skip
        endings = (word for word in sorted(tokenizer.encoder) if word.endswith("</w>"))
        stems = (word.removesuffix("</w>") for word in endings)
        self._random = [
            w for w in stems if w.isascii() and w.isalpha() and len(w) > 3 and w not in held_out
        ]
        named = [phrase for name in TRAIN_FAMILIES for phrase in FAMILIES[name].words]
        self._named = [phrase for phrase in named if held_out.isdisjoint(phrase.split())]
        states = load_ensemble("winclip"), load_ensemble("winclip_sizes_places")
        described = [load_ensemble(f"descriptions_{i}") for i in range(1, 6)]
        captions = [f"{{classname}} {p}" for name in TRAIN_DEFECTS for p in DEFECTS[name].phrases]
        self._sources: tuple[tuple[Sequence[str], ...], ...] = (
            (
                states[0].normal,
                tuple(p for ensemble in described for p in ensemble.normal),
                tuple(f"{{classname}} {phrase}" for phrase in GOOD_PHRASES),
            ),
            (
                (*states[1].abnormal, *states[0].abnormal * 24),
                tuple(p for ensemble in described for p in ensemble.abnormal),
                tuple(caption + place for caption in captions for place in _PLACES),
            ),
        )

    def draw(self, rng: np.random.Generator) -> Tensor:
        """Tokens of (2 x _GROUPS x _GROUP) sentences, normal ones first."""
        sentences = []
        words = [self._word(rng) for _ in range(_GROUPS)]
        for sources in self._sources:
            for word in words:
                for source in rng.choice(3, _GROUP, p=(0.5, 0.35, 0.15)):
                    prompts = sources[source]
                    prompt = prompts[int(rng.integers(len(prompts)))].replace("{classname}", word)
                    sentences.append(f"a photo of a {prompt}." if rng.random() < 0.85 else prompt)
        tokens: Tensor = self._tokenizer(sentences)
        return tokens

    def _word(self, rng: np.random.Generator) -> str:
        kind = rng.random()
        if kind < 0.3:
            return "object"
        if kind < 0.5:
            words: Sequence[str] = _PLAIN_WORDS if kind < 0.4 else self._named
            return str(words[int(rng.integers(len(words)))])
        return " ".join(str(w) for w in rng.choice(self._random, int(rng.integers(1, 3))))


# --- both streams, with gradients ---------------------------------------------------------------


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """``softmax(q k^T) v`` of (B, H, N, d), plainly: torch's fused backward is slow for few tokens."""
    import torch

    query, key, value = (part.flatten(0, 1).to(value.dtype) for part in (query, key, value))
    with torch.autocast("cpu", enabled=False):
        return torch.bmm(torch.bmm(query, key.mT).softmax(-1), value)


def both_streams(visual: Any, pixels: Tensor, windows: Tensor | None, gem: Tensor) -> Any:
    """The clip stream of all images and the gem stream of some, as :mod:`fade.encoder` has them.

    Args:
        visual: the vision tower of an open_clip model.
        pixels: (B, 3, S, S) float32, normalised.
        windows: (B, 2), where each picture lies in the native grid; None: it is all of it.
        gem: indices of the images whose gem stream is wanted.

    Returns:
        (B, 1 + patches, dim) and (len(gem), patches, dim), L2-normalised.
    """
    import torch
    from torch.nn import functional as F

    from fade.gem import GemConfig, inverse_temperature

    patches = visual.conv1(pixels)
    grid = patches.shape[-1]
    place = visual.positional_embedding
    if windows is not None:
        rows, columns = (windows[:, axis, None] + torch.arange(grid) for axis in (0, 1))
        cells = 1 + rows[:, :, None] * visual.grid_size[1] + columns[:, None, :]
        first_cell = torch.zeros(len(patches), 1, dtype=torch.long)
        place = place[torch.cat([first_cell, cells.flatten(1)], 1)]
    cls = visual.class_embedding.expand(len(patches), 1, -1)
    clip = visual.ln_pre(torch.cat([cls, patches.flatten(2).transpose(1, 2)], 1) + place)
    blocks = visual.transformer.resblocks
    first = GemConfig().first_block(len(blocks))
    gathered: Any = None
    for index, block in enumerate(blocks):
        attention, normed = block.attn, block.ln_1(clip)
        joint = F.linear(normed, attention.in_proj_weight, attention.in_proj_bias)
        heads = joint.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = heads
        if index >= first and len(gem):
            factor = inverse_temperature(normed[gem], heads.shape[-1])
            found: Any = 0
            for part in heads[:, gem]:
                tokens = F.normalize(part.float(), dim=-1)
                tokens = F.normalize(
                    _attend(tokens * factor, tokens, tokens).view_as(tokens).float(), dim=-1
                )
                found = found + _attend(tokens * factor, tokens, value[gem]) / 3
            found = found.view_as(tokens).transpose(1, 2).flatten(2)
            gathered = (clip[gem] if gathered is None else gathered) + attention.out_proj(found)
        found = _attend(query * query.shape[-1] ** -0.5, key, value).view_as(query)
        clip = clip + attention.out_proj(found.transpose(1, 2).flatten(2))
        clip = clip + block.mlp(block.ln_2(clip))
    gathered = clip[:0] if gathered is None else gathered
    return tuple(
        F.normalize((visual.ln_post(tokens) @ visual.proj).float(), dim=-1)
        for tokens in (clip, gathered[:, 1:])
    )


# --- batches ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Batch:
    """Three pictures of each of P products: a good one, a defective one, and one of either kind.

    Attributes:
        pixels: (3 P, 3, S, S) float32 in [0, 1], product by product.
        cover: (3 P, g, g), share of each patch that the defect covers.
        windows: see :func:`both_streams`.
    """

    pixels: Tensor
    cover: Tensor
    windows: Tensor | None


_SCALES = {True: (1.0, 1.0, 1.0, 0.92, 0.82), False: (1.2, 1.0, 1.0, 0.8, 0.67, 0.5)}
"""Pixels of a drawn picture for half of one seen, of whole pictures and of windows: magnified by
less or more, which leaves a part of the picture."""


def draw_batch(
    pool: Pool, rng: np.random.Generator, products: int, whole: bool, patch: int
) -> Batch:
    """Draw pictures, whole or all through one window of half the side, and change them at random.

    Turns, magnification, colours and exposure change product by product, small shifts, light and
    noise picture by picture. Now and then another product shines through, or takes a part of the
    frame: surfaces that no family draws.
    """
    import torch

    span = NATIVE if whole else NATIVE // 2
    grid = span // patch
    windows = np.zeros((products, 3, 2), np.int64)
    images = np.empty((products, 3, span, span, 3), np.float32)
    covers = np.zeros((products, 3, grid, grid), np.float32)
    for slot in range(products):
        product, other = (int(n) for n in rng.integers(len(pool.images), size=2))
        one, two = rng.permutation(PIECES)
        flawed = int(rng.integers(1, VERSIONS))
        third = (two, 0) if rng.random() < 0.5 else (one, int(rng.integers(1, VERSIONS)))
        chosen = ((one, 0), (two, flawed), third)
        turn = _Turn(int(rng.integers(4)), bool(rng.random() < 0.5))
        # Magnification of 2 at a scale of 1, as a demo picture of 256 pixels is seen at 128.
        side = 2 * span * float(rng.choice(_SCALES[whole]))
        corner = rng.uniform(0, SIDE - side, 2) if side < SIDE else np.zeros(2)
        if not whole and rng.random() < 0.75:
            rows, columns = np.nonzero(turn(pool.covers[product, two, flawed]))
            pick = int(rng.integers(rows.size))
            aim = np.array([rows[pick], columns[pick]])
            corner = np.clip(aim - rng.uniform(0.12, 0.88, 2) * side, 0, SIDE - side)
        native = NATIVE // patch
        windows[slot] = np.minimum(np.round(corner / SIDE * native), native - grid)
        paint = _Colours.draw(rng)
        share = _share(rng, span) if rng.random() < 0.25 else None
        for place, (piece, version) in enumerate(chosen):
            slack = min(4.0, SIDE - side)
            top, left = np.clip(corner + rng.uniform(-slack, slack, 2), 0, SIDE - side)
            box = (left, top, left + side, top + side)
            picture = _seen(turn(pool.images[product, piece, version]), span, box)
            if share is not None:
                behind = _seen(turn(pool.images[other, piece, 0]), span, box)
                picture = picture + (behind - picture) * share[..., None]
            values = paint(picture) * np.float32(rng.uniform(0.95, 1.05))
            noise = rng.standard_normal(values.shape, np.float32)
            images[slot, place] = values + noise * np.float32(rng.uniform(0, 0.012))
            if version:
                cover = turn(pool.covers[product, piece, version])
                kept = _seen(cover, grid, box)
                if share is not None:
                    kept = kept * (share.reshape(grid, patch, grid, patch).mean((1, 3)) < 0.6)
                covers[slot, place] = kept
    pixels = torch.from_numpy(np.clip(images, 0, 1)).flatten(0, 1).permute(0, 3, 1, 2)
    places = None if whole else torch.from_numpy(windows).flatten(0, 1)
    return Batch(pixels, torch.from_numpy(covers).flatten(0, 1), places)


@dataclass(frozen=True, slots=True)
class _Turn:
    """Quarter turns, then perhaps a mirror."""

    quarters: int
    mirror: bool

    def __call__(self, picture: NDArray[Any]) -> NDArray[Any]:
        turned = np.rot90(picture, self.quarters)
        return np.ascontiguousarray(turned[:, ::-1] if self.mirror else turned)


@dataclass(frozen=True, slots=True)
class _Colours:
    """A change of exposure, hue and saturation."""

    gamma: float
    mixture: NDArray[np.float32]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Colours:
        gain = rng.uniform(0.75, 1.25, 3)
        mixture = np.eye(3)[rng.permutation(3) if rng.random() < 0.5 else slice(None)] * gain
        if rng.random() < 0.3:  # less colour, or none
            mixture = mixture + (mixture.mean(0) - mixture) * rng.uniform(0.3, 1)
        return cls(float(np.exp(rng.uniform(-0.3, 0.3))), mixture.T.astype(np.float32))

    def __call__(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.clip(picture**self.gamma @ self.mixture, 0, 1)


def _share(rng: np.random.Generator, span: int) -> NDArray[np.float32]:
    """How much of another product shows at each pixel, (span, span): evenly, or one part only."""
    if rng.random() < 0.5:
        return np.full((span, span), rng.uniform(0.15, 0.45), np.float32)
    y, x = np.meshgrid(*(2 * [np.linspace(-1, 1, span)]), indexing="ij")
    turn, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.7)
    if rng.random() < 0.5:
        distance = np.cos(turn) * x + np.sin(turn) * y - reach
    else:
        cy, cx = rng.uniform(-0.8, 0.8, 2)
        distance = (0.3 + 0.6 * reach) - np.maximum(np.abs(x - cx), np.abs(y - cy) * 1.5)
    return np.clip(0.5 + distance * span / 3, 0, 1).astype(np.float32)


def _seen(
    picture: NDArray[Any], side: int, box: tuple[float, float, float, float]
) -> NDArray[np.float32]:
    """A box (left, top, right, bottom) of a uint8 picture or a bool cover at so many pixels a side."""
    from PIL import Image

    cover = picture.dtype == np.bool_
    image = Image.fromarray(picture.astype(np.uint8) * 255 if cover else picture)
    way = Image.Resampling.BOX if cover else Image.Resampling.BICUBIC
    return np.asarray(image.resize((side, side), way, box), np.float32) / np.float32(255)


# --- training -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the model is trained; the defaults made the shipped file.

    Attributes:
        products: drawn of each training family, each of PIECES pieces.
        steps: optimiser steps; the rate falls to zero over the last ``cooling`` of them, and
            nothing before depends on how many there are.
        start: weights to go on from instead of fresh ones, at the lower rate ``tuning``.
        reading: steps in which the text tower learns; then the vision tower learns alone, from
            sentences that are kept.
        windows, wholes: products in a process's batch of windows and of whole pictures.
        processes: that train together; another number gives other weights.
        saving: steps after which progress is kept.
    """

    products: int = 48
    steps: int = 3000
    cooling: int = 500
    seed: int = 0
    start: Path | None = None
    reading: int = 600
    windows: int = 14
    wholes: int = 5
    processes: int = 2
    rate: float = 1e-3
    tuning: float = 5e-4
    decay: float = 0.05
    averaging: float = 0.99
    saving: int = 100

    def rate_at(self, step: int) -> float:
        """Learning rate of a step."""
        left = (self.steps - step) / min(self.cooling, self.steps)
        highest = self.rate if self.start is None else self.tuning
        return highest * min(1.0, (step + 1) / 60, left)

    def whole_at(self, step: int) -> float:
        """How often a batch shows whole pictures: windows teach more at first, at less cost."""
        return min(0.8, (0.1 if self.start is None else 0.4) + step / 1000)


TOUCHED, UNTOUCHED = 0.06, 0.004
"""A patch counts as defective from the first share on, as good up to the second."""
_SCALE, _MULTIPLIER = 100.0, 3.5


def new_model(seed: int) -> tuple[nn.Module, Any]:
    """The demo's architecture with fresh weights, and its tokenizer."""
    import open_clip
    import torch
    from open_clip.model import CLIP

    torch.manual_seed(seed)
    config = json.loads(CONFIG.read_text(encoding="utf-8"))
    model: Any = CLIP(**config)
    with torch.no_grad():
        # GEM's softmax factor grows with these: at 1 it would average over the whole picture.
        model.visual.conv1.weight.copy_(_cosines(model.visual.conv1.weight.shape))
        for block in model.visual.transformer.resblocks:
            block.ln_1.weight.mul_(2.0)
            block.attn.in_proj_weight.div_(2.0)
            # Blocks begin as small corrections of the cosines' answers.
            block.attn.out_proj.weight.mul_(0.3)
            block.mlp.c_proj.weight.mul_(0.3)
        model.visual.positional_embedding.mul_(0.3)
        model.visual.proj.copy_(torch.linalg.qr(model.visual.proj)[0])
    return model, open_clip.SimpleTokenizer(context_length=config["text_cfg"]["context_length"])


def _cosines(shape: Sequence[int]) -> Tensor:
    """First filters (count, 3, p, p): cosine waves of brightness, then of two colour contrasts.

    Fine waves weigh more, as they are weaker in pictures: from random filters, whose answers are
    mostly the mean colour, learning hardly gets going.
    """
    import torch

    count, _, side, _ = shape
    axis = (torch.arange(side) + 0.5) * torch.pi / side
    waves = torch.cos(torch.arange(side)[:, None] * axis)  # (frequency, place)
    waves = waves / waves.norm(dim=1, keepdim=True)
    high = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    order = high.float().norm(dim=1).argsort(stable=True)
    planes = torch.einsum("fy,gx->fgyx", waves, waves).flatten(0, 1)[order]
    gains = 0.25 + 0.2 * high.float().norm(dim=1)[order]
    colours = torch.tensor([[1.0, 1, 1], [1, 0, -1], [-1, 2, -1]])
    colours = colours / colours.norm(dim=1, keepdim=True) * torch.tensor([[1.0], [2.0], [2.0]])
    bright = min(side * side, count // 2)
    filters = torch.zeros(count, 3, side, side)
    for number in range(count):
        colour, wave = (
            (0, number) if number < bright else divmod(number - bright, (count - bright + 1) // 2)
        )
        colour += number >= bright
        filters[number] = colours[colour][:, None, None] * planes[wave] * gains[wave]
    return filters


def read(model: Any, tokens: Tensor) -> Tensor:
    """From each group's mean normal to its mean abnormal sentence, times the scale: (groups, dim)."""
    texts = model.encode_text(tokens, normalize=True).view(2, _GROUPS, _GROUP, -1).mean(2)
    direction: Tensor = _SCALE * (texts[1] - texts[0])
    return direction


def losses(
    model: Any, batch: Batch, direction: Tensor, mean: Tensor, std: Tensor, mapped: Tensor
) -> dict[str, Tensor]:
    """What inference computes, held against what is known of each picture and patch.

    ``image`` and ``patch`` are the language scores of the clip stream's cls token and patches,
    ``map`` those of the gem stream's patches of the ``mapped`` pictures, ``vision`` the multiplied
    distance to the nearest patch of the product's good picture. ``rank`` wants a product's
    defective pictures scored above its good ones, whatever the level. ``direction`` is that of
    :func:`read`.
    """
    import torch
    from torch.nn import functional as F

    count = len(batch.pixels)
    queries = torch.arange(count).view(-1, 3)[:, 1:].flatten()
    with torch.autocast("cpu", torch.bfloat16):
        clip, gem = both_streams(model.visual, (batch.pixels - mean) / std, batch.windows, mapped)

    cover = batch.cover.flatten(1)
    flawed = (cover > TOUCHED).float()
    known = ((cover > TOUCHED) | (cover < UNTOUCHED)).float()
    area = cover.sum(1)  # in patches
    visible, clear = area > 0.25, area < 0.02

    def patch_loss(logits: Tensor, rows: Tensor) -> Tensor:
        target, weight = flawed[rows], known[rows] * (1 + 2 * flawed[rows])
        target = target * 0.96 + 0.02
        target, weight = (x.expand_as(logits) for x in (target, weight))
        loss = F.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum")
        return loss / weight.sum().clamp(min=1)

    everything = torch.arange(count)
    image_logits = torch.einsum("bd,gd->gb", clip[:, 0], direction)
    image_target = (visible.float() * 0.96 + 0.02).expand_as(image_logits)
    image_weight = (visible | clear).float().expand_as(image_logits)
    image = F.binary_cross_entropy_with_logits(image_logits, image_target, image_weight)

    levels = image_logits.unflatten(1, (-1, 3))
    pairs = visible.view(-1, 3)[:, :, None] & clear.view(-1, 3)[:, None, :]
    rank = F.softplus(levels[..., None, :] - levels[..., :, None])[:, pairs].sum()

    patches = clip[:, 1:].unflatten(0, (-1, 3))
    nearest = torch.einsum("pqnd,pmd->pqnm", patches[:, 1:], patches[:, 0]).amax(-1).flatten(0, 1)
    distance = _MULTIPLIER * 0.5 * (1 - nearest)
    return {
        "image": image,
        "rank": rank / (_GROUPS * pairs.sum().clamp(min=1)),
        "map": patch_loss(torch.einsum("bnd,gd->gbn", gem, direction), mapped),
        "patch": patch_loss(torch.einsum("bnd,gd->gbn", clip[:, 1:], direction), everything),
        "vision": patch_loss(10 * (distance - 0.4), queries),
    }


WEIGHTS = {"image": 3.0, "rank": 3.0, "map": 1.5, "patch": 1.0, "vision": 1.0}


def train(rank: int, folder: Path, recipe: Recipe, out: Path, rendezvous: str) -> None:
    """Train on drawn products and write the averaged weights, float16, now and then and at last.

    Runs in ``recipe.processes`` processes of one thread, which draw their own batches and average
    their gradients at each step. Goes on from the state that the folder keeps.
    """
    import open_clip
    import torch
    from safetensors.torch import load_file
    from torch import distributed
    from torch.nn.utils import parameters_to_vector, vector_to_parameters

    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=rendezvous, rank=rank, world_size=recipe.processes
    )
    pool = read_pool(folder)
    model, tokenizer = new_model(recipe.seed)
    if recipe.start is not None:
        model.load_state_dict(load_file(recipe.start))
    average = copy.deepcopy(model)
    sentences = Sentences(tokenizer)
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(3, 1, 1)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(3, 1, 1)
    visual: Any = model.visual
    patch = int(visual.patch_size[0])
    trained = [p for name, p in model.named_parameters() if name != "logit_scale"]
    optimiser = torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
        fused=True,
    )
    kept, first = folder / STATE, 0
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        first = state["step"]
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
    distributed.barrier()
    reading = 0 if recipe.start is not None else recipe.reading
    known: list[Tensor] = []
    began, running = time.monotonic(), dict.fromkeys(WEIGHTS, 0.0)
    for step in range(first, recipe.steps):
        # Draws depend on the step alone, so that a run that goes on draws what it would have drawn.
        rng = np.random.default_rng(np.random.SeedSequence([recipe.seed, 4, rank, step]))
        common = np.random.default_rng(np.random.SeedSequence([recipe.seed, 5, step]))
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate_at(step)
        whole = bool(common.random() < recipe.whole_at(step))
        products = recipe.wholes if whole else recipe.windows
        # The gem stream costs most: some pictures of every other batch will do.
        mapped = torch.arange(0, products, 2) if step % 2 else torch.arange(0)
        mapped = 3 * mapped + 1 + (torch.arange(len(mapped)) % 3 == 2).long()
        batch = draw_batch(pool, rng, products, whole, patch)
        if step < reading:
            direction = read(model, sentences.draw(rng))
        else:
            if not known:
                fixed = np.random.default_rng(np.random.SeedSequence([recipe.seed, 6]))
                with torch.no_grad():
                    known = [read(model, sentences.draw(fixed)) for _ in range(50)]
            direction = known[int(rng.integers(len(known)))]
        parts = losses(model, batch, direction, mean, std, mapped)
        loss = torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        own = [p.grad for p in trained if p.grad is not None]
        gradients = parameters_to_vector(own)
        distributed.all_reduce(gradients)
        vector_to_parameters(gradients / recipe.processes, own)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        keep = min(recipe.averaging, (step + 1) / (step + 10))
        with torch.no_grad():
            for kept_part, current in zip(average.parameters(), model.parameters(), strict=True):
                kept_part.lerp_(current, 1 - keep)
        for name, value in parts.items():
            share = max(0.03, 1 / (step - first + 1))
            running[name] += share * (float(value.detach()) - running[name])
        done = step + 1
        if rank == 0 and done % 25 == 0:
            said = " ".join(f"{name} {value:.3f}" for name, value in running.items())
            minutes = (time.monotonic() - began) / 60
            print(f"step {done} {minutes:.1f} min {said}", file=sys.stderr, flush=True)
        if rank == 0 and done % recipe.saving == 0 and done < recipe.steps:
            with whole_file(kept) as part:
                torch.save(
                    {
                        "step": done,
                        "model": model.state_dict(),
                        "average": average.state_dict(),
                        "optimiser": optimiser.state_dict(),
                    },
                    part,
                )
            write_weights(average, out)
    if rank == 0:
        write_weights(average, out)
    distributed.destroy_process_group()


STATE = "training.pt"


def write_weights(model: nn.Module, out: Path) -> None:
    """Write a plain open_clip state dict in float16, whole or not at all."""
    import torch
    from safetensors.torch import save_file

    state = {name: tensor.detach().to(torch.float16).contiguous()
             for name, tensor in model.state_dict().items()}  # fmt: skip
    with whole_file(out) as part:
        save_file(state, part)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    defaults = Recipe()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train_demo", description="Train the demo's model."
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="safetensors file to write")
    parser.add_argument("--steps", type=int, default=defaults.steps, help="optimiser steps")
    parser.add_argument(
        "--products", type=int, default=defaults.products, help="products drawn of each family"
    )
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument(
        "--start", type=Path, metavar="FILE", help="safetensors file of weights to go on from"
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="folder that keeps pictures and progress: the same command then goes on from them",
    )
    given = parser.parse_args(arguments)
    try:
        if given.out.suffix != ".safetensors" or min(given.steps, given.products) < 1:
            raise ParameterError(
                "OUT must end in .safetensors; steps and products must be at least 1"
            )
        run(Recipe(products=given.products, steps=given.steps, seed=given.seed,
                   start=given.start), given.out, given.keep)  # fmt: skip
    except FadeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def run(recipe: Recipe, out: Path, keep: Path | None = None) -> None:
    """Draw the products and train on them; a folder that is kept has what an earlier run got to."""
    from torch import multiprocessing as torch_processes

    with tempfile.TemporaryDirectory() as scratch:
        folder = keep or Path(scratch)
        if not all((folder / name).exists() for name in POOL_FILES):
            draw_pool(folder, recipe.products, recipe.seed, recipe.processes)
        elif len(read_pool(folder).images) != recipe.products * len(TRAIN_FAMILIES):
            raise ParameterError(
                f"{folder} holds other than {recipe.products} products a family: name another"
            )
        rendezvous = (Path(scratch) / "rendezvous").as_uri()
        given = (folder, recipe, out.absolute(), rendezvous)
        if recipe.processes == 1:
            train(0, *given)
        else:
            torch_processes.spawn(train, given, nprocs=recipe.processes)


if __name__ == "__main__":
    sys.exit(main())
