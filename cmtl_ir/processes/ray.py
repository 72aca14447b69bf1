"""The same jobs on a Ray cluster (docs.ray.io): an actor a job holds the job's process on whatever node Ray chose.

The nodes share the folder of the runs and have this package installed. When an actor dies, the process that it held
notices, saves and stops; the job is then started again elsewhere and goes on from its checkpoint.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cmtl_ir.base.environment import cores
from cmtl_ir.base.errors import UserError, brief
from cmtl_ir.processes.job import Job, LocalProcess, Start


class Holder:
    """The actor: holds one job's process on its node."""

    def __init__(self, name: str, payload: dict[str, Any], log: str) -> None:
        self.process = LocalProcess(Job(name, payload, Path(log)), dict(os.environ))

    def answer(self) -> dict[str, str] | None:
        """See Attempt."""
        return self.process.answer()

    def stop(self, at_once: bool) -> None:
        """See Attempt."""
        self.process.stop(at_once)


class Remote:
    """A job being done by an actor."""

    def __init__(self, ray: Any, holder: Any, job: Job) -> None:
        self.ray = ray
        self.actor = holder.remote(job.name, job.payload, str(job.log.resolve()))
        self._asked: Any = None
        self._answer: dict[str, str] | None = None

    def answer(self) -> dict[str, str] | None:
        """See Attempt; an actor that waits for a place on the cluster has none yet."""
        if self._answer is not None:
            return self._answer
        self._asked = self._asked or self.actor.answer.remote()
        if not self.ray.wait([self._asked], timeout=0)[0]:
            return None
        try:
            self._answer = self.ray.get(self._asked)
        except self.ray.exceptions.RayError as error:
            self._answer = {"state": "died", "reason": f"Ray lost it ({brief(error)})"}
        self._asked = None
        if self._answer is not None:
            with suppress(self.ray.exceptions.RayError):
                self.ray.kill(self.actor)  # gives its place back
        return self._answer

    def stop(self, at_once: bool = False) -> None:
        """See Attempt."""
        self.actor.stop.remote(at_once)


@contextmanager
def on_ray(address: str, workers: int, device: str) -> Iterator[Start]:
    """How jobs are started on the cluster at `address`, or on one made here (`local`). Raises UserError.

    Each of `workers` jobs at once gets its share of the cluster's cores and, for `cuda`, of its GPUs.
    """
    ray = _connected(address, workers)
    try:
        share = _shares(ray.cluster_resources(), workers, device)
        holder = ray.remote(max_restarts=0, **share)(Holder)
        yield lambda job, _slot: Remote(ray, holder, job)
    finally:
        ray.shutdown()


def _connected(address: str, workers: int) -> Any:
    try:
        import ray
    except ImportError:
        raise UserError("--ray needs Ray: pip install 'cmtl-ir[ray]' (here and on the cluster's nodes)") from None
    local = {"num_cpus": max(workers, cores()), "include_dashboard": False} if address == "local" else {}
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **local)
    except Exception as error:
        raise UserError(
            f"no Ray cluster answers at {address!r} ({brief(error)}). Give the address that `ray start --head` "
            "printed, or --ray local for one on this machine"
        ) from error
    return ray


def _knock(address: str) -> None:
    """Raise OSError where nobody listens: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _shares(resources: dict[str, float], workers: int, device: str) -> dict[str, float]:
    """What one job asks Ray for. Raises UserError where the jobs are for GPUs and the cluster has none."""
    gpus = resources.get("GPU", 0.0)
    if device == "cuda" and not gpus:
        raise UserError("the Ray cluster has no GPU: start its nodes with one, or give --device cpu")
    share = {"num_cpus": max(1, int(resources.get("CPU", 1.0)) // workers)}
    return {**share, "num_gpus": _fraction(gpus, workers)} if device == "cuda" else {**share}


def _fraction(gpus: float, workers: int) -> float:
    """A whole GPU, or as large a part of one as lets all workers find a place: 2 GPUs, 5 workers: 1/3 each."""
    jobs_a_gpu = -(-workers // int(gpus))
    return 1.0 / jobs_a_gpu
