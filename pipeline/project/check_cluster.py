"""Looks at threads and clusters before a run: is there what would compute?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from fade.errors import FadeError, ParameterError, counted
from pipeline.config.cluster import ClusterParams
from pipeline.config.schema import Params
from pipeline.features.hub import connection_fault
from pipeline.project.findings import Finding, ok, problem, warning


def check_threads(params: Params) -> Iterator[Finding]:
    """Whether more is asked of this machine than it has, or of a cluster that is not there."""
    cores = _cores()
    cluster = params.cluster
    if cluster.distributed:
        yield ok(
            "threads", f"{counted(cores, 'core')} here; cluster {cluster.kind}: workers compute"
        )
        try:
            yield ok("cluster", _cluster(cluster))
        except FadeError as error:
            yield problem("cluster", error)
        return
    one = cluster.kind == "synchronous"
    wanted = (1 if one else cluster.workers) * cluster.threads_per_worker
    text = (
        f"{counted(cores, 'core')}; runtime.loader_workers {params.runtime.loader_workers}, cluster "
        f"{cluster.kind}, {counted(wanted, 'scoring thread')}"
    )
    if max(wanted, params.runtime.loader_workers) > cores:
        yield warning("threads", f"{text}: more threads than cores only cost time and memory")
    else:
        yield ok("threads", text)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cluster(cluster: ClusterParams) -> str:
    """What was found of a cluster, in words.

    Raises:
        ParameterError: it is not there, or a package or program that it needs is not.
    """
    from pipeline.compute.launch import require_programs, visible_gpus

    require_programs(cluster)
    if cluster.kind == "address":
        return _answering(cluster.address or "")
    if cluster.kind == "slurm":
        return f"sbatch is here; {counted(cluster.workers, 'job')} of {cluster.memory}"
    return counted(len(visible_gpus(cluster)), "GPU")


def _answering(address: str) -> str:
    place = urlsplit(address if "://" in address else f"tcp://{address}")
    try:
        host, port = place.hostname or "", place.port
    except ValueError:
        host, port = "", None
    if not host or port is None:
        raise ParameterError(
            f"cluster.address {address!r} names no host and port: give tcp://10.0.0.1:8786 or the like"
        )
    if reason := connection_fault(host, port):
        raise ParameterError(
            f"cluster.address: nothing answers at {address} ({reason}): start a dask scheduler there, or "
            "look at address and network"
        )
    return f"something answers at {address}"
