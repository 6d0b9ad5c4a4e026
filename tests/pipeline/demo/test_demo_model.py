"""The demo's trained model: it loads, is small, and knows defects of products it never saw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import benchmarks.train_demo as training
from fade.encoder import SEEDED, Encoder
from fade.maps import fuse_values, resize_levels, to_levels
from fade.metrics import PixelHistogram, image_metrics, pixel_metrics
from fade.regions import label_regions
from fade.scoring import embed, language_map, text_classifier
from fade.types import Feature
from fade.vision import vision_map
from pipeline.demo.defects import DEFECTS, RESERVED_DEFECTS, TRAIN_DEFECTS
from pipeline.demo.families import DEMO_FAMILIES, FAMILIES, TRAIN_FAMILIES
from pipeline.demo.generate import Sample, generate_image, style_of

CONFIG = training.CONFIG
WEIGHTS = CONFIG.with_suffix(".safetensors")
SIZE = 128
CATEGORIES = {"washer": ("scratch", "corrosion"), "tile": ("crack", "glue"), "fabric": ("hole",)}

pytestmark = pytest.mark.skipif(not WEIGHTS.is_file(), reason="the demo's weights are not here")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load(str(CONFIG), str(WEIGHTS))


@pytest.fixture(scope="module")
def products() -> training.Pool:
    drawn = [training.draw_product((0, position, 0)) for position in range(3)]
    images, covers = (np.stack(parts) for parts in zip(*drawn, strict=True))
    return training.Pool(images, covers)


def test_file_is_small_and_half_precision() -> None:
    from safetensors.torch import load_file

    assert WEIGHTS.stat().st_size <= 12_000_000
    state = load_file(WEIGHTS)
    assert all(tensor.dtype == torch.float16 for tensor in state.values())
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state.values())


def test_gem_starts_above_the_first_block(encoder: Encoder) -> None:
    blocks = encoder.describe(Feature(SIZE, "clip", "cls"))["architecture"]["blocks"]
    assert encoder.gem.first_block(blocks) >= 1
    assert encoder.native_size == training.NATIVE


def test_training_stays_within_its_families_defects_and_styles() -> None:
    assert not set(TRAIN_FAMILIES) & set(DEMO_FAMILIES)
    assert not set(TRAIN_DEFECTS) & set(RESERVED_DEFECTS)
    assert training.STYLE_OFFSET >= 2**32  # data sets draw theirs as 32-bit numbers
    sentences = training.Sentences(training.new_model(0)[1])
    words = {word for name in DEMO_FAMILIES for p in FAMILIES[name].words for word in p.split()}
    assert not words & set(sentences._random)
    assert not words & {word for phrase in sentences._named for word in phrase.split()}


def test_pictures_of_a_product(products: training.Pool) -> None:
    good, bad = products.images[:, :, :1], products.images[:, :, 1:]
    covers = products.covers[:, :, 1:]
    assert (good != bad).any(-1)[covers].mean() > 0.9
    assert covers.mean(axis=(3, 4)).min() > 0.003
    assert not products.covers[:, :, 0].any()


def test_training_computes_the_encoder_s_streams(encoder: Encoder, products: training.Pool) -> None:
    pixels = products.images[:2, 0, 1, ::2, ::2]
    wanted = encoder.encode_images(pixels, [("clip", "cls"), ("clip", "patch"), ("gem", "patch")])
    images = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (encoder.mean, encoder.std))
    visual = encoder._model.visual  # type: ignore[union-attr]
    with torch.no_grad():
        clip, gem = training.both_streams(visual, (images - mean) / std, None, torch.arange(2))
    np.testing.assert_allclose(clip[:, 0], wanted["clip", "cls"], atol=1e-5)
    np.testing.assert_allclose(clip[:, 1:], wanted["clip", "patch"], atol=1e-5)
    np.testing.assert_allclose(gem, wanted["gem", "patch"], atol=1e-5)


@pytest.mark.parametrize("whole", [True, False])
def test_every_weight_of_both_towers_learns(products: training.Pool, whole: bool) -> None:
    model, tokenizer = training.new_model(0)
    rng = np.random.default_rng(0)
    batch = training.draw_batch(products, rng, 2, whole, 8)
    tokens = training.Sentences(tokenizer).draw(rng)
    mean, std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    direction = training.read(model, tokens)
    parts = training.losses(model, batch, direction, mean, std, torch.tensor([1]))
    assert set(parts) == set(training.WEIGHTS)
    torch.stack(list(parts.values())).sum().backward()
    for name, parameter in model.named_parameters():
        if name != "logit_scale":
            assert parameter.grad is not None, name
            assert bool(torch.isfinite(parameter.grad).all()), name


def test_covers_follow_their_pictures(products: training.Pool) -> None:
    pool = training.Pool(np.zeros_like(products.images), products.covers)
    pool.images[products.covers] = 255
    batch = training.draw_batch(pool, np.random.default_rng(1), 8, False, 8)
    shown = batch.pixels.mean(1).unfold(1, 8, 8).unfold(2, 8, 8).mean((3, 4))
    full = batch.cover > 0.95
    assert int(full.sum()) > 20
    assert float(shown[full].min()) > float(shown[batch.cover == 0].quantile(0.95))


def test_goes_on_from_what_a_folder_keeps(products: training.Pool, tmp_path: Path) -> None:
    rows = np.arange(len(TRAIN_FAMILIES)) % len(products.images)
    for name, part in zip(training.POOL_FILES, (products.images, products.covers), strict=True):
        np.save(tmp_path / name, part[rows])
    recipe = training.Recipe(
        products=1, steps=3, cooling=2, windows=1, wholes=1, processes=1, saving=2
    )
    outs = [tmp_path / name for name in ("one.safetensors", "two.safetensors")]
    training.run(recipe, outs[0], tmp_path)
    kept = torch.load(tmp_path / training.STATE, weights_only=True)
    assert kept["step"] == 2
    training.run(recipe, outs[1], tmp_path)
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_refuses_another_kind_of_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert training.main([str(tmp_path / "model.pt")]) != 0
    assert "safetensors" in capsys.readouterr().err


@pytest.fixture(scope="module")
def held_out() -> dict[str, list[Sample]]:
    """Of each category a reference, four good pictures and four defective ones."""
    pictures = {}
    for name, defects in CATEGORIES.items():
        family, style = FAMILIES[name], style_of(FAMILIES[name], 11)
        shown = [None] * 5 + [DEFECTS[defects[i % len(defects)]] for i in range(4)]
        pictures[name] = [
            generate_image(family, style, 100 + i, 2 * SIZE, defect)
            for i, defect in enumerate(shown)
        ]
    return pictures


def figures(encoder: Encoder, held_out: dict[str, list[Sample]]) -> dict[str, float]:
    """Mean over categories: AUROC of language's scores and maps, and of maps with one reference."""
    cls, gem, clip = (
        Feature(SIZE, "clip", "cls"), Feature(SIZE, "gem", "patch"), Feature(SIZE, "clip", "patch")
    )  # fmt: skip
    prompts = ("winclip", *(f"descriptions_{i}" for i in range(1, 6)))
    map_text = text_classifier(encoder, prompts, "object")
    rows = []
    for name, (reference, *tests) in held_out.items():
        score_text = text_classifier(encoder, ("winclip",), name)
        normal = {SIZE: embed(encoder, reference.image, [clip])[clip]}
        scores, language, both = [], PixelHistogram.empty(), PixelHistogram.empty()
        for sample in tests:
            found = embed(encoder, sample.image, [cls, gem, clip])
            scores.append(score_text.predict_proba(found[cls][None])[0, 1])
            said = language_map(map_text, [found[gem]])
            far = vision_map({SIZE: found[clip]}, [normal]) * np.float32(3.5)
            regions = label_regions(sample.mask)
            side = sample.mask.shape[0]
            alone = fuse_values(said, None, mode="language", weight=0, normalize=False)
            fused = fuse_values(said, far, mode="both", weight=0.85, normalize=False)
            language += PixelHistogram.of_image(resize_levels(to_levels(alone), side), regions)
            both += PixelHistogram.of_image(resize_levels(to_levels(fused), side), regions)
        anomalous = np.array([bool(sample.mask.any()) for sample in tests])
        rows.append(
            (
                image_metrics(np.array(scores), anomalous)[0]["full_image_auroc"],
                pixel_metrics(language)[0]["full_pixel_auroc"],
                pixel_metrics(both)[0]["full_pixel_auroc"],
            )
        )
    return dict(zip(("image", "map", "both"), np.mean(rows, axis=0).tolist(), strict=True))


def test_knows_defects_of_products_it_never_saw(
    encoder: Encoder, held_out: dict[str, list[Sample]]
) -> None:
    ours = figures(encoder, held_out)
    seeded = figures(Encoder.load(str(CONFIG), SEEDED), held_out)
    assert ours["image"] > max(0.87, seeded["image"] + 0.1), (ours, seeded)
    assert ours["map"] > max(0.93, seeded["map"] + 0.1), (ours, seeded)
    assert ours["both"] > max(0.97, seeded["both"]), (ours, seeded)
