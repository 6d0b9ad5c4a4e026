"""``python -m benchmarks.approximations PHOTOS``: what cheaper storage and cheaper search cost.

PHOTOS is a data set in MVTec's layout. Banks are made of its training images, turned, shifted and
zoomed until there are enough patches; queries are whole test images. Times are processor seconds
of one thread, so that a busy machine does not change them much.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from PIL import Image

from benchmarks.encoder import load as load_seeded
from fade.bank import anomaly, coreset, normalized_float32, similarity_to_references
from fade.datasets import read_dataset
from fade.encoder import Encoder
from fade.faiss_index import build_index
from fade.metrics import PixelHistogram, image_metrics, pixel_metrics
from fade.preprocess import decode_mask, decode_rgb, resize_mask, resize_square
from fade.regions import label_regions

BATCH = 4
DEMO = Path(__file__).parent.parent / "pipeline" / "demo"
MODELS = ("fade-demo", "ViT-B-16-plus-240")
"""The demo set's trained model, and the default architecture with seeded weights."""


@dataclass(frozen=True)
class Photos:
    """Features of photos.

    Attributes:
        bank: (n, dim) float32, patches of training images, whole frames first.
        queries: (images, patches, dim) float32.
        masks: (images, grid, grid) bool, at the size of the grid.
        anomalous: (images,) bool.
    """

    bank: np.ndarray
    queries: np.ndarray
    masks: np.ndarray
    anomalous: np.ndarray


@dataclass(frozen=True)
class Result:
    """Patch scores of the queries, and what they cost.

    Attributes:
        build, search: processor seconds; search is of one query image.
        size: bytes of the bank.
        similarity: (images, patches).
    """

    build: float
    search: float
    size: int
    similarity: np.ndarray


def _encoder(model: str) -> Encoder:
    if model == "fade-demo":
        return Encoder.load(str(DEMO / "fade-demo.json"), str(DEMO / "fade-demo.safetensors"))
    return load_seeded("fp32")


def _varied(images: list[Image.Image], size: int) -> Iterator[np.ndarray]:
    """Whole frames, then ever new views of them: (size, size, 3) uint8."""
    rng = np.random.default_rng(0)
    yield from (resize_square(image, size) for image in images)
    while True:
        image = images[rng.integers(len(images))]
        side = round(min(image.size) * rng.uniform(0.6, 1))
        left, top = (int(rng.integers(0, full - side + 1)) for full in image.size)
        view = image.crop((left, top, left + side, top + side))
        turned = np.rot90(resize_square(view, size), int(rng.integers(4)))
        light = rng.uniform(0.9, 1.1)
        yield np.clip(turned * light, 0, 255).astype(np.uint8)


def _encode(encoder: Encoder, images: list[np.ndarray]) -> np.ndarray:
    parts = [
        encoder.encode_images(np.stack(images[i : i + BATCH]), [("clip", "patch")])["clip", "patch"]
        for i in range(0, len(images), BATCH)
    ]
    return np.concatenate(parts)


def features(root: Path, model: str, size: int, patches: int, every: int) -> Photos:
    """Encode enough views of the training images, and every so many test images."""
    encoder = _encoder(model)
    grid = encoder.grid(size)
    records = read_dataset("mvtec", root)
    frames = [
        decode_rgb((root / r.path).read_bytes(), r.path) for r in records if r.split == "train"
    ]
    tests = [r for r in records if r.split == "test"][::every]
    views = _varied(frames, size)
    bank = [next(views) for _ in range(-(-patches // grid**2))]
    masks = np.zeros((len(tests), grid, grid), bool)
    for mask, record in zip(masks, tests, strict=True):
        if record.mask:
            whole = decode_mask((root / record.mask).read_bytes(), record.mask)
            # a defect may be smaller than a patch
            fine = resize_mask(whole, 8 * grid).reshape(grid, 8, grid, 8)
            mask[:] = fine.any(axis=(1, 3))
    queries = [resize_square(decode_rgb((root / r.path).read_bytes(), r.path), size) for r in tests]
    vectors = _encode(encoder, bank)
    return Photos(
        vectors.reshape(-1, vectors.shape[-1])[:patches],
        _encode(encoder, queries),
        masks,
        np.array([record.is_anomaly for record in tests]),
    )


def _timed(run: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    start = time.process_time()
    found = run()
    return time.process_time() - start, found


def exact(photos: Photos, bank: np.ndarray) -> Result:
    """The search that the pipeline does by default."""
    flat = photos.queries.reshape(-1, bank.shape[1])

    def search() -> np.ndarray:
        best = np.full(len(flat), -1, np.float32)
        # as the pipeline does: one reference image after the other
        patches = photos.queries.shape[1]
        for first in range(0, len(bank), patches):
            part = bank[first : first + patches]
            best = np.maximum(best, similarity_to_references(flat, part, len(part))[0])
        return best

    seconds, found = _timed(search)
    images = len(photos.queries)
    return Result(0.0, seconds / images, bank.nbytes, found.reshape(images, -1))


def approximate(
    photos: Photos, bank: np.ndarray, factory: str, probes: list[int]
) -> Iterator[tuple[int, Result]]:
    """An index searched with each number of probes (of IVF) or candidates (of HNSW)."""
    start = time.process_time()
    index: Any = build_index(bank, factory)
    built = time.process_time() - start
    size = faiss.serialize_index(index).nbytes
    images = len(photos.queries)
    flat = photos.queries.reshape(-1, bank.shape[1])
    for number in probes:
        if factory.startswith("IVF"):
            faiss.extract_index_ivf(index).nprobe = number
        else:
            index.hnsw.efSearch = number
        seconds, found = _timed(lambda: index.search(flat, 1)[0][:, 0])
        found = np.where(found < -1, -1, found)
        yield number, Result(built, seconds / images, size, found.reshape(images, -1))


def subsample(photos: Photos, bank: np.ndarray, keep: int) -> Result:
    """A greedy coreset, searched exactly."""
    start = time.process_time()
    kept = np.ascontiguousarray(bank[coreset(bank, keep / len(bank))])
    built = time.process_time() - start
    found = exact(photos, kept)
    return Result(built, found.search, found.size, found.similarity)


@dataclass(frozen=True)
class Kept:
    """A way to keep vectors in a file.

    Attributes:
        name: what the table calls it.
        pack: (..., dim) float32 to what is kept: arrays that are written one after the other.
        widen: the arrays back to (..., dim) float32 of unit length.
    """

    name: str
    pack: Callable[[np.ndarray], tuple[np.ndarray, ...]]
    widen: Callable[..., np.ndarray]

    def through(self, vectors: np.ndarray) -> np.ndarray:
        """What comes back of vectors that were kept."""
        return self.widen(*self.pack(vectors))

    def read(self, vectors: np.ndarray, repeats: int = 20) -> float:
        """Processor seconds to read vectors from a file in the system's cache and to widen them."""
        packed = self.pack(vectors)
        with tempfile.TemporaryFile() as file:
            for array in packed:
                file.write(array.tobytes())
            taken = []
            for _ in range(repeats):
                file.seek(0)
                start = time.process_time()
                parts = [np.empty_like(array) for array in packed]
                for part in parts:
                    file.readinto(part.reshape(-1).view(np.uint8).data)
                self.widen(*parts)
                taken.append(time.process_time() - start)
        return float(np.median(taken))


def _to_int8(vectors: np.ndarray) -> tuple[np.ndarray, ...]:
    """255 levels of a scale that each vector has."""
    scale = np.abs(vectors).max(axis=-1, keepdims=True) / 127
    return np.rint(vectors / scale).astype(np.int8), scale.astype(np.float16)


KEPT = (
    Kept("float32", lambda x: (x,), normalized_float32),
    Kept("float16", lambda x: (x.astype(np.float16),), normalized_float32),
    # unit length needs no scale; who wanted the length would
    Kept("int8, a scale each", _to_int8, lambda levels, scale: normalized_float32(levels)),
)


def metrics(photos: Photos, similarity: np.ndarray) -> tuple[float, float]:
    """Image and pixel AUROC of patch scores, at the size of the grid."""
    scores = anomaly(similarity)
    levels = (np.clip(3.5 * scores, 0, 1) * 255).astype(np.uint8)
    total = PixelHistogram.empty()
    for level, mask in zip(levels, photos.masks, strict=True):
        total += PixelHistogram.of_image(level.reshape(mask.shape), label_regions(mask))
    image, _ = image_metrics(scores.max(axis=1), photos.anomalous)
    pixel, _ = pixel_metrics(total)
    return image["full_image_auroc"], pixel["full_pixel_auroc"]


def off(result: Result, reference: Result) -> tuple[float, float]:
    """How far patch scores are from the exact ones on average, and an image's score at most."""
    scores, right = anomaly(result.similarity), anomaly(reference.similarity)
    return float(np.abs(scores - right).mean()), float(
        np.abs(scores.max(axis=1) - right.max(axis=1)).max()
    )


def line(photos: Photos, name: str, result: Result, reference: Result) -> str:
    """A row of the table: cost, and how far the scores are from the exact ones."""
    mean, worst = off(result, reference)
    recall = float((result.similarity >= reference.similarity - 1e-5).mean())
    image, pixel = metrics(photos, result.similarity)
    return (
        f"| {name} | {result.build:.3g} | {1000 * result.search:.3g} | {result.size / 1e6:.3g} "
        f"| {recall:.3f} | {mean:.1e} | {worst:.1e} | {100 * image:.1f} | {100 * pixel:.1f} |"
    )


HEAD = (
    "| search | build, s | an image, ms | bank, MB | recall | score off, mean | image score off, most "
    "| image AUROC | pixel AUROC |\n|---|---|---|---|---|---|---|---|---|"
)


def storage(photos: Photos, bank: np.ndarray) -> Iterator[str]:
    """What ways to keep vectors cost."""
    yield (
        "| kept as | bank, MB | read an image, ms | score off, mean | image score off, most "
        "| image AUROC | pixel AUROC |\n|---|---|---|---|---|---|---|"
    )
    reference = exact(photos, bank)
    for kept in KEPT:
        size = sum(array.nbytes for array in kept.pack(bank))
        stored = Photos(
            kept.through(bank), kept.through(photos.queries), photos.masks, photos.anomalous
        )
        mean, worst = off(exact(stored, stored.bank), reference)
        image, pixel = metrics(photos, exact(stored, stored.bank).similarity)
        yield (
            f"| {kept.name} | {size / 1e6:.3g} | {1000 * kept.read(photos.queries[0]):.3g} "
            f"| {mean:.1e} | {worst:.1e} | {100 * image:.1f} | {100 * pixel:.1f} |"
        )


def study(photos: Photos, sizes: list[int], hnsw: int, greedy: int) -> Iterator[str]:
    """The tables, line by line."""
    yield f"\nStorage, {sizes[1]:,} patches\n"
    yield from storage(photos, photos.bank[: sizes[1]])
    for count in sizes:
        bank = photos.bank[:count]
        yield f"\nSearch, {count:,} patches of dimension {bank.shape[1]}\n\n{HEAD}"
        reference = exact(photos, bank)
        yield line(photos, "flat", reference, reference)
        lists = 2 ** round(np.log2(4 * count**0.5))
        for number, found in approximate(
            photos, bank, f"IVF{lists},Flat", [1, lists // 64, lists // 16, lists // 8]
        ):
            yield line(photos, f"IVF{lists}, {number} probes", found, reference)
        if count <= hnsw:
            for number, found in approximate(photos, bank, "HNSW32", [16, 128]):
                yield line(photos, f"HNSW32, {number} candidates", found, reference)
        for keep in (count // 1000, count // 100, count // 10):
            if keep >= 100 and keep * count <= greedy:
                found = subsample(photos, bank, keep)
                yield line(photos, f"coreset of {keep:,}", found, reference)


def main() -> None:
    """Encode once (kept in a file if one is named), then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", choices=MODELS, default=MODELS[0])
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--sizes", type=int, nargs="+", default=[3136, 12544, 100_000, 1_000_000])
    parser.add_argument("--every", type=int, default=3, help="take every so many test images")
    parser.add_argument("--hnsw", type=int, default=1_000_000, help="largest bank with HNSW")
    parser.add_argument("--greedy", type=int, default=10**9, help="largest coreset x bank")
    parser.add_argument("--features", type=Path, help="keep features in this .npz file")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    if chosen.features and chosen.features.exists():
        with np.load(chosen.features, allow_pickle=False) as file:
            photos = Photos(**{name: file[name] for name in file.files})
    else:
        photos = features(chosen.photos, chosen.model, chosen.size, max(chosen.sizes), chosen.every)
        if chosen.features:
            np.savez(chosen.features, **vars(photos))
    print(
        f"{chosen.model} at {chosen.size}, {len(photos.queries)} test images of "
        f"{photos.queries.shape[1]:,} patches"
    )
    for text in study(photos, chosen.sizes, chosen.hnsw, chosen.greedy):
        print(text, flush=True)


if __name__ == "__main__":
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        main()
