"""The loop around the encoder: what is stored depends on no number of writers."""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.pipeline import _params
from cache.layout import SegmentTask, Space, content_key
from cache.store import Store
from fade.errors import StoreError
from fade.preprocess import resampling
from fade.transforms import Transform
from fade.types import Feature
from pipeline.dataset.loader import ImageSource
from pipeline.features import extraction
from pipeline.features.extraction import Encoding, Extraction, SegmentRows
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


@pytest.mark.parametrize("writers", [{}, {"cpu": 1}, {"cpu": 3}], ids=str)
def test_all_segments_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writers: dict[str, int]
) -> None:
    monkeypatch.setattr(extraction, "WRITERS", writers)
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
    held: list[weakref.ref[np.ndarray]] = []
    write, encode = store.write, work._encode

    def watched(space: Space, keys: Sequence[str], rows: np.ndarray) -> None:
        held.append(weakref.ref(rows if rows.base is None else rows.base))
        write(space, keys, rows)

    def encoded(task: SegmentTask, *others: Any) -> SegmentRows:
        until = time.monotonic() + 20
        while any(one() is not None for one in held):
            assert time.monotonic() < until, "a segment is held after it was written"
            time.sleep(0.01)
        return encode(task, *others)

    monkeypatch.setattr(store, "write", watched)
    monkeypatch.setattr(work, "_encode", encoded)
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
    rows = SegmentRows(2)
    rows.keys += ["a", "b"]
    rows.add({feature: space.fingerprint}, lambda: {feature: np.zeros((1, *space.shape))})
    with pytest.raises(StoreError, match=r"rows of shape \(1, .* for 2 keys"):
        work._write(rows)


def test_a_batch_is_let_go_when_its_rows_are_in_place() -> None:
    feature, batches, begun = FEATURES[0], deque[weakref.ref[np.ndarray]](), []

    def encoding(value: int, count: int) -> Encoding:
        def found() -> dict[Feature, np.ndarray]:
            assert all(batch() is None for batch in batches)
            batch = np.full((count, 3), value, np.float16)
            batches.append(weakref.ref(batch))
            begun.append(value)
            return {feature: batch}

        return found

    rows = SegmentRows(7)
    rows.add({feature: "space"}, encoding(1, 3))
    rows.add({feature: "space"}, encoding(2, 3))
    assert begun == []
    assert rows.collect()["space"][:, 0].tolist() == [1, 1, 1, 2, 2, 2]
    assert batches[-1]() is None
    rows.add({feature: "space"}, encoding(3, 1))
    assert rows.collect()["space"][:, 0].tolist() == [1, 1, 1, 2, 2, 2, 3]
    assert begun == [1, 2, 3]
    whole = SegmentRows(3)
    whole.add({feature: "space"}, encoding(4, 3))
    assert whole.collect()["space"].base is batches[-1](), (
        "a batch that is the segment is not copied"
    )
