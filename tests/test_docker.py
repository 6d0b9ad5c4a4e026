"""Container files: what a build would refuse, and what a container should not be, seen without Docker."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from docs.docker.needs import needs
from pipeline.cli.commands import app
from tests.projects import ROOT

FOLDER = ROOT / "docs" / "docker"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
IMAGES = ("cpu", "gpu", "edge")


@dataclass
class Stage:
    """One FROM of a Dockerfile, with its instructions as name and text."""

    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return [text for step, text in self.steps if step == name]


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Name and text of each instruction, comments and line breaks taken out."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in lines.replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name.upper(), " ".join(rest.split())


def stages(text: str) -> dict[str, Stage]:
    """The stages of a Dockerfile by name, with defaults of ARG put into their bases."""
    arguments: dict[str, str] = {}
    found: dict[str, Stage] = {}
    current: Stage | None = None
    for name, rest in instructions(text):
        if name == "FROM":
            base, _, alias = rest.partition(" AS ")
            for key, value in arguments.items():
                base = base.replace(f"${{{key}}}", value)
            found[alias] = current = Stage(base)
        elif current is None:
            assert name == "ARG", f"{name} before FROM"
            key, _, value = rest.partition("=")
            arguments[key] = value
        else:
            current.steps.append((name, rest))
    return found


DOCKERFILE = stages((FOLDER / "Dockerfile").read_text(encoding="utf-8"))
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))


def line(image: str) -> list[Stage]:
    """An image's stages, its bases first."""
    found = [DOCKERFILE[image]]
    while found[0].base in DOCKERFILE:
        found.insert(0, DOCKERFILE[found[0].base])
    return found


def sent(path: str) -> bool:
    """Whether the ignore file lets a path of the repository into a build."""
    ignored = False
    for pattern in (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines():
        if pattern and not pattern.startswith("#"):
            glob = pattern.removeprefix("!").removeprefix("**/")
            parts = Path(path).parts
            places = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
            if any(fnmatch(place, glob) for place in (*places, *parts)):
                ignored = not pattern.startswith("!")
    return not ignored


def test_bases_have_a_tag_and_stages_come_before_their_use() -> None:
    known: set[str] = set()
    for name, stage in DOCKERFILE.items():
        if stage.base not in known:
            tag = stage.base.rpartition(":")[2]
            assert re.fullmatch(r"[\d.]+-[\w-]+", tag), f"{name}: {stage.base} is not pinned"
        for origin in re.findall(r"(?:--|,)from=([\w-]+)", " ".join(t for _, t in stage.steps)):
            assert origin in known, f"{name} takes files of {origin}, which comes later or never"
        known.add(name)
    assert set(IMAGES) <= known


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_nobody_special(image: str) -> None:
    steps = [step for stage in line(image) for step in stage.steps]
    names = [name for name, _ in steps]
    assert dict(steps)["USER"] not in ("0", "root")
    assert {"RUN", "COPY", "ADD"}.isdisjoint(names[names.index("USER") :]), "written by another"
    run = " ".join(text for name, text in steps if name == "RUN")
    assert f"--uid {dict(steps)['USER']}" in run
    assert not re.search(r"\b(sudo|curl|wget)\b", run)
    if "apt-get" in run:
        assert "--no-install-recommends" in run
        assert "rm -rf /var/lib/apt/lists/*" in run
    assert yaml.safe_load(dict(steps)["CMD"])[0] == "fade", "commands are lists: signals reach them"


def test_no_secret_is_built_in() -> None:
    for stage in DOCKERFILE.values():
        for text in (*stage.all("ENV"), *stage.all("ARG")):
            assert not re.search(r"token|secret|password|key", text, re.I), text
    for name in ("data/part.png", ".fade/store/x", ".git/config", ".env", "params.local.yaml"):
        assert not sent(name), f"{name} would be sent to the build"


def test_what_is_copied_is_there_and_is_sent() -> None:
    for stage in DOCKERFILE.values():
        for text in stage.all("COPY"):
            if "--from=" not in text:
                for source in shlex.split(text)[:-1]:
                    assert (ROOT / source).exists(), source
                    assert sent(source), f"{source} is kept from the build"
    copied = {source for text in DOCKERFILE["wheel"].all("COPY") for source in text.split()[:-1]}
    packages = {file.parent.name for file in ROOT.glob("*/py.typed")}
    assert packages | {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"]} <= copied
    assert sent("pipeline/cli/app.py")
    assert not sent("pipeline/cli/__pycache__/app.pyc")


@pytest.mark.parametrize("image", IMAGES)
def test_extras_exist_and_the_program_comes_after_what_it_needs(image: str) -> None:
    steps = DOCKERFILE[f"{image}-packages"].all("RUN")
    (asked,) = (found for step in steps if (found := re.search(r"needs\.py ([\w ]+) >", step)))
    extras = asked[1].split()
    assert image in extras
    lines = subprocess.run(
        [sys.executable, str(FOLDER / "needs.py"), *extras],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    names = {re.split(r"[\[<>=!~ ]", one)[0] for one in lines}
    assert {"typer", "fastapi"} <= names
    assert ("torch" in names) == (image != "edge")
    assert ("onnxruntime" in names) == (image == "edge")
    assert not any(name.startswith(PROJECT["name"]) for name in names)
    assert "/wheels/*.whl" in steps[-1], "a change of the program would install all anew"


def test_an_extra_that_is_not_there() -> None:
    with pytest.raises(KeyError, match="cpus"):
        needs(ROOT / "pyproject.toml", ["cpus"])


def accepted(command: list[str]) -> None:
    """Refuse what the program of a container's command would not take."""
    if command[0] == "fade":
        root = typer.main.get_command(app)
        with root.make_context("fade", [*command[1:]]) as context:
            name, sub, rest = root.resolve_command(context, command[1:])  # type: ignore[attr-defined]
            sub.make_context(name, rest, parent=context).close()
        return
    assert command[0] == "dask"
    from distributed.cli import dask_scheduler, dask_worker

    program = {"scheduler": dask_scheduler, "worker": dask_worker}[command[1]].main
    program.make_context(command[1], command[2:]).close()


def test_commands_of_images_and_services_are_real() -> None:
    for image in IMAGES:
        command = yaml.safe_load(dict(DOCKERFILE[image].steps)["CMD"])
        if command != ["fade", "--help"]:
            accepted(command)
    for name, service in COMPOSE["services"].items():
        words = [re.sub(r"\$\{\w+:-(.*)\}", r"\1", word) for word in service["command"]]
        accepted(words)
        assert service["build"]["target"] in IMAGES, name
    with pytest.raises(Exception, match="No such option"):
        accepted(["fade", "run", "--workers"])


def test_services_find_each_other_and_only_this_machine_finds_them() -> None:
    services = COMPOSE["services"]
    # podman-compose starts one worker where no mode is said
    assert services["worker"]["deploy"] == {"mode": "replicated", "replicas": 2}
    address = f"tcp://scheduler:{services['scheduler']['command'][3]}"
    assert address in services["worker"]["command"]
    assert address in (ROOT / "docs" / "docker.md").read_text(encoding="utf-8")
    for name, service in services.items():
        for other, until in service.get("depends_on", {}).items():
            wants_health = until["condition"] == "service_healthy"
            assert not wants_health or "healthcheck" in services[other]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert ".." not in "".join(service["volumes"])
        assert "hub:/hub" in service["volumes"]
        assert "hub" in COMPOSE["volumes"]
        assert not service["user"].startswith("0")
        place = (FOLDER / service["build"]["context"]).resolve()
        assert (place / service["build"]["dockerfile"]).is_file()


def test_health_is_asked_where_the_server_answers() -> None:
    (check,) = DOCKERFILE["edge"].all("HEALTHCHECK")
    command = yaml.safe_load(dict(DOCKERFILE["edge"].steps)["CMD"])
    port = command[command.index("--port") + 1]
    assert f"http://127.0.0.1:{port}/health" in check
    served = COMPOSE["services"]["serve"]
    assert f":{served['command'][-1]}/health" in served["healthcheck"]["test"][-1]
