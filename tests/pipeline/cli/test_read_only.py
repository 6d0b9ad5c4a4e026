"""Commands that answer questions change nothing: project and store are the same, byte for byte.

Python's ``__pycache__`` and ``logs/`` are the only exceptions, see :data:`tests.snapshots.ALLOWED`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from cache.store import Store
from pipeline.artefacts.catalogue import REPORT, THRESHOLDS, VISION
from pipeline.cli.commands import app
from pipeline.cli.main import main
from tests.forks import NOBODY, WRITES
from tests.interpreter import Interpreter
from tests.projects import (
    GOLDEN,
    ROOT,
    STAGES,
    changed,
    golden_params,
    lay_pipeline,
    project,
    run_stages,
)
from tests.snapshots import ALLOWED, snapshot
from tests.stages.test_vision_encoder import vision_params

IMAGE = str(GOLDEN / "images" / "weave" / "test" / "hole" / "000.png")
QUESTIONS = {
    "presets": [[], ["--json"]],
    "doctor": [[], ["--json"]],
    "duplicates": [[], ["--json"]],
    "plan": [[], ["--json"], ["--images", "50"]],
    "table": [[], ["--format", "latex"]],
    "compare": [[".", "results"]],
    "cache info": [[], ["--json"]],
    "cache verify": [[], ["--json"]],
    "cache prune": [["--dry-run"], ["--dry-run", "--unused", "--all"]],
    "predict": [[IMAGE, "--category", "weave"], [IMAGE, "--category", "weave", "--json"]],
    "show": [[IMAGE, "--category", "weave"]],
    # these write what they are told to, and there alone
    "bundle": [["{elsewhere}/b.fade"]],
    "export maps": [["{elsewhere}/maps", "--force"]],
    "export masks": [["{elsewhere}/masks", "--force"]],
    # this run is of other data: refused with exit code 2
    "export submission": [["{elsewhere}/mine", "--for", "mvtec-ad-2", "--force"]],
    "export coco": [["{elsewhere}/coco", "--force"]],
    "export fiftyone": [["{elsewhere}/fiftyone", "--force"]],
    "export features": [["{elsewhere}/features", "--force"]],
    "measure": [["--category", "weave", "--images", "2", "--warm-up", "0"]],
}  # fmt: skip
"""Commands that only answer, with arguments; ``{elsewhere}`` is a folder outside the project."""
CHANGES = {"init", "new", "run", "methods", "scan", "cache copy", "serve"}
"""Commands that are there to change something."""


def commands() -> Iterator[str]:
    """Every command of the command line."""
    root: Any = get_command(app)
    for name, command in root.commands.items():
        nested = getattr(command, "commands", None)
        yield from [name] if nested is None else (f"{name} {inner}" for inner in nested)


def calls(elsewhere: Path) -> Iterator[list[str]]:
    """All arguments of :data:`QUESTIONS`."""
    for name, variants in QUESTIONS.items():
        for arguments in variants:
            yield [*name.split(), *(part.format(elsewhere=elsewhere) for part in arguments)]


@pytest.fixture(scope="module")
def content(golden_checkpoint: Path) -> dict[str, Any]:
    return changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint), dataset__limit=2,
        features__segmentation_sizes=[32], threshold__images=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_stages(tmp_path_factory.mktemp("finished"), content, *STAGES)


@pytest.fixture(scope="module")
def finished_with_an_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a network for vision alone."""
    content = vision_params(dataset__limit=2, threshold__images=2)
    return run_stages(tmp_path_factory.mktemp("encoder"), content, *STAGES)


class Watch:
    """Notes writes below a folder while it is on: attempts too, whatever comes of them."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._hook)  # for good: so there is one

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.folder is None or event not in WRITES or not isinstance(args[0], str | os.PathLike):
            return
        if event.startswith("os.") and isinstance(args[-1], int) and args[-1] >= 0:
            return  # a name in a folder that is open elsewhere, as rmtree of temporary ones has it
        if event == "open" and not (
            args[2] & (os.O_WRONLY | os.O_RDWR) if isinstance(args[2], int) else args[1] != "r"
        ):
            return
        path = Path(os.path.abspath(args[0]))
        if path.is_relative_to(self.folder) and not ALLOWED & set(path.parts):
            self.seen.append(f"{event} {path}")


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


def harm(folder: Path) -> None:
    """A bit, a byte, a description, an index entry and a whole segment of the store are lost."""
    store = Store(folder / ".fade" / "store")
    for space in store.spaces():
        place = folder / ".fade" / "store" / store.folder(space)
        whole = sorted(place.glob("segments/*"))
        data = next(path for path in whole[0].rglob("*") if path.is_file() and path.name == "0")
        data.write_bytes(data.read_bytes()[:-1] + b"\x55")
        if len(whole) > 1:
            data = next(p for p in whole[1].rglob("*") if p.is_file() and p.name == "0")
            data.write_bytes(data.read_bytes()[:-1])
    shutil.rmtree(whole[0])
    entry = next(iter(sorted(place.glob("index/*.json"))))
    entry.with_name(f"{'0' * 32}.json").write_bytes(entry.read_bytes()[:-9])
    (place / "index" / "x.json.0.part").write_text("x")


def interrupt(folder: Path) -> None:
    """As after a kill in the middle: receipts and results are gone, parts of files lie about."""
    for artefact in (VISION, THRESHOLDS):
        (folder / artefact.path).unlink()
    shutil.rmtree(folder / REPORT.path)
    (folder / "artefacts" / "manifest.parquet.part").write_text("x")
    segment = next((folder / ".fade" / "store" / "spaces").glob("*/index/*.json"))
    segment.unlink()


@pytest.mark.parametrize(
    ("state", "kind", "run"),
    [(harm, "clone", "finished"), (interrupt, "new", "finished_with_an_encoder")],
)
def test_questions_change_nothing(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    watch: Watch,
    capsys: pytest.CaptureFixture[str],
    state: Callable[[Path], None],
    kind: str,
    run: str,
) -> None:
    folder = tmp_path / "project"
    shutil.copytree(request.getfixturevalue(run), folder)
    content = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    lay_pipeline(folder, kind)
    state(folder)
    with project(folder, content):
        before = snapshot(folder)
        for call in calls(tmp_path):
            watch.folder, watch.seen = folder, []
            try:
                with pytest.raises(SystemExit) as ended:
                    main(call)
            finally:
                watch.folder = None
            errors = capsys.readouterr().err
            # doctor misses what DVC makes of a folder, which these stages ran without; a submission for
            # the server is refused, as the data set is another
            refused = call[0] == "doctor" or "mvtec-ad-2" in call
            allowed = (None, 0, 3, 5, 10, *([2] if refused else []))
            assert ended.value.code in allowed, (call, errors)
            assert "unexpected" not in errors, (call, errors)
            assert not watch.seen, call
            assert snapshot(folder) == before, call


TWICE = """
import json, os, sys
from pipeline.cli.main import main
calls, folder, nobody = json.load(sys.stdin)
for turn in ("as it is", "read-only"):
    if turn == "read-only" and not os.getuid():  # all modules are loaded: whoever can read them
        os.setgroups([])
        os.setgid(nobody)
        os.setuid(nobody)
    os.chdir(folder)
    for call in calls:
        print("call", *call, file=sys.stderr, flush=True)
        try:
            main(call)
        except SystemExit as ended:
            print("ended", turn, ended.code or 0, sep=":", file=sys.stderr, flush=True)
"""


def test_a_project_that_may_only_be_read(finished: Path, interpreter: Interpreter) -> None:
    """First by who may write, as a whole project; then by a user without rights. Help, too."""
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)
        folder, elsewhere = Path(scratch, "project"), Path(scratch, "elsewhere")
        shutil.copytree(finished, folder)
        weights = Path(scratch, "weights.pt")
        text = (folder / "params.yaml").read_text()
        named = next(line for line in text.splitlines() if "pretrained" in line).split(": ")[1]
        shutil.copy(named, weights)  # where anyone may read them
        (folder / "params.yaml").write_text(text.replace(named, str(weights)))
        elsewhere.mkdir()
        for path in (folder, *folder.rglob("*"), weights):
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = snapshot(folder)
        helps = [[*name.split(), "--help"] for name in ("", *QUESTIONS)]
        asked = [*helps, *calls(elsewhere)]
        done = subprocess.run(
            [interpreter.python, "-c", TWICE],
            input=json.dumps([asked, str(folder), NOBODY]),
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(elsewhere)},
        )
        assert snapshot(folder) == before
        assert (elsewhere / "b.fade").exists()
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
    ended = [line.split(":") for line in done.stderr.splitlines() if line.startswith("ended:")]
    assert len(ended) == 2 * len(asked), done.stderr
    assert {code for _, turn, code in ended if turn == "as it is"} <= {"0", "2", "10"}, done.stderr
    # who may write nowhere gets no bundle, and doctor says that the store takes nothing
    assert {code for _, turn, code in ended if turn == "read-only"} <= {"0", "2", "5", "10"}
    assert "unexpected" not in done.stderr, done.stderr


def test_every_command_is_accounted_for() -> None:
    assert set(commands()) == QUESTIONS.keys() | CHANGES
