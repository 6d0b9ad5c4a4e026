"""The encoder against golden embeddings, against open_clip itself, and against bad models."""

from __future__ import annotations

import itertools
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fade.aspect import AspectRatio
from fade.encoder import Encoder, fill_seeded
from fade.encoder.checkpoint import as_local_dir
from fade.errors import FadeError, ModelError, ParameterError
from fade.gem import GemConfig
from fade.prompts import DEFAULT_TEMPLATE, fill, load_ensemble
from fade.types import Feature, Precision, Stream, Token
from tests.projects import GOLDEN, ROOT

torch = pytest.importorskip("torch")

CONFIG = GOLDEN / "fade-golden.json"
DEMO = ROOT / "pipeline" / "demo"
ALL: list[tuple[Stream, Token]] = [
    ("clip", "cls"), ("clip", "patch"), ("gem", "cls"), ("gem", "patch"),
]  # fmt: skip
SMALL: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "layer scale": {"ls_init_value": 0.3},
    "narrow heads": {"head_width": 16},
    "no first norm": {"no_ln_pre": True},
    "other epsilon": {"norm_kwargs": {"eps": 1e-3}},
    "tanh": {"act_kwargs": {"approximate": "tanh"}},
    "fixed positions": {"pos_embed_type": "sin_cos_2d"},
    "wide": {"mlp_ratio": 3.0},
}


def write_config(folder: Path, vision: dict[str, Any] | None = None, **top: Any) -> str:
    config = {**SMALL, **top, "vision_cfg": {**SMALL["vision_cfg"], **(vision or {})}}
    path = folder / "small.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return str(path)


def small(folder: Path, vision: dict[str, Any] | None = None, **top: Any) -> Encoder:
    return Encoder.load(write_config(folder, vision, **top), "seeded", gem=GemConfig(depth=3))


def save(encoder: Encoder, path: Path) -> None:
    with path.open("wb") as file:
        encoder.save_weights(file)


def noise(count: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


@pytest.fixture(scope="module")
def golden(golden_checkpoint: Path) -> Encoder:
    return Encoder.load(str(CONFIG), str(golden_checkpoint))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return small(tmp_path_factory.mktemp("tiny"))


def test_image_embeddings_are_the_official_ones(golden: Encoder) -> None:
    expected = np.load(GOLDEN / "image_embeddings.npz")
    assert len(expected.files) >= 24
    inputs = {tuple(key.split("|")[:2]) for key in expected.files}
    for name, size in sorted(inputs):
        side = int(size)
        with Image.open(GOLDEN / "images" / f"{name}.png") as image:
            pixels = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        found = golden.encode_images(np.array(pixels)[None], ALL)
        for (stream, token), vectors in found.items():
            key = f"{name}|{size}|{stream}|{token}"
            np.testing.assert_allclose(vectors[0], expected[key], atol=1e-5, rtol=0, err_msg=key)


@pytest.mark.parametrize(
    ("key", "use", "word"),
    [
        ("classification|weave", "classification", "weave"),
        ("classification|plate", "classification", "plate"),
        ("segmentation|object", "segmentation", "object"),
    ],
)
def test_text_embeddings_are_the_official_ones(
    golden: Encoder, key: str, use: str, word: str
) -> None:
    files = sorted((GOLDEN / "prompts").glob("*.json"), key=lambda p: (p.name[0] != "w", p.name))
    chosen = files[:1] if use == "classification" else files
    expected = np.load(GOLDEN / "text_embeddings.npz")
    prompts, labels = fill(
        [load_ensemble(str(path)) for path in chosen], word, "a photo of a {prompt}."
    )
    np.testing.assert_array_equal(labels, expected[f"{key}|y"])
    np.testing.assert_allclose(
        golden.encode_texts(prompts), expected[f"{key}|x"], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_image_has_its_features_whatever_lies_beside_it(
    threads: int, precision: Precision
) -> None:
    """To the last bit, and whatever else is asked of it: a threshold may be a score that comes again."""
    demo = Encoder.load(
        str(DEMO / "fade-demo.json"), str(DEMO / "fade-demo.safetensors"), precision=precision
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        pixels = noise(5, 128)
        together = demo.encode_images(pixels, ALL)
        for size, asked in itertools.product((1, 2, 5), (ALL, *([pair] for pair in ALL))):
            for pair, found in demo.encode_images(pixels[:size], asked).items():
                np.testing.assert_array_equal(found, together[pair][:size], err_msg=str(pair))
        blocks = demo.encode_blocks(pixels, [1, 3])
        for block, found in demo.encode_blocks(pixels[3:4], [1, 3]).items():
            np.testing.assert_array_equal(found, blocks[block][3:4])
    finally:
        torch.set_num_threads(before)


TEXTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "linear projection": {"text_cfg": {"proj_bias": True}},
    "pools at the end": {"text_cfg": {"pool_type": "last"}},
    "not causal": {"text_cfg": {"no_causal_mask": True}},
    "tower of its own": {"custom_text": True},
}


@pytest.mark.parametrize("variant", TEXTS)
def test_texts_are_encode_text(variant: str, tmp_path: Path) -> None:
    """Prompts of any length, in any order, padding left out or not."""
    top = dict(TEXTS[variant])
    top["text_cfg"] = {**SMALL["text_cfg"], "layers": 2, **top.get("text_cfg", {})}
    encoder = small(tmp_path, **top)
    words = ["flawless", "transistor", "with", "scratches", "on", "the", "top", "left", *"abcd"]
    prompts = [
        " ".join(words[:n] * m) for n, m in ((5, 1), (12, 5), (1, 1), (8, 2), (0, 1), (3, 1))
    ]
    with torch.no_grad():
        model: Any = encoder._model
        expected = model.encode_text(encoder._tokenizer(prompts), normalize=True).numpy()
    found = encoder.encode_texts(prompts)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)
    assert encoder.encode_texts([]).shape == (0, 16)


def test_padding_is_not_computed_on(tmp_path: Path) -> None:
    encoder = small(tmp_path)
    model: Any = encoder._model
    seen: list[int] = []
    model.transformer.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    encoder.encode_texts(["a b c", "a", "a b", "a b c d e", "b c"])
    assert seen == [3, 4, 5, 7]  # of 77: the words of a prompt, its start and its end


def test_a_prompt_is_the_same_whatever_stands_beside_it() -> None:
    """A category that comes later changes no bit of the others."""
    encoder = Encoder.load(str(DEMO / "fade-demo.json"), str(DEMO / "fade-demo.safetensors"))
    prompts = fill([load_ensemble("winclip")], "metal nut", DEFAULT_TEMPLATE)[0][::4]
    done: list[int] = []
    together = encoder.encode_texts(prompts, done.append)
    assert sum(done) == len(prompts)
    # other processors may multiply the last rows of a batch otherwise than the first
    unlike = 0.0 if torch.backends.cpu.get_cpu_capability() == "AVX2" else 1e-7
    for few in (prompts[:1], prompts[5:30:3], prompts[::-1]):
        rows = [prompts.index(prompt) for prompt in few]
        assert np.abs(encoder.encode_texts(few) - together[rows]).max() <= unlike


@pytest.mark.parametrize(
    "text", [{}, {"context_length": 9}, {"tokenizer_kwargs": {"clean": "canonicalize"}}]
)
def test_tokens_are_open_clip_s(text: dict[str, Any], tmp_path: Path) -> None:
    """Whether its own tokenizer is taken as it is, with another length, or made anew."""
    import open_clip

    config = write_config(tmp_path, text_cfg={**SMALL["text_cfg"], **text})
    encoder = Encoder.load(config, "seeded", gem=GemConfig(depth=3))
    with as_local_dir(Path(config)) as name:
        theirs = open_clip.get_tokenizer(name)
    prompts = ["a photo of one_chip, damaged!", "", "It's 12 caf\u00e9s"]
    assert torch.equal(encoder._tokenizer(prompts), theirs(prompts))
    assert type(encoder._tokenizer) is type(theirs)


def test_prompts_that_a_tokenizer_would_cut_are_refused(tmp_path: Path) -> None:
    text = {**SMALL["text_cfg"], "context_length": 10}
    encoder = small(tmp_path, text_cfg=text)
    fits = ["", "a", "a b c d e f g", " ".join("abcdefgh")]  # with start and end 10 at most
    assert len(encoder.encode_texts(fits)) == 4
    encoder.check_prompts(fits)
    encoder.check_prompts([])
    long = " ".join("abcdefghi")
    for check in (encoder.check_prompts, encoder.encode_texts):
        with pytest.raises(ParameterError, match=r"'a b c d e f g h i' has 11 tokens, .*reads 10"):
            check([*fits, long])
    with pytest.raises(ParameterError, match=r"'(a ){30} \.\.\. .*z' has 103 tokens") as caught:
        encoder.encode_texts(["a " * 100 + "z"])
    assert "text.template" in str(caught.value)


class WordTokenizer:
    """As HFTokenizer does: its own padding, an end token that stays where a text is cut."""

    def __call__(self, texts: list[str], context_length: int = 6) -> Any:
        rows = [[0, *(5 + len(word) for word in text.split())] for text in texts]
        rows = [[*row[: context_length - 1], 2] for row in rows]
        return torch.tensor([row + [1] * (context_length - len(row)) for row in rows])


def test_other_tokenizers_and_their_padding(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny, "_tokenizer", WordTokenizer())
    tiny.check_prompts(["", "a", "a b c d"])
    with pytest.raises(ParameterError, match=r"'a b c d e' has 7 tokens, .* reads 6"):
        tiny.check_prompts(["a", "a b c d e"])


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_cls_at_native_size_is_encode_image(variant: str, quick: bool, tmp_path: Path) -> None:
    vision = VARIANTS[variant]
    if quick and "act_kwargs" in vision:
        pytest.skip("QuickGELU takes no options")
    encoder = small(tmp_path, vision, quick_gelu=quick)
    pixels = noise(3, 32)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    images = (images - torch.tensor(encoder.mean).view(3, 1, 1)) / torch.tensor(encoder.std).view(
        3, 1, 1
    )
    with torch.no_grad():
        model: Any = encoder._model
        expected = model.encode_image(images, normalize=True).numpy()
    for outputs in (ALL[:1], ALL):
        found = encoder.encode_images(pixels, outputs)["clip", "cls"]
        np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [32, 48])
def test_batch_and_order_change_nothing(tiny: Encoder, size: int) -> None:
    pixels = noise(5, size)
    whole = tiny.encode_images(pixels, ALL)
    order = [3, 0, 4, 1, 2]
    shuffled = tiny.encode_images(pixels[order], ALL)
    for output in ALL:
        assert np.isfinite(whole[output]).all()
        np.testing.assert_allclose(np.linalg.norm(whole[output], axis=-1), 1, atol=1e-6)
        np.testing.assert_allclose(shuffled[output], whole[output][order], atol=1e-6, rtol=0)
    for i in range(5):
        alone = tiny.encode_images(pixels[i : i + 1], ALL)
        for output in ALL:
            np.testing.assert_allclose(alone[output][0], whole[output][i], atol=1e-6, rtol=0)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_fewer_outputs_are_the_same_numbers(depth: int, tmp_path: Path) -> None:
    encoder = Encoder.load(write_config(tmp_path), "seeded", gem=GemConfig(depth=depth))
    pixels = noise(2, 48)
    whole = encoder.encode_images(pixels, ALL)
    for number in range(1, 16):
        outputs = [output for bit, output in enumerate(ALL) if number >> bit & 1]
        part = encoder.encode_images(pixels, outputs)
        assert list(part) == outputs
        for output in outputs:
            np.testing.assert_allclose(part[output], whole[output], atol=1e-6, rtol=0)
            assert part[output].dtype == np.float32
            feature = Feature(48, *output)
            assert part[output].shape[1:] == encoder.shape(feature)


@pytest.mark.parametrize(("precision", "bound"), [("fp16", 0.005), ("bf16", 0.04)])
def test_half_precision_is_close(tmp_path: Path, precision: Any, bound: float) -> None:
    name = write_config(tmp_path)
    pixels = noise(2, 48)
    gem = GemConfig(depth=3)
    exact = Encoder.load(name, "seeded", gem=gem).encode_images(pixels, ALL)
    half = Encoder.load(name, "seeded", gem=gem, precision=precision).encode_images(pixels, ALL)
    for output in ALL:
        off = np.abs(half[output] - exact[output]).max()
        assert 0 < off < bound, (output, off)


def test_position_embedding_is_resampled(tiny: Encoder) -> None:
    native = tiny._visual.positional_embedding
    assert tiny.position((4, 4)) is native
    larger = tiny.position((7, 7))
    assert larger.shape == (50, 64)
    assert torch.equal(larger[0], native[0])
    plane = native[1:].reshape(4, 4, 64).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(
        plane, size=(7, 7), mode="bicubic", align_corners=False, antialias=True
    )
    torch.testing.assert_close(larger[1:], expected[0].permute(1, 2, 0).reshape(49, 64))


@pytest.mark.parametrize("size", [0, 4, 31, 44])
def test_sizes_off_the_patches_are_refused(tiny: Encoder, size: int) -> None:
    with pytest.raises(ParameterError, match=f"image size {size} is no multiple"):
        tiny.grid(size)


def test_other_arrays_are_refused(tiny: Encoder) -> None:
    for pixels in (
        noise(1, 32).astype(np.float32), noise(1, 32)[0], noise(1, 32)[..., :2],
    ):  # fmt: skip
        with pytest.raises(ParameterError, match="images must be"):
            tiny.encode_images(pixels, ALL)
    with pytest.raises(ParameterError, match="image size 36 is no multiple"):
        tiny.encode_images(noise(1, 48)[:, :36], ALL)


@pytest.mark.parametrize("shape", [(48, 24), (16, 56), (32, 40), (8, 8)])
def test_rectangles_are_open_clip_s_with_its_own_resampling(
    shape: tuple[int, int], tiny: Encoder, tmp_path: Path
) -> None:
    """A model that open_clip builds for rectangles, loaded with the same weights in its way.

    (It would leave the embedding as it is where a rectangle has as many patches as the square.)
    """
    import open_clip
    from open_clip.model import resize_pos_embed

    height, width = shape
    with as_local_dir(Path(write_config(tmp_path, {"image_size": list(shape)}))) as name:
        model: Any = open_clip.create_model(name, load_weights=False).eval()
    state = {k: v.clone() for k, v in tiny._model.state_dict().items()}
    resize_pos_embed(state, model)
    model.load_state_dict(state)
    model.visual.output_tokens = True
    pixels = np.random.default_rng(1).integers(0, 256, (2, height, width, 3), np.uint8)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (tiny.mean, tiny.std))
    with torch.no_grad():
        cls, patches = model.visual((images - mean) / std)
        expected = [
            torch.nn.functional.normalize(x, dim=-1) for x in (cls, patches @ model.visual.proj)
        ]
    found = tiny.encode_images(pixels, ALL)
    np.testing.assert_allclose(found["clip", "cls"], expected[0], atol=1e-6, rtol=0)
    np.testing.assert_allclose(found["clip", "patch"], expected[1], atol=1e-6, rtol=0)
    assert found["gem", "patch"].shape == (2, height * width // 64, 16)
    assert np.isfinite(found["gem", "patch"]).all()


def test_only_a_rectangle_has_another_address(tiny: Encoder) -> None:
    feature = Feature(32, "gem", "patch")
    plain = tiny.describe(feature)
    assert "grid" not in plain
    for square in (None, AspectRatio(7, 7), AspectRatio(101, 100)):
        assert tiny.describe(feature, square) == plain
        assert tiny.shape(feature, square) == (16, 16)
        assert tiny.pixels(feature, square) == (32, 32)
    wide, tall = AspectRatio(2, 1), AspectRatio(1, 2)
    assert tiny.describe(feature, wide)["grid"] == [3, 6]
    assert tiny.describe(feature, wide) == tiny.describe(feature, AspectRatio(204, 100))
    assert tiny.describe(feature, wide) != tiny.describe(feature, tall)
    assert tiny.pixels(feature, wide) == (24, 48)
    assert tiny.shape(feature, wide) == tiny.shape(feature, tall) == (18, 16)
    cls = Feature(32, "clip", "cls")  # always of a squashed square
    assert tiny.describe(cls, wide) == tiny.describe(cls)
    assert tiny.pixels(cls, wide) == (32, 32)
    assert tiny.shape(cls, wide) == (16,)
    with pytest.raises(ParameterError, match="no multiple"):
        tiny.pixels(Feature(31, "gem", "patch"), wide)


# ---- what is refused, in one line


def refused(name: str, pretrained: str | Path, words: str, **options: Any) -> None:
    with pytest.raises(FadeError, match=words) as caught:
        Encoder.load(name, str(pretrained), **options)
    assert isinstance(caught.value, (ModelError, ParameterError))
    assert "\n" not in str(caught.value)


def test_unknown_name_gets_close_matches() -> None:
    refused("ViT-B-16-plu-240", "seeded", "did you mean ViT-B-16-plus-240")


@pytest.mark.parametrize(
    ("vision", "words"),
    [
        ({"attentional_pool": True, "attn_pooler_heads": 2}, "pools by attention"),
        ({"pool_type": "avg"}, "pools by 'avg'"),
        ({"final_ln_after_pool": True}, "after pooling"),
        ({"qk_norm": True}, "plain residual attention"),
        ({"layers": [1, 1, 1, 1], "width": 8, "head_width": None}, "ModifiedResNet"),
        ({"image_size": [32, 48]}, "not square"),
        ({"width": "64"}, "cannot build"),
        ({"no_such_option": 1}, "no_such_option"),
    ],
)
def test_other_towers_are_refused(vision: dict[str, Any], words: str, tmp_path: Path) -> None:
    if vision.get("head_width", 1) is None:
        vision = {**vision, "head_width": 8}
    name = write_config(tmp_path, vision)
    refused(name, "seeded", words)


def test_timm_tower_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    vision = {"timm_model_name": "resnet10t", "timm_pool": "avg", "timm_proj": "linear"}
    name = write_config(tmp_path, vision)
    refused(name, "seeded", "no plain CLIP ViT")


@pytest.mark.parametrize("depth", [1, 5])
def test_gem_depth(depth: int, tmp_path: Path) -> None:
    refused(
        write_config(tmp_path), "seeded", "model.gem.depth.*choose 2 to 4", gem=GemConfig(depth)
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not a valid JSON"),
        ("[]", "no JSON object"),
        ("{}", "lacks embed_dim, text_cfg, vision_cfg"),
        ('{"model_cfg": 3}', "lacks embed_dim"),
        ('{"embed_dim": 8, "vision_cfg": 3, "text_cfg": {}}', "cannot build"),
    ],
)
def test_broken_config(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(content)
    refused(str(tmp_path / "m.json"), "seeded", words)


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    for name in ("m.json", "w.safetensors"):
        os.mkfifo(tmp_path / name)
    refused(str(tmp_path / "m.json"), "seeded", "no config file at")
    refused(write_config(tmp_path), tmp_path / "w.safetensors", "no file here and no tag")


def test_missing_files(tmp_path: Path) -> None:
    refused(str(tmp_path / "none.json"), "seeded", "no config file at")
    refused(write_config(tmp_path), tmp_path / "none.pt", "no file here and no tag")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    encoder = small(tmp_path_factory.mktemp("state"))
    return {name: value.clone() for name, value in encoder._model.state_dict().items()}


def test_forms_of_checkpoints(state: dict[str, Any], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    torch.save(state, tmp_path / "plain.pt")
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}},
        tmp_path / "training.pt",
    )
    save_file(state, str(tmp_path / "tensors.safetensors"))
    name, gem = write_config(tmp_path), GemConfig(depth=3)
    seeded = Encoder.load(name, "seeded", gem=gem)
    for file in ("plain.pt", "training.pt", "tensors.safetensors"):
        loaded = Encoder.load(name, str(tmp_path / file), gem=gem)
        assert loaded.vision_digest == seeded.vision_digest
        assert loaded.text_digest == seeded.text_digest


def test_unusable_checkpoints(state: dict[str, Any], tmp_path: Path) -> None:
    name = write_config(tmp_path)
    torch.save(state, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    refused(name, tmp_path / "half.pt", "is cut short")
    (tmp_path / "empty.pt").write_bytes(b"")
    refused(name, tmp_path / "empty.pt", "is empty")
    (tmp_path / "half.safetensors").write_bytes(b"\x00" * 100)
    refused(name, tmp_path / "half.safetensors", "cannot be read as weights")
    torch.save([1, 2], tmp_path / "list.pt")
    refused(name, tmp_path / "list.pt", "cannot be read as weights")
    torch.save({k: v for k, v in state.items() if k != "visual.proj"}, tmp_path / "less.pt")
    refused(name, tmp_path / "less.pt", "does not fit model.name.*visual.proj")
    np.savez(tmp_path / "big.npz", a=np.zeros(2))
    refused(name, tmp_path / "big.npz", "big_vision")


@pytest.mark.parametrize("kind", ["int8", "bool", "complex64"])
@pytest.mark.parametrize("form", ["pt", "safetensors"])
def test_weights_that_are_no_floating_point_numbers(
    kind: str, form: str, state: dict[str, Any], tmp_path: Path
) -> None:
    """torch would copy them in without a word, and all numbers would be others."""
    from safetensors.torch import save_file

    changed = {**state, "visual.proj": state["visual.proj"].to(getattr(torch, kind))}
    file = tmp_path / f"w.{form}"
    if form == "pt":
        torch.save(changed, file)
    else:
        save_file(changed, str(file))
    refused(write_config(tmp_path), file, rf"visual\.proj in .*w\.{form} is {kind}")


def test_weights_of_half_precision_are_taken(state: dict[str, Any], tmp_path: Path) -> None:
    torch.save({name: value.half() for name, value in state.items()}, tmp_path / "half.pt")
    Encoder.load(write_config(tmp_path), str(tmp_path / "half.pt"), gem=GemConfig(depth=3))


def test_checkpoint_of_another_architecture(golden_checkpoint: Path, tmp_path: Path) -> None:
    refused(write_config(tmp_path), golden_checkpoint, "does not fit model.name")


class Malice:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    torch.save({"state_dict": Malice(mark)}, tmp_path / "zip.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Malice(mark)))
    for file in ("zip.pt", "raw.pt"):
        refused(write_config(tmp_path), tmp_path / file, "could run code")
        assert not mark.exists()
    pickle.loads((tmp_path / "raw.pt").read_bytes())  # noqa: S301
    assert mark.exists(), "the trap itself does not work"


def test_torchscript_says_what_to_do(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "jit.pt"))
    refused(write_config(tmp_path), tmp_path / "jit.pt", "TorchScript.*state_dict")


def test_tag_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise OSError("no route to host")

    monkeypatch.setattr("open_clip.factory.download_pretrained", fail)
    refused("ViT-S-32-alt", "nowhere", "no file here and no tag")
    refused("ViT-B-32", "laion2b_s34b_b79k", "no route to host.*copy the file here")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of org/repo as a hub's cache has them, where no hub can be reached."""
    cache = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    files = cache / "models--org--repo" / "snapshots" / "c0ffee"
    files.mkdir(parents=True)
    (cache / "models--org--repo" / "refs").mkdir()
    (cache / "models--org--repo" / "refs" / "main").write_text("c0ffee")
    return files


def test_weights_of_a_hub(hub: Path, tmp_path: Path) -> None:
    name, gem = write_config(tmp_path), GemConfig(depth=3)
    refused(name, "hf-hub:org/repo", "hf-hub:org/repo could not be fetched.*copy the weights")
    seeded = Encoder.load(name, "seeded", gem=gem)
    state = seeded._model.state_dict()
    torch.save({k: v + 1 for k, v in state.items()}, hub / "open_clip_pytorch_model.bin")
    other = Encoder.load(name, "hf-hub:org/repo", gem=gem)
    assert other.vision_digest != seeded.vision_digest
    save(seeded, hub / "open_clip_model.safetensors")  # is preferred
    loaded = Encoder.load(name, "hf-hub:org/repo", gem=gem)
    assert loaded.vision_digest == seeded.vision_digest
    assert loaded.text_digest == seeded.text_digest


def test_a_model_of_a_hub(hub: Path, tmp_path: Path) -> None:
    gem = GemConfig(depth=3)
    refused("hf-hub:org/repo", "seeded", "could not be loaded.*without internet")
    config = hub / "open_clip_config.json"
    config.write_text(json.dumps({"model_cfg": SMALL, "preprocess_cfg": {}}))
    refused("hf-hub:org/repo", "", "could not be loaded")
    seeded = small(tmp_path)
    save(seeded, hub / "open_clip_model.safetensors")
    for pretrained in ("", "hf-hub:org/repo", "seeded"):
        loaded = Encoder.load("hf-hub:org/repo", pretrained, gem=gem)
        assert loaded.vision_digest == seeded.vision_digest
    broken = {**SMALL, "vision_cfg": {**SMALL["vision_cfg"], "width": "64"}}
    config.write_text(json.dumps({"model_cfg": broken, "preprocess_cfg": {}}))
    refused("hf-hub:org/repo", "seeded", "cannot build hf-hub:org/repo .TypeError")


def test_errors_of_programs_are_not_put_down_to_the_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise AttributeError("no such function")

    monkeypatch.setattr("open_clip.pretrained.download_pretrained_from_hf", fail)
    with pytest.raises(AttributeError, match="no such function"):
        Encoder.load(write_config(tmp_path), "hf-hub:org/repo")
    monkeypatch.setattr("open_clip.create_model", fail)
    with pytest.raises(AttributeError, match="no such function"):
        Encoder.load("ViT-B-32", "laion2b_s34b_b79k")


def test_tag_of_another_activation() -> None:
    """open_clip only warns, and the features come out wrong."""
    refused("ViT-B-32", "openai", "QuickGELU.*set model.name to ViT-B-32-quickgelu")
    refused("ViT-B-16", "dfn2b", "set model.name to ViT-B-16-quickgelu")


def test_local_folder_without_weights_is_not_random(tmp_path: Path) -> None:
    config = {"model_cfg": SMALL, "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    name = f"local-dir:{tmp_path}"
    refused(name, name, "could not be loaded")
    gem = GemConfig(depth=3)
    seeded = Encoder.load(name, "seeded", gem=gem)
    assert seeded.vision_digest == small(tmp_path).vision_digest
    torch.save(seeded._model.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    assert Encoder.load(name, name, gem=gem).vision_digest == seeded.vision_digest


# ---- what tells features apart


def test_digest_changes_with_any_weight(state: dict[str, Any], tmp_path: Path) -> None:
    name = write_config(tmp_path)

    def digests(change: str | None) -> tuple[str, str]:
        changed = dict(state)
        if change:
            changed[change] = state[change].clone()
            changed[change].view(-1)[0] += 1e-3
        torch.save(changed, tmp_path / "w.pt")
        encoder = Encoder.load(name, str(tmp_path / "w.pt"), gem=GemConfig(depth=3))
        return encoder.vision_digest, encoder.text_digest

    vision, text = digests(None)
    assert digests(None) == (vision, text)
    one = digests("visual.transformer.resblocks.1.mlp.c_fc.bias")
    assert one[0] != vision
    assert one[1] == text
    other = digests("text_projection")
    assert other[0] == vision
    assert other[1] != text


def test_description(tmp_path: Path) -> None:
    def described(gem: GemConfig, stream: Stream, **vision: Any) -> str:
        encoder = Encoder.load(write_config(tmp_path, vision), "seeded", gem=gem)
        return json.dumps(encoder.describe(Feature(32, stream, "patch")))

    base, other = GemConfig(depth=3), GemConfig(depth=2)
    assert described(base, "clip") == described(other, "clip")
    assert described(base, "clip") != described(base, "gem")
    gems = [base, other, GemConfig(3, 2), GemConfig(3, 1, 4.0)]
    assert len({described(gem, "gem") for gem in gems}) == 4
    variants = [VARIANTS[v] for v in ("plain", "narrow heads", "other epsilon", "tanh")]
    assert len({described(base, "clip", **vision) for vision in variants}) == 4


def test_text_digest_knows_the_text_tower(tmp_path: Path) -> None:
    """Equal weights with another activation or other heads give other text embeddings."""
    text = {**SMALL["text_cfg"], "heads": 2}
    made = [small(tmp_path), small(tmp_path, quick_gelu=True), small(tmp_path, text_cfg=text)]
    assert len({encoder.text_digest for encoder in made}) == 3
    assert made[0].text_digest == small(tmp_path).text_digest


def test_seeded_weights_depend_on_names_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = small(tmp_path)
    torch.manual_seed(2)
    assert small(tmp_path).vision_digest == first.vision_digest
    before = torch.random.get_rng_state()
    fill_seeded(first._model)
    assert torch.equal(torch.random.get_rng_state(), before)
