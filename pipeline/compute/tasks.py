"""Work on many tasks at once, here or on a cluster; the results do not depend on which."""

from __future__ import annotations

import sys
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar

from fade.errors import FadeError
from pipeline.config.schema import ClusterParams
from pipeline.process.progress import Progress

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from pipeline.compute.distributed import Job

T = TypeVar("T")
R = TypeVar("R")
IN_FLIGHT = 4
"""Tasks that are handed out or wait for their turn, for each worker of this machine."""


def _iterate_here(
    jobs: Iterator[Job[R]], cluster: ClusterParams, label: str, done: Callable[[str], None]
) -> Iterator[R]:
    """Results in the jobs' order, by dask's schedulers of one machine.

    These hold a graph and all its results until its end. So the jobs become small graphs, two of them
    under way on the same workers, which go on with the next one while the last jobs of one finish.
    """
    import dask.local
    import dask.multiprocessing
    import dask.threaded

    def finished(key: str, *_: object) -> None:
        done(key)

    options = {"callbacks": [(None, None, None, finished, None)], "chunksize": 1}
    if cluster.kind == "synchronous":
        for key, job in jobs:
            yield dask.local.get_sync({key: (job,)}, key, **options)
        return
    get = dask.threaded.get if cluster.kind == "threads" else dask.multiprocessing.get
    size = IN_FLIGHT * cluster.workers // 2
    with _Workers(cluster) as workers:
        graphs: deque[Future[Sequence[R]]] = deque()

        def finish() -> Sequence[R]:
            from concurrent.futures.process import BrokenProcessPool

            try:
                return graphs.popleft().result()
            except BrokenProcessPool:
                raise FadeError(
                    f"{label}: a worker process died, perhaps for want of memory: lower "
                    "cluster.workers and run again; what was finished is kept"
                ) from None
            except Exception as error:
                raised = getattr(error, "exception", None)  # in a worker process: dask wraps it
                if raised is None:
                    raise
                raise raised from error

        while part := list(islice(jobs, size)):
            graph = {key: (job,) for key, job in part}
            graphs.append(
                workers.walkers.submit(get, graph, list(graph), pool=workers.pool, **options)
            )
            if len(graphs) == 2:
                yield from finish()
        while graphs:
            yield from finish()


class _Workers:
    """Threads or processes of this machine, and who walks through graphs; nothing runs at the end."""

    def __init__(self, cluster: ClusterParams) -> None:
        from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

        self.pool: Executor
        if cluster.kind == "threads":
            self.pool = ThreadPoolExecutor(cluster.workers, thread_name_prefix="worker")
        else:
            from multiprocessing import get_context

            # faiss can hang in a forked child
            self.pool = ProcessPoolExecutor(cluster.workers, get_context("spawn"), _end_with_parent)
        self.walkers = ThreadPoolExecutor(2, thread_name_prefix="graph")

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *error: object) -> None:
        # the walkers find their jobs cancelled and end
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.walkers.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """Let this worker end when the process that started it does, however that ends.

    After a `kill -9` of the stage its workers would else wait for tasks, and hold their memory, for ever.
    """
    import multiprocessing
    import os
    import signal
    from threading import Thread

    # Ctrl-C in a terminal goes to workers, too: the stage tells them
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=watch, name="watch-parent", daemon=True).start()


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
    iterate: Any = _iterate_here
    if cluster.distributed:
        from pipeline.compute.distributed import (
            iterate_there as iterate,  # its imports take a second
        )
    lock = threading.Lock()
    with Progress(total, label, unit) as progress:

        def done(key: str) -> None:
            with lock:  # called from several threads
                progress.advance(weights.pop(key))

        yield from iterate(chain([first], jobs), cluster, label, done)


def map_tasks(
    function: Callable[[T], R],
    tasks: Sequence[T],
    cluster: ClusterParams,
    label: str,
    *,
    weight: Callable[[T], int] = lambda task: 1,
    unit: str = "image",
    name: Callable[[T], str] = lambda task: "",
) -> list[R]:
    """All results of :func:`iterate_tasks`."""
    return list(iterate_tasks(function, tasks, cluster, label, weight=weight, unit=unit, name=name))
