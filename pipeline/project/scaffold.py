"""Makes a project folder that works on the installed package alone.

The repository's dvc.yaml names code files, which a project does not have. In a project, ``code.json``
stands for them: for each stage a hash of the installed code that it depends on, which its dvc.yaml
reads as a parameter. :func:`refresh_code` brings it up to date; ``fade run`` calls it before DVC.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from fade.errors import ParameterError
from pipeline.config.schema import PARAMS_FILE

CODE_FILE = Path("code.json")
"""Of a project: by stage, the hash of the installed code that it runs."""
DVC_FILE = Path("dvc.yaml")
DEMO_FILE = Path("demo") / "dvc.yaml"
PACKAGES = ("cache", "fade", "pipeline", "stages")

_HEADER = """\
# The pipeline, as `fade new` wrote it: change params.yaml instead. code.json stands for the installed
# code, `fade run` keeps it up to date; `fade new . --force` writes this file anew after an upgrade.
"""
_DVC_CONFIG = """\
[core]
    analytics = false
    check_update = false
{scm}[cache]
    type = "hardlink,symlink,copy"
"""
_DVCIGNORE = """\
__pycache__/
site-packages/
.venv/
venv/
env/
.fade/
logs/
"""
_GITIGNORE = """\
__pycache__/
.venv/
venv/
env/
.fade/
/artefacts/
/results/
/logs/
/data/demo/
dvc_plots/
"""
_DVC_GITIGNORE = "/config.local\n/tmp\n/cache\n"
_PROMPTS = """\
# Your own prompts

JSON files put here and named in `text.classification.prompts` or `text.segmentation.prompts` of
`params.yaml` are watched by DVC: edit one and `fade run` embeds it again. A file holds
`{"normal": {"prompts": ["a clean {classname}"]}, "abnormal": {"prompts": ["a broken {classname}"]}}`.
"""


def _packaged(name: str) -> dict[str, Any]:
    """The pipeline (``pipeline``) or the demo's images (``demo``), as the repository has them."""
    text = (resources.files("pipeline.project") / f"{name}.yaml").read_text(encoding="utf-8")
    stages: dict[str, Any] = yaml.safe_load(text)
    return stages


def _is_code(dependency: str) -> bool:
    return dependency.split("/")[0] in PACKAGES


def _apart(content: dict[str, Any]) -> str:
    """A dvc.yaml for a project: the stages' code files become an entry of code.json each."""
    for name, stage in content["stages"].items():
        deps = [dependency for dependency in stage.pop("deps") if not _is_code(dependency)]
        if deps:
            stage["deps"] = deps
        stage["params"] = [*stage.get("params", ()), {CODE_FILE.name: [name]}]
        if "wdir" in stage:
            stage["wdir"] = ".."
    order = ("wdir", "cmd", "deps", "params", "outs", "metrics")
    content["stages"] = {
        name: {key: stage[key] for key in order if key in stage}
        for name, stage in content["stages"].items()
    }
    return _HEADER + yaml.safe_dump(content, sort_keys=False, width=100)


def project_dvc_yaml() -> str:
    """The text of a project's dvc.yaml."""
    return _apart(_packaged("pipeline"))


def demo_dvc_yaml() -> str:
    """The text of demo/dvc.yaml, whose stage writes the demo's images into data/demo."""
    return _apart(_packaged("demo"))


def code_hashes() -> dict[str, str]:
    """By stage, the hash of the installed files that the repository's dvc.yaml names for it."""
    root = Path(str(resources.files("pipeline"))).parent
    stages = {**_packaged("pipeline")["stages"], **_packaged("demo")["stages"]}
    return {name: _digest(root, filter(_is_code, stage["deps"])) for name, stage in stages.items()}


def _digest(root: Path, dependencies: Iterable[str]) -> str:
    digest = hashlib.blake2b(digest_size=20)
    for dependency in sorted(dependencies):
        place = root / dependency
        files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
        for file in files:
            if "__pycache__" not in file.parts:
                data = file.read_bytes()
                digest.update(f"{file.relative_to(root).as_posix()}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


def refresh_code(folder: Path = Path()) -> bool:
    """Bring a project's code.json up to date with the installed code; whether it changed.

    Nothing happens where there is none, as in a clone, whose dvc.yaml names the files themselves.
    """
    file = folder / CODE_FILE
    if not file.is_file():
        return False
    text = _code_text()
    if file.read_text(encoding="utf-8") == text:
        return False
    file.write_text(text, encoding="utf-8")
    return True


def _code_text() -> str:
    return json.dumps(code_hashes(), indent=1) + "\n"


def create(folder: Path, params: str, *, demo: bool, git: bool, force: bool = False) -> list[Path]:
    """Write a project folder.

    Args:
        folder: made where there is none.
        params: the text of params.yaml.
        demo: whether a stage writes the demo's images.
        git: whether to make it a git repository, unless it lies in one. Experiments need git.
        force: replace files that are there; params.yaml is then kept.

    Returns:
        The files written, relative to the folder.

    Raises:
        ParameterError: the folder cannot be written, or holds one of the files.
    """
    scm = git and shutil.which("git") is not None
    files = {
        PARAMS_FILE: params,
        DVC_FILE: project_dvc_yaml(),
        CODE_FILE: _code_text(),
        Path(".dvc/config"): _DVC_CONFIG.format(scm="" if scm else "    no_scm = true\n"),
        Path(".dvc/.gitignore"): _DVC_GITIGNORE,
        Path(".dvcignore"): _DVCIGNORE,
        Path(".gitignore"): _GITIGNORE,
        Path("prompts/README.md"): _PROMPTS,
        **({DEMO_FILE: demo_dvc_yaml()} if demo else {}),
    }
    present = [path for path in files if (folder / path).exists()]
    if present and not force:
        raise ParameterError(
            f"{folder} already has {', '.join(map(str, present))}: name another folder, or replace "
            "these files with --force (params.yaml is kept)"
        )
    if PARAMS_FILE in present:
        del files[PARAMS_FILE]
    try:
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        if scm and not _in_git(folder):
            subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "strerror", None) or error
        raise ParameterError(f"{folder} cannot become a project folder: {detail}") from None
    return list(files)


def _in_git(folder: Path) -> bool:
    command = ["git", "rev-parse", "--is-inside-work-tree"]
    return subprocess.run(command, cwd=folder, capture_output=True).returncode == 0


def given_path(value: str | None) -> str | None:
    """A path that was typed here, for a params.yaml elsewhere: absolute, if it names something."""
    if value is None or not os.path.exists(os.path.expanduser(value)):
        return value
    return os.path.abspath(os.path.expanduser(value))
