"""Prompt embeddings: ours in batches without padding, plainly one prompt at a time."""

from __future__ import annotations

import numpy as np

from benchmarks import plain
from benchmarks.encoder import load
from benchmarks.machine import Machine
from benchmarks.table import Row, alternate
from fade.prompts import DEFAULT_TEMPLATE, fill, load_ensemble

PROMPTS = 750
ENSEMBLES = ("winclip", "descriptions_1", "descriptions_2", "descriptions_3")
WORDS = ("bottle", "metal nut", "printed circuit board", "transistor")


def prompts(count: int) -> list[str]:
    """Distinct prompts of the shipped ensembles for several objects."""
    found: dict[str, None] = {}
    for word in WORDS:
        ensembles = [load_ensemble(name) for name in ENSEMBLES]
        found.update(dict.fromkeys(fill(ensembles, word, DEFAULT_TEMPLATE)[0]))
    rng = np.random.default_rng(0)
    chosen = list(found)
    return [chosen[i] for i in rng.permutation(len(chosen))[:count]]


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark; the plain side encodes every tenth prompt and is scaled up."""
    encoder = load("fp32")
    texts = prompts(160 if quick else PROMPTS)
    sample = slice(0, None, 10)
    rounds = 1 if quick else 2
    pair = alternate(
        lambda: encoder.encode_texts(texts),
        lambda: np.stack([plain.encode_text(encoder, text) for text in texts[sample]]),
        rounds,
    )
    np.testing.assert_allclose(pair.our_output[sample], pair.plain_output, atol=1e-6, rtol=0)
    whole = pair.plain * len(texts) / len(texts[sample])
    return [
        Row(f"text, {len(texts):,} prompts", pair.ours, whole, "ratio 3", whole / pair.ours >= 3)
    ]
