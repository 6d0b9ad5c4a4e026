"""Makes a project folder that works on the installed package alone.

Its dvc.yaml is the repository's without the stage ``code``, which watches code that a project does not
have: ``fade run`` brings code.json up to date instead (:mod:`pipeline.project.code`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from fade.errors import ParameterError
from fade.files import write_file
from pipeline.artefacts.provenance import git as git_says
from pipeline.config.originals import original
from pipeline.config.values import CODE_FILE, PARAMS_FILE
from pipeline.project.code import code_text

DVC_FILE = Path("dvc.yaml")
DEMO_FILE = Path("demo") / "dvc.yaml"
_TO_COMMIT = (
    ".dvc", ".dvcignore", ".gitignore", CODE_FILE, "demo/dvc.lock", DEMO_FILE, "dvc.lock", DVC_FILE,
    PARAMS_FILE, "prompts",
)  # fmt: skip
_CONFIG = Path(".dvc/config")
_KEPT = (PARAMS_FILE, _CONFIG, Path("prompts/README.md"))
"""Files that hold what somebody set: remotes, for one. They are never replaced."""
_ADDED_TO = (Path(".dvcignore"), Path(".gitignore"))
"""Files whose lines somebody may have added to: they get the lines that they lack."""
_REMARKS = re.compile(r"^(?:#.*\n)*")
_CODE_STAGE = re.compile(r"^  code:\n(?:    .*\n)*\n?", re.MULTILINE)

_HEADER = """\
# The pipeline, as `fade new` wrote it: change params.yaml instead. code.json stands for the installed
# code, `fade run` keeps it up to date; `fade new . --force` writes this file anew after an upgrade.
"""
_DEMO_DVC_YAML = """\
# The demo's images, in a pipeline of their own, so that DVC's cache brings them into the workspaces
# of `dvc exp run --temp` too.
stages:
  images:
    wdir: ..
    cmd: python -P -m pipeline.demo data/demo --seed 0
    params:
      - code.json: [images]
    outs: [data/demo]
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


def project_dvc_yaml() -> str:
    """The text of a project's dvc.yaml: the repository's without the stage ``code``.

    ``-P`` keeps the project's folder off Python's path: a folder ``stages`` there is not the package.
    """
    stages = _CODE_STAGE.sub("", original("dvc.yaml"), count=1)
    return _HEADER + _REMARKS.sub("", stages).replace("python -m", "python -P -m")


def create(folder: Path, params: str, *, demo: bool, git: bool, force: bool = False) -> list[Path]:
    """Write a project folder.

    Args:
        folder: made where there is none.
        params: the text of params.yaml.
        demo: whether a stage writes the demo's images.
        git: whether to make it a git repository, unless it lies in one. Experiments need git.
        force: replace dvc.yaml and code.json where they are there. Others are kept; .gitignore and
            .dvcignore get the lines that they lack.

    Returns:
        The files written, relative to the folder.

    Raises:
        ParameterError: the folder cannot be written, or holds one of the files.
    """
    scm = git and shutil.which("git") is not None
    files = {
        PARAMS_FILE: params,
        DVC_FILE: project_dvc_yaml(),
        CODE_FILE: code_text(),
        Path(".dvc/config"): _DVC_CONFIG.format(scm="" if scm else "    no_scm = true\n"),
        Path(".dvc/.gitignore"): _DVC_GITIGNORE,
        Path(".dvcignore"): _DVCIGNORE,
        Path(".gitignore"): _GITIGNORE,
        Path("prompts/README.md"): _PROMPTS,
        **({DEMO_FILE: _DEMO_DVC_YAML} if demo else {}),
    }
    present = [path for path in files if (folder / path).exists()]
    if present and not force:
        raise ParameterError(
            f"{folder} already has {', '.join(map(str, present))}: name another folder, or replace "
            f"dvc.yaml and {CODE_FILE} with --force (params.yaml and what else you set is kept)"
        )
    try:
        if _CONFIG in present and "no_scm" in (folder / _CONFIG).read_text(encoding="utf-8"):
            scm = False
        for path in present:
            if path in _KEPT:
                del files[path]
            elif path in _ADDED_TO:
                files[path] = _with_lines((folder / path).read_text(encoding="utf-8"), files[path])
        for path, text in files.items():
            write_file(folder / path, text)
        if scm and git_says(folder, "rev-parse", "--is-inside-work-tree") is None:
            subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    except (OSError, UnicodeDecodeError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "strerror", None) or error
        raise ParameterError(f"{folder} cannot become a project folder: {detail}") from None
    return list(files)


def _with_lines(text: str, lines: str) -> str:
    """A text with those lines at its end that it lacks.

    >>> _with_lines("/notes/", "/logs/\\n/notes/\\n")
    '/notes/\\n/logs/\\n'
    """
    there = text.splitlines()
    lacking = [f"{line}\n" for line in lines.splitlines() if line not in there]
    between = "\n" if lacking and text and not text.endswith("\n") else ""
    return text + between + "".join(lacking)


def commit_command(folder: Path) -> str:
    """The first commit of a project, which takes its own files alone: images may lie beside them."""
    names = [str(name) for name in _TO_COMMIT if (folder / name).exists()]
    return f"git add {' '.join(names)} && git commit -m start"


def check_apart(folder: Path, data: str | None) -> None:
    """Refuse a project folder among its images: DVC hashes those, and allows no .dvcignore there.

    Raises:
        ParameterError: the folder is that of the images, or lies in it.
    """
    if data is None or not os.path.isdir(os.path.expanduser(data)):
        return
    root, place = Path(data).expanduser().resolve(), folder.resolve()
    if root == place or root in place.parents:
        raise ParameterError(
            f"{folder} lies among the images in {data}, where DVC allows no project: name a folder "
            "beside it"
        )


def given_path(value: str | None) -> str | None:
    """A path that was typed here, for a params.yaml elsewhere: absolute, if it names something."""
    if value is None or not os.path.exists(os.path.expanduser(value)):
        return value
    return os.path.abspath(os.path.expanduser(value))
