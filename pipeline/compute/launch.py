"""Schedulers of dask.distributed: a running one, one for SLURM jobs, one for the GPUs of this machine."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, cast

from fade.errors import ParameterError, counted, first_line
from pipeline.artefacts.catalogue import project_root
from pipeline.compute.jobs import R
from pipeline.config.cluster import ClusterParams

log = logging.getLogger("fade")


CONNECT_SECONDS = 30


CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)
"""Errors, besides those of the connection, that dask raises for all work when the scheduler is lost."""


WORKER_CONFIG = {
    # results are numbers and keys, so that there is nothing to spill; and a worker that is paused for
    # the weights and banks that it holds would never go on
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
}


def require_programs(cluster: ClusterParams) -> None:
    """Refuse a kind of cluster whose packages or programs are not here (ParameterError)."""
    if find_spec("distributed") is None:
        raise ParameterError(
            f"cluster.kind {cluster.kind} needs dask.distributed: pip install 'dask[distributed]'"
        )
    if cluster.kind != "slurm":
        return
    if find_spec("dask_jobqueue") is None:
        raise ParameterError(
            "cluster.kind slurm needs dask-jobqueue: pip install 'fade-pipeline[slurm]'"
        )
    if shutil.which("sbatch") is None:
        raise ParameterError(
            "cluster.kind is slurm, but there is no sbatch here: run where jobs can be submitted, or "
            "choose another cluster.kind"
        )


class Session:
    """A client of a scheduler, and what was started for it; kept until the process ends."""

    def __init__(self, cluster: ClusterParams) -> None:
        require_programs(cluster)
        from distributed import Client

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
                f"({first_line(error)}): start one, or look at address and network"
            ) from None
        self.client.subscribe_topic("worker-restart-memory", self._restarted)
        self.client.subscribe_topic("all", self._happened)
        # a running scheduler does not say whether it serves one; ours needs bokeh
        if cluster.kind == "address":
            dashboard = f"dashboard, if it has one: {self.client.dashboard_link}"
        elif find_spec("bokeh"):
            dashboard = f"dashboard {self.client.dashboard_link}"
        else:
            dashboard = "no dashboard (the extra `cluster` brings it)"
        log.info("%s: %s so far, %s", self.where, counted(len(self.workers()), "worker"), dashboard)

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
            tasks = sorted(map(task_name, message.get("processing-tasks", ())))
            log.warning(
                "the worker %s is gone%s",
                message.get("worker", ""),
                f"; repeated elsewhere: {', '.join(tasks)}" if tasks else "",
            )


def _within(seconds: float, call: Callable[[], R]) -> R:
    """The result of a call; TimeoutError if it takes longer, and then its result is dropped."""
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
    from dask_jobqueue import SLURMCluster

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
            f"cluster.kind slurm: the scheduler cannot start ({first_line(error)}): look at "
            "cluster.interface and cluster.dashboard"
        ) from None
    _try_submission(started)
    # a job that ends, at its walltime or by a crash, is followed by another one
    started.adapt(minimum=cluster.workers, maximum=cluster.workers, interval="2s")
    return started


def _try_submission(started: Any) -> None:
    """Ask SLURM whether it would take such a job: dask submits in the background and drops its errors."""
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


def task_name(key: Any) -> str:
    """A task's key without the run's mark."""
    return str(key).rpartition("-")[0]
