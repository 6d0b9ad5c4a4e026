"""The wheel, installed into an environment that knows nothing of this checkout."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pipeline.artefacts.catalogue import RUN
from pipeline.artefacts.provenance import versions
from pipeline.config.load import parse_params
from pipeline.config.yaml12 import load_yaml
from tests.interpreter import Interpreter
from tests.projects import GOLDEN, ROOT, STAGES, changed, golden_params
from tests.test_promises import Place, hold_promises, parameters


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the files that git would track, without isolation: setuptools is at hand."""
    import shutil

    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("fade", "cache", "pipeline", "stages"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "dvc.yaml"):
        shutil.copy(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--wheel-dir", str(out), str(source)],
        check=True,
    )  # fmt: skip
    (built,) = out.glob("fade_pipeline-*.whl")
    return built


def test_it_holds_the_data_files(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "fade/ensembles/descriptions_1.json", "cache/py.typed", "fade/py.typed", "pipeline/py.typed",
        "stages/py.typed", "pipeline/demo/fade-demo.json",
        "pipeline/report/report.html.j2", "pipeline/report/page/page.js", "pipeline/config/dvc.yaml",
        "pipeline/config/params.yaml",
        "pipeline/serve/page/index.html", "pipeline/serve/page/app.js", "pipeline/serve/page/style.css",
        "pipeline/serve/page/icon.svg",
    ):  # fmt: skip
        assert needed in names
    assert not [name for name in names if name.startswith(("tests", "benchmarks"))]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has nothing but the wheel and its requirements."""
    environment = tmp_path_factory.mktemp("installed") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    zipfile.ZipFile(wheel).extractall(site_of(python))
    # a plain path: the requirements are found, the editable install beside them is not
    (site_of(python) / "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def site_of(python: Path) -> Path:
    """Where an environment's packages lie."""
    program = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-c", program], check=True, capture_output=True, text=True)
    return Path(done.stdout.strip())


def test_promises_hold_on_it(
    installed: Path, tmp_path: Path, golden_checkpoint: Path, interpreter: Interpreter
) -> None:
    """As `tests/test_promises.py` has it of a clone; this is a project of `fade new`."""
    site = str(site_of(installed))
    place = Place(tmp_path, str(interpreter.python), path=(site,))
    for module in ("pipeline.cli.main", "stages.manifest", "fade", "cache"):
        _, said = place.start("inspect", "--details", module)
        assert f"Origin: {site}" in said, said
    code, said = place.fade("new", "project", "--no-git")
    assert code == 0, said
    place = replace(place, folder=tmp_path / "project")
    (place.folder / "params.yaml").write_text(parameters(golden_checkpoint), encoding="utf-8")
    hold_promises(place, replace(place, python=str(installed), path=()))


def test_the_pipeline_runs_from_it(
    installed: Path, tmp_path: Path, golden_checkpoint: Path
) -> None:
    """All stages of a new project, by DVC and by `fade run`, on the wheel and its requirements alone."""
    site = site_of(installed)
    place = Place(tmp_path / "project", str(installed), path=())
    params = changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        features__segmentation_sizes=[96], dataset__limit=3, evaluate__size=64,
        text__segmentation__prompts=["winclip", "descriptions_1"],
        dataset__path=str(GOLDEN / "images"),
    )  # fmt: skip
    code, said = Place(tmp_path, str(installed), path=()).fade("new", "project", "--no-git")
    assert code == 0, said
    template = yaml.safe_load((place.folder / "params.yaml").read_text())
    content = parse_params({**template, **params}).model_dump()
    (place.folder / "params.yaml").write_text(yaml.safe_dump(content))
    where = subprocess.run(
        [installed, "-E", "-c", "import fade, stages; print(fade.__file__, stages.__file__)"],
        cwd=place.folder, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert all(path.startswith(str(site)) for path in where.split())
    code, said = place.dvc("repro", "select")
    assert code == 0, said
    assert tuple(re.findall(r"Running stage '(\w+)'", said)) == STAGES[:2]
    code, said = place.fade("run")
    assert code == 0, said
    assert set(load_yaml((place.folder / "dvc.lock").read_text())["stages"]) == set(STAGES)
    assert (place.folder / "results" / "report" / "index.html").stat().st_size > 10_000
    # an installed package has no revision, nor has a folder without git
    told = json.loads((place.folder / RUN.path).read_text())["made_with"]
    assert (told["project"], told["code"], told["versions"]) == (None, None, versions())
