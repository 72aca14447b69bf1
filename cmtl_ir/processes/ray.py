"""Jobs on a Ray cluster (docs.ray.io). One actor per job holds the process of the job on a node that Ray chooses.

The nodes share the folder of the runs and have this package installed. When an actor dies, its process notices this,
saves and stops. The job is then started again on another node and resumes from its checkpoint.
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
    """The actor that holds the process of one job on its node."""

    def __init__(self, name: str, payload: dict[str, Any], log: str) -> None:
        self.process = LocalProcess(Job(name, payload, Path(log)), dict(os.environ))

    def answer(self) -> dict[str, str] | None:
        """Return the answer of the process. See `Attempt`."""
        return self.process.answer()

    def stop(self, at_once: bool) -> None:
        """Stop the process. See `Attempt`."""
        self.process.stop(at_once)


class Remote:
    """An attempt at a job by an actor."""

    def __init__(self, ray: Any, holder: Any, job: Job) -> None:
        self.ray = ray
        self.actor = holder.remote(job.name, job.payload, str(job.log.resolve()))
        self._asked: Any = None
        self._answer: dict[str, str] | None = None

    def answer(self) -> dict[str, str] | None:
        """Return the answer of the job. `None` also while the actor waits for a place on the cluster."""
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
                self.ray.kill(self.actor)  # frees its place on the cluster
        return self._answer

    def stop(self, at_once: bool = False) -> None:
        """Ask the actor to stop its process."""
        self.actor.stop.remote(at_once)


@contextmanager
def on_ray(address: str, workers: int, device: str) -> Iterator[Start]:
    """Yield the function that starts jobs on the cluster at `address`, or on a new one on this machine (`local`).

    Each of `workers` simultaneous jobs gets its share of the cores of the cluster and, for `cuda`, of its GPUs. Raises
    UserError if Ray is missing, if no cluster answers, or if it has no GPU for `cuda`.
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
        _check_reachable(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **local)
    except Exception as error:
        raise UserError(
            f"no Ray cluster answers at {address!r} ({brief(error)}). Give the address that `ray start --head` "
            "printed, or --ray local for one on this machine"
        ) from error
    return ray


def _check_reachable(address: str) -> None:
    """Raise OSError if nothing listens at the address. Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _shares(resources: dict[str, float], workers: int, device: str) -> dict[str, float]:
    """Return the resources that one job requests from Ray. Raise UserError if it needs a GPU and there is none."""
    gpus = resources.get("GPU", 0.0)
    if device == "cuda" and not gpus:
        raise UserError("the Ray cluster has no GPU: start its nodes with one, or give --device cpu")
    share = {"num_cpus": max(1, int(resources.get("CPU", 1.0)) // workers)}
    return {**share, "num_gpus": _fraction(gpus, workers)} if device == "cuda" else {**share}


def _fraction(gpus: float, workers: int) -> float:
    """Return the largest share of a GPU with which all workers have a place, such as 1/3 for 5 workers on 2 GPUs."""
    jobs_a_gpu = -(-workers // int(gpus))
    return 1.0 / jobs_a_gpu
