"""No file that is read can run code, no text of one reaches a shell, and pages run only their own script.

Statically: the calls that could do it do not occur, or only in their safe form. Dynamically: a
payload that leaves a mark when unpickled is put in place of every file that is read, and leaves none.
"""

from __future__ import annotations

import ast
import functools
import importlib
import io
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cache.store import Store
from fade.encoder import Encoder
from fade.errors import FadeError
from fade.faiss_index import DIGEST, SEAL, read_index
from fade.gem import GemConfig
from fade.prompts import load_ensemble
from fade.text import load as load_classifier
from pipeline.artefacts.catalogue import ARTEFACTS, BANKS, MAPS, TEXT
from pipeline.artefacts.receipts import read_receipt
from pipeline.artefacts.tables import read_csv, read_json, read_table
from pipeline.config.load import load_params
from pipeline.inference.bundle import Bundle
from pipeline.inference.bundle_writing import write_bundle
from pipeline.inference.run import FinishedRun
from pipeline.project.scaffold import project_dvc_yaml
from pipeline.stage import as_user_error, one_line
from tests.imports import ROOT, modules
from tests.projects import GOLDEN, STAGES, changed, golden_params, project, run_stages

SOURCES = {
    **modules(),
    **{f"benchmarks.{path.stem}": path for path in (ROOT / "benchmarks").glob("*.py")},
}
UNPICKLES = (
    "pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "dill.load", "dill.loads",
    "cloudpickle.load", "cloudpickle.loads", "marshal.load", "marshal.loads", "shelve.open",
    "pandas.read_pickle", "pd.read_pickle", "torch.jit.load", "numpy.fromfile",
)  # fmt: skip
SHELLS = (
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "eval",
    "exec",
)
NEEDS = {
    "torch.load": ("weights_only", True),
    "open_clip.load_checkpoint": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "np.lib.format.read_array": ("allow_pickle", False),
    "np.lib.format.write_array": ("allow_pickle", False),
}
"""Calls that must name this argument, so that no other default can slip in."""
UNSAFE_YAML = (
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "yaml.load_all",
    "yaml.unsafe_load_all",
)


def calls(path: Path) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Dotted name, literal keyword arguments and line of each call in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            words = {
                word.arg: word.value.value if isinstance(word.value, ast.Constant) else ...
                for word in node.keywords
                if word.arg
            }
            yield ast.unparse(node.func), words, node.lineno


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_no_call_that_could_run_what_it_reads(module: str) -> None:
    for name, words, line in calls(SOURCES[module]):
        where = f"{SOURCES[module]}:{line}: {name}"
        assert name not in (*UNPICKLES, *SHELLS, *UNSAFE_YAML), where
        assert words.get("shell") in (None, False), where
        if name in NEEDS:
            word, value = NEEDS[name]
            assert words.get(word) is value, f"{where} must say {word}={value}"


def test_pickle_is_imported_for_its_error_alone() -> None:
    found = {
        (module, alias.name)
        for module, path in SOURCES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if (getattr(node, "module", None) or alias.name).split(".")[0]
        in ("pickle", "joblib", "dill", "shelve", "marshal", "cloudpickle")
    }
    assert found <= {("fade.encoder.checkpoint", "UnpicklingError")}


def test_templates_escape_by_themselves() -> None:
    from pipeline.report import html

    source = Path(html.__file__).read_text(encoding="utf-8")
    assert "autoescape=True" in source
    for path in (ROOT / "pipeline" / "report").glob("*.j2"):
        assert "autoescape false" not in path.read_text(encoding="utf-8")


# A payload in place of every file


class Payload:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mark"
    pickle.loads(pickle.dumps(Payload(path)))  # noqa: S301
    assert path.exists(), "this payload works"
    path.unlink()
    yield path
    assert not path.exists(), "the payload ran"


def dumped(mark: Path) -> bytes:
    return pickle.dumps(Payload(mark))


def as_array(mark: Path) -> bytes:
    data = io.BytesIO()
    np.save(data, np.array([Payload(mark)], object), allow_pickle=True)
    return data.getvalue()


def as_archive(mark: Path) -> bytes:
    data = io.BytesIO()
    entries = {"schema_version": np.array(1), "name": np.array([Payload(mark)], object)}
    np.savez(data, **entries)  # type: ignore[arg-type]
    return data.getvalue()


def as_checkpoint(mark: Path) -> bytes:
    """As torch.save writes it: a zip with a pickle in it."""
    import torch

    data = io.BytesIO()
    torch.save({"visual.proj": Payload(mark)}, data)
    return data.getvalue()


def as_sealed_bank(mark: Path) -> bytes:
    import hashlib

    data = dumped(mark)
    return data + SEAL + hashlib.blake2b(data, digest_size=DIGEST).digest()


FORMS = (dumped, as_array, as_archive, as_checkpoint, as_sealed_bank)


def refused(read: Callable[[], Any]) -> None:
    """It ends in one line for people."""
    with pytest.raises((FadeError, OSError)) as error:
        read()
    known = as_user_error(error.value)
    assert known is not None, repr(error.value)
    assert "\n" not in one_line(known)


@pytest.fixture(scope="module")
def finished(golden_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of all stages but the report, and its bundle."""
    params = changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        features__segmentation_sizes=[96],
        dataset__limit=2,
        dataset__categories=["weave"],
        evaluate__size=64,
    )
    folder = run_stages(tmp_path_factory.mktemp("finished"), params)
    with project(folder, params):
        write_bundle(FinishedRun(), folder / "weave.fade", with_weights=True)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = shutil.copytree(finished, tmp_path / "run")
    monkeypatch.chdir(folder)
    return folder


READERS: dict[str, Callable[[Path], Any]] = {
    ".parquet": read_table,
    ".json": read_json,
    ".csv": read_csv,
    ".npz": load_classifier,
    ".faiss": read_index,
}


@pytest.mark.parametrize("form", FORMS)
def test_no_artefact_is_unpickled(form: Callable[[Path], bytes], run: Path, mark: Path) -> None:
    seen = set()
    for artefact in ARTEFACTS:
        if artefact.stage == "report":  # nobody reads them
            continue
        path = run / artefact.path
        assert path.exists(), path
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            read = READERS.get(file.suffix)
            if file.is_dir() or (read is None and artefact is MAPS):
                continue
            assert read is not None, f"no reader of {file} is known"
            file.write_bytes(form(mark))
            refused(functools.partial(read, file))
            seen.add(file.suffix)
            if artefact.receipt:
                refused(functools.partial(read_receipt, artefact))
    assert seen == set(READERS)


@pytest.mark.parametrize("form", FORMS)
def test_no_stage_unpickles_what_it_reads(
    form: Callable[[Path], bytes], run: Path, mark: Path
) -> None:
    """Maps and segments of the store, read by the stages themselves."""
    params = load_params()
    for file in sorted(MAPS.path.rglob("*")):
        if file.is_file():
            file.write_bytes(form(mark))
    refused(lambda: importlib.import_module("stages.report").run(params))
    root = run / ".fade" / "store"
    store = Store(root)
    for space in store.spaces():
        for file in sorted((root / store.folder(space) / "segments").rglob("*")):
            if file.is_file():
                file.write_bytes(form(mark))
    refused(lambda: importlib.import_module("stages.evaluate").run(params))
    for space in store.spaces():
        folder = root / store.folder(space)
        for file in [*folder.glob("index/*"), folder / "space.json"]:
            file.write_bytes(form(mark))
        assert store.index(space) == {}
    (root / "store.json").write_bytes(form(mark))
    refused(lambda: Store(root))
    assert BANKS.path.is_dir()
    assert TEXT.path.is_dir()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.bin", "w.safetensors", "w.npz", "w.npy", "w"])
def test_no_checkpoint_is_unpickled(
    form: Callable[[Path], bytes], name: str, tmp_path: Path, mark: Path
) -> None:
    (tmp_path / name).write_bytes(form(mark))
    config = str(GOLDEN / "fade-golden.json")
    refused(lambda: Encoder.load(config, str(tmp_path / name), gem=GemConfig(2)))


@pytest.mark.parametrize("form", FORMS)
def test_no_bundle_is_unpickled(
    form: Callable[[Path], bytes], finished: Path, tmp_path: Path, mark: Path
) -> None:
    """The bundle itself, and each of its entries."""
    path = tmp_path / "evil.fade"
    path.write_bytes(form(mark))
    refused(lambda: Bundle(path))
    with zipfile.ZipFile(finished / "weave.fade") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    assert {Path(name).suffix for name in entries} == {".json", ".npz", ".npy", ".safetensors"}
    for name in entries:
        with zipfile.ZipFile(path, "w") as archive:
            for other, data in entries.items():
                archive.writestr(other, form(mark) if other == name else data)

        def use() -> None:
            bundle = Bundle(path)
            bundle.bank("weave")
            for use in ("classification", "segmentation"):
                bundle.classifier(use, "weave")  # type: ignore[arg-type]
                bundle.sentences(use, "weave")  # type: ignore[arg-type]
            bundle.encoder()

        refused(use)


@pytest.mark.parametrize("form", FORMS)
def test_no_input_is_unpickled(form: Callable[[Path], bytes], tmp_path: Path, mark: Path) -> None:
    from fade.datasets import read_dataset
    from fade.preprocess import decode_mask, decode_rgb

    data = form(mark)
    for name in ("params.yaml", "prompts.json", "manifest.csv", "model.json"):
        (tmp_path / name).write_bytes(data)
    refused(lambda: load_params(tmp_path / "params.yaml"))
    refused(lambda: load_ensemble("prompts.json", tmp_path))
    refused(lambda: read_dataset("csv", tmp_path))
    refused(lambda: Encoder.load(str(tmp_path / "model.json"), "seeded", gem=GemConfig(2)))
    refused(lambda: decode_rgb(data, "x.png"))
    refused(lambda: decode_mask(data, "x.png"))


# Texts


NASTY = "<img src=x onerror=alert(1)>'\"&{{7*7}}"


def test_names_are_text_in_the_report(golden_checkpoint: Path, tmp_path: Path) -> None:
    """Names of images, categories and defects, from the folders of a data set to the page."""
    images = tmp_path / NASTY
    shutil.copytree(GOLDEN / "images" / "weave", images / NASTY)
    for path in (images / NASTY / "test" / "hole", images / NASTY / "ground_truth" / "hole"):
        path.rename(path.with_name(NASTY))
    image = next((images / NASTY / "test" / "good").iterdir())
    image.rename(image.with_name(f"{NASTY}.png"))
    params = changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        dataset={"format": "mvtec", "path": str(images), "watch": str(images)},
        features__segmentation_sizes=[96],
        evaluate__size=64,
    )
    folder = run_stages(tmp_path / "run", params, *STAGES)
    page = (folder / "results" / "report" / "index.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page
    assert "{{7*7}}" in page
    assert ">49<" not in page
    # and the files stay where they belong
    assert {path.name for path in tmp_path.iterdir()} == {NASTY, "run"}


def test_yaml_of_the_project_is_plain() -> None:
    for path in (ROOT / "dvc.yaml", ROOT / "params.yaml", *(ROOT / "pipeline").rglob("*.yaml")):
        assert "!!" not in path.read_text(encoding="utf-8"), path


def test_parameters_reach_no_command_line() -> None:
    """dvc.yaml's commands are the same whatever stands in params.yaml."""
    clone = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert clone.pop("code")["cmd"] == "python -m pipeline.project.code"
    for name, stage in clone.items():
        assert stage["cmd"] == f"python -m stages.{name}"
    for name, stage in yaml.safe_load(project_dvc_yaml())["stages"].items():
        assert stage["cmd"] == f"python -P -m stages.{name}"
