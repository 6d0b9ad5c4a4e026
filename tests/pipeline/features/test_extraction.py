"""The loop around the encoder: what is stored depends on no number of writers."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.pipeline import _params
from cache.layout import SegmentTask, content_key
from cache.store import Store
from fade.errors import StoreError
from fade.preprocess import resampling
from fade.transforms import Transform
from fade.types import Feature
from pipeline.dataset.loader import ImageSource
from pipeline.features import extraction
from pipeline.features.extraction import Encoding, Extraction, Fingerprints
from pipeline.features.models import feature_space
from tests.fade.test_encoder import noise, small

FEATURES = [Feature(32, "clip", "cls"), Feature(32, "gem", "patch"), Feature(64, "clip", "patch")]


@pytest.mark.parametrize(
    ("library", "name"),
    [("PIL.Image.Image.resize", "resampling"), ("cv2.__version__", "rotated_by")],
)
def test_libraries_that_give_other_pixels_give_another_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, name: str
) -> None:
    encoder, params = small(tmp_path), _params(tmp_path, batch=2, workers=2)
    turned = Feature(64, "clip", "patch", transform=Transform("rotate", 45))
    ours = feature_space(encoder, turned, params)
    assert name not in ours.description
    shrunk = Image.Image.resize

    def coarse(image: Image.Image, size: tuple[int, int], resample: int) -> Image.Image:
        return shrunk(image, size, Image.Resampling.NEAREST)

    resampling.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(library, coarse if name == "resampling" else "4.13.0")
        theirs = feature_space(encoder, turned, params)
    resampling.cache_clear()
    assert theirs.description.keys() - ours.description.keys() == {name}
    assert theirs.fingerprint != ours.fingerprint


@pytest.mark.parametrize("writers", [1, 3])
def test_all_segments_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writers: int
) -> None:
    monkeypatch.setattr(extraction, "WRITERS", {"cpu": writers})
    encoder, params = small(tmp_path), _params(tmp_path, batch=2, workers=2)
    sources = {}
    for number, pixels in enumerate(noise(11, 64)):
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(path)
        sources[content_key(path.read_bytes())] = ImageSource(
            content_key(path.read_bytes()), path.name
        )
    features = {
        space.fingerprint: (feature, space)
        for feature in FEATURES
        for space in [feature_space(encoder, feature, params)]
    }
    store, keys = Store(tmp_path / "store"), list(sources)
    for _, space in features.values():
        store.register(space)
    tasks = [SegmentTask(tuple(keys[i : i + 3]), tuple(features)) for i in range(0, len(keys), 3)]
    work = Extraction(encoder, store, features, sources, params)
    work.run(tasks, len(keys))
    assert not work.problems
    for feature, space in features.values():
        index = store.index(space)
        found = store.read(space, [index[key] for key in keys])
        resized = [
            np.asarray(Image.open(tmp_path / sources[key].path).resize((feature.size,) * 2, 3))
            for key in keys
        ]
        output = (feature.stream, feature.token)
        expected = encoder.encode_images(np.stack(resized), [output])[output]
        np.testing.assert_allclose(found.astype(np.float32), expected, atol=1e-3)


def test_fewer_rows_than_images_are_refused(tmp_path: Path) -> None:
    encoder, params = small(tmp_path), _params(tmp_path, batch=2, workers=2)
    feature = FEATURES[0]
    space = feature_space(encoder, feature, params)
    work = Extraction(
        encoder, Store(tmp_path / "store"), {space.fingerprint: (feature, space)}, {}, params
    )
    wanted: Fingerprints = {feature: space.fingerprint}
    one: deque[tuple[Fingerprints, Encoding]] = deque()
    one.append((wanted, lambda: {feature: np.zeros((1, *space.shape))}))
    with pytest.raises(StoreError, match=r"rows of shape \(1, .* for 2 keys"):
        work._write(["a", "b"], one)
