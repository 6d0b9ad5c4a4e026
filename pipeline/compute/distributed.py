"""Workers of a dask.distributed scheduler: a running one, one for SLURM jobs, one for local GPUs."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast

from fade.errors import FadeError, ModelError, ParameterError
from pipeline.artefacts.catalogue import project_root
from pipeline.config.schema import ClusterParams

R = TypeVar("R")
Job = tuple[str, Callable[[], R]]
"""The key of a task, which is what the dashboard and errors say of it, and the call that does it."""

log = logging.getLogger("fade")

QUEUED = 2
"""Tasks that are handed out for each thread of the workers: one that runs, one that waits."""
CONNECT_SECONDS = 30
SECONDS_BETWEEN_LOOKS = 5.0
SECONDS_BETWEEN_LINES = 60.0
PACKAGES = ("cache", "fade", "pipeline", "stages")
CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)
"""What dask makes of all work, besides errors of the connection, when the scheduler is lost."""
WORKER_CONFIG = {
    # results are numbers and keys, so that there is nothing to spill; and a worker that is paused for
    # the weights and banks that it holds would never go on
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
}


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Hash of this project's installed code, by which a worker with other code is found out."""
    digest = hashlib.blake2b(digest_size=20)
    root = Path(__file__).parents[2]
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(f"{path.relative_to(root).as_posix()}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _run_there(job: Callable[[], R], code: str) -> R:
    """On a worker: run a job, unless the worker's code is not that of the run."""
    if code_digest() != code:
        from distributed import get_worker

        raise ParameterError(
            f"the worker {get_worker().address} has other code of this project than the run: install "
            "the same version in its environment and start it again"
        )
    return job()


class Session:
    """A client of a scheduler, and what was started for it; kept until the process ends."""

    def __init__(self, cluster: ClusterParams) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise ParameterError(
                f"cluster.kind {cluster.kind} needs dask.distributed: pip install 'dask[distributed]'"
            ) from None

        _silence()
        self.started: Any = None
        self.wait = cluster.wait
        self.out_of_memory = self.closing = False
        self.where = f"cluster.kind {cluster.kind}"
        if cluster.kind == "address":
            self.where = str(cluster.address)
        target = {"slurm": _start_slurm, "gpu": _start_gpus}.get(cluster.kind)
        if target:
            self.started = target(cluster)
        try:
            self.client = _within(
                # where something else listens, the client would wait for ever
                CONNECT_SECONDS + 5,
                lambda: Client(
                    self.started or cluster.address,
                    timeout=CONNECT_SECONDS,
                    set_as_default=False,
                    name="fade",
                ),
            )
        except (*CANCELLED, OSError, ValueError, TypeError) as error:
            self.close()
            raise ParameterError(
                f"cluster.address: no dask scheduler answers at {cluster.address} "
                f"({_first_line(error)}): start one, or look at address and network"
            ) from None
        self.client.subscribe_topic("worker-restart-memory", self._restarted)
        self.client.subscribe_topic("all", self._happened)
        # a running scheduler has its own; ours needs bokeh
        if cluster.kind == "address" or find_spec("bokeh"):
            dashboard = f"dashboard {self.client.dashboard_link}"
        else:
            dashboard = "no dashboard (the extra `cluster` brings it)"
        log.info("%s: %d workers so far, %s", self.where, len(self.workers()), dashboard)

    def workers(self) -> Mapping[str, Mapping[str, Any]]:
        """The workers that take tasks, by address."""
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        return {key: worker for key, worker in workers.items() if worker["status"] == "running"}

    @property
    def lost(self) -> bool:
        """Whether the scheduler is gone."""
        return self.client.status not in ("running", "newly-created")

    def close(self) -> None:
        """Leave the scheduler, and end what was started."""
        self.closing = True
        for part in (getattr(self, "client", None), self.started):
            if part is not None:
                with suppress(Exception):
                    part.close(timeout=5)

    def _restarted(self, event: tuple[float, Mapping[str, Any]]) -> None:
        self.out_of_memory = True
        log.warning(
            "the worker %s ran out of memory at %.2f GiB and is started anew",
            event[1].get("worker"), event[1].get("rss", 0) / 2**30,
        )  # fmt: skip

    def _happened(self, event: tuple[float, Mapping[str, Any]]) -> None:
        message = event[1]
        if self.closing or message.get("expected"):
            return
        if message.get("action") == "remove-worker":
            tasks = sorted(map(_task_name, message.get("processing-tasks", ())))
            log.warning(
                "the worker %s is gone%s",
                message.get("worker", ""),
                f"; repeated elsewhere: {', '.join(tasks)}" if tasks else "",
            )


def _within(seconds: float, call: Callable[[], R]) -> R:
    """The result of a call; TimeoutError if it takes longer, and then it goes on unheard."""
    answers: SimpleQueue[tuple[R | None, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            answers.put((call(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=run, name="connect", daemon=True).start()
    try:
        result, error = answers.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if error is not None:
        raise error
    return cast(R, result)


_OPEN: dict[str, Session] = {}


def open_session(cluster: ClusterParams) -> Session:
    """The session of these parameters; a stage that works twice starts its workers once."""
    key = cluster.model_dump_json()
    if key in _OPEN and _OPEN[key].lost:
        _OPEN.pop(key).close()
    if key not in _OPEN:
        close_sessions()
        _OPEN[key] = Session(cluster)
    return _OPEN[key]


@atexit.register
def close_sessions() -> None:
    """Leave all schedulers; the next pool begins another session."""
    while _OPEN:
        _OPEN.popitem()[1].close()


def iterate_there(
    jobs: Iterator[Job[R]], cluster: ClusterParams, label: str, done: Callable[[str], None]
) -> Iterator[R]:
    """Results in the jobs' order, by the workers of a dask.distributed scheduler."""
    finished: SimpleQueue[tuple[int, Any]] = SimpleQueue()
    numbered = enumerate(jobs)
    following = next(numbered, None)
    running: dict[int, str] = {}
    ready: dict[int, R] = {}
    turn = 0
    heard = time.monotonic()
    with WorkerPool(cluster) as pool:
        while following is not None or running or ready:
            if following is not None and len(running) + len(ready) < pool.width:
                number, (key, job) = following
                running[number] = key
                future = pool.submit(key, job)
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

    def submit(self, name: str, job: Callable[[], R]) -> Any:
        """Hand out a job; the future of its result."""
        key = f"{name}-{self.run}"
        try:
            future = self.session.client.submit(_run_there, job, self.code, key=key, pure=False)
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
                f"{label}: {error.allowed_failures + 1} workers that computed {_task_name(error.task)} "
                f"{end} and run again; what was finished is kept"
            )
        if isinstance(error, NoWorkerError):
            return FadeError(f"{label}: {_first_line(error)}; what was finished is kept")
        if isinstance(error, ImportError) or "deserialization" in str(error):
            return ModelError(
                f"{label}: scheduler or workers at {self.session.where} cannot run {name} "
                f"({_first_line(error.__cause__ or error)}): this project and the extras of the run "
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
                f"{self.session.where}: not one worker for {wait} seconds: start workers, look into "
                "their logs, or raise cluster.wait; what was finished is kept"
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


def count_workers(cluster: ClusterParams) -> int:
    """How many workers of a scheduler there are, or will be.

    Raises:
        ParameterError: no scheduler answers, it has no worker, or there is no GPU.
    """
    if cluster.kind == "gpu":
        return len(visible_gpus(cluster))
    if cluster.kind == "slurm":
        return cluster.workers
    count = len(open_session(cluster).workers())
    if not count:
        raise ParameterError(f"the dask scheduler at {cluster.address} has no worker yet")
    return count


def visible_gpus(cluster: ClusterParams) -> list[str]:
    """What CUDA_VISIBLE_DEVICES is for each worker of kind gpu.

    Raises:
        ParameterError: there is no GPU, or there are fewer than asked for.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    import torch

    devices = [str(number) for number in range(torch.cuda.device_count())]
    if devices and chosen:
        devices = [name.strip() for name in chosen.split(",")][: len(devices)]
    if not devices:
        raise ParameterError(
            "cluster.kind is gpu, but torch sees no GPU on this machine: set cluster.kind to threads "
            "(`fade doctor` says more)"
        )
    if cluster.gpus and cluster.gpus > len(devices):
        raise ParameterError(
            f"cluster.gpus is {cluster.gpus}, but there are {len(devices)} GPUs: lower it, or null "
            "for all of them"
        )
    return devices[: cluster.gpus]


def _start_gpus(cluster: ClusterParams) -> Any:
    """A scheduler on loopback, and one worker process for each GPU."""
    return start_local(cluster, visible_gpus(cluster))


def start_local(cluster: ClusterParams, devices: list[str]) -> Any:
    """A scheduler on loopback, and a worker process for each entry of CUDA_VISIBLE_DEVICES."""
    import dask
    from distributed import Nanny, Scheduler, SpecCluster
    from distributed.system import MEMORY_LIMIT

    security = _security()
    common = {"host": "127.0.0.1", "protocol": "tls://" if security else "tcp://"}
    with dask.config.set(WORKER_CONFIG):
        return SpecCluster(
            scheduler={
                "cls": Scheduler,
                "options": {
                    **common,
                    "security": security,
                    "dashboard_address": f"127.0.0.1:{cluster.dashboard}",
                },
            },
            workers={
                number: {
                    "cls": Nanny,
                    "options": {
                        **common,
                        "security": security,
                        "nthreads": 1,
                        "memory_limit": cluster.memory or MEMORY_LIMIT // len(devices),
                        "env": {"CUDA_VISIBLE_DEVICES": device},
                        "silence_logs": logging.CRITICAL,
                    },
                }
                for number, device in enumerate(devices)
            },
            security=security,
            silence_logs=logging.CRITICAL,
        )


def _start_slurm(cluster: ClusterParams) -> Any:
    """A scheduler in this process, and a SLURM job for each worker."""
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise ParameterError(
            "cluster.kind slurm needs dask-jobqueue: pip install 'fade-pipeline[slurm]'"
        ) from None
    if shutil.which("sbatch") is None:
        raise ParameterError(
            "cluster.kind is slurm, but there is no sbatch here: run where jobs can be submitted, or "
            "choose another cluster.kind"
        )
    security = _security()
    settings = {f"DASK_{k.upper().replace('.', '__')}": v for k, v in WORKER_CONFIG.items()}
    options = {"dashboard_address": f":{cluster.dashboard}"}
    try:
        started = SLURMCluster(
            queue=cluster.queue,
            account=cluster.account,
            cores=1,  # of tasks at once; BLAS threads are CPUs
            processes=1,
            job_cpu=cluster.threads_per_worker,
            memory=cluster.memory,
            walltime=cluster.walltime,
            job_extra_directives=[
                *([f"--gres=gpu:{cluster.gpus}"] if cluster.gpus else []),
                *cluster.directives,
            ],
            job_script_prologue=[
                *(f"export {name}={value}" for name, value in settings.items()),
                *cluster.prologue,
            ],
            job_name="fade",
            interface=cluster.interface,
            log_directory=str(project_root() / "logs" / "slurm"),
            python=sys.executable,
            security=security,
            shared_temp_directory=str(_private_folder()) if security else None,
            scheduler_options=options,
            silence_logs=logging.CRITICAL,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ParameterError(
            f"cluster.kind slurm: the scheduler cannot start ({_first_line(error)}): look at "
            "cluster.interface and cluster.dashboard"
        ) from None
    _try_submission(started)
    # a job that ends, at its walltime or by a crash, is followed by another one
    started.adapt(minimum=cluster.workers, maximum=cluster.workers, interval="2s")
    return started


def _try_submission(started: Any) -> None:
    """Ask SLURM whether it would take such a job: dask submits in the background, unheard."""
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as script:
        script.write(started.job_script())
        script.flush()
        answer = subprocess.run(
            ["sbatch", "--test-only", script.name], capture_output=True, text=True, check=False
        )
    if answer.returncode:
        with suppress(Exception):
            started.close(timeout=5)
        reason = "; ".join(filter(None, map(str.strip, answer.stderr.splitlines())))
        raise ParameterError(
            f"SLURM refuses such a job ({reason}): look at cluster.queue, account, memory, walltime, "
            "threads_per_worker, gpus and directives"
        )


def _private_folder() -> Path:
    """Where jobs find the keys of this run's encrypted connections; nobody else may read it."""
    folder = project_root() / ".fade" / "tls"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _security() -> Any:
    """Keys for this run alone: whoever reaches an open scheduler can run code on all workers."""
    from distributed.security import Security

    try:
        return Security.temporary()
    except ImportError:
        log.warning(
            "connections to workers are neither encrypted nor restricted: install the extra "
            "`cluster` unless the network is your own"
        )
        return None


def _silence() -> None:
    """Keep dask's own reports from the terminal: what matters, we say in a line."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("distributed", "dask_jobqueue"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _task_name(key: Any) -> str:
    """A task's key without the run's mark."""
    return str(key).rpartition("-")[0]


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
