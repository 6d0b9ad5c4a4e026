"""The figures of the demo model in benchmarks/notes.md.

Run ``python -m benchmarks.demo_model [--seeds 0 1 2]``.

The demo's model, the same architecture with seeded weights, and a baseline of pixel statistics on
the demo set, drawn with each of several seeds.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fade.datasets import read_dataset
from fade.encoder import SEEDED, Encoder
from fade.maps import fuse_values, image_score, resize_levels, to_levels
from fade.metrics import PixelHistogram, image_metrics, pixel_metrics
from fade.preprocess import decode_mask, decode_rgb, resize_mask, resize_square
from fade.regions import label_regions
from fade.sampling import reference_order
from fade.scoring import Settings, embed, language_map, text_classifier
from fade.types import Feature, ImageRecord
from fade.vision import vision_map
from pipeline.demo.generate import generate_dataset
from pipeline.features.models import DEMO_MODEL, SHIPPED, SHIPPED_WEIGHTS

DRAWS, SHOTS, SIDE, CELL = range(3), (1, 4), 256, 8
NATIVE = 128
Floats = NDArray[np.float32]


class Tally:
    """Scores and maps of one category's test images under one setting."""

    def __init__(self) -> None:
        self.scores: list[float] = []
        self.pixels = PixelHistogram.empty()

    def add(self, score: float, levels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
        """Take in one image: its score, its map of any size, and its mask."""
        self.scores.append(score)
        self.pixels += PixelHistogram.of_image(resize_levels(levels, SIDE), label_regions(mask))

    def areas(self, anomalous: NDArray[np.bool_]) -> tuple[float, float]:
        """Image and pixel AUROC."""
        image = image_metrics(np.array(self.scores), anomalous)[0]["full_image_auroc"]
        return image, pixel_metrics(self.pixels)[0]["full_pixel_auroc"]


def cells(image: NDArray[np.uint8]) -> Floats:
    """Mean and deviation of colour in each cell of a picture of SIDE pixels: (g, g, 6)."""
    small = resize_square(Image.fromarray(image), SIDE).astype(np.float32) / 255
    grid = SIDE // CELL
    blocks = small.reshape(grid, CELL, grid, CELL, 3)
    return np.concatenate([blocks.mean((1, 3)), blocks.std((1, 3))], axis=2)


def of_pixels(
    train: Sequence[NDArray[np.uint8]], test: Sequence[tuple[NDArray[np.uint8], NDArray[np.bool_]]]
) -> Mapping[str, list[Tally]]:
    """Distance of each cell to the nearest of a reference, or to the picture's own mean cell."""
    tallies: dict[str, list[Tally]] = defaultdict(list)
    banks: list[tuple[str, Floats | None]] = [("pixels, no reference", None)]
    for draw in DRAWS:
        first = reference_order(len(train), draw)[0]
        banks.append(("pixels, 1 shot", cells(train[first]).reshape(-1, 6)))
    for name, bank in banks:
        tally = Tally()
        for image, mask in test:
            own = cells(image)
            others = own.reshape(-1, 6).mean(0, keepdims=True) if bank is None else bank
            far = np.linalg.norm(own[:, :, None] - others, axis=-1).min(-1)
            levels = (np.clip(far, 0, 1) * 255).astype(np.uint8)
            tally.add(float(far.max()), levels, mask)
        tallies[name].append(tally)
    return tallies


def of_model(
    encoder: Encoder,
    name: str,
    settings: Settings,
    train: Sequence[NDArray[np.uint8]],
    test: Sequence[tuple[NDArray[np.uint8], NDArray[np.bool_]]],
) -> Mapping[str, list[Tally]]:
    """Language alone, and both at each number of shots, every draw of references on its own."""
    score_text = text_classifier(encoder, settings.score_prompts, name.replace("_", " "))
    map_text = text_classifier(encoder, settings.map_prompts, "object")
    banks = [{f.size: v for f, v in embed(encoder, i, settings.vision_features()).items()}
             for i in train]  # fmt: skip
    orders = {draw: reference_order(len(train), draw) for draw in DRAWS}
    tallies = {("language", 0, 0): Tally()}
    tallies |= {("both", shots, draw): Tally() for shots in SHOTS for draw in DRAWS}
    features = [settings.score_feature(), *settings.map_features(), *settings.vision_features()]
    for image, mask in test:
        found: Mapping[Feature, np.ndarray] = embed(encoder, image, features)
        said = float(score_text.predict_proba(found[settings.score_feature()][None])[0, 1])
        language = language_map(map_text, [found[f] for f in settings.map_features()])
        patches = {f.size: found[f] for f in settings.vision_features()}
        for (mode, shots, draw), tally in tallies.items():
            vision = None
            if shots:
                references = [banks[i] for i in orders[draw][:shots]]
                vision = np.float32(settings.vision_multiplier) * vision_map(patches, references)
            score = image_score(said, vision, mode="both", shots=shots)
            fused = fuse_values(
                language,
                vision,
                mode="both" if mode == "both" else "language",
                weight=settings.vision_weight,
                normalize=False,
            )
            tally.add(score, to_levels(fused), mask)
    grouped: dict[str, list[Tally]] = defaultdict(list)
    for (mode, shots, _), tally in tallies.items():
        grouped[f"{mode}, {shots} shot" if shots else f"zero-shot {mode}"].append(tally)
    return grouped


def figures(root: Path, models: Mapping[str, Encoder], settings: Settings) -> dict[str, np.ndarray]:
    """Image and pixel AUROC by setting, means over the categories of one demo set and the draws."""
    rows: dict[str, list[np.ndarray]] = defaultdict(list)
    records = read_dataset("mvtec", root)
    for category in sorted({record.category for record in records}):
        own = [record for record in records if record.category == category]
        train = [_rgb(root / record.path) for record in own if record.split == "train"]
        test = [(_rgb(root / r.path), _mask(root, r)) for r in own if r.split == "test"]
        anomalous = np.array([bool(mask.any()) for _, mask in test])
        found = dict(of_pixels(train, test))
        for label, encoder in models.items():
            ours = of_model(encoder, category, settings, train, test)
            found |= {f"{label}: {key}": tallies for key, tallies in ours.items()}
        for key, tallies in found.items():
            rows[key].append(np.mean([tally.areas(anomalous) for tally in tallies], axis=0))
    return {key: np.mean(values, axis=0) for key, values in rows.items()}


def _rgb(file: Path) -> NDArray[np.uint8]:
    return np.asarray(decode_rgb(file.read_bytes(), file.name))


def _mask(root: Path, record: ImageRecord) -> NDArray[np.bool_]:
    if record.mask is None:
        return np.zeros((SIDE, SIDE), np.bool_)
    return resize_mask(decode_mask((root / record.mask).read_bytes(), record.mask), SIDE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the sets, measure, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo_model", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the generator")
    parser.add_argument("--sizes", type=int, nargs="+", default=[NATIVE], help="of the maps")
    parser.add_argument("--score-size", type=int, default=NATIVE, help="of the image score")
    parser.add_argument("--weights", default=str(SHIPPED_WEIGHTS[DEMO_MODEL]), metavar="FILE")
    given = parser.parse_args(arguments)
    settings = Settings(classification_size=given.score_size, segmentation_sizes=tuple(given.sizes))
    models = {
        "model": Encoder.load(str(SHIPPED[DEMO_MODEL]), given.weights),
        "seeded": Encoder.load(str(SHIPPED[DEMO_MODEL]), SEEDED),
    }
    runs = []
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as scratch:
            generate_dataset(Path(scratch), seed)
            runs.append(figures(Path(scratch), models, settings))
    print("| | image AUROC | pixel AUROC |\n|---|---|---|")
    for key in runs[0]:
        columns = np.array([run[key] for run in runs]).T
        shown = [f"{c.mean():.3f} ({', '.join(f'{v:.3f}' for v in c)})" for c in columns]
        print(f"| {key} | {' | '.join(shown)} |")


if __name__ == "__main__":
    main()
