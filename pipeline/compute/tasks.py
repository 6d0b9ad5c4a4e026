"""Work on many tasks at once, here or on a cluster; the results do not depend on which."""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from cache.files import Location
from pipeline.compute.jobs import Job, R
from pipeline.compute.local import run_local
from pipeline.config.cluster import ClusterParams
from pipeline.process.progress import Progress

T = TypeVar("T")


_LIMITED = threading.local()


def _run_limited(run: str, threads: int, function: Callable[[T], R], task: T) -> R:
    """Run a task with a fixed number of BLAS and OpenMP threads, so that sums keep their order.

    To look for the libraries takes ten milliseconds, and is done once for a run in a thread of a
    worker, and again when modules have come, which may bring more of them.
    """
    known = run, threads, len(sys.modules)
    if getattr(_LIMITED, "known", None) != known:
        from threadpoolctl import threadpool_limits

        with suppress(ImportError):  # language alone needs none
            import faiss  # noqa: F401  # loaded first: limits reach only libraries that are there
        threadpool_limits(limits=threads)
        _LIMITED.known = run, threads, len(sys.modules)
    return function(task)


def iterate_tasks(
    function: Callable[[T], R],
    tasks: Iterable[T],
    cluster: ClusterParams,
    label: str,
    *,
    weight: Callable[[T], int] = lambda task: 1,
    unit: str = "image",
    name: Callable[[T], str] = lambda task: "",
    total: int | None = None,
    store: Location | None = None,
) -> Iterator[R]:
    """Results of ``function`` on each task, in the tasks' order, as they come.

    Only a bounded number of tasks and results is held, so that tasks may be made while they run and
    there may be a million of them. Tasks must be small and ``function`` importable: workers open
    stores and banks themselves. Whoever stops early leaves no work behind.

    Args:
        function: called once a task; an error of one ends the whole.
        tasks: in the order of the results; any iterable if ``total`` is given.
        cluster: who works, with how many workers and threads.
        label: names the work in the progress bar and in the dashboard.
        weight: how many items a task stands for in the progress.
        unit: what the items are called.
        name: what a task is about, such as a category, for the dashboard and for errors.
        total: how many items all tasks stand for; if not given, ``tasks`` is a sequence.
        store: that tasks read or write; workers elsewhere show that they see it, and the project.

    Raises:
        FadeError: a worker died. Errors of a task come as they were raised.
    """
    if total is None:
        if not isinstance(tasks, Sequence):
            raise TypeError("tasks that are no sequence need a total")
        total = sum(map(weight, tasks))
    work = partial(_run_limited, uuid.uuid4().hex, cluster.threads_per_worker, function)
    weights: dict[str, int] = {}

    def named() -> Iterator[Job[R]]:
        for number, task in enumerate(tasks):
            key = "-".join(filter(None, (label, name(task), f"{number:04d}")))
            weights[key] = weight(task)
            # partial hides the task from dask, which would otherwise search it for nested work
            yield key, partial(work, task)

    jobs = named()
    first = next(jobs, None)
    if first is None:
        return
    iterate: Any = run_local
    if cluster.distributed:
        # its imports take a second
        from pipeline.compute.distributed import run_distributed

        iterate = partial(run_distributed, store=store)
    lock = threading.Lock()
    with Progress(total, label, unit) as progress:

        def done(key: str) -> None:
            with lock:  # called from several threads
                progress.advance(weights.pop(key))

        yield from iterate(chain([first], jobs), cluster, label, done)


def map_tasks(
    function: Callable[[T], R], tasks: Sequence[T], cluster: ClusterParams, label: str, **about: Any
) -> list[R]:
    """All results of :func:`iterate_tasks`, which says what ``about`` may hold."""
    return list(iterate_tasks(function, tasks, cluster, label, **about))
