"""What docs/reliability.md promises of runs, in a clone and in a project of `fade new`.

`tests/test_wheel.py` holds :func:`hold_promises` of a project of `fade new` on an installed wheel, and
runs the pipeline there with a Python that starts as it does for people; here its libraries are loaded
already.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml

from fade.errors import DataError
from pipeline.artefacts.parameters import misnoted
from pipeline.config.load import parse_params
from pipeline.config.originals import TEMPLATE
from pipeline.config.yaml12 import leaf, load_yaml
from pipeline.process.dvc_files import RUNS, RWLOCK, cut_short
from pipeline.project.scaffold import create
from tests.interpreter import Interpreter
from tests.projects import ROOT, changed, golden_params
from tests.test_dvc_repro import COPIED

MOMENTS = ROOT / "tests" / "moments"


@dataclass(frozen=True)
class Place:
    """A project folder and the program that runs there.

    Attributes:
        folder: of the project.
        python: the interpreter that has the program.
        path: folders in front of its path.
    """

    folder: Path
    python: str = sys.executable
    path: tuple[str, ...] = field(default=(str(ROOT),))

    def begin(self, module: str, *arguments: str, **moments: str) -> subprocess.Popen[str]:
        """``python -m module``; see ``tests/moments`` for the moments."""
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join([str(MOMENTS), *self.path]),
            "PATH": f"{Path(self.python).parent}{os.pathsep}{os.environ['PATH']}",
            **{name.upper(): value for name, value in moments.items()},
        }  # fmt: skip
        return subprocess.Popen(
            [self.python, "-m", module, *arguments], cwd=self.folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def start(self, module: str, *arguments: str, **moments: str) -> tuple[int, str]:
        """Exit code and all lines of :meth:`begin`."""
        with self.begin(module, *arguments, **moments) as process:
            said, _ = process.communicate()
        return process.returncode, said

    def fade(self, *arguments: str, **moments: str) -> tuple[int, str]:
        """A command of ``fade``."""
        return self.start("pipeline.cli.main", *arguments, **moments)

    def dvc(self, *arguments: str, **moments: str) -> tuple[int, str]:
        """A command of DVC."""
        return self.start("dvc", *arguments, **moments)

    def to_save(self, **leaves: Any) -> None:
        """What is saved at the chosen moment: params.yaml with other values."""
        content = changed(load_yaml((self.folder / "params.yaml").read_text()), **leaves)
        (self.folder / "other.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")

    def used(self, stage: str, name: str) -> tuple[Any, Any]:
        """A parameter as a stage recorded it and as dvc.lock notes it."""
        record = json.loads((self.folder / f"artefacts/parameters/{stage}.json").read_text())
        lock = load_yaml((self.folder / "dvc.lock").read_text())
        section, _, key = name.rpartition(".")
        found = []
        for values in (record["parameters"], lock["stages"][stage]["params"]["params.yaml"]):
            found.append(values[name] if name in values else leaf(values[section], key))
        return found[0], found[1]

    def outputs(self) -> dict[str, str]:
        """A hash of every artefact."""
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted((self.folder / "artefacts").rglob("*"))
            if path.is_file()
        }


def parameters(checkpoint: Path, run: str = "zeroshot_language", **leaves: Any) -> str:
    """params.yaml of a small project: those of a golden run, some leaves changed."""
    leaves = {"threshold__images": 0, "vision__seeds": [0], **leaves}
    content = changed(golden_params(run, checkpoint), **leaves)
    template = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))
    return yaml.safe_dump(parse_params({**template, **content}).model_dump())


def made(folder: Path, params: str, kind: str, python: str = sys.executable) -> Place:
    """A project of some kind, and the program that runs there."""
    if kind == "new":
        create(folder, params, demo=False, git=False)
        return Place(folder, python)
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    config = folder / ".dvc" / "config"
    config.write_text(config.read_text().replace("[core]", "[core]\n    no_scm = true"))
    (folder / "params.yaml").write_text(params, encoding="utf-8")
    return Place(folder, python, path=())


def end_with_the_run(place: Place) -> None:
    """A `fade run` that is killed alone takes DVC and the stage along, in the middle of its work."""
    part = place.folder / "artefacts"
    with place.begin("pipeline.cli.main", "run", "manifest", stop_at="manifest") as run:
        while not any(part.glob("*.part")):
            assert run.poll() is None, run.communicate()
            time.sleep(0.05)
        below = psutil.Process(run.pid).children(recursive=True)
        run.kill()
    _, left = psutil.wait_procs(below, timeout=120)
    for process in left:
        process.kill()
    assert (len(below) > 1, left, (part / "manifest.parquet").exists()) == (True, [], False)


def hold_promises(place: Place, killed: Place | None = None) -> None:
    """A kill, parameters that change at bad moments, files cut short, names that do not exist.

    Args:
        place: the project.
        killed: the same with a Python whose processes are its own children, where that is another.
    """
    end_with_the_run(killed or place)
    # saved while a stage runs: the stage refuses to end
    place.to_save(dataset__limit=1)
    code, said = place.fade("run", "manifest", save_at="manifest during")
    assert (code, "parameters changed while this stage ran" in said) == (2, True), said
    # saved between a stage's last look and DVC's: the next stage refuses to begin
    place.to_save(dataset__limit=2)
    code, said = place.dvc("repro", "select", save_at="manifest after")
    assert code, said
    assert "params.yaml changed just when a stage ended (manifest: dataset" in said
    # the same at the last stage of a run, where the stage before is made good by now
    place.to_save(vision__shots=[2])
    code, said = place.fade("run", "select", save_at="select after")
    assert (code, "changed just when a stage ended (select: vision.shots)" in said) == (2, True), (
        said
    )
    assert place.used("manifest", "dataset.limit") == (2, 2)
    # DVC fails at a folder of its run cache without an entry, when old values come back
    assert all(any(runs.iterdir()) for runs in (place.folder / RUNS).glob("*/*"))
    # one more run puts that right, and what a kill cut short
    for name in ("dvc.lock", str(RWLOCK)):
        os.truncate(place.folder / name, (place.folder / name).stat().st_size // 2)
    assert set(map(str, cut_short(place.folder))) == {"dvc.lock", str(RWLOCK)}
    code, said = place.fade("run", "select")
    assert (code, said.count("was cut short by a killed run")) == (0, 2), said
    assert place.used("select", "vision.shots") == ([2], [2])
    assert (misnoted(place.folder), cut_short(place.folder)) == ({}, [])
    # a name that does not exist is refused before DVC removes what is there
    before = place.outputs()
    code, said = place.fade("run", "--categories", "weave,palte")
    assert code == DataError.exit_code
    assert "no category 'palte'" in said
    assert place.outputs() == before
    assert place.dvc("status", "select")[1].strip() == "Data and pipelines are up to date."


def test_promises_of_a_clone(
    tmp_path: Path, golden_checkpoint: Path, interpreter: Interpreter
) -> None:
    params = parameters(golden_checkpoint)
    place = made(tmp_path / "project", params, "clone", str(interpreter.python))
    hold_promises(place, replace(place, python=sys.executable))


@pytest.mark.parametrize("kind", ["clone", "new"])
def test_weights_that_are_replaced_under_their_name(
    tmp_path: Path, golden_checkpoint: Path, kind: str, interpreter: Interpreter
) -> None:
    """A run makes new results of them; a copy that is not whole yet leaves the old ones alone."""
    weights = tmp_path / "weights.pt"
    shutil.copy(golden_checkpoint, weights)
    params = yaml.safe_load(parameters(weights))
    params = changed(params, text__segmentation__prompts=["winclip"], dataset__categories=["weave"])
    place = made(tmp_path / "project", yaml.safe_dump(params), kind, str(interpreter.python))
    code, said = place.fade("run", "text")
    assert code == 0, said
    first = place.outputs()
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    code, said = place.fade("run", "text")
    assert (code, "weights.pt is cut short" in said, place.outputs()) == (4, True, first), said
    state = torch.load(golden_checkpoint, weights_only=True)
    torch.save({name: value * 1.01 for name, value in state.items()}, weights)
    code, said = place.fade("run", "text")
    assert (code, "weights.pt was replaced since the last run" in said) == (0, True), said
    second = place.outputs()
    assert first["artefacts/manifest.parquet"] == second["artefacts/manifest.parquet"]
    assert first["artefacts/text/index.json"] != second["artefacts/text/index.json"]
    code, said = place.fade("run", "text")
    assert (code, "everything was up to date" in said) == (0, True), said


def test_results_of_other_weights_that_dvc_kept_are_made_again(
    tmp_path: Path, golden_checkpoint: Path, interpreter: Interpreter
) -> None:
    """With the parameters of then DVC brings back what the weights of then gave."""
    weights = tmp_path / "weights.pt"
    shutil.copy(golden_checkpoint, weights)
    state = torch.load(golden_checkpoint, weights_only=True)
    params = yaml.safe_load(parameters(weights))
    params = changed(params, text__segmentation__prompts=["winclip"], dataset__categories=["weave"])
    other = changed(params, text__segmentation__use_classname=True)
    place = made(tmp_path / "project", yaml.safe_dump(params), "new", str(interpreter.python))
    index = place.folder / "artefacts" / "text" / "index.json"

    def run(values: dict[str, Any]) -> tuple[str, str]:
        (place.folder / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        code, said = place.fade("run", "text")
        assert code == 0, said
        return said, index.read_text()

    _, first = run(params)
    run(other)
    torch.save({name: value * 1.01 for name, value in state.items()}, weights)
    run(other)
    said, second = run(params)
    assert f"DVC brought back results of before {weights} was replaced" in said
    assert first != second
    assert "everything was up to date" in run(params)[0]
