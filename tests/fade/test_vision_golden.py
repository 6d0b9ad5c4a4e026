"""Numbers of the official code of five methods, from the parts of the library alone."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fade.encoders.load import load_vision_encoder
from fade.encoders.protocol import Output, VisionEncoder
from fade.filters import gaussian, gaussian_small, resize_scores
from fade.lean_import import timm_library
from fade.maps import merge_sizes
from fade.reductions import reweighted, smooth_similar, top_mean
from fade.rules.mutual import mutual_scores
from fade.rules.nearest import mean_of_nearest, nearest_in_references
from fade.rules.pairs import all_pairs
from fade.rules.subspace import fit_subspace
from fade.sampling import reference_order
from fade.tiles import cut_tiles, plan_tiles, stitch
from fade.transforms import NONE, Transform, rotations
from fade.views import View, view_vectors
from tests.projects import GOLDEN

VISION = GOLDEN / "vision"
CATEGORIES = ("plate", "weave")
BLOCKS = (1, 3, 5)


@cache
def images(category: str, split: str) -> dict[str, np.ndarray]:
    """By name the images of a split, 200 x 200."""
    files = sorted((GOLDEN / "images" / category / split).glob("*/*.png"))
    return {
        file.relative_to(GOLDEN / "images").with_suffix("").as_posix(): np.asarray(
            Image.open(file).convert("RGB").resize((200, 200), Image.Resampling.BICUBIC)
        )
        for file in files
    }


def sized(image: np.ndarray, size: int) -> np.ndarray:
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def references(category: str, run: str) -> list[np.ndarray]:
    """The images that a run of this name (``..._k4_seed1_...``) takes as references."""
    shots, seed = (int(run.split(f"_{what}")[1].split("_")[0]) for what in ("k", "seed"))
    train = list(images(category, "train").values())
    return [train[i] for i in reference_order(len(train), seed)[:shots]]


@cache
def numbers(name: str) -> Mapping[str, np.ndarray]:
    with np.load(VISION / f"{name}.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def dino() -> VisionEncoder:
    return load_vision_encoder(f"local-dir:{VISION / 'tiny-dinov2'}")


def seeded_resnet(file: Path) -> Path:
    """Write the weights of the ResNet that the numbers of PatchCore are of."""
    import torch

    spec = importlib.util.spec_from_file_location("seeded_timm", VISION / "seeded_timm.py")
    assert spec is not None
    assert spec.loader is not None
    seeded: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(seeded)
    torch.save(seeded.fill(timm_library().create_model("resnet18")).state_dict(), file)
    return file


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> VisionEncoder:
    file = seeded_resnet(tmp_path_factory.mktemp("resnet") / "resnet18.pth")
    return load_vision_encoder("resnet18", str(file))


def close(
    found: np.ndarray | float, golden: Mapping[str, np.ndarray], key: str, relative: float = 1e-4
) -> None:
    """Within a share of the run's largest value of this kind: official products round, too."""
    kind = key.partition("|")[2]
    largest = max(float(np.abs(golden[one]).max()) for one in golden if one.endswith(f"|{kind}"))
    np.testing.assert_allclose(found, golden[key], rtol=0, atol=relative * largest, err_msg=key)


def encode(
    encoder: VisionEncoder, pictures: Iterable[np.ndarray], outputs: list[Output], size: int
) -> list[list[np.ndarray]]:
    """For each image its (rows, columns, dim) for each output."""
    batch = np.stack([sized(picture, size) for picture in pictures])
    found = encoder.encode(batch, outputs)
    return [[found[output][i] for output in outputs] for i in range(len(batch))]


def test_features(dino: VisionEncoder) -> None:
    golden = numbers("features")
    outputs = {"last|norm": dino.output([-1], norm=True)}
    outputs |= {f"{block}|raw": dino.output([block]) for block in BLOCKS}
    for name in {key.split("|")[0] for key in golden}:
        category, split = name.split("/")[:2]
        picture = images(category, split)[name]
        found = encode(dino, [picture], list(outputs.values()), 168)[0]
        for kind, one in zip(outputs, found, strict=True):
            close(one.reshape(144, 64), golden, f"{name}|168|{kind}")


@pytest.mark.parametrize(
    ("run", "transforms"),
    [
        ("anomalydino_k1_seed0", [NONE]),
        ("anomalydino_k4_seed1", [NONE]),
        ("anomalydino_k1_seed0_rotated", rotations(8)),
    ],
)
def test_anomalydino(run: str, transforms: list[Transform], dino: VisionEncoder) -> None:
    golden, output = numbers(run), dino.output([-1], norm=True)
    view = View(size=168, layers=output.layers)
    for category in CATEGORIES:
        normal = [one.apply(image) for image in references(category, run) for one in transforms]
        bank = np.concatenate(
            [
                view_vectors(view, levels).reshape(-1, 64)
                for levels in encode(dino, normal, [output], 168)
            ]
        )
        test = images(category, "test")
        found = encode(dino, test.values(), [output], 168)
        for name, levels in zip(test, found, strict=True):
            queries = view_vectors(view, levels).reshape(-1, 64)
            each = nearest_in_references(queries, bank, 144 * len(transforms))
            distances = mean_of_nearest(each).reshape(12, 12)
            close(distances, golden, f"{name}|distances")
            close(top_mean(distances, 0.01), golden, f"{name}|score")


@pytest.mark.parametrize("category", CATEGORIES)
def test_musc(category: str, dino: VisionEncoder) -> None:
    golden = numbers("musc")
    test = images(category, "test")
    names = golden[f"{category}|images"].tolist()
    whole = dino.output([-1], norm=True, token="cls")
    found = encode(
        dino, [test[name] for name in names], [*(dino.output([b]) for b in BLOCKS), whole], 168
    )
    scores = {}
    for radius in (1, 3):
        views = [
            View(size=168, layers=(block,), pooling=radius, layer_norm=True) for block in BLOCKS
        ]
        scores[radius] = np.stack(
            [
                mutual_scores(
                    [view_vectors(view, [one[place]]).reshape(-1, 64) for one in found],
                    all_pairs(len(names)),
                )
                for place, view in enumerate(views)
            ]
        )
        close(scores[radius], golden, f"{category}|r{radius}")
    merged = np.mean([scores[1].mean(axis=0), scores[3].mean(axis=0)], axis=0)
    grids = merged.reshape(-1, 12, 12)
    close(grids, golden, f"{category}|patch_scores")
    highest = [resize_scores(grid, (168, 168), "corners").max() for grid in grids]
    close(np.array(highest), golden, f"{category}|image_max_at_168")
    embeddings = np.stack([one[-1] for one in found])
    smoothed = smooth_similar(np.array(highest), embeddings)
    close(smoothed, golden, f"{category}|rscin_1_2_3")


@pytest.mark.parametrize(
    ("run", "share"),
    [
        ("subspacead_k1_seed0_ev90", 0.9),
        ("subspacead_k4_seed1_ev99", 0.99),
        ("subspacead_batch_zero_shot_ev99", 0.99),
    ],
)
def test_subspacead(run: str, share: float, dino: VisionEncoder) -> None:
    golden, output = numbers(run), dino.output(BLOCKS)
    view = View(size=168, layers=BLOCKS, join="mean", unit=False)
    for category in CATEGORIES:
        test = images(category, "test")
        found = [view_vectors(view, one) for one in encode(dino, test.values(), [output], 168)]
        normal = found
        if "batch" not in run:
            normal = [
                view_vectors(view, one)
                for one in encode(dino, references(category, run), [output], 168)
            ]
        subspace = fit_subspace((one.reshape(-1, 64) for one in normal), share=share)
        assert len(subspace.components) == golden[f"{category}|components"]
        for name, one in zip(test, found, strict=True):
            residual = subspace.residual(one.reshape(-1, 64)).reshape(12, 12)
            close(residual, golden, f"{name}|residual")
            finished = gaussian_small(resize_scores(residual, (168, 168)), 4.0)
            close(top_mean(finished, 0.01), golden, f"{name}|score")


@pytest.mark.parametrize(
    ("run", "size", "overlap"),
    [("superadd_k1_seed0_168", 168, 0), ("superadd_k2_seed1_tiled_252", 252, 2)],
)
def test_superadd(run: str, size: int, overlap: int, dino: VisionEncoder) -> None:
    golden, outputs = numbers(run), [dino.output([block]) for block in BLOCKS]
    views = [View(size=size, layers=(block,), unit=False) for block in BLOCKS]
    grid = (size // 14, size // 14)
    tiles = plan_tiles(grid, 12, overlap)

    def tokens(picture: np.ndarray) -> list[np.ndarray]:
        parts = dino.encode(np.stack(cut_tiles(sized(picture, size), tiles, 14)), outputs)
        return [
            view_vectors(view, [stitch(parts[output], tiles, grid)])
            for view, output in zip(views, outputs, strict=True)
        ]

    for category in CATEGORIES:
        normal = [tokens(picture) for picture in references(category, run)]
        for name, picture in list(images(category, "test").items())[::2]:
            found = tokens(picture)
            if f"{name}|stitched|5" in golden:
                close(found[2], golden, f"{name}|stitched|5")
            maps = []
            for place, queries in enumerate(found):
                bank = np.concatenate([one[place].reshape(-1, 64) for one in normal])
                each = nearest_in_references(
                    queries.reshape(-1, 64), bank, queries.shape[0] ** 2, metric="euclidean"
                )
                maps.append(mean_of_nearest(each).reshape(grid) / 64)
            finished = gaussian(resize_scores(merge_sizes(maps), (size, size)), 4.0, "reflect")
            close(finished[::6, ::6], golden, f"{name}|map")
            close(top_mean(finished, 0.001), golden, f"{name}|score")


@pytest.mark.parametrize("run", ["patchcore_k1_seed0", "patchcore_k4_seed1"])
def test_patchcore(run: str, resnet: VisionEncoder) -> None:
    golden, outputs = numbers(run), [resnet.output([2]), resnet.output([3])]
    view = View(size=160, layers=(2, 3), pooling=3, unit=False)
    for category in CATEGORIES:
        normal = encode(resnet, references(category, run), outputs, 160)
        bank = np.concatenate([view_vectors(view, one).reshape(-1, 384) for one in normal])
        test = images(category, "test")
        found = encode(resnet, test.values(), outputs, 160)
        for name, levels in zip(test, found, strict=True):
            vectors = view_vectors(view, levels)
            if name == golden["embedding_of"]:  # whatever image its key says
                (key,) = (key for key in golden if key.endswith("|embedding"))
                close(vectors[::4, ::4].transpose(2, 0, 1), golden, key)
            queries = vectors.reshape(-1, 384)
            each = nearest_in_references(queries, bank, 400, metric="euclidean")
            distances = mean_of_nearest(each)
            close(distances.reshape(20, 20), golden, f"{name}|distances")
            worst = int(distances.argmax())
            score = reweighted(float(distances[worst]), queries[worst], bank, 9)
            close(score, golden, f"{name}|score")


def test_golden_data_stay_small() -> None:
    files = [file for file in Path(VISION).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 4_000_000
