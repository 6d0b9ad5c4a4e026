"""The feature store beside plain .npy files of the same bytes, both in the page cache."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path

import numpy as np

from benchmarks.machine import Machine
from benchmarks.table import Row, alternate
from cache.layout import Space
from cache.store import Store

IMAGES = 16
"""Images of a segment at the default sizes."""

CLIP_OPERATIONS = 12 * (24 * 3137 * 896**2 + 4 * 3137**2 * 896)
"""Multiply-adds x 2 of the clip stream of ViT-B-16-plus-240 at 896."""


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark."""
    space = Space("clip-patch-896", {}, (3136, 640), "float16")
    rng = np.random.default_rng(0)
    count = 4 if quick else IMAGES
    rows = rng.standard_normal((count, *space.shape), np.float32).astype(np.float16)
    keys = [f"{i:040x}" for i in range(count)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Store(folder / "store")
        store.register(space)
        file = folder / "plain.npy"

        def save() -> None:
            # a new file each time, as the store's are: writing over one is a copy in memory
            if file.exists():
                file.rename(folder / f"{uuid.uuid4().hex}.npy")
            np.save(file, rows)

        written = alternate(lambda: store.write(space, keys, rows), save, 3 if quick else 7)
        places = written.our_output
        read = alternate(
            lambda: store.read(space, places),
            lambda: np.load(file, allow_pickle=False),
            3 if quick else 15,
        )
        assert np.array_equal(read.our_output, read.plain_output)
        segments = len(list(folder.glob("store/spaces/*/segments/*")))
        files = sum(f.is_file() for f in folder.glob("store/spaces/*/*/**/*"))
    share = read.plain / read.ours
    size = f"{rows.nbytes / 1e6:.0f} MB"
    per_segment = files / segments
    both = written.ours + read.ours
    encoding = count * CLIP_OPERATIONS / machine.rate(machine.precision)
    return [
        Row(f"store, read a block of {count} images ({size})", read.ours, read.plain,
            "ratio 0.6", share >= 0.6, (2 * rows.nbytes / read.ours / machine.memory, "memory")),
        Row(f"store, write a block ({size})", written.ours, written.plain, "-", True,
            (rows.nbytes / written.ours / machine.disk, "disk")),
        Row(f"store, write and read {count} images beside the least time to encode them in "
            f"{machine.precision}", both, encoding, "10 % of it", both <= 0.1 * encoding),
        Row("store, files a segment", per_segment, None, "3 files", per_segment <= 3,
            unit="files"),
    ]  # fmt: skip
