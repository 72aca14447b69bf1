"""A run as a member of a comparison, found or created in an MLflow store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cmtl_ir.tracking.deferred import Announced
from cmtl_ir.tracking.mlflow_store import PARENT, RUN, Images, MlflowStore


@dataclass(frozen=True)
class Member:
    """What the store is told of a run."""

    run_hash: str
    name: str
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    """Tags of the run, among them `in.COMPARISON = label`."""
    images: Sequence[Images]
    """Data sets of a run that is created."""
    begun: int
    """Milliseconds since 1970 at which a run that is created begins."""

    def announced(self, store: MlflowStore, parent: str, known_as: str) -> Announced:
        """Find or create the run. `known_as` is the run id that the run's folder names, or `""`."""
        with store.alone():
            run = store.get(known_as) or store.find({RUN: self.run_hash})
            if run is not None and run.info.run_id != known_as and run.data.metrics:
                store.replace(run)
                run = None  # trained elsewhere; this folder starts a new run
            if run is None:
                run_id = store.create(self.name, {RUN: self.run_hash, PARENT: parent}, self.begun)
                if self.images:
                    store.use(run_id, self.images)
            else:
                run_id = run.info.run_id
                store.sweep(run)
            known = run.data.params if run else {}
            store.describe(run_id, {key: v for key, v in self.params.items() if key not in known}, self.tags)
        return Announced(store, run_id, run.info.status if run else "RUNNING")
