"""Work on the workers of a dask.distributed scheduler."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from cache.files import Location
from fade.errors import FadeError, ModelError, ParameterError, counted, first_line
from pipeline.compute.jobs import Job, R
from pipeline.compute.launch import CANCELLED, log, open_session, task_name
from pipeline.compute.marks import Mark, first_unseen, marked
from pipeline.config.cluster import ClusterParams
from pipeline.config.originals import OWN_PACKAGES, ROOT

QUEUED = 2
"""Tasks that are handed out for each thread of the workers: one that runs, one that waits."""
SECONDS_BETWEEN_LOOKS = 5.0
SECONDS_BETWEEN_LINES = 60.0
SECONDS_TO_SEE = 10.0
"""So long a worker looks for what the run left in a folder of both."""


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Hash of this project's installed code, by which a worker with other code is found out."""
    digest = hashlib.blake2b(digest_size=20)
    for package in OWN_PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(f"{path.relative_to(ROOT).as_posix()}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _run_there(job: bytes, code: str) -> Any:
    """On a worker: run a job, unless the worker's code is not that of the run.

    A worker ends without a word if it cannot read a message, as where it lacks a function of the job.
    So these arguments stay as they are in all versions, and the job is read after the refusal.
    """
    if code_digest() != code:
        raise ParameterError(
            f"the worker {_address()} has other code of this project than the run: install "
            "the same version in its environment and start it again"
        )
    from distributed.protocol import deserialize_bytes

    return deserialize_bytes(job)()


def _run_seeing(job: Callable[[], R], marks: tuple[Mark, ...], seconds: float) -> R:
    """On a worker: run a job, unless the worker's folders are not those of the run."""
    unseen = first_unseen(marks, seconds)
    if unseen is not None:
        raise ParameterError(
            f"the worker {_address()} does not see {unseen} as the run does: give it the same file "
            "systems under the same paths, not copies of them, and start it again"
        )
    return job()


def _address() -> str:
    from distributed import get_worker

    return str(get_worker().address)


def run_distributed(
    jobs: Iterator[Job[R]],
    cluster: ClusterParams,
    label: str,
    done: Callable[[str], None],
    *,
    store: Location | None = None,
) -> Iterator[R]:
    """Results in the jobs' order, by the workers of a dask.distributed scheduler.

    Args:
        store: that workers must see as this process does, and the project's folder with it.
    """
    places = () if store is None else (store, Path.cwd() / ".fade")
    finished: SimpleQueue[tuple[int, Any]] = SimpleQueue()
    numbered = enumerate(jobs)
    following = next(numbered, None)
    running: dict[int, str] = {}
    ready: dict[int, R] = {}
    turn = 0
    heard = time.monotonic()
    with WorkerPool(cluster) as pool, marked(places) as marks:
        while following is not None or running or ready:
            if following is not None and len(running) + len(ready) < pool.width:
                number, (key, job) = following
                running[number] = key
                future = pool.submit(key, job, marks)
                future.add_done_callback(lambda ended, number=number: finished.put((number, ended)))
                following = next(numbered, None)
            elif turn in ready:
                yield ready.pop(turn)
                turn += 1
            else:
                try:
                    number, future = finished.get(timeout=1.0)
                except Empty:
                    pool.check(time.monotonic() - heard)
                    continue
                heard = time.monotonic()
                key = running.pop(number)
                try:
                    ready[number] = future.result()
                except BaseException as error:
                    told = pool.explain(error, label, key)
                    if told is error:
                        raise
                    raise told from None
                done(key)


class WorkerPool:
    """The workers of a session; a context manager, at whose end nothing waits any more."""

    def __init__(self, cluster: ClusterParams) -> None:
        self.session = open_session(cluster)
        # another run on the same scheduler must not be given the results of this one
        self.run = uuid.uuid4().hex[:12]
        self.code = code_digest()
        self.handed_out: dict[str, Any] = {}
        self._expected = 1 if cluster.kind == "address" else cluster.workers
        self._width, self._looked = 0, 0.0
        self._alone_since: float | None = None
        self._said = 0.0
        self._look()

    @property
    def width(self) -> int:
        """How many tasks may be handed out: some for each thread of the workers there are now."""
        if time.monotonic() - self._looked > SECONDS_BETWEEN_LOOKS:
            self._look()
        return self._width

    def submit(self, name: str, job: Callable[[], R], marks: tuple[Mark, ...] = ()) -> Any:
        """Hand out a job; the future of its result.

        Args:
            marks: that the worker must see.
        """
        from distributed.protocol import serialize_bytes

        key = f"{name}-{self.run}"
        try:
            seeing = serialize_bytes(
                partial(_run_seeing, job, marks, SECONDS_TO_SEE), on_error="raise"
            )
            future = self.session.client.submit(_run_there, seeing, self.code, key=key, pure=False)
        except (Exception, *CANCELLED) as error:
            raise self._lost_or(error) from None
        self.handed_out[key] = future
        future.add_done_callback(lambda done: self.handed_out.pop(done.key, None))
        return future

    def check(self, quiet: float = 0.0) -> None:
        """Say that there are no workers, and give up in the end; say which ones do not move.

        Args:
            quiet: for so many seconds no task has ended.

        Raises:
            FadeError: the scheduler is lost, or there was no worker for ``cluster.wait`` seconds.
        """
        if self.session.lost:
            raise self._lost()
        if time.monotonic() - self._looked > SECONDS_BETWEEN_LOOKS:
            self._look()
            if quiet > SECONDS_BETWEEN_LINES < time.monotonic() - self._said:
                self._name_silent()

    def _name_silent(self) -> None:
        now = time.time()
        silent = [
            address
            for address, worker in self.session.workers().items()
            if now - worker["last_seen"] > SECONDS_BETWEEN_LINES
        ]
        if silent:
            self._said = time.monotonic()
            log.warning(
                "nothing was heard of the workers %s for a minute or more: are they stopped, or out of "
                "reach? dask gives them up after some minutes, and others repeat their tasks",
                ", ".join(silent),
            )

    def explain(self, error: BaseException, label: str, name: str) -> BaseException:
        """A line for a lost scheduler, a task whose workers die, and a worker without our code."""
        from distributed.scheduler import KilledWorker, NoWorkerError

        if isinstance(error, CANCELLED) or self.session.lost:
            return self._lost()
        if isinstance(error, KilledWorker):
            end = (
                "ran out of memory: raise cluster.memory (workers that you started yourself: "
                "--memory-limit)"
                if self.session.out_of_memory
                else "died, perhaps for want of memory (cluster.memory): look into their logs"
            )
            return FadeError(
                f"{label}: {counted(error.allowed_failures + 1, 'worker')} that computed "
                f"{task_name(error.task)} {end} and run again; what was finished is kept"
            )
        if isinstance(error, NoWorkerError):
            return FadeError(f"{label}: {first_line(error)}; what was finished is kept")
        if isinstance(error, ImportError) or "deserialization" in str(error):
            return ModelError(
                f"{label}: scheduler or workers at {self.session.where} cannot run {name} "
                f"({first_line(error.__cause__ or error)}): this project and the extras of the run "
                "must be installed there, in the same versions"
            )
        return error

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *error: object) -> None:
        if not self.session.lost:
            with suppress(Exception):
                self.session.client.cancel(list(self.handed_out.values()))
        self.handed_out.clear()

    def _look(self) -> None:
        now = time.monotonic()
        try:
            workers = self.session.workers()
        except (Exception, *CANCELLED) as error:
            raise self._lost_or(error) from None
        self._looked = now
        self._width = QUEUED * max(self._expected, sum(w["nthreads"] for w in workers.values()))
        if workers:
            self._alone_since = None
            return
        if self._alone_since is None:
            self._alone_since, self._said = now, now - SECONDS_BETWEEN_LINES
        alone, wait = now - self._alone_since, self.session.wait
        if alone >= wait:
            raise FadeError(
                f"{self.session.where}: not one worker for {counted(wait, 'second')}: start workers, "
                "look into their logs, or raise cluster.wait; what was finished is kept"
            )
        # those that were just started get a moment
        if alone > SECONDS_BETWEEN_LOOKS and now - self._said >= SECONDS_BETWEEN_LINES:
            self._said = now
            log.info(
                "%s: waiting for workers, %d s so far, at most %d s",
                self.session.where, alone, wait,
            )  # fmt: skip

    def _lost_or(self, error: BaseException) -> BaseException:
        """What to raise when the client failed."""
        gone = isinstance(error, (OSError, *CANCELLED)) or self.session.lost
        return self._lost() if gone else error

    def _lost(self) -> FadeError:
        return FadeError(
            f"the dask scheduler at {self.session.where} is lost: start it again and run again; "
            "what was finished is kept"
        )
