"""The method as its formulas read, written plainly and then left alone: what ours is held against.

One image a batch, both streams at every size, attention matrices and similarity matrices whole in
memory, every search of a sweep on its own, scikit-learn for the metrics and a sorted PRO. All of it
runs on matrix products of torch or numpy and on all threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from fade.encoder import Encoder

DEPTH = 7
"""GEM reaches through the last six blocks."""


def _unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def _attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    return (scale * query @ key.transpose(-1, -2)).softmax(dim=-1) @ value


def encode_image(encoder: Encoder, pixels: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """Both tokens of both streams of one image, (S, S, 3) uint8, in float32.

    Returns:
        By (stream, token): (dim,) for cls, (patches, dim) for patch.
    """
    import torch
    from torch.nn import functional as F

    model: Any = encoder._model
    visual = model.visual
    with torch.inference_mode():
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
        image = (image - torch.tensor(encoder.mean)[:, None, None]) / torch.tensor(encoder.std)[
            :, None, None
        ]
        patches = visual.conv1(image[None]).flatten(2)[0].T
        native = round((len(visual.positional_embedding) - 1) ** 0.5)
        grid = round(len(patches) ** 0.5)
        position = visual.positional_embedding
        if grid != native:
            plane = position[1:].T.reshape(1, -1, native, native)
            plane = F.interpolate(plane, (grid, grid), mode="bicubic", antialias=True)
            position = torch.cat([position[:1], plane.flatten(2)[0].T])
        clip = visual.ln_pre(torch.cat([visual.class_embedding[None], patches]) + position)
        gem = None
        blocks = visual.transformer.resblocks
        for number, block in enumerate(blocks):
            heads = block.attn.num_heads
            x = block.ln_1(clip)
            joint = x @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
            q, k, v = joint.unflatten(-1, (3, heads, -1)).permute(1, 2, 0, 3)
            width = q.shape[-1]
            if number >= len(blocks) - (DEPTH - 1):
                gem = clip if gem is None else gem
                t = float(x.norm(dim=-1).mean()) * width**-0.5
                gathered = []
                for part in (v, k, q):
                    p = _unit(part)
                    p = _unit(_attend(p, p, p, t))
                    gathered.append(_attend(p, p, v, t))
                mean = sum(gathered[1:], gathered[0]) / 3
                gem = gem + block.ls_1(block.attn.out_proj(mean.transpose(0, 1).flatten(1)))
            seen = _attend(q, k, v, width**-0.5)
            clip = clip + block.ls_1(block.attn.out_proj(seen.transpose(0, 1).flatten(1)))
            clip = clip + block.ls_2(block.mlp(block.ln_2(clip)))
        result: dict[tuple[str, str], np.ndarray] = {}
        for name, stream in (("clip", clip), ("gem", gem)):
            assert stream is not None
            vectors = _unit(visual.ln_post(stream) @ visual.proj).numpy()
            result[name, "cls"], result[name, "patch"] = vectors[0], vectors[1:]
    return result


def encode_text(encoder: Encoder, prompt: str) -> np.ndarray:
    """The L2-normalised embedding of one prompt, (dim,)."""
    import torch

    model: Any = encoder._model
    with torch.inference_mode():
        tokens = encoder._tokenizer([prompt])
        return model.encode_text(tokens, normalize=True)[0].numpy()


def nearest(queries: np.ndarray, bank: np.ndarray, k: int = 1) -> np.ndarray:
    """Cosine of each query to its k-th nearest vector in the bank: all of them, then a partition."""
    similarity = queries @ bank.T
    return np.partition(similarity, -k, axis=1)[:, -k]


def vision_maps(
    queries: Mapping[int, np.ndarray], banks: Sequence[Mapping[int, np.ndarray]]
) -> np.ndarray:
    """The vision map of one image against each bank of a sweep, one search after the other."""
    import cv2

    maps = []
    for bank in banks:
        grid = max(round(len(q) ** 0.5) for q in queries.values())
        merged = np.zeros((grid, grid))
        for size, query in queries.items():
            one = 0.5 * (1 - nearest(query, bank[size]))
            side = round(len(query) ** 0.5)
            merged += cv2.resize(
                one.reshape(side, side), (grid, grid), interpolation=cv2.INTER_LINEAR
            )
        maps.append(merged / len(queries))
    return np.stack(maps)


def pixel_metrics(levels: np.ndarray, masks: np.ndarray, limit: float = 0.3) -> dict[str, float]:
    """The five pixel metrics of maps (n, H, W) uint8 and masks (n, H, W) bool, by scikit-learn."""
    from sklearn.metrics import precision_recall_curve, roc_auc_score

    result = {}
    beside = masks.any(axis=(1, 2))
    for name, chosen in (("full", np.ones(len(masks), bool)), ("anomaly", beside)):
        truth, scores = masks[chosen].ravel(), levels[chosen].ravel()
        result[f"{name}_pixel_auroc"] = float(roc_auc_score(truth, scores))
        precision, recall, _ = precision_recall_curve(truth, scores)
        total = precision + recall
        f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
        result[f"{name}_pixel_f1_max"] = float(f1.max())
    result["full_pixel_au_pro"] = sorted_pro(levels, masks, limit)
    return result


def sorted_pro(levels: np.ndarray, masks: np.ndarray, limit: float) -> float:
    """AUPRO from all pixels sorted by level, as it is usually computed."""
    from scipy.ndimage import label  # type: ignore[import-untyped]

    outside = np.zeros(levels.shape, np.float64)
    overlap = np.zeros(levels.shape, np.float64)
    regions = 0
    for i, mask in enumerate(masks):
        found, count = label(mask, np.ones((3, 3), int))
        for number in range(1, count + 1):
            here = found == number
            overlap[i][here] = 1 / here.sum()
        outside[i] = found == 0
        regions += count
    order = np.argsort(-levels.astype(np.result_type(levels, np.int16)), axis=None, kind="stable")
    ordered = levels.ravel()[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), ordered.size - 1)
    rate = np.cumsum(outside.ravel()[order])[last] / outside.sum()
    pro = np.cumsum(overlap.ravel()[order])[last] / regions
    rate, pro = np.append(0.0, rate), np.append(0.0, pro)
    within = rate <= limit
    end = np.interp(limit, rate, pro)
    return float(np.trapezoid(np.append(pro[within], end), np.append(rate[within], limit)) / limit)


def mutual(images: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """1 - cosine of each patch to the nearest of another image, each direction on its own.

    Args:
        images: (n, patches, dim) of unit length.
        pairs: (m, 2) numbers of images.

    Returns:
        (m, 2, patches): of the first image's patches, and of the second's.
    """
    return np.stack(
        [
            [1 - (images[a] @ images[b].T).max(axis=1), 1 - (images[b] @ images[a].T).max(axis=1)]
            for a, b in pairs.tolist()
        ]
    )
