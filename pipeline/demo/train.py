"""Train the demo's model: ``python -m pipeline.demo.train OUT.safetensors [--steps N]``.

A small CLIP learns from the generator's training families and training defects alone what prompts
about flawless and damaged things mean, through the same two streams and formulas that inference
uses: docs/demo-model.md.
"""

from __future__ import annotations

import argparse
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
from pipeline.demo.defects import DEFECTS, TRAIN_DEFECTS
from pipeline.demo.families import FAMILIES, TRAIN_FAMILIES
from pipeline.demo.generate import GOOD_PHRASES, Nuisance, style_of

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG = Path(__file__).with_name("fade-demo.json")
STYLE_OFFSET = 2**40
"""Styles of training start here; those of data sets are drawn below 2**32."""
RENDERED, SIDE, PIECES = 256, 128, 3
"""Pixels a side at which pictures are drawn and kept, and pieces of each product.

Each piece is kept twice, as it is and with a defect."""


# --- pictures -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Pool:
    """Pictures to train on, product by product.

    Attributes:
        images: (products, 2, PIECES, SIDE, SIDE, 3) uint8; the second axis is good, defective.
        covers: (products, PIECES, SIDE, SIDE) uint8, 255 where the defect covers a pixel.
        families, defects: (products,) and (products, PIECES), positions in TRAIN_FAMILIES and
            TRAIN_DEFECTS.
    """

    images: NDArray[np.uint8]
    covers: NDArray[np.uint8]
    families: NDArray[np.int64]
    defects: NDArray[np.int64]


def draw_product(task: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[int]]:
    """Draw the pieces of one product, good and defective, from (seed, number of the product).

    Returns the images and covers of :class:`Pool` without their first axis, and the defects.
    """
    import cv2

    cv2.setNumThreads(1)
    seed, number = task
    family = FAMILIES[TRAIN_FAMILIES[number % len(TRAIN_FAMILIES)]]
    style = style_of(family, STYLE_OFFSET + number + 2**20 * seed)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 3, number]))
    nuisance = Nuisance()
    images = np.empty((2, PIECES, SIDE, SIDE, 3), np.uint8)
    covers = np.empty((PIECES, SIDE, SIDE), np.uint8)
    defects = [int(i) for i in rng.permutation(len(TRAIN_DEFECTS))[:PIECES]]
    for piece, kind in enumerate(defects):
        drawing = family.render(style, rng, round(RENDERED * 1.43))
        placed, foreground = nuisance.place(*drawing, rng, RENDERED)
        severity = float(rng.uniform(0.25, 1))
        flawed, mask = DEFECTS[TRAIN_DEFECTS[kind]].apply(placed, foreground, rng, severity)
        for state, picture in enumerate((placed, flawed)):
            images[state, piece] = _shrink(nuisance.expose(picture, rng))
        covers[piece] = np.round(255 * cv2.resize(
            mask.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA
        ))  # fmt: skip
    return images, covers, defects


def _shrink(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    from PIL import Image

    full = Image.fromarray(np.round(picture * 255).astype(np.uint8))
    return np.asarray(full.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def draw_pool(products: int, seed: int, workers: int) -> Pool:
    """Draw so many products; equal products and seed give equal pictures."""
    tasks = [(seed, number) for number in range(products)]
    with multiprocessing.get_context("spawn").Pool(workers) as processes:
        drawn = list(processes.imap(draw_product, tasks, chunksize=8))
    return Pool(
        np.stack([images for images, _, _ in drawn]),
        np.stack([covers for _, covers, _ in drawn]),
        np.arange(products) % len(TRAIN_FAMILIES),
        np.array([defects for _, _, defects in drawn]),
    )


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

    from fade.gem import GemConfig, inverse_temperature, self_self_attention

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
        if index >= first:
            factor = inverse_temperature(normed[gem], heads.shape[-1])
            query, key, value = heads[:, gem]
            found = self_self_attention(query, key, value, factor, 1)
            update = attention.out_proj(found.transpose(1, 2).flatten(2))
            gathered = (clip[gem] if gathered is None else gathered) + update
        found = F.scaled_dot_product_attention(heads[0], heads[1], heads[2])
        clip = clip + attention.out_proj(found.transpose(1, 2).flatten(2))
        clip = clip + block.mlp(block.ln_2(clip))
    return tuple(
        F.normalize(visual.ln_post(tokens) @ visual.proj, dim=-1)
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


def draw_batch(
    pool: Pool, rng: np.random.Generator, products: int, whole: bool, patch: int
) -> Batch:
    """Draw pictures, whole or all through one window of half the side, and change them at random.

    Turns, colours and exposure change product by product, small shifts, light and noise picture
    by picture.
    """
    import cv2
    import torch

    span = SIDE if whole else SIDE // 2
    windows = np.zeros((products, 3, 2), np.int64)
    images = np.empty((products, 3, span, span, 3), np.float32)
    covers = np.zeros((products, 3, span, span), np.float32)
    for slot in range(products):
        product = int(rng.integers(len(pool.images)))
        order, flawed = rng.permutation(PIECES), (False, True, bool(rng.random() < 0.5))
        turns, flip = int(rng.integers(4)), bool(rng.random() < 0.5)
        channels = rng.permutation(3) if rng.random() < 0.5 else np.arange(3)
        gain = rng.uniform(0.75, 1.25, 3).astype(np.float32)
        gamma = np.float32(np.exp(rng.uniform(-0.3, 0.3)))
        corner = rng.integers(0, SIDE - span + 1, 2)
        if not whole and rng.random() < 0.75:
            target = _turned(pool.covers[product, order[1]], turns, flip)
            rows, columns = np.nonzero(target > 64)
            if rows.size:
                pick = int(rng.integers(rows.size))
                aim = np.array([rows[pick], columns[pick]])
                corner = np.clip(aim - rng.integers(8, span - 8, 2), 0, SIDE - span)
        windows[slot] = np.round(corner / patch)
        for place in range(3):
            picture = _turned(pool.images[product, int(flawed[place]), order[place]], turns, flip)
            dy, dx = (corner + rng.integers(-2, 3, 2)).tolist()
            move = np.array([[1, 0, -dx], [0, 1, -dy]], np.float32)
            size, border = (span, span), cv2.BORDER_REFLECT
            picture = cv2.warpAffine(
                picture, move, size, flags=cv2.INTER_NEAREST, borderMode=border
            )
            light = np.float32(rng.uniform(0.95, 1.05))
            values = np.clip((picture[..., channels] / np.float32(255)) ** gamma * gain, 0, 1)
            noise = rng.standard_normal(values.shape, np.float32) * rng.uniform(0, 0.012)
            images[slot, place] = values * light + noise.astype(np.float32)
            if flawed[place]:
                cover = _turned(pool.covers[product, order[place]], turns, flip)
                covers[slot, place] = cv2.warpAffine(
                    cover, move, size, flags=cv2.INTER_NEAREST, borderMode=border
                ) / np.float32(255)
    pixels = torch.from_numpy(np.clip(images, 0, 1)).flatten(0, 1).permute(0, 3, 1, 2)
    cover_patches = torch.from_numpy(covers).flatten(0, 1)
    cover_patches = torch.nn.functional.avg_pool2d(cover_patches[:, None], patch)[:, 0]
    return Batch(pixels, cover_patches, None if whole else torch.from_numpy(windows).flatten(0, 1))


def _turned(picture: NDArray[np.uint8], turns: int, flip: bool) -> NDArray[np.uint8]:
    turned = np.rot90(picture, turns)
    return np.ascontiguousarray(turned[:, ::-1] if flip else turned)


# --- training -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the model is trained; the defaults made the shipped file.

    Attributes:
        products: drawn, of three pieces each, good and defective.
        steps: optimiser steps; ``minutes`` ends training earlier, its schedule then follows the
            clock, and the result depends on the machine's speed.
        batch: products in a process's batch of windows; whole pictures have a quarter.
        processes: that train together; another number gives other weights.
    """

    products: int = 2400
    steps: int = 1600
    minutes: float | None = None
    seed: int = 0
    batch: int = 8
    processes: int = 2
    rate: float = 1e-3
    decay: float = 0.05
    averaging: float = 0.99


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


def losses(
    model: Any, batch: Batch, tokens: Tensor, mean: Tensor, std: Tensor
) -> dict[str, Tensor]:
    """What inference computes, held against what is known of each picture and patch.

    ``image`` and ``map`` are the language scores of the clip stream's cls token and of the gem
    stream's patches, ``patch`` the same of the clip stream's patches, ``vision`` the multiplied
    distance to the nearest patch of the product's good picture.
    """
    import torch
    from torch.nn import functional as F

    count = len(batch.pixels)
    queries = torch.arange(count).view(-1, 3)[:, 1:].flatten()
    # The gem stream costs most: one query of each product will do, mostly the defective one.
    mapped = torch.arange(count // 3) * 3 + 1 + (torch.arange(count // 3) % 3 == 2).long()
    clip, gem = both_streams(model.visual, (batch.pixels - mean) / std, batch.windows, mapped)
    texts = model.encode_text(tokens, normalize=True).view(2, _GROUPS, _GROUP, -1).mean(2)
    direction = _SCALE * (texts[1] - texts[0])  # (groups, dim)

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
        return loss / weight.sum()

    everything = torch.arange(count)
    image_logits = torch.einsum("bd,gd->gb", clip[:, 0], direction)
    image_target = (visible.float() * 0.96 + 0.02).expand_as(image_logits)
    image_weight = (visible | clear).float().expand_as(image_logits)
    image = F.binary_cross_entropy_with_logits(image_logits, image_target, image_weight)

    patches = clip[:, 1:].unflatten(0, (-1, 3))
    nearest = torch.einsum("pqnd,pmd->pqnm", patches[:, 1:], patches[:, 0]).amax(-1).flatten(0, 1)
    distance = _MULTIPLIER * 0.5 * (1 - nearest)
    return {
        "image": image,
        "map": patch_loss(torch.einsum("bnd,gd->gbn", gem, direction), mapped),
        "patch": patch_loss(torch.einsum("bnd,gd->gbn", clip[:, 1:], direction), everything),
        "vision": patch_loss(10 * (distance - 0.4), queries),
    }


WEIGHTS = {"image": 1.0, "map": 2.0, "patch": 1.0, "vision": 2.0}


def train(rank: int, pool_file: Path, recipe: Recipe, out: Path, rendezvous: str) -> None:
    """Train on drawn products and write the averaged weights, float16, now and then and at last.

    Runs in ``recipe.processes`` processes of one thread, which draw their own batches and average
    their gradients at each step.
    """
    import open_clip
    import torch
    from torch import distributed
    from torch.nn.utils import parameters_to_vector

    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=rendezvous, rank=rank, world_size=recipe.processes
    )
    pool = read_pool(pool_file)
    model, tokenizer = new_model(recipe.seed)
    average, _ = new_model(recipe.seed)
    sentences = Sentences(tokenizer)
    rng = np.random.default_rng(np.random.SeedSequence([recipe.seed, 4, rank]))
    common = np.random.default_rng(np.random.SeedSequence([recipe.seed, 5]))
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
    )
    began, running = time.monotonic(), dict.fromkeys(WEIGHTS, 0.0)
    for step in range(recipe.steps):
        minutes = (time.monotonic() - began) / 60
        done = step / recipe.steps
        if recipe.minutes is not None:
            clock = torch.tensor(minutes / recipe.minutes)
            distributed.broadcast(clock, 0)
            done = max(done, float(clock))
        if done >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = (
                recipe.rate * min(1.0, (step + 1) / 50) * (0.5 + 0.5 * np.cos(np.pi * done))
            )
        whole = bool(common.random() < 0.1 + 0.6 * done)
        products = recipe.batch // 4 + 1 if whole else recipe.batch
        parts = losses(
            model, draw_batch(pool, rng, products, whole, patch), sentences.draw(rng), mean, std
        )
        loss = torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        gradients = parameters_to_vector([p.grad for p in trained if p.grad is not None])
        distributed.all_reduce(gradients)
        start = 0
        for p in trained:
            assert p.grad is not None
            p.grad.copy_(gradients[start : start + p.numel()].view_as(p) / recipe.processes)
            start += p.numel()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        keep = min(recipe.averaging, (step + 1) / (step + 10))
        with torch.no_grad():
            for kept, current in zip(average.parameters(), model.parameters(), strict=True):
                kept.lerp_(current, 1 - keep)
        for name, part in parts.items():
            running[name] += max(0.04, 1 / (step + 1)) * (float(part.detach()) - running[name])
        if rank == 0 and (step + 1) % 25 == 0:
            said = " ".join(f"{name} {value:.3f}" for name, value in running.items())
            print(f"step {step + 1} {minutes:.1f} min {said}", file=sys.stderr, flush=True)
        if rank == 0 and (step + 1) % 100 == 0:
            write_weights(average, out)
    if rank == 0:
        write_weights(average, out)
    distributed.destroy_process_group()


def write_weights(model: nn.Module, out: Path) -> None:
    """Write a plain open_clip state dict in float16, whole or not at all."""
    import torch
    from safetensors.torch import save_file

    state = {name: tensor.detach().to(torch.float16).contiguous()
             for name, tensor in model.state_dict().items()}  # fmt: skip
    part = out.with_name(f".{out.name}.part")
    save_file(state, part)
    part.replace(out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    defaults = Recipe()
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.demo.train", description="Train the demo's model."
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="safetensors file to write")
    parser.add_argument("--steps", type=int, default=defaults.steps, help="optimiser steps")
    parser.add_argument("--minutes", type=float, help="end earlier, after so many minutes")
    parser.add_argument("--products", type=int, default=defaults.products, help="products to draw")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--pool", type=Path, help="npz file that keeps the drawn products")
    given = parser.parse_args(arguments)
    try:
        if given.out.suffix != ".safetensors" or min(given.steps, given.products) < 1:
            raise ParameterError(
                "OUT must end in .safetensors; steps and products must be at least 1"
            )
        run(Recipe(products=given.products, steps=given.steps, minutes=given.minutes,
                   seed=given.seed), given.out, given.pool)  # fmt: skip
    except FadeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def run(recipe: Recipe, out: Path, pool_file: Path | None = None) -> None:
    """Draw the products, or take those of a file that an earlier run kept, and train on them."""
    from torch import multiprocessing as torch_processes

    with tempfile.TemporaryDirectory() as scratch:
        file = pool_file or Path(scratch) / "pool.npz"
        if not file.exists():
            pool = draw_pool(recipe.products, recipe.seed, recipe.processes)
            np.savez(file, **{name: getattr(pool, name) for name in _POOL_ARRAYS})
        elif len(read_pool(file).images) != recipe.products:
            raise ParameterError(
                f"{file} holds other than {recipe.products} products: name another"
            )
        rendezvous = (Path(scratch) / "rendezvous").as_uri()
        torch_processes.spawn(
            train, (file, recipe, out.absolute(), rendezvous), nprocs=recipe.processes
        )


_POOL_ARRAYS = ("images", "covers", "families", "defects")


def read_pool(file: Path) -> Pool:
    """Read the products that :func:`run` kept."""
    with np.load(file, allow_pickle=False) as kept:
        return Pool(**{name: kept[name] for name in _POOL_ARRAYS})


if __name__ == "__main__":
    sys.exit(main())
