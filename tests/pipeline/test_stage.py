"""What a stage says: lines that steer no terminal, and a log in which tracebacks stay readable."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from fade.errors import CONTROL, ParameterError, plain
from fade.files import write_file
from pipeline import stage as runner
from pipeline.config.load import load_params
from pipeline.config.originals import TEMPLATE
from pipeline.stage import check_unchanged, used_parameters
from tests.projects import ROOT, STAGES

EVIL = "\x1b[2J\x1b]0;own\x07evil\nmanifest: error: fake line\x9b\u202e.png"
SHOWN = r"\x1b[2J\x1b]0;own\x07evil\nmanifest: error: fake line\x9b\u202e.png"


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """The stages' log, which gets new handlers here and loses them afterwards."""
    monkeypatch.chdir(tmp_path)
    log, before = runner.log, (runner.log.handlers[:], runner.log.level, runner.log.propagate)
    log.handlers = []
    yield log
    for handler in log.handlers:
        handler.close()
    log.handlers, log.level, log.propagate = before


def lines(text: str) -> list[str]:
    """Lines, none of which holds a control character."""
    found = text.split("\n")
    assert found.pop() == ""
    assert not [line for line in found if CONTROL.search(line)]
    return found


def test_control_characters_are_written_as_escapes() -> None:
    assert plain(EVIL) == SHOWN
    assert plain("Größe 検査.png") == "Größe 検査.png"


def test_a_name_makes_no_second_line(
    log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    path = runner._open_log("manifest")
    log.warning("1 mask belongs to no image: %s", EVIL)
    said = f"1 mask belongs to no image: {SHOWN}"
    assert lines(capsys.readouterr().err) == [f"manifest: {said}"]
    assert path is not None
    (line,) = lines(path.read_text(encoding="utf-8"))
    assert line.endswith(f"WARNING {said}")


def test_a_line_names_its_stage_once(
    log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    runner._open_log("extract")
    log.info("extract: 3 of 5 images, 1 a second, 0:02 left")
    log.info("extracted")
    found = lines(capsys.readouterr().err)
    assert found == ["extract: 3 of 5 images, 1 a second, 0:02 left", "extract: extracted"]


def test_full_memory_of_a_gpu_says_what_to_do() -> None:
    torch = pytest.importorskip("torch")
    known = runner.as_user_error(
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    )
    assert known is not None
    assert known.exit_code == 2
    assert "runtime.batch_size" in str(known)


@pytest.mark.parametrize("command", ["run", "doctor"])
@pytest.mark.skipif(sys.platform == "win32", reason="where somebody is no folder can go")
def test_a_folder_that_is_gone_is_said_so(tmp_path: Path, command: str) -> None:
    (tmp_path / "gone").mkdir()
    code = "import os, sys; os.rmdir(os.getcwd()); from pipeline.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split()], cwd=tmp_path / "gone", check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    said = "error: the folder that this was started in is gone: change to another\n"
    assert (done.returncode, done.stderr) == (2, said)


@pytest.mark.skipif(os.name == "nt", reason="pipes and links of POSIX")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("pipe", "it is no plain file"),
        ("circle", "it is a link that leads back to itself"),
        ("file/a.csv", "a file is where a folder must be"),
        ("file/b/a.csv", "a part of its path is no folder"),
    ],
)
def test_a_file_that_cannot_be_written_there_is_named(
    name: str, reason: str, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r".") as caught:
        write_file(tmp_path / name, "x")
    known = runner.as_user_error(caught.value)
    assert known is not None
    assert known.exit_code == 5
    assert re.search(rf"{name.split('/')[0]}.*: {reason}: ", str(known))


def test_a_package_of_an_extra_says_which_one() -> None:
    known = runner.as_user_error(ModuleNotFoundError("no", name="open_clip.model"))
    assert known is not None
    assert known.exit_code == 2
    assert "`pip install 'fade-pipeline[cpu]'`" in str(known)
    assert runner.as_user_error(ModuleNotFoundError("no", name="pipeline.nothing")) is None


BARE = f"""
import importlib, sys
from pipeline.stage import OF_RUNS
sys.modules.update(dict.fromkeys((*OF_RUNS, "packaging")))
if sys.argv[1] == "import":
    for name in {STAGES!r}:
        importlib.import_module("stages." + name)
else:
    from pipeline.cli.main import main
    main()
"""
"""A program in an environment with no extra at all."""


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("import",), 0, ""),  # a stage that can be imported says in a line what it lacks
        (("doctor",), 1, "faiss: not installed: run `pip install 'fade-pipeline[cpu]'`"),
        (
            ("new", "parts", "--preset", "own-fewshot", "--no-git"),
            0,
            "warning: dvc is not installed",
        ),
    ],
)
def test_without_any_extra_nothing_is_unexpected(
    tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BARE, *words], cwd=tmp_path, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    told = done.stdout + done.stderr
    assert done.returncode == code, told
    assert said in told
    assert "Traceback" not in told
    assert "unexpected" not in told


def test_tracebacks_keep_their_lines(
    log: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(params: object) -> None:
        raise RuntimeError(EVIL)

    stage = ModuleType("broken_stage")
    stage.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "broken_stage", stage)
    monkeypatch.setattr(runner, "load_params", lambda: load_params(TEMPLATE))
    with pytest.raises(SystemExit):
        runner.run_stage("broken_stage")
    (line,) = lines(capsys.readouterr().err)
    assert line.startswith(f"broken_stage: unexpected RuntimeError: {SHOWN}; the traceback is in")
    (file,) = Path("logs").iterdir()
    written = lines(file.read_text(encoding="utf-8"))
    assert "Traceback (most recent call last):" in written
    assert "    raise RuntimeError(EVIL)" in written


DVC = """stages:
  evaluate:
    cmd: x
    params:
      - fusion.vision_weight
      - params.yaml: [evaluate]
      - code.json: [evaluate]
"""


def test_parameters_that_change_while_a_stage_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert used_parameters("evaluate") == {}
    Path("dvc.yaml").write_text(DVC)
    file = Path("params.yaml")
    text = "fusion: {vision_weight: 0.5, normalize: none}\nevaluate: {size: 64}\n"
    file.write_text(text)
    Path("code.json").write_text('{"evaluate": "a1", "report": "b1"}')
    used = used_parameters("evaluate")
    assert used == {
        "fusion.vision_weight": 0.5, "evaluate": {"size": 64}, "code.json:evaluate": "a1"
    }  # fmt: skip
    assert used_parameters("unknown") == {}
    file.write_text(f"# a remark\n{text}".replace("none", "other"))  # nothing that the stage reads
    check_unchanged("evaluate", used)
    for changed in (text.replace("0.5", "0.9"), text.replace("64", "65"), "fusion: [", ""):
        file.write_text(changed)
        with pytest.raises(ParameterError, match=r"changed while this stage ran|cannot be read"):
            check_unchanged("evaluate", used)
    file.unlink()
    with pytest.raises(ParameterError, match="changed while this stage ran"):
        check_unchanged("evaluate", used)
    file.write_text(text)
    Path("code.json").write_text('{"evaluate": "a2", "report": "b1"}')
    with pytest.raises(
        ParameterError, match=r"changed while this stage ran \(code\.json:evaluate\)"
    ):
        check_unchanged("evaluate", used)
    for broken in ("stages: [", "stages: {evaluate: {params: 3}}", "x: 1"):
        Path("dvc.yaml").write_text(broken)
        with pytest.raises(ParameterError, match=r"dvc\.yaml cannot be read"):
            used_parameters("evaluate")


def test_another_python_is_one_line() -> None:
    """`dvc repro` without the environment: -S looks into no site-packages."""
    command = [sys.executable, "-S", "-m", "stages.manifest"]
    ended = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith(
        f"error: {sys.executable} has no numpy: activate the environment"
    )
    assert ended.stderr.count("\n") == 1
