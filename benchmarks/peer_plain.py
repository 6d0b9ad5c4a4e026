"""MuSc and SubspaceAD step by step as their formulas read, written plainly and then left alone.

``python -m benchmarks.peer_plain JOB.json`` prints metrics by category as JSON, from images on disk; it
keeps nothing between runs, as the authors' scripts do not. Only the sorted PRO is shared with the other
plain versions; nothing is of ours. A job is that of ``peers.py``: method, settings, images, references,
size, batch, threads, a network of timm and the file of its weights.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from benchmarks.plain import sorted_pro

LOWEST = 0.3
"""Share of the other images whose distances MuSc averages, the nearest ones."""
SHARE, WORST, SIGMA = 0.99, 0.01, 4
"""Of SubspaceAD: variance that its components explain, pixels of the image score, Gaussian filter."""


def load_network(job: dict[str, Any]) -> Any:
    """The network of a job, with its weights."""
    network = timm.create_model(
        job["settings"]["network"], pretrained=False, num_classes=0, dynamic_img_size=True
    )
    network.load_state_dict(load_file(job["weights"]))
    return network.eval()


@torch.inference_mode()
def encode(network: Any, files: Sequence[Path], job: dict[str, Any]) -> torch.Tensor:
    """Raw patch tokens of chosen blocks, (images, blocks, patches, dim)."""
    side, found = job["size"], []
    mean, std = (torch.tensor(job[name])[:, None, None] for name in ("mean", "std"))
    for first in range(0, len(files), job["batch"]):
        batch = []
        for file in files[first : first + job["batch"]]:
            with Image.open(file) as image:
                pixels = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
            batch.append((torch.from_numpy(np.array(pixels)).permute(2, 0, 1) / 255 - mean) / std)
        blocks = network.get_intermediate_layers(torch.stack(batch), n=job["settings"]["blocks"])
        found.append(torch.stack(list(blocks), 1))
    return torch.cat(found)


@torch.inference_mode()
def musc(tokens: torch.Tensor, settings: dict[str, Any]) -> np.ndarray:
    """Scores of all patches by the other images of the batch, (images, patches).

    Args:
        tokens: (images, blocks, patches, dim).
    """
    images, blocks, patches, dim = tokens.shape
    side, kept = round(patches**0.5), int(LOWEST * (images - 1))
    total = torch.zeros(images, patches)
    for radius in settings["pooling"]:
        for block in range(blocks):
            grid = tokens[:, block].transpose(1, 2).reshape(images, dim, side, side)
            grid = F.layer_norm(grid, grid.shape[1:])
            grid = F.avg_pool2d(grid, radius, stride=1, padding=radius // 2)
            features = F.normalize(grid.flatten(2).transpose(1, 2), dim=-1)
            for image in range(images):
                nearest = torch.stack(
                    [
                        torch.cdist(features[image], features[other]).min(dim=1).values
                        for other in range(images)
                        if other != image
                    ]
                )
                total[image] += nearest.topk(kept, dim=0, largest=False).values.mean(dim=0)
    return (total / (blocks * len(settings["pooling"]))).numpy()


def subspace(references: np.ndarray, tests: np.ndarray) -> np.ndarray:
    """Squared residuals outside the components of references, (images, patches).

    Args:
        references: (images, patches, dim), the mean over blocks.
        tests: the same of other images.
    """
    known = references.reshape(-1, references.shape[-1]).astype(np.float64)
    mean = known.mean(axis=0)
    values, vectors = np.linalg.eigh((known - mean).T @ (known - mean) / (len(known) - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    count = int(np.argmax(np.cumsum(values) / values.sum() >= SHARE)) + 1
    centred = tests.astype(np.float64) - mean
    rest = centred - centred @ vectors[:, :count] @ vectors[:, :count].T
    return np.asarray((rest**2).sum(axis=-1))


def finish_musc(patches: np.ndarray, size: int) -> tuple[np.ndarray, float]:
    """Map (size, size), and the image's score."""
    side = round(len(patches) ** 0.5)
    grid = torch.from_numpy(patches).reshape(1, 1, side, side)
    whole = F.interpolate(grid, (size, size), mode="bilinear", align_corners=True)
    return whole[0, 0].numpy(), float(patches.max())


def finish_subspace(patches: np.ndarray, size: int) -> tuple[np.ndarray, float]:
    """Map (size, size), and the image's score."""
    side = round(len(patches) ** 0.5)
    whole = cv2.resize(patches.reshape(side, side).astype(np.float32), (size, size))
    whole = cv2.GaussianBlur(whole, (3, 3), SIGMA)
    worst = max(int(WORST * whole.size), 1)
    return whole, float(np.sort(whole, axis=None)[-worst:].mean())


def measure(maps: np.ndarray, scores: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """Metrics of a category; maps (n, H, W), masks of their shape."""
    return {
        "image_AUROC": float(roc_auc_score(masks.any(axis=(1, 2)), scores)),
        "pixel_AUROC": float(roc_auc_score(masks.ravel(), maps.ravel())),
        "pixel_AUPRO": sorted_pro(maps, masks, 0.3),
    }


def mask_of(file: Path, root: Path, size: int) -> np.ndarray:
    """Whether pixels of a test image are defective, (size, size)."""
    found = list((root / "ground_truth" / file.parent.name).glob(f"{file.stem}*"))
    if not found:
        return np.zeros((size, size), bool)
    with Image.open(found[0]) as mask:
        return np.array(mask.convert("L").resize((size, size), Image.Resampling.NEAREST)) > 0


def scored(job: dict[str, Any], category: str, network: Any) -> tuple[list[Path], np.ndarray]:
    """The test images of a category, and the scores of their patches."""
    tests = sorted((Path(job["images"]) / category / "test").glob("*/*"))
    tokens = encode(network, tests, job)
    if job["method"] == "musc":
        return tests, musc(tokens, job["settings"])
    known = encode(network, [Path(name) for name in job["references"][category]], job)
    return tests, subspace(known.mean(dim=1).numpy(), tokens.mean(dim=1).numpy())


def main() -> None:
    """Score and measure each category of the job."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    network = load_network(job)
    finish = finish_musc if job["method"] == "musc" else finish_subspace
    found = {}
    for category in job["references"]:
        tests, patches = scored(job, category, network)
        finished = [finish(one, job["size"]) for one in patches]
        maps = np.stack([one for one, _ in finished])
        root = Path(job["images"]) / category
        masks = np.stack([mask_of(file, root, job["size"]) for file in tests])
        found[category] = measure(maps, np.array([score for _, score in finished]), masks)
    print("METRICS " + json.dumps(found))


if __name__ == "__main__":
    main()
