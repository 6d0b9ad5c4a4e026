"""A sweep over shots and seeds: each distinct reference searched once, plainly each trial's."""

from __future__ import annotations

import contextlib
import tempfile

import numpy as np

from benchmarks import plain
from benchmarks.machine import Machine, seconds
from benchmarks.neighbours import vectors
from benchmarks.table import Row, alternate
from fade.bank import similarity_to_references
from fade.faiss_index import build_index, write_index
from fade.sampling import reference_order
from fade.types import Trial
from pipeline.scoring.banks import Bank, Comparison, bank_path

SIZES = {240: 225, 448: 784, 896: 3136}
"""Patches of each size."""
SHOTS, SEEDS, IMAGES = (1, 2, 4), range(5), 200


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark."""
    sizes = dict(list(SIZES.items())[: 2 if quick else 3])
    orders = {seed: reference_order(IMAGES, seed)[: max(SHOTS)] for seed in SEEDS}
    distinct = sorted({int(image) for order in orders.values() for image in order})
    position = {image: number for number, image in enumerate(distinct)}
    trials = [Trial(shots, seed) for shots in SHOTS for seed in SEEDS]
    chosen = [tuple(position[int(i)] for i in orders[t.seed][: t.shots]) for t in trials]
    features = {
        size: vectors(len(distinct) * patches, size).reshape(len(distinct), patches, -1)
        for size, patches in sizes.items()
    }
    queries = {size: vectors(patches, size + 1) for size, patches in sizes.items()}
    banks = [
        {size: np.concatenate([features[size][i] for i in references]) for size in sizes}
        for references in chosen
    ]
    comparisons = [Comparison(t, c, query=False) for t, c in zip(trials, chosen, strict=True)]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for size, images in features.items():
            write_index(
                build_index(images.reshape(-1, images.shape[-1])), bank_path("c", str(size))
            )
        bank = Bank("c", tuple(map(str, sizes)), exact=True)
        looked_at = {str(size): patches for size, patches in queries.items()}
        bank.vision_maps(looked_at, comparisons)
        pair = alternate(
            lambda: bank.vision_maps(looked_at, comparisons),
            lambda: plain.vision_maps(queries, banks),
            2 if quick else 3,
        )
    np.testing.assert_allclose(pair.our_output, pair.plain_output, atol=1e-5, rtol=0)
    alone = seconds(
        lambda: [
            similarity_to_references(queries[s], features[s].reshape(-1, queries[s].shape[1]), n)
            for s, n in sizes.items()
        ]
    )
    searches = sum(len(references) for references in chosen)
    return [
        Row(f"sweep, shots 1, 2, 4 over 5 seeds ({searches} searches plain, {len(distinct)} ours)",
            pair.ours, pair.plain, "60 % of plain", pair.ours <= 0.6 * pair.plain),
        Row(f"sweep beside its {len(distinct)} distinct references alone", pair.ours, alone,
            "ratio 0.9", alone / pair.ours >= 0.9),
    ]  # fmt: skip
