"""Delivery of a run's journal to the tracking store: in batches, in the background, each point once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from cmtl_ir.base.errors import brief
from cmtl_ir.base.files import json_text
from cmtl_ir.tracking.journal import BATCH, Delivery, Journal, Point, unsent

SECONDS = 3.0
"""Seconds between deliveries."""
PATIENCE = 60.0
"""Seconds between attempts at a server that has not answered for long."""

log = logging.getLogger("cmtl_ir.tracking")


class Store(Protocol):
    """The calls of a tracking store that a tracker makes. Each may raise if the store cannot be reached."""

    def send(self, run_id: str, points: Sequence[Point]) -> None:
        """Add at most 1000 points. Adding a point again changes nothing."""

    def latest(self, run_id: str) -> dict[str, int]:
        """Return the latest step of each metric."""

    def steps(self, run_id: str, name: str) -> set[int]:
        """Return all steps of a metric."""

    def upload(self, run_id: str, file: Path, folder: str) -> None:
        """Add a file to the artifacts of a run."""

    def set_status(self, run_id: str, status: str) -> None:
        """Set the status: RUNNING, FINISHED, FAILED or KILLED."""


class RunTracker:
    """Writes one run. The journal in its folder is written first and is authoritative; the store follows."""

    def __init__(self, store: Store, folder: Path, delivery: Delivery, status: str, seconds: float = SECONDS) -> None:
        self.store, self.folder, self.delivery, self.status, self.seconds = store, folder, delivery, status, seconds
        self.journal = Journal(folder)
        self._held: dict[str, set[int]] = {}
        self._latest: dict[str, int] = {}
        self._rewound: int | None = None
        self._in_step = delivery.arrived == self.journal.size
        self._warned = self._trains = False
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        delivery.write(folder)

    @property
    def run_id(self) -> str:
        """Id of the MLflow run."""
        return self.delivery.run_id

    def _is_pending(self) -> bool:
        return self.delivery.arrived != self.journal.size or bool(self.delivery.waiting(self.folder))

    # ----------------------------------------------------------------------------------------------- writing

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log values by metric name at a step. The steps of a metric increase; a repeated point is ignored."""
        if self.journal.append(step, values):
            self._trains = True
            self._work_in_background()

    def rewind(self, step: int) -> None:
        """Resume from `step`: later entries are removed, and those that were delivered are not delivered again."""
        with self._lock:
            self.journal.rewind(step)
            self._rewound, self._in_step = step, False

    def artifact(self, path: Path, folder: str = "") -> None:
        """Add a file to the folder `folder` of the run's artifacts. Its content is read when it is delivered."""
        path, home = Path(path).resolve(), self.folder.resolve()
        place = path.relative_to(home).as_posix() if path.is_relative_to(home) else path.as_posix()
        with self._lock:
            self.delivery.files[f"{place}|{'' if folder == '.' else folder}"] = False
            self.delivery.write(self.folder)
        self._work_in_background()

    def concluding(self, path: Path) -> None:
        """Announce the file with which the run is finished, before it is written.

        If the process is killed after writing it, the next delivery of the run's folder adds it and sets the status.
        """
        with self._lock:
            self.delivery.result = Path(path).relative_to(self.folder).as_posix()
            entry = f"{self.delivery.result}|"
            if entry not in self.delivery.files or not Path(path).is_file():
                self.delivery.files[entry] = False
            self.delivery.write(self.folder)

    def text(self, text: str, name: str) -> None:
        """Add a text as artifact `name` (`tables/summary.md`)."""
        self._own_file(name).write_text(text, encoding="utf-8")
        self.artifact(self._own_file(name), Path(name).parent.as_posix())

    def dict(self, values: Mapping[str, Any], name: str) -> None:
        """Add plain values as JSON artifact `name`."""
        self.text(json_text(values), name)

    def figure(self, figure: Any, name: str) -> None:
        """Add a matplotlib figure as artifact `name` (`plots/conflict.png`)."""
        figure.savefig(self._own_file(name))
        self.artifact(self._own_file(name), Path(name).parent.as_posix())

    def _own_file(self, name: str) -> Path:
        path = self.folder / "artifacts" / name
        if not path.resolve().is_relative_to((self.folder / "artifacts").resolve()):
            raise ValueError(f"the artifact name {name!r} leaves the run's folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def finish(self, status: str | None = "FINISHED") -> bool:
        """Deliver what is pending and set the status; `None` leaves the status.

        Return False if the store cannot be reached. The journal then holds everything.
        """
        self._halt()
        if status is not None and (status != self.status or self.delivery.status is not None or self._is_pending()):
            self.delivery.status = status  # with it, what is still to be sent does not make it a running one
        self.delivery.write(self.folder)
        if self._attempt(self.deliver):
            return True
        log.warning(
            "not all of the run in %s has reached %s; everything is kept in that folder. When the store is back: "
            "cmtl-ir sync %s", self.folder, self.delivery.uri, self.folder,
        )  # fmt: skip
        return False

    # -------------------------------------------------------------------------------------------- delivering

    def _work_in_background(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        pause = self.seconds
        while not self._stop.wait(pause):
            pause = self.seconds if self._attempt(self.deliver) else min(2.0 * pause, PATIENCE)

    def _halt(self) -> None:
        """Stop the delivery in the background after the one that is under way."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._thread, self._stop = None, threading.Event()

    def _attempt(self, work: Callable[[], None]) -> bool:
        """Call the store by a function, and warn once about a failure. Training continues in any case."""
        try:
            work()
        except Exception as error:
            self._in_step = False  # a call that failed here may have succeeded there
            if not self._warned:
                log.warning(
                    "the tracking store %s does not take what it is sent (%s). Training continues; metrics are kept in "
                    "%s and delivered when it is back", self.delivery.uri, brief(error), self.journal.path,
                )  # fmt: skip
            self._warned = True
            return False
        self._warned = False
        return True

    def deliver(self) -> None:
        """Deliver the journal to the store. Raise what the store raises."""
        with self._lock:
            if not self._in_step:
                self._compare()
            self._send_points()
            self._send_files()
            if self.delivery.status is not None:
                self._set_status(self.delivery.status)
                self.delivery.status = None
                self.delivery.write(self.folder)

    def _set_status(self, status: str) -> None:
        self.store.set_status(self.run_id, status)
        self.status = self.delivery.reached = status

    def _compare(self) -> None:
        """Learn what the store has: a kill may have come between a delivery and its mark, or after later steps."""
        self._latest, self._held = self.store.latest(self.run_id), {}
        for name, last in self._latest.items():
            if self._rewound is not None and last > self._rewound:
                self._held[name] = {step for step in self.store.steps(self.run_id, name) if step > self._rewound}
                self._latest[name] = self._rewound
        self.delivery.arrived, self._in_step = 0, True

    def _send_points(self) -> None:
        while self.delivery.arrived < self.journal.size:
            points, end = self.journal.read(self.delivery.arrived)
            if end == self.delivery.arrived:
                return
            points = unsent(points, self._latest, self._held)
            for start in range(0, len(points), BATCH):
                self._now_running()
                self.store.send(self.run_id, points[start : start + BATCH])
            self.delivery.arrived = end
            self.delivery.write(self.folder)

    def _send_files(self) -> None:
        for entry in self.delivery.waiting(self.folder):
            place, folder = entry.rsplit("|", 1)
            if (self.folder / place).is_file():
                self._now_running()
                self.store.upload(self.run_id, self.folder / place, folder)
            self.delivery.files[entry] = True
            self.delivery.write(self.folder)

    def _now_running(self) -> None:
        """Say that the run is at work again. What a run left behind is delivered without a new status."""
        if self._trains and self.status != "RUNNING" and self.delivery.status is None:
            self._set_status("RUNNING")
