"""Work on many tasks at once, here or on a cluster; the results do not depend on which."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from fade.errors import FadeError
from pipeline.params import ClusterParams
from pipeline.progress import Progress

T = TypeVar("T")
R = TypeVar("R")

IN_FLIGHT = 4
"""Tasks that are handed out or wait for their turn, for each worker."""


class Pool(Protocol):
    """Workers that take tasks; a context manager, at whose end nothing runs any more."""

    @property
    def width(self) -> int:
        """How many tasks may be handed out at once."""
        ...

    def submit(self, name: str, function: Callable[[T], R], task: T) -> Any:
        """Hand out a task; the future of its result."""
        ...

    def check(self) -> None:
        """Called while nothing finishes: raises a FadeError if nothing ever will."""
        ...

    def explain(self, error: BaseException, label: str, name: str) -> BaseException:
        """What to raise when a task ended so."""
        ...

    def __enter__(self) -> Pool: ...

    def __exit__(self, *error: object) -> None: ...


class LocalPool:
    """This process, or threads or processes of this machine."""

    def __init__(self, cluster: ClusterParams) -> None:
        from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

        self.executor: Executor | None = None
        self.width = 1
        if cluster.kind != "synchronous":
            self.width = IN_FLIGHT * cluster.workers
        if cluster.kind == "threads":
            self.executor = ThreadPoolExecutor(cluster.workers, thread_name_prefix="worker")
        elif cluster.kind == "processes":
            from multiprocessing import get_context

            # faiss can hang in a forked child
            self.executor = ProcessPoolExecutor(cluster.workers, get_context("spawn"))

    def submit(self, name: str, function: Callable[[T], R], task: T) -> Any:
        """Hand out a task; without an executor, run it."""
        from concurrent.futures import Future

        if self.executor is not None:
            return self.executor.submit(function, task)
        future: Future[R] = Future()
        try:
            future.set_result(function(task))
        except Exception as error:
            future.set_exception(error)
        return future

    def check(self) -> None:
        """Nothing to look after: a process that dies breaks its pool at once."""

    def explain(self, error: BaseException, label: str, name: str) -> BaseException:
        """A line for a worker process that died."""
        from concurrent.futures.process import BrokenProcessPool

        if isinstance(error, BrokenProcessPool):
            return FadeError(
                f"{label}: a worker process died, perhaps for want of memory: lower cluster.workers "
                "and run again; what was finished is kept"
            )
        return error

    def __enter__(self) -> LocalPool:
        return self

    def __exit__(self, *error: object) -> None:
        if self.executor is not None:
            self.executor.shutdown(wait=True, cancel_futures=True)


def open_pool(cluster: ClusterParams) -> Pool:
    """The workers that the parameters ask for."""
    if cluster.distributed:
        from pipeline.scheduler import DaskPool  # its imports take a second

        return DaskPool(cluster)
    return LocalPool(cluster)


def _run_limited(function: Callable[[T], R], threads: int, task: T) -> R:
    """Run a task with a fixed number of BLAS and OpenMP threads, so that sums keep their order."""
    from threadpoolctl import threadpool_limits

    with suppress(ImportError):  # language alone needs none
        import faiss  # noqa: F401  # loaded first: limits reach only libraries that are there
    threadpool_limits(limits=threads)
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
    waiting = enumerate(tasks)
    following = next(waiting, None)
    if following is None:
        return
    work = partial(_run_limited, function, cluster.threads_per_worker)
    finished: SimpleQueue[tuple[int, Any]] = SimpleQueue()
    running: dict[int, tuple[str, int]] = {}
    ready: dict[int, R] = {}
    turn = 0
    with Progress(total, label, unit) as progress, open_pool(cluster) as pool:
        while following is not None or running or ready:
            if following is not None and len(running) + len(ready) < pool.width:
                number, task = following
                key = "-".join(filter(None, (label, name(task), f"{number:04d}")))
                running[number] = key, weight(task)
                future = pool.submit(key, work, task)
                future.add_done_callback(lambda done, number=number: finished.put((number, done)))
                following = next(waiting, None)
            elif turn in ready:
                yield ready.pop(turn)
                turn += 1
            else:
                try:
                    number, future = finished.get(timeout=1.0)
                except Empty:
                    pool.check()
                    continue
                key, items = running.pop(number)
                try:
                    ready[number] = future.result()
                except BaseException as error:
                    told = pool.explain(error, label, key)
                    if told is error:
                        raise
                    raise told from None
                progress.advance(items)


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
