"""Whatever stands in a file, reading it ends well or in one line; the store never gives a wrong row."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import shutil
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from PIL import Image

from cache.layout import Space, fingerprint
from cache.store import DamagedSegmentError, Store
from fade.datasets import read_dataset
from fade.errors import FadeError
from fade.faiss_index import build_index, read_index, write_index
from fade.preprocess import decode_mask, decode_rgb, image_size
from fade.prompts import load_ensemble
from fade.text import fit, load, read_array, save
from pipeline.artefacts.catalogue import TEST
from pipeline.artefacts.receipts import read_receipt, write_receipt
from pipeline.artefacts.tables import read_csv as read_result
from pipeline.artefacts.tables import read_json, read_table, write_csv
from pipeline.config.load import load_params
from pipeline.config.originals import TEMPLATE
from pipeline.evaluation.thresholds import (
    Threshold,
    parse_thresholds,
    read_thresholds,
    write_thresholds,
)
from pipeline.inference.bundle import Bundle
from pipeline.report.summary import read_summary
from pipeline.stage import one_line
from tests.cache.segments import plan_segments

fuzz = settings(
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def ends_well(read: Callable[[], Any]) -> None:
    """It gives something, or one line for people; anything else fails the test."""
    try:
        read()
    except FadeError as error:
        line = one_line(error)
        assert line
        assert len(line) < 4200
        assert "\n" not in line


# Texts

CSV_PARTS = st.sampled_from([
    "image", "category", "split", "label", "mask", ",", ",", ",", "\n", "\n", "\r", "\r\n", '"', ";",
    "\t", "train", "test", "good", "1", "0.png", "t/0.png", "../0.png", "/0.png", "a", "..", "mean",
    "", " ", "\0", "é", "\u202e", "\ufeff", "0.png,a,test,good,\n", "image,category,split,label\n",
    "object,split,label,image,mask\n", "x" * 300,
])  # fmt: skip
YAML_PARTS = st.sampled_from([
    "dataset:", "model:", "vision:", "shots:", "fusion: ", "\n", "\n  ", "\n- ", ": ", "- ", "[", "]",
    "{", "}", ",", "&a ", "*a", "!!python/name:os.system ", "!!binary ", "<<: ", "? ", "|\n", ">\n",
    "'", '"', "#", "%", "@", "\t", "\0", "no", "2001-01-01", "1e9", ".nan", "0x", "1:30", "~", "é",
    "---\n", "...\n", "9" * 5000,
])  # fmt: skip
JSON_PARTS = st.sampled_from([
    '{"normal": {"prompts": ["a"]}, "abnormal": {"prompts": ["b"]}}', '"normal"', '"abnormal"',
    '"prompts"', ":", ",", "[", "]", "{", "}", '"a"', '"{classname}"', '"{x}"', "1", "NaN", "null",
    "\\ud800", '"', "\\", "\0", "9" * 5000, '{"schema": 1}', '"thresholds"',
])  # fmt: skip


THRESHOLD = Threshold("a", 1, 0, 0.5, 7, "training", 3, "")


def texts(parts: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    joined = st.lists(parts, max_size=25).map(lambda found: "".join(found).encode())
    return joined | st.binary(max_size=60) | st.tuples(joined, st.binary(max_size=9)).map(b"".join)


@fuzz
@given(data=texts(CSV_PARTS))
def test_tables_of_images(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t").mkdir(exist_ok=True)
    for name in ("0.png", "t/0.png"):
        (tmp_path / name).touch()
    (tmp_path / "manifest.csv").write_bytes(data)
    ends_well(lambda: read_dataset("csv", tmp_path))
    (tmp_path / "split_csv").mkdir(exist_ok=True)
    (tmp_path / "split_csv/1cls.csv").write_bytes(data)
    ends_well(lambda: read_dataset("visa", tmp_path))


@fuzz
@given(data=texts(YAML_PARTS), place=st.integers(0, 120))
def test_parameters(tmp_path: Path, data: bytes, place: int) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(data)
    ends_well(lambda: load_params(path))
    lines = TEMPLATE.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:place], data, *lines[place:]]))
    ends_well(lambda: load_params(path))


@fuzz
@given(data=texts(JSON_PARTS))
def test_prompts_and_json(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(data)
    ends_well(lambda: load_ensemble("x.json", tmp_path))
    ends_well(lambda: read_json(path))
    ends_well(lambda: read_thresholds(path))
    ends_well(lambda: read_result(path))
    ends_well(lambda: read_summary(path))


JSON_VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
    | st.lists(st.integers(), max_size=2) | st.sampled_from(["none", 255, 1e308, 10**400])
)  # fmt: skip


@fuzz
@given(leaves=st.dictionaries(st.sampled_from(list(asdict(THRESHOLD))), JSON_VALUES))
def test_thresholds(leaves: dict[str, Any]) -> None:
    """What is taken can be compared with any score and level."""
    content = json.loads(json.dumps({"thresholds": [asdict(THRESHOLD) | leaves]}))

    def read() -> None:
        (found,) = parse_thresholds(content, "x")
        assert found.image is None or f"{float(found.image):.4f}"
        assert found.image is None or abs(found.image) < np.inf
        assert found.pixel in (None, *range(256))
        assert found.images >= 0

    ends_well(read)


# Files of bytes, damaged

Damage = Callable[[bytes], bytes]


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    """Bytes changed, removed, put in or cut off, most of them near the ends, where headers are."""
    edits = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["set", "insert", "delete", "cut"]),
                st.integers(-120, 120),
                st.binary(min_size=1, max_size=6),
            ),
            min_size=1,
            max_size=4,
        )
    )

    def damage(whole: bytes) -> bytes:
        data = bytearray(whole)
        for what, place, new in edits:
            at = place % (len(data) or 1)
            if what == "set":
                data[at : at + len(new)] = new
            elif what == "insert":
                data[at:at] = new
            elif what == "delete":
                del data[at : at + len(new)]
            else:
                del data[at:]
        return bytes(data)

    return damage


def pictures() -> Iterator[bytes]:
    noise = np.random.default_rng(0).integers(0, 255, (9, 7, 3), np.uint8)
    for form in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"):
        data = io.BytesIO()
        Image.fromarray(noise).save(data, form)
        yield data.getvalue()


PICTURES = list(pictures())


@pytest.mark.filterwarnings("ignore")
@fuzz
@given(damage=damages(), rotate=st.booleans())
def test_images(damage: Damage, rotate: bool) -> None:
    for whole in PICTURES:
        data = damage(whole)
        for read in (decode_rgb, decode_mask, image_size):
            ends_well(lambda: read(data, "x", exif_rotation=rotate))  # type: ignore[operator] # noqa: B023


@fuzz
@given(damage=damages())
def test_arrays(damage: Damage) -> None:
    """An array, or why there is none; never more memory than bytes."""
    data = io.BytesIO()
    np.save(data, np.arange(12, dtype=np.float32).reshape(3, 4))
    broken = damage(data.getvalue())
    with contextlib.suppress(ValueError):
        assert read_array(broken).nbytes <= len(broken)


SPACE = Space("toy", {"model": "m"}, (4,), "float32")


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of each kind that stages and commands read."""
    folder = tmp_path_factory.mktemp("artefacts")
    store = Store(folder / "store")
    store.register(SPACE)
    store.write(SPACE, ["a", "b"], np.ones((2, 4), np.float32))
    here = Path.cwd()
    os.chdir(folder)
    try:
        write_receipt(TEST, store, {SPACE: ["a", "b"]}, {"x": {"y": "z"}})
    finally:
        os.chdir(here)
    write_csv(pd.DataFrame({"category": ["a", "mean"], "shots": [1, 1]}), folder / "m.csv")
    write_csv(
        pd.DataFrame({"category": ["a"], "shots": [1], "full_image_auroc_mean": [0.5]}),
        folder / "summary.csv",
    )
    write_thresholds([THRESHOLD], {}, folder / "t.json")
    vectors = np.eye(6, 4, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)
    save(fit("average", vectors[:4], np.array([0, 1, 0, 1])), folder / "c.npz")
    write_index(build_index(vectors), folder / "b.faiss")
    with zipfile.ZipFile(folder / "x.fade", "w") as archive:
        archive.writestr("bundle.json", json.dumps({"kind": "fade-bundle", "schema": 1}))
    return folder


@fuzz
@given(damage=damages())
def test_artefacts(artefacts: Path, damage: Damage) -> None:
    readers: dict[str, Callable[[Path], Any]] = {
        str(TEST.path): read_table,
        "m.csv": read_result,
        "summary.csv": read_summary,
        "t.json": read_thresholds,
        "c.npz": load,
        "b.faiss": read_index,
        "x.fade": Bundle,
    }
    with tempfile.TemporaryDirectory() as place:
        for name, read in readers.items():
            broken = Path(place) / name
            broken.parent.mkdir(parents=True, exist_ok=True)
            broken.write_bytes(damage((artefacts / name).read_bytes()))
            ends_well(lambda: read(broken))  # noqa: B023
        ends_well(lambda: read_receipt(TEST, Path(place)))


# The store


def row_of(key: str) -> np.ndarray:
    seed = int(fingerprint(key)[:12], 16)
    return np.random.default_rng(seed).normal(size=SPACE.shape).astype(SPACE.dtype)


KEYS = st.sampled_from([f"k{number}" for number in range(12)])


class StoreMachine(RuleBasedStateMachine):
    """Writers, kills, half copies, damage and resumed runs in any order."""

    @initialize()
    def create(self) -> None:
        # names by number: the same steps must meet the same files
        self.patch = pytest.MonkeyPatch()
        numbers = itertools.count()
        self.patch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=next(numbers)))
        self.root = Path(tempfile.mkdtemp())
        self.store = Store(self.root)
        self.store.register(SPACE)

    def teardown(self) -> None:
        if hasattr(self, "root"):
            self.patch.undo()
            shutil.rmtree(self.root)

    def segments(self) -> list[Path]:
        return sorted((self.root / self.store.folder(SPACE) / "segments").glob("*"))

    @rule(keys=st.lists(KEYS, max_size=5))
    def write(self, keys: list[str]) -> None:
        rows = np.stack([row_of(key) for key in keys]) if keys else np.empty((0, 4), np.float32)
        self.store.write(SPACE, keys, rows)

    @rule(keys=st.lists(KEYS, min_size=1, max_size=5), share=st.floats(0, 1))
    def killed_while_it_writes(self, keys: list[str], share: float) -> None:
        (segment,) = {
            p.segment for p in self.store.write(SPACE, keys, np.stack([*map(row_of, keys)]))
        }
        entry = self.root / self.store.folder(SPACE) / "index" / f"{segment}.json"
        text = entry.read_bytes()
        entry.write_bytes(text[: int(share * (len(text) - 1))])

    @rule(number=st.integers(0, 30))
    def lose_a_segment(self, number: int) -> None:
        if found := self.segments():
            shutil.rmtree(found[number % len(found)])

    @rule(number=st.integers(0, 99), damage=damages())
    def damage_a_file(self, number: int, damage: Damage) -> None:
        files = [
            f for f in sorted((self.root / self.store.folder(SPACE)).rglob("*")) if f.is_file()
        ]
        file = files[number % len(files)]
        file.write_bytes(damage(file.read_bytes()))

    @rule()
    def reopen(self) -> None:
        self.store = Store(self.root)
        self.store.register(SPACE)

    @rule(keys=st.lists(KEYS, min_size=1, max_size=8))
    def run_until_it_is_done(self, keys: list[str]) -> None:
        """As stages do: plan, write what lacks, read; start over when a row proves damaged."""
        address = SPACE.fingerprint
        for _ in range(40):
            present = {address: self.store.repair(SPACE)}
            plan = plan_segments({key: [address] for key in keys}, present, {address: 16}, 48, 2)
            for task in plan:
                self.store.write(SPACE, task.keys, np.stack([row_of(key) for key in task.keys]))
            index = self.store.index(SPACE)
            try:
                with self.store.repairing():
                    rows = self.store.read(SPACE, [index[key] for key in keys])
            except DamagedSegmentError:
                continue
            assert rows.tobytes() == np.stack([row_of(key) for key in keys]).tobytes()
            return
        raise AssertionError("a damaged store was never repaired")

    @invariant()
    def no_row_is_wrong(self) -> None:
        if not hasattr(self, "store"):
            return
        for key, place in self.store.index(SPACE).items():
            try:
                row = self.store.read(SPACE, [place])[0]
            except DamagedSegmentError:
                continue
            assert row.tobytes() == row_of(key).tobytes()


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=25, stateful_step_count=15)
