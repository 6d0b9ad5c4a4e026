"""Work on many tasks at once, on dask's schedulers; the results do not depend on which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from fade.errors import FadeError
from pipeline.params import ClusterParams
from pipeline.progress import Progress

T = TypeVar("T")
R = TypeVar("R")


def _run_limited(function: Callable[[T], R], threads: int, task: T) -> R:
    """Run a task with a fixed number of BLAS and OpenMP threads, so that sums keep their order."""
    from threadpoolctl import threadpool_limits

    with suppress(ImportError):  # language alone needs none
        import faiss  # noqa: F401  # loaded first: limits reach only libraries that are there
    threadpool_limits(limits=threads)
    return function(task)


def map_tasks(
    function: Callable[[T], R],
    tasks: Sequence[T],
    cluster: ClusterParams,
    label: str,
    *,
    weight: Callable[[T], int] = lambda task: 1,
    unit: str = "image",
) -> list[R]:
    """Results of ``function`` on each task, in the tasks' order.

    Tasks must be small and ``function`` importable: workers open stores and banks themselves.

    Args:
        function: called once a task; an error of one ends the whole.
        tasks: in the order of the results.
        cluster: which of dask's schedulers, and how many workers and threads.
        label: names the work in the progress bar and in dask's keys.
        weight: how many items a task stands for in the progress.
        unit: what the items are called.

    Raises:
        FadeError: a worker process died. Errors of a task come as they were raised.
    """
    from concurrent.futures.process import BrokenProcessPool

    import dask
    from dask.callbacks import Callback
    from dask.multiprocessing import RemoteException

    if not tasks:
        return []
    names = [f"{label}-{number}" for number in range(len(tasks))]
    weights = dict(zip(names, map(weight, tasks), strict=True))
    delayed = [
        # partial hides the task from dask, which would otherwise search it for nested work
        dask.delayed(partial(_run_limited, function, cluster.threads_per_worker, task), pure=False)(
            dask_key_name=name
        )
        for name, task in zip(names, tasks, strict=True)
    ]
    options: dict[str, Any] = {"scheduler": cluster.kind}
    if cluster.kind != "synchronous":
        options["num_workers"] = min(cluster.workers, len(tasks))
    if cluster.kind == "processes":
        options["chunksize"] = 1
    with Progress(sum(weights.values()), label, unit) as progress:

        def finished(key: str, *_: Any) -> None:
            progress.advance(weights.get(key, 0))

        try:
            with dask.config.set({"multiprocessing.context": "spawn"}), Callback(posttask=finished):
                return list(dask.compute(*delayed, optimize_graph=False, **options))
        except RemoteException as error:  # its message has the worker's traceback in it
            raise error.exception from error
        except BrokenProcessPool:
            raise FadeError(
                f"{label}: a worker process died, perhaps for want of memory: lower cluster.workers "
                "and run again; what was finished is kept"
            ) from None
