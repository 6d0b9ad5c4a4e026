"""Work on the threads or processes of this machine, through dask's schedulers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from fade.errors import FadeError
from pipeline.compute.jobs import Job, R
from pipeline.config.cluster import ClusterParams

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future


IN_FLIGHT = 4
"""Tasks that are handed out or wait for their turn, for each worker of this machine."""


def run_local(
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
