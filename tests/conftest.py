"""Fixtures: project folders in which the real stages run."""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.interpreter import Interpreter
from tests.objectstore import (
    AZURITE,
    Bucket,
    azure_server,
    open_bucket,
    open_container,
    s3_server,
)
from tests.projects import GOLDEN, golden_weights, models_shared

os.environ.setdefault("OMP_NUM_THREADS", "1")
# the same examples each time: a test that fails today must not pass tomorrow
settings.register_profile("fade", derandomize=True, deadline=None, max_examples=40)
settings.load_profile("fade")


SLOW = (
    "test_docs",
    "test_dvc_repro",
    "test_wheel",
    "test_nonsquare",
    "test_kill",
    "test_invariants",
    "test_promises",
    "test_benchmarks",
    "test_modes",
    "test_faults",
    "test_distributed",
    "test_read_only",
    "test_urls",
    "test_wrong_input",
    "test_predictor",
    "test_store_url",
    "test_notebooks",
    "test_main",
)
"""Files that take longest, by CPU seconds: begun first, so that at the end no process waits alone."""

TOGETHER = {"undisturbed": ("stages/test_kill", "stages/test_faults")}
"""Files that share a long fixture: one process runs them all."""


gc.disable()  # while modules are loaded, which all stay


def pytest_collection(session: pytest.Session) -> None:
    """Of the processes one imports from the last file on: in a fresh clone each compiles half of all."""
    if os.environ.get("PYTEST_XDIST_WORKER") != "gw1" or session.config.args != ["tests"]:
        return
    for file in sorted(Path(__file__).parent.rglob("test_*.py"), reverse=True):
        name = file.relative_to(session.config.rootpath).with_suffix("")
        with contextlib.suppress(Exception, pytest.skip.Exception):  # the collection tells of it
            importlib.import_module(".".join(name.parts))


def pytest_collection_finish() -> None:
    """Modules are loaded: the collector need not look at them again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, all others in their order."""
    place = {name: number for number, name in enumerate(SLOW)}
    items.sort(key=lambda item: place.get(item.path.stem, len(SLOW)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile`, files that share a fixture go to one process, as the tests of a file do."""
    from xdist.scheduler import LoadFileScheduling

    shared = {f"tests/{name}.py": what for what, names in TOGETHER.items() for name in names}

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return shared.get(file, file)

    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """A stage that ran in this process leaves no handler to the next test."""
    log, root = logging.getLogger("fade"), logging.getLogger()
    before, level = (log.handlers[:], log.level, log.propagate), root.level
    yield
    assert root.level == level, "the test changed which warnings others can see"
    for handler in log.handlers:
        if handler not in before[0]:
            handler.close()
    log.handlers[:], log.level, log.propagate = before


@pytest.fixture(scope="session")
def golden_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the golden model, as a checkpoint file."""
    return golden_weights(tmp_path_factory.mktemp("weights") / "golden.pt")


@pytest.fixture
def shared_models() -> Iterator[None]:
    """The test does not look at how models are loaded, so that it takes those of others."""
    with models_shared():
        yield


@pytest.fixture(scope="session")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interpreter]:
    """A ``python`` whose libraries are loaded already, for commands in processes of their own."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all
    with Interpreter(folder / "python") as found:
        yield found


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Data outside the repository; the test is skipped where there are none."""
    folder = Path(os.environ.get("FADE_TEST_DATA", GOLDEN.parent.parent.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no data at FADE_TEST_DATA ({folder})")
    return folder


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 server on loopback."""
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def azure_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An Azurite on loopback; the test is skipped where it is not installed."""
    if shutil.which(AZURITE) is None:
        pytest.skip(f"no {AZURITE} on the PATH (npm install -g azurite)")
    with azure_server(tmp_path_factory.mktemp("azurite")) as endpoint:
        yield endpoint


@pytest.fixture(params=["s3", "gs", "az"])
def any_bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket of each cloud, see :func:`bucket`."""
    if request.param == "az":
        opened = open_container(request.getfixturevalue("azure_endpoint"), monkeypatch)
    else:
        opened = open_bucket(request.getfixturevalue("s3_endpoint"), monkeypatch, request.param)
    with opened as found:
        yield found


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket behind a proxy that can fail; the environment leads there."""
    with open_bucket(s3_endpoint, monkeypatch) as opened:
        yield opened
