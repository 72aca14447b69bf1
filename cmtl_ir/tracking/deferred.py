"""A tracker of a run whose store is opened with the first delivery, so that training begins before MLflow is there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, cast

from cmtl_ir.tracking.journal import Delivery
from cmtl_ir.tracking.tracker import SECONDS, RunTracker, Store


class Announced(NamedTuple):
    """A run that its store knows."""

    store: Store
    run_id: str
    status: str
    """Status of the run in the store."""


Announce = Callable[[str], Announced]
"""Finds or creates the run in its store. It is called with the run id that the run's folder names, or with `""`."""


class DeferredTracker(RunTracker):
    """A tracker that finds or creates its run in the store with the first delivery, or at the end of the run."""

    def __init__(self, announce: Announce, folder: Path, mark: Delivery, uri: str, seconds: float = SECONDS) -> None:
        """`mark` is the record of the run's folder, and `uri` the store without its password."""
        mark.uri = mark.uri or uri
        super().__init__(cast(Store, None), folder, mark, "", seconds)
        self._announce, self._uri, self._is_open, self._opening = announce, uri, False, threading.Lock()

    def deliver(self) -> None:
        """Open the store if it is not open, and deliver the journal to it. Raise what the store raises."""
        self._open()
        super().deliver()

    def finish(self, status: str | None = "FINISHED") -> bool:
        """Deliver what is pending and set the status. See `RunTracker.finish`."""
        self._halt()
        self._attempt(self._open)
        return super().finish(status)

    def _open(self) -> None:
        with self._opening:
            if self._is_open:
                return
            store, run_id, status = self._announce(self.delivery.run_id)  # takes seconds: training goes on
            with self._lock:
                moved = self.delivery.moved_to(self._uri, run_id)
                moved.status = self.delivery.status
                self.store, self.delivery, self.status = store, moved, status
                self._in_step = self._rewound is None and moved.arrived == self.journal.size
                moved.write(self.folder)
            self._is_open = True
