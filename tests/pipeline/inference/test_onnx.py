"""Bundles that run without torch decide as the run does, or are not written."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement
from starlette.testclient import TestClient

from fade.errors import ModelError, ParameterError, StoreError
from fade.faiss_index import build_index
from fade.flat_vectors import FlatVectors
from fade.portable import check, clip_graph, layers
from fade.portable import session as sessions
from fade.portable.check import ALIGNMENT
from fade.portable.numbers import Numbers
from pipeline.cli.main import main
from pipeline.features.models import load_encoder
from pipeline.inference.bundle import Bundle
from pipeline.inference.bundle_file import BundleFile
from pipeline.inference.bundle_graphs import WEIGHTS, GraphsAhead, graph_sessions
from pipeline.inference.bundle_onnx import POSITIONS, OnnxEntries
from pipeline.inference.bundle_writing import write_bundle
from pipeline.inference.onnx_compare import GraphComparison
from pipeline.inference.output import explanation_text
from pipeline.inference.predictor import Predictor
from pipeline.inference.run import FinishedRun
from pipeline.serve.access import Access
from pipeline.serve.app import create_app
from pipeline.serve.site import BundleSite
from pipeline.stage import OF_RUNS
from tests.fade.encoders.models import save_model
from tests.projects import GOLDEN, ROOT, changed, golden_params, run_stages
from tests.stages.test_vision_encoder import vision_params

WEAVE = GOLDEN / "images" / "weave"
IMAGES = sorted(WEAVE.glob("test/*/00[01].png"))
HEAVY = (*sorted(OF_RUNS), "onnx")
"""What an environment with the extra ``edge`` alone has not."""
LOCAL = "http://127.0.0.1:8080"
WITHOUT = f"""
import importlib.abc, sys
class Forbid(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ImportError(name)
sys.meta_path.insert(0, Forbid())
from pipeline.cli.main import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, golden_checkpoint: Path) -> Path:
    """A finished run: at two shots other training images set the threshold, at eight references."""
    params = changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        features__classification_size=96, features__segmentation_sizes=[96],
        features__dtype="float16",
        vision__shots=[2, 8], threshold__images=8, evaluate__size=64, dataset__limit=1,
        dataset__categories=["weave"],
    )  # fmt: skip
    return run_stages(tmp_path_factory.mktemp("run"), params)


@pytest.fixture(scope="module")
def bundles(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("bundles")
    found = {name: place / f"{name}.fade" for name in ("fp32", "int8")}
    write_bundle(FinishedRun(folder, 2), found["fp32"], onnx="fp32")
    write_bundle(FinishedRun(folder, 2), found["int8"], onnx="int8")
    return found


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Predictor.from_run(folder, shots=2)


def test_it_decides_the_same_without_torch(
    bundles: dict[str, Path], predictor: Predictor, tmp_path: Path
) -> None:
    command = ["predict", *map(str, IMAGES), "--bundle", str(bundles["fp32"]), "--out", "out"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *command],
        cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    own = predictor.predict(IMAGES, "weave")
    anomalous = any(one.decision == "anomalous" for one in own)
    assert done.returncode == (10 if anomalous else 0), done.stderr
    with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["decision"] for row in rows] == [one.decision for one in own]
    np.testing.assert_allclose(
        [float(row["score"]) for row in rows],
        np.array([one.score for one in own], float),
        atol=1e-5,
    )
    assert len(list((tmp_path / "out" / "masks").iterdir())) == len(own)


def test_what_is_measured_of_it_is_without_torch(bundles: dict[str, Path]) -> None:
    """Where torch is installed, too: its memory is none that the bundle takes."""
    code = (
        "import sys\n"
        "from pipeline.inference.measure import measure\n"
        "from pipeline.inference.predictor import Predictor\n"
        "found = measure(Predictor.from_bundle(sys.argv[1]), sys.argv[2:], 'weave', 1, 0)\n"
        "print(found.threads, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, bundles["fp32"], IMAGES[0]], capture_output=True, text=True,
        check=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.stdout == "1 False\n"


def test_its_maps_and_explanations_are_the_runs(
    bundles: dict[str, Path], predictor: Predictor
) -> None:
    found = Predictor.from_bundle(bundles["fp32"])
    image = IMAGES[-1]
    first, second = (one.explain(image, "weave", level=1) for one in (predictor, found))
    assert first[0].levels is not None
    assert second[0].levels is not None
    off = np.abs(first[0].levels.astype(int) - second[0].levels.astype(int))
    assert off.max() <= 1
    assert explanation_text(*first) == explanation_text(*second)


def test_it_is_served(bundles: dict[str, Path], predictor: Predictor) -> None:
    app = create_app(BundleSite(bundles["fp32"]), Access("127.0.0.1"))
    files = [("images", (path.name, path.read_bytes())) for path in IMAGES]
    with TestClient(app, LOCAL) as client:
        found = client.post("/predict", files=files).json()["predictions"]
    own = predictor.predict(IMAGES, "weave")
    assert [one["decision"] for one in found] == [one.decision for one in own]
    scores = np.array([one.score for one in own], float)
    np.testing.assert_allclose([one["score"] for one in found], scores, atol=1e-5)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose images a network for vision compares, tile by tile."""
    params = vision_params(
        dataset__categories=["weave"], dataset__limit=1, vision__shots=[2], threshold__images=4,
        vision__tile=3, vision__overlap=1,
    )  # fmt: skip
    return run_stages(tmp_path_factory.mktemp("network"), params)


@pytest.mark.parametrize("numbers", ["fp32", "int8"])
def test_a_network_is_taken_along_with_its_tiles(
    network: Path, tmp_path: Path, numbers: Numbers
) -> None:
    path = tmp_path / "a.fade"
    write_bundle(FinishedRun(network), path, onnx=numbers)
    with zipfile.ZipFile(path) as archive:
        assert "onnx/vision0.onnx" in archive.namelist()
        compared = json.loads(archive.read("onnx/model.json"))["compared"]
    assert compared["equal"] == compared["decisions"] > 0
    own, found = Predictor.from_run(network), Predictor.from_bundle(path)
    pairs = list(zip(own.predict(IMAGES, "weave"), found.predict(IMAGES, "weave"), strict=True))
    scores = np.array([(one.score, two.score) for one, two in pairs], float)
    assert np.abs(scores[:, 0] - scores[:, 1]).max() < (1e-5 if numbers == "fp32" else 0.05)
    if numbers == "fp32":
        assert [one.decision for one, _ in pairs] == [two.decision for _, two in pairs]
        assert 0 < compared["feature"] < 1e-5


def test_convolutions_have_no_eight_bits(network: Path, tmp_path: Path) -> None:
    """What a run's own network is exported as, for a network of convolutions alone."""
    save_model(tmp_path / "cnn", "resnet10t")
    run = FinishedRun(network)
    vision = run.params.vision.model_copy(
        update={"encoder": f"local-dir:{tmp_path / 'cnn'}", "tile": None}
    )
    sizes = run.params.features.model_copy(update={"segmentation_sizes": (64,)})
    run.params = run.params.model_copy(update={"vision": vision, "features": sizes})
    with pytest.raises(ParameterError, match=r"the layers of .*cnn that .* are convolutions"):
        write_bundle(run, tmp_path / "a.fade", onnx="int8")


def test_the_bundle_tells_how_it_differs(bundles: dict[str, Path]) -> None:
    told = Bundle(bundles["fp32"]).onnx
    assert told is not None
    assert told.model.name == "fade-golden.json", "where it lies stays on this machine"
    compared = told.model.compared
    assert 0 < compared["feature"] < 1e-5
    assert compared["images"] == compared["decisions"] == compared["equal"] == 8
    assert compared["raised"] < 1e-5


def test_eight_bits_have_thresholds_of_their_own(
    bundles: dict[str, Path], folder: Path, predictor: Predictor
) -> None:
    found, before = Bundle(bundles["int8"]), FinishedRun(folder, 2).thresholds["weave"]
    threshold = found.thresholds["weave"]
    assert threshold.remark == f"{before.remark}; calibrated for int8"
    assert threshold.image is not None
    assert before.image is not None
    assert 0 < abs(threshold.image - before.image) < 0.05
    assert threshold.source == before.source == "training"
    assert bundles["int8"].stat().st_size < 0.7 * bundles["fp32"].stat().st_size
    # the image that set the threshold is normal, alone and among others
    assert threshold.set_by is not None
    image = GOLDEN / "images" / threshold.set_by
    judged = Predictor.from_bundle(bundles["int8"]).predict([IMAGES[0], image], "weave")[1]
    assert judged.score == threshold.image
    assert judged.decision == "normal"


@pytest.mark.parametrize("shots", [2, 8])
def test_calibration_is_the_runs(folder: Path, shots: int) -> None:
    """With the run's own model it gives the run's thresholds, references left out one by one."""
    run = FinishedRun(folder, shots)
    encoder: Any = load_encoder(run.params)
    before = run.thresholds["weave"]
    after = GraphComparison(run, encoder, encoder).in_eight_bits(["weave"])["weave"]
    assert before.source == {2: "training", 8: "references"}[shots]
    assert after.image == pytest.approx(before.image, abs=1e-6)
    assert (after.source, after.images, after.set_by) == (
        before.source, before.images, before.set_by,
    )  # fmt: skip
    assert abs((after.pixel or 0) - (before.pixel or 0)) <= 1


def test_the_image_that_sets_the_threshold_is_compared_first(folder: Path) -> None:
    """Of many categories few images are: one with another last bit would be above its own score."""
    run = FinishedRun(folder, 2)
    encoder: Any = load_encoder(run.params)
    [(own, _)] = GraphComparison(run, encoder, encoder).both("weave", 1)
    assert own.score == pytest.approx(run.thresholds["weave"].image, abs=1e-6)


def test_what_cannot_be_exported_is_refused_in_a_line(folder: Path, tmp_path: Path) -> None:
    run = FinishedRun(folder, 2)
    path = tmp_path / "a.fade"
    with pytest.raises(ParameterError, match="leave --with-weights out"):
        write_bundle(run, path, with_weights=True, onnx="fp32")
    for leaves, reason in (
        ({"model": {"precision": "bf16"}}, "model.precision is bf16"),
        ({"vision": {"layers": (1,)}}, "by blocks of CLIP"),
        ({"threshold": {"source": "labels"}}, "threshold.source is labels"),
    ):
        other = FinishedRun(folder, 2)
        for section, values in leaves.items():
            part = getattr(other.params, section).model_copy(update=values)
            other.params = other.params.model_copy(update={section: part})
        with pytest.raises(ParameterError, match=reason):
            write_bundle(other, path, onnx="int8")
    assert not path.exists()


def test_a_model_that_differs_is_not_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_graph, "SHORTEST", 20.0)  # vectors are no longer of unit length
    with pytest.raises(ModelError, match=r"features .* differ from the run's by .* nothing was"):
        write_bundle(FinishedRun(folder, 2), tmp_path / "a.fade", onnx="fp32")
    assert not list(tmp_path.iterdir())


def rewritten(path: Path, out: Path, name: str, change: Any) -> Path:
    """The bundle with one entry changed."""
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(out, "w") as after:
        for entry in before.infolist():
            data = before.read(entry)
            after.writestr(entry, change(data) if entry.filename == name else data)
    return out


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("onnx/weights", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        ("onnx/weights", lambda data: data[: len(data) // 2]),
        ("onnx/encoder.onnx", lambda data: data.replace(b"Softmax", b"Hardmax", 1)),
        ("onnx/positions.npz", lambda data: data[:-30]),
        ("onnx/model.json", lambda data: data.replace(b'"fp32"', b'"fp8"')),
        ("onnx/model.json", lambda data: data.replace(b'"pixels": [', b'"pixels": [-')),
        ("onnx/model.json", lambda data: data.replace(b'"stream":', b'"a": 1e999, "stream":')),
    ],
)
def test_damaged_models_are_told_in_a_line(
    bundles: dict[str, Path], tmp_path: Path, name: str, change: Any
) -> None:
    path = rewritten(bundles["fp32"], tmp_path / "a.fade", name, change)
    with pytest.raises(StoreError, match="is not a valid bundle") as error:
        Predictor.from_bundle(path)
    assert "\n" not in str(error.value)


def test_weights_that_begin_behind_the_file(bundles: dict[str, Path], tmp_path: Path) -> None:
    data = bytearray(bundles["fp32"].read_bytes())
    name = data.rindex(WEIGHTS.encode())  # in the list of entries; before it stands the offset
    data[name - 4 : name] = struct.pack("<I", 0x7FFFFFFF)
    path = tmp_path / "a.fade"
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"is not a valid bundle \(Truncated file header\)"):
        Predictor.from_bundle(path)


def test_graphs_that_are_ready_are_those_of_the_bundle(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    ahead = GraphsAhead(bundles["fp32"])
    opened = Bundle(bundles["fp32"], graphs=ahead)
    assert opened.onnx is not None
    ready = ahead.sessions(opened.onnx.model.digests)
    assert ready is not None
    encoder: Any = opened.encoder()
    assert encoder._sessions is ready
    other: Any = Bundle(bundles["int8"], graphs=ahead).encoder()  # replaced meanwhile
    assert other.model.numbers == "int8"
    assert other._sessions is not ready


def test_weights_in_place_give_the_same(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "PACKED", 0)
    own = Predictor.from_bundle(bundles["fp32"]).predict(IMAGES[:1], "weave")
    path = tmp_path / "current.fade"
    path.symlink_to(bundles["fp32"])
    ahead = GraphsAhead(path, in_place=True)
    found = Predictor(Bundle(path, graphs=ahead)).predict(IMAGES[:1], "weave")
    assert [one.score for one in found] == [one.score for one in own]
    file = BundleFile(path)
    assert file.start(WEIGHTS) % ALIGNMENT == 0
    assert file.is_there()
    path.unlink()
    shutil.copy(bundles["int8"], path)  # another bundle takes its name
    assert not file.is_there()
    model = OnnxEntries(file).model
    made = graph_sessions(file, model.digests, ["encoder"], in_place=True)["encoder"]
    given = {"pixels": np.zeros((1, 96, 96, 3), np.uint8)} | {
        "position": OnnxEntries(file)._arrays(POSITIONS)["6x6"]
    }
    names = [one.output for one in model.features.values()]
    opened: Any = OnnxEntries(BundleFile(bundles["fp32"])).encoder()
    first, second = (one.run(given, names) for one in (made, opened._sessions["encoder"]))
    assert all(map(np.array_equal, first, second))


def test_what_is_wrong_is_told_by_who_opens_the_bundle(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    damaged = rewritten(
        bundles["fp32"], tmp_path / "a.fade", "onnx/weights", lambda data: data[:-1] + b"?"
    )
    (tmp_path / "b.fade").write_bytes(b"no bundle")
    for path in (damaged, tmp_path / "b.fade", tmp_path / "none.fade"):
        ahead = GraphsAhead(path)
        assert ahead.sessions({}) is None
        lines = []
        for graphs in (ahead, None):
            with pytest.raises(StoreError) as error:
                Bundle(path, graphs=graphs).encoder()
            lines.append(str(error.value))
        assert lines[0] == lines[1]


def test_weights_of_full_eight_bits_are_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """As bundles had them before: each reader says what to do."""
    path, image = tmp_path / "a.fade", str(IMAGES[0])
    with monkeypatch.context() as before:
        for module in (layers, check):
            before.setattr(module, "SEVEN_BITS", 127)
        write_bundle(FinishedRun(folder, 2), path, onnx="int8")
    told = r"a\.fade has weights of full eight bits.* `fade bundle --onnx --precision int8`$"
    for graphs in (GraphsAhead(path), GraphsAhead(path, in_place=True), None):
        with pytest.raises(StoreError, match=told):
            Predictor(Bundle(path, graphs=graphs))
    monkeypatch.chdir(tmp_path)
    for command in (["predict", image], ["show", image]):
        with pytest.raises(SystemExit) as ended:
            main([*command, "--bundle", str(path)])
        assert ended.value.code == StoreError.exit_code
        assert re.search(told, capsys.readouterr().err.strip())
    with TestClient(create_app(BundleSite(path), Access("127.0.0.1")), LOCAL) as client:
        answer = client.post("/predict", files=[("images", ("a.png", IMAGES[0].read_bytes()))])
    assert answer.status_code >= 400
    assert "--precision int8" in answer.text


def test_another_model_is_noticed(bundles: dict[str, Path], tmp_path: Path) -> None:
    def other(data: bytes) -> bytes:
        content = json.loads(data)
        for feature in content["features"].values():
            feature["description"]["weights"] = "others"
        return json.dumps(content).encode()

    path = rewritten(bundles["fp32"], tmp_path / "a.fade", "onnx/model.json", other)
    with pytest.raises(StoreError, match="the model gives other features"):
        Predictor.from_bundle(path)
    shutil.copy(bundles["fp32"], path)
    with pytest.raises(ParameterError, match="leave --weights and --download out"):
        Predictor.from_bundle(path, download=True)


def test_what_every_environment_has_is_light() -> None:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = content["optional-dependencies"]
    names = {Requirement(one).name for one in [*content["dependencies"], *extras["edge"]]}
    assert names == {
        "numpy", "onnxruntime", "opencv-python-headless", "pillow", "psutil", "pydantic", "pyyaml",
        "ruamel.yaml", "typer",
    }  # fmt: skip
    for extra in ("cpu", "gpu"):
        assert "fade-pipeline[pipeline]" in extras[extra]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_plain_search_finds_what_faiss_finds(metric: Any) -> None:
    generator = np.random.default_rng(0)
    vectors, queries = (generator.normal(size=(n, 16)).astype(np.float32) for n in (300, 1500))
    if metric == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    distances, labels = FlatVectors(vectors, metric).search(queries, 3)
    expected, positions = build_index(vectors, metric=metric).search(queries, 3)
    np.testing.assert_allclose(distances, expected, atol=1e-4)
    assert (labels == positions).mean() > 0.999
