"""Results and errors do not depend on who computes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

import pipeline.compute.tasks
from fade.errors import DataError, FadeError
from pipeline.compute.local import IN_FLIGHT
from pipeline.compute.tasks import iterate_tasks, map_tasks
from pipeline.config.cluster import ClusterParams
from pipeline.process.progress import Progress, _duration
from tests.pipeline.compute.work import blas_threads, bug, die, nested, refuse, slow_first

kinds = pytest.mark.parametrize("kind", ["synchronous", "threads", "processes"])
quick_kinds = pytest.mark.parametrize("kind", ["synchronous", "threads"])


def cluster(kind: str, workers: int = 2, threads: int = 1) -> ClusterParams:
    return ClusterParams.model_validate(
        {"kind": kind, "workers": workers, "threads_per_worker": threads}
    )


@kinds
def test_results_come_in_the_order_of_the_tasks(kind: str) -> None:
    done = map_tasks(slow_first, list(range(9)), cluster(kind), "work")
    assert done == [(task, [task / 3]) for task in range(9)]


@quick_kinds
def test_tasks_arrive_as_they_were_sent(kind: str) -> None:
    """Strings that look like dask's keys, and lists in tuples, are left alone."""
    tasks = [("work-0", ["work-1", {"a": ("work-2",)}], len), ("x", None, 1.5)]
    assert map_tasks(nested, tasks, cluster(kind), "work") == [repr(task) for task in tasks]


@kinds
@pytest.mark.parametrize("tasks", [[], ()])
def test_no_tasks_have_no_results(kind: str, tasks: list[int]) -> None:
    assert map_tasks(slow_first, tasks, cluster(kind), "work") == []


@kinds
def test_an_error_keeps_its_type_and_its_line(kind: str) -> None:
    with pytest.raises(DataError) as caught:
        map_tasks(refuse, [0, 1, 2], cluster(kind), "work")
    assert str(caught.value) == "image 1.png is broken: remove it"
    assert caught.value.exit_code == 3


@quick_kinds
def test_a_bug_is_not_hidden(kind: str) -> None:
    with pytest.raises(ZeroDivisionError):
        map_tasks(bug, [1, 0], cluster(kind), "work")


@quick_kinds
def test_tasks_are_made_while_others_run_and_few_wait(kind: str) -> None:
    made = 0

    def tasks() -> Iterator[int]:
        nonlocal made
        for made in range(1, 201):
            yield made - 1

    for number, result in enumerate(
        iterate_tasks(slow_first, tasks(), cluster(kind), "w", total=200)
    ):
        assert result[0] == number
        assert made <= number + 2 + IN_FLIGHT * 2
    assert number == 199


@quick_kinds
def test_who_stops_early_leaves_no_work_behind(kind: str) -> None:
    done: list[int] = []
    results = iterate_tasks(done.append, list(range(1000)), cluster(kind), "work")
    next(results)
    results.close()  # type: ignore[attr-defined]
    count = len(done)
    assert count <= 1 + IN_FLIGHT * 2
    time.sleep(0.05)
    assert len(done) == count


def test_tasks_without_a_length_need_a_total() -> None:
    with pytest.raises(TypeError, match="total"):
        map_tasks(slow_first, iter([1]), cluster("synchronous"), "work")  # type: ignore[arg-type]


def test_a_worker_that_dies_is_reported() -> None:
    with pytest.raises(FadeError, match=r"language: a worker process died.*cluster\.workers"):
        map_tasks(die, [0, 1, 2], cluster("processes"), "language")


@kinds
def test_threads_of_a_task_are_fixed(kind: str) -> None:
    for found in map_tasks(blas_threads, [0, 1], cluster(kind), "work"):
        assert set(found) <= {1}


@quick_kinds
def test_progress_counts_every_item(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Progress] = []

    class Watched(Progress):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            seen.append(self)

    monkeypatch.setattr(pipeline.compute.tasks, "Progress", Watched)
    map_tasks(slow_first, [1, 2, 3], cluster(kind), "work", weight=lambda task: 10 * task)
    (progress,) = seen
    assert progress.total == progress.done == 60


def test_progress_writes_a_line_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with caplog.at_level("INFO", "fade"), Progress(100, "banks", "category") as progress:
        clock[0] = 11
        progress.advance(0)
        assert not caplog.messages
        progress.advance(22)
        progress.advance(22)
        clock[0] = 30
        progress.advance(6)
    assert caplog.messages == [
        "banks: 22 of 100 categories, 2 a second, 0:39 left",
        "banks: 50 of 100 categories, 1.67 a second, 0:30 left",
    ]


def test_short_words() -> None:
    assert [_duration(s) for s in (0.4, 61, 3600, 7325.6)] == ["0:00", "1:01", "1:00:00", "2:02:06"]
