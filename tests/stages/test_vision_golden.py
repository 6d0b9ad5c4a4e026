"""Numbers of the official code of training-free methods, from the stages of the pipeline.

``tests/fade/test_vision_golden.py`` has the same from the parts of the library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cache.store import Store
from fade.encoders.load import load_vision_encoder
from fade.errors import ParameterError
from fade.views import unit_length
from pipeline.artefacts.catalogue import VISION
from pipeline.artefacts.maps import map_loader
from pipeline.artefacts.receipts import read_receipt
from pipeline.config.load import parse_params
from pipeline.evaluation.thresholds import read_thresholds
from pipeline.inference.bundle_writing import write_bundle
from pipeline.inference.predictor import Predictor
from pipeline.inference.run import FinishedRun
from pipeline.scoring.components import component_key
from tests.fade.test_vision_golden import CATEGORIES, close, numbers, seeded_resnet
from tests.fade.test_vision_golden import VISION as OFFICIAL
from tests.projects import GOLDEN, STAGES, changed, golden_params, run_stages

TINY = f"local-dir:{OFFICIAL / 'tiny-dinov2'}"


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden images as the official code saw them: 200 x 200."""
    root = tmp_path_factory.mktemp("squares")
    source = GOLDEN / "images"
    for file in sorted(source.rglob("*.png")):
        if file.parts[-3] in ("train", "test"):
            target = root / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            image = Image.open(file).convert("RGB")
            image.resize((200, 200), Image.Resampling.BICUBIC).save(target)
    return root


def method(data: Path, run: str, size: int, **leaves: Any) -> dict[str, Any]:
    """Parameters of a golden run (``..._k4_seed1_...``), all of vision alone."""
    shots, seed = (int(run.split(f"_{what}")[1].split("_")[0]) for what in ("k", "seed"))
    given = {
        "dataset__path": str(data),
        "dataset__watch": str(data),
        "dataset__categories": None,
        "features__segmentation_sizes": [size],
        "vision__encoder": TINY,
        "vision__shots": [shots],
        "vision__seeds": [seed],
        "vision__query_in_bank": False,
        "fusion__classification_mode": "vision",
        "fusion__segmentation_mode": "vision",
        "fusion__vision_multiplier": 1.0,
        "evaluate__size": size,
    }
    params = golden_params("fewshot1_both_seed0", GOLDEN / "no-clip-is-loaded.pt")
    return changed(params, **{**given, **leaves})


def scored(folder: Path, params: dict[str, Any]) -> tuple[dict[str, np.ndarray], pd.Series]:
    """By name of an image its map of patches before evaluation, and its score."""
    run_stages(folder, params, *STAGES[:9])
    receipt = read_receipt(VISION, folder)
    store = Store(folder / ".fade" / "store")
    table = pd.read_parquet(folder / "artefacts/manifest.parquet")
    table = table[table["split"] == "test"]
    against = {
        category: next(iter(digests.values()))
        for category, digests in receipt.compared_with["vision-map"].items()
    }
    keys = [
        component_key(key, against[category])
        for key, category in zip(table["hash"], table["category"], strict=True)
    ]
    places = receipt.locate(store, "vision-map", keys)
    maps = store.read(receipt.space("vision-map"), [places[key] for key in keys])
    scores = pd.read_parquet(folder / "results/scores.parquet")
    names = [str(Path(path).with_suffix("")) for path in table["path"]]
    by_path = scores.set_index("path")["score"]
    found = by_path.loc[table["path"]]
    return dict(zip(names, maps, strict=True)), pd.Series(found.to_numpy(), names)


@pytest.mark.parametrize(
    ("run", "transforms"),
    [("anomalydino_k4_seed1", "none"), ("anomalydino_k1_seed0_rotated", "rotations")],
)
def test_anomalydino(run: str, transforms: str, squares: Path, tmp_path: Path) -> None:
    params = method(
        squares, run, 168, vision__norm=True, vision__transforms=transforms, evaluate__top=0.01
    )
    maps, scores = scored(tmp_path, params)
    golden = numbers(run)
    assert {name.split("/")[0] for name in maps} == set(CATEGORIES)
    for name, found in maps.items():
        close(2 * found, golden, f"{name}|distances")  # FADE's cosine distance is 0.5 (1 - cosine)
        close(2 * scores[name], golden, f"{name}|score")


def test_anomalydino_by_the_smaller_edge(squares: Path, tmp_path: Path) -> None:
    """The size is that of the smaller edge, and what is left of whole patches is cropped."""
    data = tmp_path / "wide"
    for file in sorted((squares / "plate").rglob("*.png")):
        target = data / file.relative_to(squares)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).resize((310, 200)).save(target)
    params = method(
        data, "anomalydino_k1_seed0", 84, vision__norm=True, dataset__limit=2,
        features__aspect="smaller_edge", evaluate__top=0.01, features__dtype="float32",
    )  # fmt: skip
    folder = tmp_path / "run"
    maps, _ = scored(folder, params)
    full, cropped = (84, 130), (84, 126)  # whole patches of 14 pixels
    network = load_vision_encoder(TINY)
    output = network.output([-1], norm=True)

    def vectors(path: str) -> np.ndarray:
        image = Image.open(data / path).resize(full[::-1], Image.Resampling.BICUBIC)
        pixels = np.asarray(image)[: cropped[0], : cropped[1]]
        return unit_length(network.encode(pixels[None], [output])[output][0])

    (chosen,) = pd.read_parquet(folder / "artefacts/selection.parquet")["path"]
    normal = vectors(chosen).reshape(-1, 64)
    for name, found in maps.items():
        expected = 0.5 * (1 - (vectors(f"{name}.png") @ normal.T).max(axis=-1))
        assert found.shape == (6, 9)
        np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())
    bundle = tmp_path / "wide.fade"
    write_bundle(FinishedRun(folder), bundle, with_weights=True)
    scores = pd.read_parquet(folder / "results/scores.parquet").set_index("path")["score"]
    path = next(iter(maps)) + ".png"
    for predictor in (Predictor.from_run(folder), Predictor.from_bundle(bundle)):
        (one,) = predictor.predict([data / path], "plate")
        assert one.score == pytest.approx(scores[path], abs=1e-6)


@pytest.mark.parametrize(
    ("run", "size", "leaves"),
    [
        ("superadd_k1_seed0_168", 168, {}),
        ("superadd_k2_seed1_tiled_252", 252, {"vision__tile": 12, "vision__overlap": 2}),
    ],
)
def test_superadd(
    run: str,
    size: int,
    leaves: dict[str, int],
    squares: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = method(
        squares, run, size, **leaves, vision__layers=[1, 3, 5], vision__layer_fusion="apart",
        vision__unit=False,
        vision__metric="euclidean", vision__per_dimension=True, evaluate__top=0.001,
        evaluate__top_of="pixels", evaluate__sigma=4, evaluate__kernel="reflect",
    )  # fmt: skip
    maps, scores = scored(tmp_path, params)
    golden = numbers(run)
    monkeypatch.chdir(tmp_path)
    finish = parse_params(params, "test").evaluate.finish
    stored, thresholds = map_loader(), read_thresholds(Path("results/thresholds.json"))
    scales = {one.category: one.map_scale for one in thresholds}
    for row, name in enumerate(maps):
        close(scores[name], golden, f"{name}|score")
        levels = stored(thresholds[0].trial.label, row)
        assert levels is not None
        values = scales[name.split("/")[0]].values(levels)
        close(finish.apply(values, (size, size))[::6, ::6], golden, f"{name}|map")


@pytest.mark.parametrize(
    ("run", "share"),
    [
        ("subspacead_k1_seed0_ev90", 0.9),
        ("subspacead_k4_seed1_ev99", 0.99),
        ("subspacead_batch_zero_shot_ev99", 0.99),
    ],
)
def test_subspacead(run: str, share: float, squares: Path, tmp_path: Path) -> None:
    batch = "batch" in run
    params = method(
        squares, "zero_k0_seed0" if batch else run, 168, vision__layers=[1, 3, 5],
        vision__layer_fusion="mean", vision__unit=False, vision__rule="subspace",
        vision__variance=share, vision__bank="batch" if batch else "references",
        evaluate__top=0.01, evaluate__top_of="pixels", evaluate__sigma=4, evaluate__kernel="small",
    )  # fmt: skip
    maps, scores = scored(tmp_path, params)
    golden = numbers(run)
    for name, found in maps.items():
        close(found, golden, f"{name}|residual")
        close(scores[name], golden, f"{name}|score")


def test_musc(squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = method(
        squares, "zero_k0_seed0", 168, vision__layers=[1, 3, 5], vision__layer_fusion="apart",
        vision__layer_norm=True, vision__pooling=[1, 3], vision__metric="euclidean",
        vision__rule="mutual", vision__bank="batch", evaluate__resize="corners",
        evaluate__top_of="pixels",
    )  # fmt: skip
    maps, scores = scored(tmp_path, params)
    golden = numbers("musc")
    for category in CATEGORIES:
        names = golden[f"{category}|images"].tolist()
        close(np.stack([maps[name] for name in names]), golden, f"{category}|patch_scores")
        close(scores[names].to_numpy(), golden, f"{category}|image_max_at_168")
    smooth = changed(params, evaluate__smooth_similar=[1, 2, 3])
    _, scores = scored(tmp_path, smooth)
    for category in CATEGORIES:
        names = golden[f"{category}|images"].tolist()
        close(scores[names].to_numpy(), golden, f"{category}|rscin_1_2_3")
    monkeypatch.chdir(tmp_path)
    for use in (lambda: Predictor.from_run(), lambda: write_bundle(FinishedRun(), Path("b.fade"))):
        with pytest.raises(ParameterError, match="smooths image scores over a test set"):
            use()
    assert not Path("b.fade").exists()


@pytest.mark.parametrize("run", ["patchcore_k1_seed0", "patchcore_k4_seed1"])
def test_patchcore(
    run: str, squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = method(
        squares, run, 160, vision__encoder="resnet18",
        vision__encoder_weights=str(seeded_resnet(tmp_path / "resnet18.pth")),
        vision__layers=[2, 3], vision__pooling=[3], vision__unit=False, vision__metric="euclidean",
        evaluate__reweighted=True, evaluate__resize="nearest", evaluate__sigma=4,
        features__dtype="float32", threshold__images=2,
    )  # fmt: skip
    maps, scores = scored(tmp_path, params)
    golden = numbers(run)
    for name, found in maps.items():
        close(found, golden, f"{name}|distances")
        close(scores[name], golden, f"{name}|score")
    monkeypatch.chdir(tmp_path)
    name = next(name for name in maps if "/test/" in name)
    (one,) = Predictor.from_run().predict([squares / f"{name}.png"], name.split("/")[0])
    assert one.score == pytest.approx(scores[name], rel=1e-5)
