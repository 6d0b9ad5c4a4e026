"""Stages in forked children: a server has imported everything, so that a run costs its work alone.

Started as ``python -m tests.forks`` by the program of :mod:`tests.interpreter`, it reads a JSON object
a line (see :class:`Run`), forks, and answers with how the child ended. The server itself starts no
thread, so that forking it is safe.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from tests.projects import ROOT, STAGES

PRELOADED = (
    "pipeline.report.category_plots", "pipeline.report.html", "pipeline.report.plots",
    *(f"stages.{stage}" for stage in STAGES),
)  # fmt: skip
NOBODY = 65534
WRITES = frozenset({"os.mkdir", "os.rename", "os.remove", "os.rmdir", "open"})
UNWATCHED = ("/logs/", "/dev/", ".pyc")


@dataclass(frozen=True)
class Run:
    """One run of a stage.

    Attributes:
        stage: its name.
        folder: of the project.
        kill_after: its process group is killed after so many seconds; None lets it live.
        kill_at: the child kills itself right before this write (file opened to write, renamed or
            removed, folder made or removed), counted from 1; 0 lets it live.
        small: how many images or prompts a segment or block takes; 0 leaves it as it is.
        nobody: whether to run as a user without rights.
        environment: additions to it.
    """

    stage: str
    folder: str
    kill_after: float | None = None
    kill_at: int = 0
    small: int = 3
    nobody: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class End:
    """How a run ended.

    Attributes:
        code: exit code, or minus the signal.
        seconds: from the fork on.
        stderr: what it said.
        writes: how many there were; 0 if it was killed.
        work: what was computed, a number for each step (images encoded, rows scored, ...).
    """

    code: int
    seconds: float
    stderr: str
    writes: int
    work: tuple[int, ...]


class Forks:
    """The client of a server; use it as a context manager.

    Args:
        python: the interpreter's program, whose libraries are loaded.
    """

    def __init__(self, python: Path) -> None:
        self._server = subprocess.Popen(
            [python, "-m", "tests.forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={
                **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
                # results name the code's revision, which may change while tests run
                "GIT_DIR": os.devnull,
            },
        )  # fmt: skip

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(60)
        self._server.stdout.close()

    def run(self, run: Run) -> End:
        """Run a stage to its end or to its kill."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(asdict(run)) + "\n")
        self._server.stdin.flush()
        line = self._server.stdout.readline()
        assert line, "the server died"
        answer = json.loads(line)
        return End(**(answer | {"work": tuple(answer["work"])}))


def _serve() -> None:
    import gc
    import importlib
    import tempfile

    for name in PRELOADED:
        importlib.import_module(name)
    importlib.import_module("pipeline.report.html").page_template()
    gc.collect()
    gc.freeze()  # children do not copy what only the collector would touch
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o777)
        files = {name: Path(scratch, name) for name in ("stderr", "work", "writes")}
        for line in sys.stdin:
            for file in files.values():
                file.write_text("")
                file.chmod(0o666)
            run = Run(**json.loads(line))
            start = time.monotonic()
            child = os.fork()
            if not child:
                _child(run, files)
            os.setpgid(child, child)  # there too: whoever comes first
            ended, status = 0, 0
            if run.kill_after is not None:
                while not ended and time.monotonic() - start < run.kill_after:
                    time.sleep(0.001)
                    ended, status = os.waitpid(child, os.WNOHANG)
                if not ended:
                    os.killpg(child, signal.SIGKILL)
            if not ended:
                _, status = os.waitpid(child, 0)
            end = End(
                os.waitstatus_to_exitcode(status),
                time.monotonic() - start,
                files["stderr"].read_text(),
                int(files["writes"].read_text() or 0),
                tuple(map(int, files["work"].read_text().split())),
            )
            print(json.dumps(asdict(end)), flush=True)


def _child(run: Run, files: Mapping[str, Path]) -> NoReturn:
    import importlib

    os.setpgid(0, 0)
    os.environ.update(run.environment)
    output = os.open(files["stderr"], os.O_WRONLY | os.O_APPEND)
    work = os.open(files["work"], os.O_WRONLY | os.O_APPEND)
    writes = os.open(files["writes"], os.O_WRONLY)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(run.folder)
    if run.nobody:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    module = importlib.import_module(f"stages.{run.stage}")
    ours = [m for n, m in sys.modules.items() if n.startswith(("pipeline.", "stages."))]
    for name in ("SEGMENT_IMAGES", "BLOCK_IMAGES", "SEGMENT_PROMPTS"):
        for one in ours:  # whoever planned or imported it
            if run.small and hasattr(one, name):
                setattr(one, name, run.small)
    _count_work(module, lambda count: os.write(work, b"%d\n" % count))
    seen = _count_writes(run)
    code = 1
    try:
        importlib.import_module("pipeline.stage").run_stage(f"stages.{run.stage}")
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os.write(writes, b"%d" % len(seen))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _count_work(module: Any, note: Callable[[int], int]) -> None:
    """Note how much each step computes, whether it is stored in the end or not."""
    from fade.encoder import Encoder

    def noted(function: Any, size: Callable[..., int]) -> Any:
        def step(*args: Any, **options: Any) -> Any:
            note(size(*args))
            return function(*args, **options)

        return step

    Encoder.start_encoding = noted(  # type: ignore[method-assign]
        Encoder.start_encoding, lambda encoder, pixels, wanted, *_: len(pixels) * len(wanted)
    )
    Encoder.encode_texts = noted(  # type: ignore[method-assign]
        Encoder.encode_texts, lambda encoder, texts, *_: len(texts)
    )
    from pipeline.scoring import pairs, plan

    size = lambda task: len(task.block.keys) * len(task.block.against)  # noqa: E731
    plan.score_block = noted(plan.score_block, size)
    pairs.score_pairs = noted(pairs.score_pairs, lambda task: task.weight)


def _count_writes(run: Run) -> list[None]:
    """A list that grows with each write; the one that ``kill_at`` names is the process's last."""
    seen: list[None] = []

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event not in WRITES or any(part in str(args[0]) for part in UNWATCHED):
            return
        if event == "open" and not (
            args[2] & (os.O_WRONLY | os.O_RDWR) if isinstance(args[2], int) else args[1] != "r"
        ):
            return
        seen.append(None)
        if len(seen) == run.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return seen


if __name__ == "__main__":
    _serve()
