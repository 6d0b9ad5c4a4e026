"""Stages of `fade run` as forks: what they see, how they end, and what happens without their server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.process import fork_server, run_dvc
from tests.projects import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stages are forked on Linux alone")

STAGE = """
import json, os, sys, threading
from pathlib import Path
from pipeline.process.dvc_watchdog import exit_when_dvc_dies, find_dvc
if __name__ == "__main__":
    found = find_dvc()
    about = dict(
        argv=sys.argv, path=sys.path[0], stage=os.environ["DVC_STAGE"], server=os.getppid(),
        dvc=found and found.pid, threads=threading.active_count(), read=sys.stdin.read(),
        loaded="pandas" in sys.modules, torch="torch" in sys.modules,
    )
    exit_when_dvc_dies()
    Path(f"{about['stage']}.json").write_text(json.dumps(about))
    exec(Path(f"{about['stage']}.do").read_text())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text(
        "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n"
    )
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "__init__.py").write_text("")
    stages = {}
    for name in ("one", "two"):
        (tmp_path / "stages" / f"{name}.py").write_text(STAGE)
        stages[name] = {"cmd": f"python -m stages.{name}", "outs": [f"{name}.out"]}
    stages["two"]["deps"] = ["one.out"]
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    (tmp_path / "one.do").write_text("Path('one.out').touch(); print('told')")
    return tmp_path


def start(folder: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", run_dvc.__file__, "repro"], cwd=folder, text=True,
        env={
            **os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:/bin",
            **environment,
        },
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE,
        start_new_session=True,
        # heeded, as in a terminal: whoever starts the tests in a shell's background ignores it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def seen(folder: Path, stage: str) -> dict[str, object]:
    deadline = time.monotonic() + 60
    while not (folder / f"{stage}.json").exists() or not (folder / f"{stage}.json").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    found: dict[str, object] = json.loads((folder / f"{stage}.json").read_text())
    return found


def test_a_stage_is_what_python_would_start_and_takes_interrupts(folder: Path) -> None:
    (folder / "two.do").write_text(
        "import atexit, signal, time\n"
        "signal.signal(2, signal.default_int_handler)\n"
        "atexit.register(print, 'late')\n"
        "Path('ready').touch()\n"
        "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    sys.exit(130)"
    )
    run = start(folder)
    one, two = seen(folder, "one"), seen(folder, "two")
    while not (folder / "ready").exists():
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGINT)
    said, errors = run.communicate(timeout=60)
    assert one["argv"] == [str(folder / "stages" / "one.py")]
    assert one["path"] == str(folder)
    assert (one["stage"], two["stage"]) == ("one", "two")
    assert one["server"] == two["server"]  # both are its children
    assert one["dvc"] == two["dvc"] == run.pid
    assert (one["threads"], one["read"], one["loaded"], one["torch"]) == (1, "", True, False)
    assert "told" in said
    assert "late" in said
    assert (run.returncode, errors) == (255, "")
    assert "failed to run: python -m stages.two, exited with 130" in said


def test_a_stage_whose_server_is_killed_ends_with_dvc(folder: Path) -> None:
    (folder / "two.do").write_text("import time; time.sleep(60)")
    run = start(folder)
    server = psutil.Process(int(str(seen(folder, "two")["server"])))
    (stage,) = server.children()
    server.kill()
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 255
    assert "failed to run: python -m stages.two" in said
    psutil.wait_procs([stage], timeout=20)
    assert not stage.is_running() or stage.status() == psutil.STATUS_ZOMBIE


def servers(run: subprocess.Popen[str]) -> list[int]:
    """Processes below a DVC that are servers of stages."""
    below = psutil.Process(run.pid).children()
    return [one.pid for one in below if fork_server.__name__ in one.cmdline()]


def test_a_server_that_is_started_ahead_is_the_one_that_dvc_wants(folder: Path) -> None:
    (folder / "two.do").write_text("Path('two.out').touch()")
    run = start(folder, **{run_dvc.STAGES_AHEAD: "1"})
    deadline = time.monotonic() + 60
    while not (ahead := servers(run)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not (folder / "one.json").exists()
    assert [seen(folder, stage)["server"] for stage in ("one", "two")] == 2 * ahead
    assert run.communicate(timeout=60)[1] == ""
    assert run.returncode == 0


def test_a_server_for_another_environment_is_started_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/bin")
    started: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *given: Any, **settings: Any) -> None:
            super().__init__(*given, **settings)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    stages = run_dvc._Stages()
    stages.start_ahead()
    wanted = {**os.environ, "DVC_ROOT": str(folder), "DVC_STAGE": "one", "OTHER": "1"}
    settings = {"cwd": str(folder), "env": wanted, "close_fds": True, "shell": False}
    assert stages.run("python -m stages.one", settings) == 0
    first, second = started
    assert first.wait(60) == 0  # nobody asks it any more
    assert seen(folder, "one")["server"] == second.pid
    wanted["OTHER"] = "2"  # stages have begun: this one is started in the ordinary way
    assert stages.run("python -m stages.one", settings) is None
    del stages
    assert second.wait(60) == 0


def test_beside_a_model_nothing_is_loaded_and_before_a_stage_what_it_needs(folder: Path) -> None:
    for old, new in (("one", "extract"), ("two", "bank")):
        (folder / "stages" / f"{old}.py").rename(folder / "stages" / f"{new}.py")
        (folder / f"{new}.do").write_text(
            "import time\n"
            f"time.sleep({3 * (new == 'extract')})\n"
            f"Path('{old}.out').touch()\n"
            "print(*(name for name in ('zarr', 'faiss', 'scipy') if name in sys.modules))"
        )
    text = (folder / "dvc.yaml").read_text()
    text = text.replace("stages.one", "stages.extract").replace("stages.two", "stages.bank")
    text = text.replace('"one":', '"extract":').replace('"two":', '"bank":')
    (folder / "dvc.yaml").write_text(text)
    said, errors = start(folder).communicate(timeout=60)
    assert errors == ""
    assert [line for line in said.splitlines() if line.startswith("zarr")] == ["zarr", "zarr faiss"]


def test_an_interrupt_while_a_stage_s_libraries_load_ends_the_run(folder: Path) -> None:
    """DVC leaves it to the stage, which is not there yet."""
    (folder / "stages" / "one.py").rename(folder / "stages" / "extract.py")
    text = (folder / "dvc.yaml").read_text().replace("stages.one", "stages.extract")
    (folder / "dvc.yaml").write_text(text)
    (folder / "cv2.py").write_text("import time\nopen('loads', 'w').close()\ntime.sleep(1)\n")
    run = start(folder)
    while not (folder / "loads").exists():
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGINT)
    said, errors = run.communicate(timeout=60)
    assert (run.returncode, errors) == (255, "")
    assert "failed to run: python -m stages.extract, exited with 130" in said
    assert not (folder / "one.out").exists()


def test_libraries_start_no_thread_but_those_that_take_care_of_forks() -> None:
    """jemalloc's, which pyarrow brings; those of BLAS are left out by the environment here."""
    names = (*fork_server.FIRST, *fork_server.LATER, "torch")
    code = (
        "import importlib, os\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "tasks = set(os.listdir('/proc/self/task')) - {str(os.getpid())}\n"
        "print({open(f'/proc/self/task/{task}/comm').read() for task in tasks} - {'jemalloc_bg_thd\\n'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.stdout == "set()\n"
