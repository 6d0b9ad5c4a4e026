"""A real scheduler and two worker processes on loopback: same results, and what happens on loss."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pipeline.compute.distributed
import pipeline.compute.launch
from cache.files import Location
from cache.store import Store
from fade.errors import DataError, FadeError, ModelError, ParameterError
from pipeline.compute.launch import close_sessions, start_local, visible_gpus
from pipeline.compute.marks import Mark, marked
from pipeline.compute.tasks import iterate_tasks, map_tasks
from pipeline.config.cluster import ClusterParams
from tests.interpreter import Interpreter
from tests.machines import Machines
from tests.pipeline.compute.work import gpus, hoard, key_of, note, refuse, slow_first, unknown, who
from tests.projects import changed, golden_params, project, run_stages
from tests.stages.test_method_presets import shrunk
from tests.stages.test_two_models import two_models


@pytest.fixture(scope="module")
def machines(
    tmp_path_factory: pytest.TempPathFactory, interpreter: Interpreter
) -> Iterator[Machines]:
    found = Machines(tmp_path_factory.mktemp("machines"), interpreter.python)
    yield found
    close_sessions()
    found.close()


@pytest.fixture
def doomed(tmp_path: Path, interpreter: Interpreter) -> Iterator[Machines]:
    """Machines for one test, which may do to them what it likes."""
    found = Machines(tmp_path / "machines", interpreter.python)
    yield found
    close_sessions()
    found.close()


def cluster(machines: Machines, **more: Any) -> ClusterParams:
    return ClusterParams(kind="address", address=machines.address, **more)


def test_results_come_in_the_order_of_the_tasks(machines: Machines) -> None:
    tasks = (n for n in range(40))
    done = list(iterate_tasks(slow_first, tasks, cluster(machines), "work", total=40))
    assert done == [(task, [task / 3]) for task in range(40)]
    # a second run of the same name on the same scheduler is another one
    assert map_tasks(refuse, [0, 5], cluster(machines), "work") == [0, 5]


def test_the_dashboard_groups_tasks_by_what_they_are_about(machines: Machines) -> None:
    from dask.utils import key_split

    tasks = [{"category": "bottle"}, {"category": "metal nut"}, {"category": "2x4"}]
    keys = map_tasks(key_of, tasks, cluster(machines), "vision", name=lambda t: t["category"])
    begins = ["vision-bottle-0000-", "vision-metal nut-0001-", "vision-2x4-0002-"]
    assert [key.startswith(begin) for key, begin in zip(keys, begins, strict=True)] == [True] * 3
    assert key_split(keys[0]) == "vision-bottle"


def test_an_error_keeps_its_type_and_its_line(machines: Machines) -> None:
    with pytest.raises(DataError, match=r"^image 1\.png is broken: remove it$"):
        map_tasks(refuse, [0, 1, 2], cluster(machines), "work")


@pytest.mark.parametrize("threads", [1, 2])
def test_both_workers_work_with_so_many_threads(machines: Machines, threads: int) -> None:
    found = map_tasks(who, list(range(8)), cluster(machines, threads_per_worker=threads), "who")
    assert len({pid for pid, _ in found}) == 2
    assert os.getpid() not in {pid for pid, _ in found}
    assert all(counts == {threads} for _, counts in found)


def test_a_worker_with_other_code_refuses(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.compute.distributed, "code_digest", lambda: "older")
    with pytest.raises(ParameterError, match=r"the worker tcp://\S+ has other code"):
        map_tasks(refuse, [0], cluster(machines), "work")


def test_a_worker_that_lacks_a_function_says_so_and_lives(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of another version may."""
    newer = ModuleType("newer")
    exec("def work(task): return task", newer.__dict__)
    monkeypatch.setitem(sys.modules, "newer", newer)
    with pytest.raises(ModelError, match=r"cannot run work-0000 \(No module named 'newer'"):
        map_tasks(newer.work, [0], cluster(machines), "work")
    monkeypatch.setattr(pipeline.compute.distributed, "code_digest", lambda: "newer")
    with pytest.raises(ParameterError, match=r"the worker tcp://\S+ has other code"):
        map_tasks(newer.work, [0], cluster(machines), "work")


def test_a_worker_with_another_folder_refuses(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its store or project is a copy, or nothing is there: what the run leaves is not to be seen."""

    @contextlib.contextmanager
    def copied(places: Iterable[Location]) -> Iterator[tuple[Mark, ...]]:
        with marked(places) as marks:
            yield tuple((Path(f"{place}.copy"), name) for place, name in marks)

    with project(tmp_path, {}):
        assert map_tasks(refuse, [0], cluster(machines), "work", store=tmp_path / "store") == [0]
        monkeypatch.setattr(pipeline.compute.distributed, "SECONDS_TO_SEE", 0.1)
        monkeypatch.setattr(pipeline.compute.distributed, "marked", copied)
        with pytest.raises(ParameterError, match=r"the worker tcp://\S+ does not see \S+/store"):
            map_tasks(refuse, [0], cluster(machines), "work", store=tmp_path / "store")
    assert not [*tmp_path.rglob("*.part")]


def test_a_worker_without_the_packages(machines: Machines) -> None:
    with pytest.raises(ModelError, match=r"cannot run work-0000 .*nonsense.*must be installed"):
        map_tasks(unknown, [0], cluster(machines), "work")


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = ClusterParams(kind="address", address="tcp://127.0.0.1:9")
    monkeypatch.setattr(pipeline.compute.launch, "CONNECT_SECONDS", 1)
    with pytest.raises(ParameterError, match="no dask scheduler answers"):
        map_tasks(refuse, [0], nowhere, "work")


def test_a_worker_that_is_stopped_is_named(
    doomed: Machines, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pipeline.compute.distributed, "SECONDS_BETWEEN_LOOKS", 0.2)
    monkeypatch.setattr(pipeline.compute.distributed, "SECONDS_BETWEEN_LINES", 3.0)
    stopped = doomed.processes["worker-1"].pid
    os.killpg(stopped, signal.SIGSTOP)

    def go_on(record: logging.LogRecord) -> bool:
        if "nothing was heard" in record.getMessage():
            os.killpg(stopped, signal.SIGCONT)
        return True

    caplog.handler.addFilter(go_on)
    try:
        assert map_tasks(refuse, [0, 2, 3, 4, 5, 6], cluster(doomed), "work") == [0, 2, 3, 4, 5, 6]
    finally:
        caplog.handler.removeFilter(go_on)
    assert any("nothing was heard of the workers tcp://" in text for text in caplog.messages)


def test_something_listens_that_is_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.compute.launch, "CONNECT_SECONDS", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        nowhere = ClusterParams(
            kind="address", address=f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        )
        start = time.monotonic()
        with pytest.raises(ParameterError, match="no dask scheduler answers"):
            map_tasks(refuse, [0], nowhere, "work")
        assert time.monotonic() - start < 30


@pytest.fixture(scope="module")
def params(golden_checkpoint: Path) -> dict[str, Any]:
    """All sides of the pipeline, in a few small segments."""
    return changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        features__segmentation_sizes=[96],
        dataset__limit=2,
        threshold__images=2,
        runtime={"device": "cpu", "batch_size": 2, "loader_workers": 2},
    )


@pytest.fixture(scope="module")
def expected(params: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("synchronous")
    with small_tasks():
        return results(run_stages(folder, params))


@contextlib.contextmanager
def small_tasks() -> Iterator[None]:
    import pipeline.dataset.manifest
    import pipeline.features.plan
    from pipeline.scoring.bank_plan import VisionPlan
    from pipeline.scoring.language import LanguagePlan

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.dataset.manifest, "CHUNK_FILES", 8)
        patch.setattr(pipeline.features.plan, "SEGMENT_IMAGES", 2)
        patch.setattr(LanguagePlan, "block_images", 4)
        patch.setattr(VisionPlan, "block_images", 4)
        yield


def results(folder: Path) -> dict[str, bytes]:
    names = ("metrics.csv", "summary.csv", "thresholds.json", "scores.parquet")
    found = {name: (folder / "results" / name).read_bytes() for name in names}
    for name in ("references", "test", "language", "vision"):
        found[name] = receipt(folder, name)
    return found | banks(folder)


def banks(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted((folder / "artefacts" / "banks").rglob("*.faiss"))
    }


def receipt(folder: Path, name: str) -> bytes:
    return (folder / "artefacts" / "receipts" / f"{name}.parquet").read_bytes()


def no_row_twice(folder: Path) -> None:
    store = Store(folder / ".fade" / "store")
    for space in store.spaces():
        keys = [key for entry in store.entries(space) for key in entry.keys]
        assert len(keys) == len(set(keys)), f"{space.label} was computed twice"


def test_the_pipeline_gives_the_same_bits(
    machines: Machines, params: dict[str, Any], expected: dict[str, bytes], tmp_path: Path
) -> None:
    there = changed(params, cluster={"kind": "address", "address": machines.address})
    with small_tasks():
        run_stages(tmp_path, there)
    assert results(tmp_path) == expected
    no_row_twice(tmp_path)


def test_each_task_names_the_store_that_it_uses(
    params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, Location | None] = {}

    def noted(jobs: Any, cluster: Any, label: str, done: Any, *, store: Any = None) -> Any:
        found[label] = store
        for key, job in jobs:
            yield job()
            done(key)

    monkeypatch.setattr(pipeline.compute.distributed, "run_distributed", noted)
    there = {"kind": "address", "address": "tcp://127.0.0.1:9"}
    labels = set()
    for keep in (True, False):
        folder = tmp_path / str(keep)
        run_stages(folder, changed(params, cluster=there, features__keep=keep))
        assert found.pop("manifest") is None
        assert set(found.values()) == {folder / ".fade" / "store"}
        labels |= set(found)
        found.clear()
    assert labels == {
        "extract", "bank", "language", "vision", "stream", "calibrate", "evaluate"
    }  # fmt: skip


@pytest.mark.parametrize("method", ["superadd", "subspacead", "musc"])
def test_each_rule_gives_the_same_bits(machines: Machines, method: str, tmp_path: Path) -> None:
    """Banks thinned by draws, fitted components, pairs of a batch; from the same features."""
    here = changed(shrunk(f"own-{method}"), cluster={"kind": "synchronous"})
    if method == "superadd":
        here["vision"]["bank_size"] = 20  # of 5 x 16 patches
    there = changed(here, cluster={"kind": "address", "address": machines.address})
    run_stages(tmp_path / "here", here, "manifest", "select", "extract")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    with small_tasks():
        for name, params in (("here", here), ("there", there)):
            run_stages(tmp_path / name, params, "bank", "score_vision")
    assert receipt(tmp_path / "there", "vision") == receipt(tmp_path / "here", "vision")
    assert banks(tmp_path / "there") == banks(tmp_path / "here")
    no_row_twice(tmp_path / "there")


def test_two_models_in_tiles_give_the_same_bits(
    machines: Machines, golden_checkpoint: Path, tmp_path: Path
) -> None:
    """CLIP's language beside another network: each worker holds one of them at a time."""
    here = two_models(golden_checkpoint)
    there = changed(here, cluster={"kind": "address", "address": machines.address})
    with small_tasks():
        for name, params in (("here", here), ("there", there)):
            run_stages(tmp_path / name, params, "manifest", "select", "extract")
    for name in ("references", "test"):
        assert receipt(tmp_path / "there", name) == receipt(tmp_path / "here", name)
    no_row_twice(tmp_path / "there")


def test_the_plan_counts_the_workers(
    machines: Machines, params: dict[str, Any], tmp_path: Path
) -> None:
    from pipeline.config.load import load_params
    from pipeline.project.plan import plan

    there = changed(params, cluster={"kind": "address", "address": machines.address})
    with project(tmp_path, there):
        found = plan(load_params(), 100)
    assert (found.encoders, found.remarks) == (2, ())


def test_other_weights_are_refused(
    machines: Machines, params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker opens another file than the run did."""
    import torch

    import pipeline.features.extraction

    other = tmp_path / "other.pt"
    state = torch.load(params["model"]["pretrained"], weights_only=True)
    torch.save({name: value * 1.5 for name, value in state.items()}, other)
    there = changed(params, cluster={"kind": "address", "address": machines.address})
    original = pipeline.features.extraction.with_absolute_paths

    def swapped(params: Any) -> Any:
        found = original(params)
        model = found.model.model_copy(update={"pretrained": str(other)})
        return found.model_copy(update={"model": model})

    monkeypatch.setattr(pipeline.features.extraction, "with_absolute_paths", swapped)
    with pytest.raises(ModelError, match=r"other\.pt: a worker finds other weights than the run"):
        run_stages(tmp_path, there, "manifest", "select", "extract")


def test_a_worker_killed_in_mid_task(
    doomed: Machines, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its task is done by the other one; what was reported is not done again."""
    file = tmp_path / "notes"
    tasks = [(file, number) for number in range(8)]
    found = []
    for number in iterate_tasks(note, tasks, cluster(doomed), "vision"):
        found.append(number)
        if number == 1:
            doomed.kill("worker-0")
    assert found == list(range(8))
    lines = file.read_text().split("\n")
    done = [line.split()[0] for line in lines if line.endswith("done")]
    begun = [line for line in lines if line and not line.endswith("done")]
    assert sorted(set(done)) == sorted(map(str, range(8)))
    assert 8 <= len(begun) <= 9, "only the task in flight is begun again"
    assert any("is gone; repeated elsewhere: vision-" in text for text in caplog.messages)


def test_the_scheduler_is_lost_and_the_next_run_goes_on(
    doomed: Machines,
    params: dict[str, Any],
    expected: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import pipeline.features.extraction

    there = changed(params, cluster={"kind": "address", "address": doomed.address})
    finished = pipeline.features.extraction.iterate_tasks

    def lose(function: Any, tasks: Any, *args: Any, **options: Any) -> Any:
        """Kill the scheduler once the first segment is stored, while some are not handed out."""
        tasks = list(tasks)
        assert len(tasks) > 6
        for number, _ in enumerate(iterate_tasks(function, tasks, *args, **options)):
            if number == 0:
                doomed.kill("scheduler")
        raise AssertionError("it went on without a scheduler")

    with small_tasks():
        run_stages(tmp_path, there, "manifest", "select")
        monkeypatch.setattr(pipeline.features.extraction, "iterate_tasks", lose)
        with pytest.raises(FadeError, match=r"scheduler at tcp://\S+ is lost.*run again") as caught:
            run_stages(tmp_path, there, "extract")
        assert caught.value.exit_code == 1
        doomed.close()
        monkeypatch.setattr(pipeline.features.extraction, "iterate_tasks", finished)
        run_stages(tmp_path, params, "extract")
    for name in ("references", "test"):
        assert receipt(tmp_path, name) == expected[name]
    no_row_twice(tmp_path)


def test_a_task_that_needs_too_much_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, interpreter: Interpreter
) -> None:
    machines = Machines(tmp_path, interpreter.python, memory="400MiB", workers=1)
    try:
        with pytest.raises(FadeError, match=r"2 workers that computed vision-000\d ran out of mem"):
            map_tasks(hoard, [0, 1], cluster(machines), "vision")
        assert any("ran out of memory at 0." in text for text in caplog.messages)
    finally:
        close_sessions()
        machines.close()


def test_no_worker_comes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    interpreter: Interpreter,
) -> None:
    caplog.set_level("INFO", "fade")
    monkeypatch.setattr(pipeline.compute.distributed, "SECONDS_BETWEEN_LOOKS", 0.5)
    machines = Machines(tmp_path, interpreter.python, workers=0)
    try:
        with pytest.raises(FadeError, match=r"tcp://\S+: not one worker for 1 second"):
            map_tasks(refuse, [0], cluster(machines, wait=1), "vision")
        # it was started with --no-dashboard
        assert any("0 workers so far, dashboard, if it has one: " in x for x in caplog.messages)
    finally:
        close_sessions()
        machines.close()


def test_workers_on_this_machine_see_one_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of kind gpu, with made-up device names, as there need be no GPU here."""
    monkeypatch.setattr(
        pipeline.compute.launch, "_start_gpus", lambda found: start_local(found, ["3", "5"])
    )
    try:
        done = map_tasks(gpus, list(range(6)), ClusterParams(kind="gpu"), "gpus")
    finally:
        close_sessions()
    assert set(done) == {"3", "5"}


def test_kind_gpu_without_a_gpu() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ParameterError, match="torch sees no GPU"):
        map_tasks(refuse, [0], ClusterParams(kind="gpu"), "work")


def test_which_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus(ClusterParams(kind="gpu")) == ["0", "1"]
    assert visible_gpus(ClusterParams(kind="gpu", gpus=1)) == ["0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, GPU-abc")
    assert visible_gpus(ClusterParams(kind="gpu")) == ["4", "GPU-abc"]
    with pytest.raises(ParameterError, match=r"cluster\.gpus is 3, but there are 2 GPUs"):
        visible_gpus(ClusterParams(kind="gpu", gpus=3))
