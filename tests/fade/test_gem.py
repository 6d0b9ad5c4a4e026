"""The gem stream against METHOD's formula with every attention matrix written out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fade.encoder import Encoder
from fade.errors import ParameterError
from fade.gem import GemConfig, inverse_temperature, self_self_attention

torch = pytest.importorskip("torch")

LAYERS, WIDTH, HEAD = 3, 48, 16
CONFIG: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {
        "image_size": 32, "layers": LAYERS, "width": WIDTH, "head_width": HEAD, "patch_size": 8,
        "ls_init_value": 0.4,
    },
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}  # fmt: skip


def unit(x: Any) -> Any:
    return x / x.norm(dim=-1, keepdim=True)


def plain_gem(encoder: Encoder, image: np.ndarray, gem: GemConfig) -> np.ndarray:
    """One image, one head, one projection at a time, in float64; the clip stream by open_clip."""
    model: Any = encoder._model
    visual = model.visual
    pixels = (torch.from_numpy(image).double() / 255 - torch.tensor(encoder.mean)) / torch.tensor(
        encoder.std
    )
    clip = visual._embeds(pixels.permute(2, 0, 1)[None].float())
    out: Any = None
    for index, block in enumerate(visual.transformer.resblocks):
        if index >= LAYERS - (gem.depth - 1):
            out = clip.double()[0] if out is None else out
            x = block.ln_1(clip)[0].double()
            t = gem.temperature or float(x.norm(dim=-1).mean()) * HEAD**-0.5
            weight = block.attn.in_proj_weight.double()
            bias = block.attn.in_proj_bias.double()
            q, k, v = (x @ weight.T + bias).split(WIDTH, dim=1)
            heads = []
            for h in range(WIDTH // HEAD):
                columns = slice(h * HEAD, (h + 1) * HEAD)
                total = 0
                for p in (v[:, columns], k[:, columns], q[:, columns]):
                    p = unit(p)
                    for _ in range(gem.iterations):
                        p = unit(torch.softmax(t * p @ p.T, dim=-1) @ p)
                    total = total + torch.softmax(t * p @ p.T, dim=-1) @ v[:, columns]
                heads.append(total / 3)
            joined = torch.cat(heads, dim=1)
            update = joined @ block.attn.out_proj.weight.double().T
            update = update + block.attn.out_proj.bias.double()
            out = out + update * block.ls_1.gamma.double()
        clip = block(clip)
    return unit(visual.ln_post(out.float()) @ visual.proj).numpy()


@pytest.mark.parametrize("temperature", [None, 0.5, 12.0])
@pytest.mark.parametrize("iterations", [0, 1, 2])
@pytest.mark.parametrize("depth", range(2, LAYERS + 2))
def test_stream_is_the_formula(
    depth: int, iterations: int, temperature: float | None, tmp_path: Path
) -> None:
    (tmp_path / "m.json").write_text(json.dumps(CONFIG))
    gem = GemConfig(depth, iterations, temperature)
    encoder = Encoder.load(str(tmp_path / "m.json"), "seeded", gem=gem)
    images = np.random.default_rng(3).integers(0, 256, (2, 32, 32, 3), np.uint8)
    images[1] //= 4  # another norm, hence another temperature
    found = encoder.encode_images(images, [("gem", "cls"), ("gem", "patch")])
    for i in range(2):
        with torch.no_grad():
            expected = plain_gem(encoder, images[i], gem)
        np.testing.assert_allclose(found["gem", "cls"][i], expected[0], atol=2e-6, rtol=0)
        np.testing.assert_allclose(found["gem", "patch"][i], expected[1:], atol=2e-6, rtol=0)


def test_temperature_is_of_each_image() -> None:
    tokens = torch.tensor([[[3.0, 4.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 2.0]]])
    found = inverse_temperature(tokens, 4)
    assert found.shape == (2, 1, 1, 1)
    assert found.flatten().tolist() == [1.5, 0.5]


def test_attention_does_not_mix_images() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, 2, 5, 4, generator=generator) for _ in range(3))
    factor = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1)
    whole = self_self_attention(q, k, v, factor, 1)
    for i in range(3):
        one = slice(i, i + 1)
        alone = self_self_attention(q[one], k[one], v[one], factor[one], 1)
        torch.testing.assert_close(alone, whole[one])


@pytest.mark.parametrize("rows", [7, 256, 600])
@pytest.mark.parametrize("iterations", [0, 1, 2])
def test_panels_are_the_whole(rows: int, iterations: int) -> None:
    """float32 on CPU goes its own way: by panels of rows, over the upper half, head by head."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 5, rows, 16, generator=generator) for _ in range(3))
    half_q, half_k, half_v = (x.bfloat16() for x in (q, k, v))
    for factors in ([3.0, 5.0], [3.0, 90.0]):  # a factor above the largest goes without panels
        factor = torch.tensor(factors).view(2, 1, 1, 1)
        exact = self_self_attention(q, k, v, factor, iterations)
        found = self_self_attention(half_q, half_k, half_v, factor, iterations)
        assert found.dtype == torch.bfloat16
        assert float((found - exact).abs().max()) < 0.03 * float(v.abs().max())


@pytest.mark.parametrize(
    ("dtype", "off"), [("float32", 1e-5), ("bfloat16", 0.014), ("float16", 1.8e-3)]
)
@pytest.mark.parametrize("iterations", [0, 1, 2])
def test_the_way_of_a_gpu_is_the_formula(
    iterations: int, dtype: str, off: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch's fused attention, which other devices take at any temperature, on the CPU."""
    monkeypatch.setattr("fade.gem.MAX_FACTOR", 0.0)
    made = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(3, 2, 50, 16, generator=made).to(getattr(torch, dtype)) for _ in "qkv")
    factor = torch.tensor([1.0, 4.0, 9.0]).view(3, 1, 1, 1)
    found = self_self_attention(q, k, v, factor, iterations)
    assert found.dtype == v.dtype
    expected = torch.zeros(v.shape, dtype=torch.float64)
    for p in (x.double() for x in (v, k, q)):
        p = unit(p)
        for _ in range(iterations):
            p = unit(torch.softmax(factor * p @ p.mT, dim=-1) @ p)
        expected += torch.softmax(factor * p @ p.mT, dim=-1) @ v.double() / 3
    assert float((found - expected).abs().max()) < off


@pytest.mark.parametrize("factor", [45.0, 60.0])
def test_high_temperatures_leave_no_token_out(factor: float) -> None:
    """The squares of sums of exp(t), over 1,370 tokens that are all alike, are no longer floats."""
    tokens = torch.ones(1, 1, 1370, 4)
    found = self_self_attention(tokens, tokens, tokens, torch.full((1, 1, 1, 1), factor), 1)
    # a sum of so many numbers is off by as many times the precision of float32 at most
    assert torch.allclose(found, tokens, rtol=1370 * torch.finfo(torch.float32).eps, atol=0)
    far = torch.eye(4).reshape(1, 1, 4, 4)
    found = self_self_attention(far, far, far, torch.full((1, 1, 1, 1), factor), 2)
    assert torch.allclose(found, far)


def test_only_temperatures_that_were_wrong_have_another_address() -> None:
    assert GemConfig().describe() == [7, 1, None]
    assert GemConfig(temperature=44.0).describe() == [7, 1, 44.0]
    assert GemConfig(temperature=45.0).describe() == [7, 1, 45.0, "scaled"]


def test_depth_bounds() -> None:
    assert GemConfig(depth=7).first_block(12) == 6
    assert GemConfig(depth=13).first_block(12) == 0
    assert GemConfig(depth=2).first_block(12) == 11
    for depth in (1, 14):
        with pytest.raises(ParameterError, match="choose 2 to 13"):
            GemConfig(depth=depth).first_block(12)
