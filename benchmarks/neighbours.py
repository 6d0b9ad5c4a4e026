"""Nearest neighbours: blocks of products, plainly the whole similarity matrix and a partition."""

from __future__ import annotations

import numpy as np

from benchmarks import plain
from benchmarks.machine import Machine, seconds
from benchmarks.table import Row, alternate
from fade.bank import similarity_to_references

PATCHES, DIM = 3136, 640


def vectors(count: int, seed: int) -> np.ndarray:
    """Random directions, (count, DIM) float32."""
    drawn = np.random.default_rng(seed).standard_normal((count, DIM), np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark; the limit is numpy's own product, measured beside each row."""
    queries = vectors(PATCHES, 0)
    rows = []
    for references in (1,) if quick else (4, 10):
        bank = vectors(references * PATCHES, references)
        rows.append(_row(queries, bank, 2 if quick else 5))
    return rows


def _row(queries: np.ndarray, bank: np.ndarray, repeats: int) -> Row:
    pair = alternate(
        lambda: similarity_to_references(queries, bank, PATCHES).max(axis=0),
        lambda: plain.nearest(queries, bank),
        repeats,
    )
    np.testing.assert_allclose(pair.our_output, pair.plain_output, atol=1e-5, rtol=0)
    product = seconds(lambda: queries @ bank[:PATCHES].T, repeats) * len(bank) / PATCHES
    share = product / pair.ours
    return Row(
        f"nearest neighbours, {PATCHES:,} in {len(bank):,} patches", pair.ours, pair.plain,
        "85 % of sgemm", share >= 0.85, (share, "sgemm"),
    )  # fmt: skip
