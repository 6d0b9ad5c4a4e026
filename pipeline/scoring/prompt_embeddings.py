"""Embeddings of prompts, kept in the store."""

from __future__ import annotations

import logging
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np

from cache.index import Index
from cache.layout import Space, batched, content_key
from cache.store import Store
from fade.errors import StoreError, counted
from pipeline.process.progress import Progress

if TYPE_CHECKING:
    from fade.encoder import Encoder
    from pipeline.features.text_tower import TextTower


log = logging.getLogger("fade")

SEGMENT_PROMPTS = 1024


def _key(prompt: str) -> str:
    return content_key(prompt.encode())


def text_space(weights: str, dim: int) -> Space:
    """Where the store keeps embeddings of prompts by a text tower: (dim,) float32 each."""
    described = {"kind": "text", "version": 2, "weights": weights}
    return Space("text", described, (dim,), "float32")


def kept(prompts: list[str], store: Store, space: Space, rows: Index) -> np.ndarray:
    """(n, dim) float32: the embeddings of n prompts that the text stage kept.

    Args:
        rows: the space's, as they can be read (:meth:`cache.store.Store.readable`).

    Raises:
        StoreError: one is gone from the store, or damaged.
    """
    places, found = rows.find(map(_key, prompts))
    if not found.all():
        raise StoreError(
            f"embeddings of prompts are gone from the store at {store.root}: "
            "run `fade run --force text`"
        )
    order = np.lexsort((places.rows, places.segments))  # they are there by length, not by category
    vectors = np.empty((len(order), *space.shape), np.float32)
    vectors[order] = store.read(space, list(places.take(order)))
    return vectors


def embed(prompts: list[str], encoder: Encoder | TextTower, store: Store) -> dict[str, np.ndarray]:
    """Embedding of each prompt, from the store or into it; every distinct one is encoded once.

    Raises:
        ParameterError: a prompt is longer than the model reads; none is encoded then.
    """
    space = text_space(encoder.text_digest, encoder.dim)
    distinct = {prompt: _key(prompt) for prompt in prompts}
    places, found = store.repair(space).find(distinct.values())
    index = dict(zip(compress(distinct.values(), found), places.take(found), strict=True))
    missing = [prompt for prompt, key in distinct.items() if key not in index]
    if missing:
        encoder.check_prompts(missing)
    missing.sort(key=len)  # a batch is of one length
    store.prepare({space: len(missing)})
    with Progress(len(missing), "prompts", "prompt") as progress:
        for piece in batched(missing, SEGMENT_PROMPTS):
            rows = encoder.encode_texts(piece, progress.advance)
            keys = [distinct[prompt] for prompt in piece]
            written = store.write(space, keys, rows)
            index.update(zip(keys, written, strict=True))
    log.info("%s, %d of them encoded now", counted(len(distinct), "prompt"), len(missing))
    with store.repairing():
        vectors = store.read(space, [index[key] for key in distinct.values()])
    return dict(zip(distinct, vectors, strict=True))
