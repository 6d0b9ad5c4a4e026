"""Networks of timm and mutual scoring on a device: ours, timm's, compiled, and as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np

from benchmarks.machine import seconds
from benchmarks.networks import CNN, LEVELS, operations
from benchmarks.table import Row
from fade.encoders.timm_cnn import TimmCNN
from fade.encoders.timm_vit import TimmViT
from fade.encoders.tower import Tower
from fade.rules.mutual import match

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AGREE = 0.06
"""Largest difference of features in bf16, beside their largest value."""


def waiting(run: Callable[[], Any], device: str) -> Callable[[], Any]:
    """The same, until the device is done."""
    if device == "cpu":
        return run
    import torch

    def whole() -> Any:
        output = run()
        torch.cuda.synchronize()
        return output

    return whole


def ways(network: Any, pixels: Any) -> dict[str, Callable[[], Callable[[], Any]]]:
    """What makes ways to run a network of timm on pixels (B, 3, H, W), by name; none reads a result.

    The graph and the compiler, which takes longest, are tried on a GPU alone.
    """
    import torch

    device, last = pixels.device.type, len(network.blocks) - 1

    def forward(images: Any) -> Any:
        return network.forward_intermediates(
            images, indices=[last], norm=True, intermediates_only=True
        )[0]

    found: dict[str, Callable[[], Callable[[], Any]]] = {"timm": lambda: partial(forward, pixels)}
    if device == "cuda":
        found["a CUDA graph"] = lambda: _graph(forward, pixels)
        found["torch.compile"] = lambda: partial(torch.compile(forward, dynamic=False), pixels)
    return found


def _graph(forward: Callable[[Any], Any], pixels: Any) -> Callable[[], Any]:
    import torch

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            forward(pixels)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = forward(pixels)

    def replay() -> Any:
        graph.replay()
        return output

    return replay


def network_rows(
    where: str, device: str, name: str, side: int, batch: int, rate: float, repeats: int = 5
) -> Iterator[Row]:
    """Our encoder of a transformer of timm in bf16 beside other ways to run it, each row as it is there.

    Args:
        where: the device in words.
        device: ``cuda`` or ``cpu``.
        name: of the network, made with seeded weights.
        side: of the images, in pixels.
        batch: images at a time.
        rate: multiply-adds x 2 a second of the device's bf16 product.
        repeats: of each way, after one that is not counted.

    Raises:
        RuntimeError: two ways do not agree.
    """
    import timm
    import torch

    torch.manual_seed(0)
    model: Any = timm.create_model(name, dynamic_img_size=True).eval()
    plain, exact = deepcopy(model).to(device).bfloat16(), _exact(TimmViT, model, name)
    encoder = TimmViT(model, name=name, mean=MEAN, std=STD, precision="bf16", device=device)
    images = _images(batch, side)
    last = encoder.output([-1], norm=True)
    yield _agreement(f"{where}: {name}", exact, encoder, images[:1], [last])
    ours = seconds(waiting(lambda: encoder.encode(images, [last])[last], device), repeats)
    expected = encoder.encode(images, [last])[last]
    limit = batch * operations(encoder, side) / ours / rate, "bf16 matmul"
    with torch.inference_mode():
        pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div_(255)
        mean, std = (torch.tensor(one, device=device).view(1, 3, 1, 1) for one in (MEAN, STD))
        pixels = pixels.sub_(mean).div_(std).bfloat16().contiguous()
        for way, made in ways(plain, pixels).items():
            run = made()
            taken = seconds(waiting(run, device), repeats)
            found = run().permute(0, 2, 3, 1).float().cpu().numpy().reshape(expected.shape)
            _agree(found, expected, f"{name} by {way}")
            yield Row(
                f"{where}: {name} at {side}, {batch} images, ours beside {way} alone", ours, taken,
                "-", True, limit,
            )  # fmt: skip


def _exact(kind: type[Tower], model: Any, name: str) -> Tower:
    """In float32 on the CPU."""
    return kind(deepcopy(model), name=name, mean=MEAN, std=STD)


def _images(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def _agree(found: np.ndarray, expected: np.ndarray, what: str) -> float:
    """The largest difference beside the largest value; RuntimeError if that is much."""
    off = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not off <= AGREE:
        raise RuntimeError(f"{what} is {off:.3g} off ours")
    return off


def _agreement(
    what: str, exact: Tower, other: Tower, images: np.ndarray, outputs: list[Any]
) -> Row:
    expected, found = exact.encode(images, outputs), other.encode(images, outputs)
    off = max(_agree(found[one], expected[one], what) for one in outputs)
    return Row(
        f"{what} in {other.precision}, off float32 on the CPU", off, None, f"{AGREE:g}", True,
        unit="of the largest value",
    )  # fmt: skip


def level_rows(where: str, device: str, side: int, batch: int, repeats: int) -> Iterator[Row]:
    """Two levels of a convolutional network of timm on a device, beside those on the CPU."""
    import timm
    import torch

    torch.manual_seed(0)
    model: Any = timm.create_model(CNN).eval()
    exact = _exact(TimmCNN, model, CNN)
    encoder = TimmCNN(model, name=CNN, mean=MEAN, std=STD, device=device)
    outputs, images = [encoder.output([level]) for level in LEVELS], _images(batch, side)
    yield _agreement(f"{where}: {CNN}", exact, encoder, images[:1], outputs)
    ours, on_cpu = (
        seconds(waiting(partial(one.encode, images, outputs), device), repeats)
        for one in (encoder, exact)
    )
    yield Row(
        f"{where}: {CNN} at {side}, {batch} images, beside the CPU", ours, on_cpu, "-", True
    )  # fmt: skip


def mutual_row(
    where: str, device: str, images: int, patches: int, width: int, repeats: int = 3
) -> Row:
    """Distances of all pairs of images on a device, beside the rule's on the CPU.

    Raises:
        RuntimeError: they differ.
    """
    import torch

    drawn = np.random.default_rng(0).standard_normal((images, patches, width), np.float32)
    drawn /= np.linalg.norm(drawn, axis=2, keepdims=True)
    pairs = [(one, other) for one in range(images) for other in range(one)]

    def on_cpu() -> list[tuple[np.ndarray, np.ndarray]]:
        return [match(drawn[one], drawn[other], "cosine") for one, other in pairs]

    def on_device() -> list[tuple[Any, Any]]:
        placed, found = torch.from_numpy(drawn).to(device), []
        for one, other in pairs:
            products = placed[one] @ placed[other].T
            found.append((1 - products.amax(1), 1 - products.amax(0)))
        return found

    with torch.inference_mode():
        taken = seconds(waiting(on_device, device), repeats)
        for ours, theirs in zip(on_cpu(), on_device(), strict=True):
            for mine, other in zip(ours, theirs, strict=True):
                if not np.allclose(mine, other.cpu().numpy(), atol=1e-4):
                    raise RuntimeError("distances on the device are others than on the CPU")
    return Row(f"{where}: mutual distances of {len(pairs)} pairs of {patches} patches, beside the CPU",
               taken, seconds(on_cpu, repeats), "-", True)  # fmt: skip
