"""Evaluate over 65,536 levels as test images grow: tables and maps made up, the stage real."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from benchmarks.process import Run, process
from cache.keys import Keys
from cache.layout import Space, content_key
from cache.store import Store
from pipeline.artefacts.catalogue import (
    CALIBRATION,
    CATEGORIES,
    LANGUAGE,
    MANIFEST,
    SELECTION,
    VISION,
)
from pipeline.artefacts.receipts import write_receipt
from pipeline.artefacts.tables import GROUP_ROWS, table_writer, write_json, write_table
from pipeline.config.load import parse_params
from pipeline.config.originals import original
from pipeline.scoring.components import component_key

PARTS, GRID, SIDE, SEGMENT = 15, 4, 32, 256
"""Categories, patches a side, pixels a side of maps at evaluation size, images of a segment."""
AGAINST = "0" * 40
CODE = """
import stages.evaluate
from pipeline.config.load import load_params
stages.evaluate.run(load_params())
"""


def write_run(folder: Path, count: int) -> None:
    """What the stages before evaluate leave of so many test images, a third of them with a defect."""
    content = yaml.safe_load(original("params.yaml"))
    content["dataset"] |= {"format": "mvtec", "path": "images", "watch": "images"}
    content["vision"] |= {"shots": [1], "seeds": [0], "query_in_bank": False, "metric": "euclidean"}
    content["fusion"] |= {
        "classification_mode": "vision", "segmentation_mode": "vision", "normalize": False,
    }  # fmt: skip
    content["evaluate"] |= {"size": SIDE}
    content["threshold"] |= {"source": "labels"}
    (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    (folder / ".dvc").mkdir()
    (folder / "images").mkdir()
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[8:16, 8:16] = 255
    Image.fromarray(mask).save(folder / "images" / "mask.png")
    mask_hash = content_key((folder / "images" / "mask.png").read_bytes())
    keys = [content_key(b"%d" % number) for number in range(count)]
    types = {"is_anomaly": "bool", "width": "int64", "height": "int64"}
    names = (
        "path", "category", "defect", "is_anomaly", "mask", "mask_hash", "width", "height", "hash",
        "split",
    )  # fmt: skip
    with table_writer(
        folder / MANIFEST.path, {name: types.get(name, "string") for name in names}
    ) as write:
        for first in range(0, count, GROUP_ROWS):
            numbers = range(first, min(first + GROUP_ROWS, count))
            bad = [number % 3 == 0 for number in numbers]
            parts = [f"part{number * PARTS // count:02}" for number in numbers]
            write(
                {
                    "path": [f"{p}/test/{n:07}.png" for p, n in zip(parts, numbers, strict=True)],
                    "category": parts,
                    "defect": ["hole" if one else "good" for one in bad],
                    "is_anomaly": bad,
                    "mask": ["mask.png" if one else None for one in bad],
                    "mask_hash": [mask_hash if one else None for one in bad],
                    "width": [SIDE] * len(bad),
                    "height": [SIDE] * len(bad),
                    "hash": keys[numbers.start : numbers.stop],
                    "split": ["test"] * len(bad),
                }
            )
    listed = [f"part{number:02}" for number in range(PARTS)]
    write_json({"categories": listed}, folder / CATEGORIES.path)
    none = pd.DataFrame(columns=["category", "path", "hash"], dtype="str")
    write_table(none, folder / CALIBRATION.path)
    write_table(none.assign(seed=0, rank=0), folder / SELECTION.path)
    _write_maps(folder, keys, listed)


def _write_maps(folder: Path, keys: list[str], categories: list[str]) -> None:
    """Vision maps, defects higher than the rest, and the receipts of scores."""
    params = parse_params(yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8")))
    (trial,) = params.trials()
    store = Store(folder / ".fade" / "store")
    space = Space("vision-map", {"kind": "vision-map"}, (GRID, GRID), "float32")
    store.register(space)
    random = np.random.default_rng(0)
    rows = [component_key(key, AGAINST) for key in keys]
    for first in range(0, len(rows), SEGMENT):
        part = rows[first : first + SEGMENT]
        maps = random.gamma(4, 1, (len(part), GRID, GRID)).astype(np.float32)
        maps[(-first) % 3 :: 3, 1, 1] += 4
        store.write(space, part, maps)
    against = {"vision-map": {name: {trial.label: AGAINST} for name in categories}}
    write_receipt(replace(LANGUAGE, path=folder / LANGUAGE.path), store, {})
    write_receipt(
        replace(VISION, path=folder / VISION.path), store, {space: Keys.of(rows)}, against
    )


def measure_evaluate(count: int, place: Path | None) -> dict[str, Run]:
    """The stage on so many images, in a process of its own."""
    with tempfile.TemporaryDirectory(dir=place) as name:
        write_run(Path(name), count)
        _, found = process(Path(name), CODE)
    print(f"{count} images, evaluate: {found}", file=sys.stderr, flush=True)
    return {"evaluate, 65,536 levels": found}
