"""``python -m benchmarks.nonsquare``: what keeping the aspect ratio brings over squashing to squares.

On the demo's products, cropped to rectangles, with the demo's model and through the real stages.
Figures of detection, not of speed, so it is no part of ``python -m benchmarks``.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from pipeline.config.load import load_params
from pipeline.config.values import PARAMS_FILE
from pipeline.demo.defects import DEFECTS
from pipeline.demo.families import FAMILIES
from pipeline.demo.generate import DEMO_CATEGORIES, Sample, generate_image, style_of

SIDE = 256
"""Pixels of the longer side."""
STAGES = (
    "manifest",
    "select",
    "extract",
    "text",
    "bank",
    "score_language",
    "score_vision",
    "evaluate",
)
METRICS = ("full_image_auroc", "full_pixel_auroc", "full_pixel_au_pro")


def crop(sample: Sample, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """The middle of a picture and of its mask."""
    left, top = (sample.mask.shape[1] - width) // 2, (sample.mask.shape[0] - height) // 2
    window = slice(top, top + height), slice(left, left + width)
    return sample.image[window], sample.mask[window]


def write_cropped(
    root: Path,
    width: int,
    height: int,
    seed: int = 0,
    categories: Mapping[str, Sequence[str]] = DEMO_CATEGORIES,
    train: int = 8,
    good: int = 6,
    per_defect: int = 3,
) -> None:
    """Write the demo's products in MVTec's layout, cropped to ``width`` x ``height`` pixels.

    Pictures whose defect lies mostly outside are drawn again.
    """
    for number, (name, defects) in enumerate(categories.items()):
        family = FAMILIES[name]
        style = style_of(family, seed * 100 + number)
        seeds = count((seed * 100 + number) * 10_000)
        folders = [("train", "good", train), ("test", "good", good)]
        for split, label, wanted in folders + [("test", one, per_defect) for one in defects]:
            for i in range(wanted):
                while True:
                    sample = generate_image(family, style, next(seeds), SIDE, DEFECTS.get(label))
                    pixels, mask = crop(sample, width, height)
                    if 10 * mask.sum() >= 9 * sample.mask.sum():
                        break
                _save(pixels, root / name / split / label / f"{i:03d}.png")
                if mask.any():
                    target = root / name / "ground_truth" / label / f"{i:03d}_mask.png"
                    _save(mask.astype(np.uint8) * 255, target)


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)


def parameters(data: Path, aspect: str, store: Path) -> dict[str, Any]:
    """The demo's parameters over other images."""
    template = Path(__file__).parent.parent / PARAMS_FILE
    content: dict[str, Any] = copy.deepcopy(yaml.safe_load(template.read_text(encoding="utf-8")))
    content["dataset"] |= {"path": str(data), "watch": str(data)}
    content["features"] |= {"aspect": aspect, "store": str(store)}
    content["threshold"] |= {"images": 0}
    return content


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run(folder: Path, content: Mapping[str, Any]) -> dict[int, dict[str, float]]:
    """Run the stages in a folder: by shots the mean of each metric over categories and seeds."""
    import pandas as pd

    folder.mkdir(parents=True)
    (folder / ".dvc").mkdir()
    (folder / PARAMS_FILE).write_text(yaml.safe_dump(dict(content)), encoding="utf-8")
    with _inside(folder):
        for stage in STAGES:
            importlib.import_module(f"stages.{stage}").run(load_params())
        metrics = pd.read_csv("results/metrics.csv")
    means = metrics[metrics["category"] == "mean"].groupby("shots")[list(METRICS)].mean()
    return {
        int(str(shots)): {name: float(row[name]) for name in METRICS}
        for shots, row in means.iterrows()
    }


def main(arguments: list[str] | None = None) -> None:
    """Print a table of both ways, for each aspect ratio, shots and generator seed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nonsquare", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of the generator")
    chosen = parser.parse_args(arguments)
    print("| width x height | seed | shots | image AUROC | pixel AUROC | AUPRO |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for width, height in ((256, 128), (256, 86), (86, 256)):
            for seed in chosen.seeds:
                place = Path(scratch) / f"{width}x{height}-{seed}"
                write_cropped(place / "data", width, height, seed)
                square, keep = (
                    run(place / aspect, parameters(place / "data", aspect, place / "store"))
                    for aspect in ("square", "keep")
                )
                for shots in square:
                    cells = [
                        f"{square[shots][name]:.3f} -> {keep[shots][name]:.3f}" for name in METRICS
                    ]
                    print(f"| {width} x {height} | {seed} | {shots} | {' | '.join(cells)} |")
                    sys.stdout.flush()


if __name__ == "__main__":
    main()
