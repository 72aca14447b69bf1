"""The journal of a run and its state of delivery: two files in the run's folder, independent of any server.

    metrics.jsonl    {"step": 10, "time": 1790000000000, "metrics": {"loss/rain": 0.1}}, one line per entry; NaN is null
    delivery.json    the MLflow run, the part of the journal that was delivered, and the files that were not

A metric has one value per step. The steps of a metric increase, and a repeated point is ignored: the first one counts.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from cmtl_ir.base.errors import UserError
from cmtl_ir.base.files import write_whole

NAME = re.compile(r"[\w. -]+(?:/[\w. -]+)*", re.ASCII)
PSNR_CAP = 100.0
BATCH = 1000
"""Largest number of points that MLflow accepts in one call."""


class TrackingError(UserError):
    """The tracking store or the journal cannot be reached or used. The message names it and the way out."""


class Point(NamedTuple):
    """One value of one metric."""

    name: str
    value: float
    time: int
    """Milliseconds since 1970. It is stored, so that a point that is sent twice is the same point."""
    step: int


def check_name(name: str) -> str:
    """Return a name that MLflow accepts on every system. Raise ValueError for any other."""
    if not NAME.fullmatch(name) or len(name) > 250 or ".." in name or name.split("/")[0] == ".":
        raise ValueError(
            f"{name!r} cannot name a metric or a comparison: up to 250 letters, digits, `_`, `-`, `.`, spaces "
            "and inner slashes"
        )
    return name


def cleaned(values: Mapping[str, float]) -> dict[str, float]:
    """Return values as MLflow stores them: NaN is kept, an infinite PSNR is 100, other infinities are left out."""
    result = {}
    for name, value in values.items():
        number = float(value)
        if math.isinf(number):
            if "psnr" not in check_name(name):
                continue
            number = math.copysign(PSNR_CAP, number)
        result[check_name(name)] = number
    return result


class Journal:
    """metrics.jsonl: appended line by line, truncated on resume, read for delivery."""

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder) / "metrics.jsonl"
        self._lock = threading.Lock()
        self._last: dict[str, int] = {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._rewrite(None)

    @property
    def size(self) -> int:
        """Return the number of bytes written, up to the end of the newest line."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def next_step(self, names: Iterable[str]) -> int:
        """Return the last step of all, or one more than the last step of these names if one of them was logged."""
        known = [self._last[name] for name in names if name in self._last]
        return max(known) + 1 if known else max(self._last.values(), default=0)

    def append(self, step: int, values: Mapping[str, float]) -> bool:
        """Append the values of a step. Return False if none of them is new."""
        values = cleaned(values)
        with self._lock:
            new = {name: value for name, value in values.items() if step > self._last.get(name, -1)}
            if not new:
                return False
            with _writing(self.path), self.path.open("ab") as file:
                file.write(_line(step, time.time_ns() // 1_000_000, new))
            self._last.update(dict.fromkeys(new, int(step)))
        return True

    def rewind(self, step: int) -> None:
        """Remove the entries of later steps."""
        with self._lock:
            self._rewrite(step)

    def _rewrite(self, up_to: int | None) -> None:
        """Rewrite the file without incomplete lines and lines of steps after `up_to`. `None` keeps all steps."""
        content = self.path.read_bytes() if self.path.is_file() else b""
        entries = [entry for line in content.splitlines() if (entry := _entry(line)) is not None]
        kept = [entry for entry in entries if up_to is None or entry["step"] <= up_to]
        self._last = {}
        for entry in kept:
            for name in entry["metrics"]:
                self._last[name] = max(entry["step"], self._last.get(name, -1))
        text = b"".join(_line(entry["step"], entry["time"], entry["metrics"]) for entry in kept)
        if text != content:
            replace_whole(self.path, text)

    def read(self, start: int, most: int = BATCH) -> tuple[list[Point], int]:
        """Return about `most` points (whole lines) from byte `start` on, and the position after them."""
        points: list[Point] = []
        end = start
        if not self.path.is_file():
            return points, 0
        with self.path.open("rb") as file:
            file.seek(start)
            while len(points) < most and (line := file.readline()).endswith(b"\n"):
                end += len(line)
                if entry := _entry(line):
                    points += [
                        Point(name, math.nan if value is None else value, entry["time"], entry["step"])
                        for name, value in entry["metrics"].items()
                    ]
        return points, end


def _line(step: int, milliseconds: int, values: Mapping[str, float | None]) -> bytes:
    plain = {name: None if value is None or math.isnan(value) else value for name, value in values.items()}
    return json.dumps({"step": int(step), "time": milliseconds, "metrics": plain}).encode() + b"\n"


def _entry(line: bytes) -> dict | None:
    try:
        entry = json.loads(line)
        return entry if {"step", "time", "metrics"} <= set(entry) else None
    except (ValueError, TypeError):
        return None


def replace_whole(path: Path, content: bytes) -> None:
    """Replace a small file as a whole. Raises TrackingError."""
    with _writing(path):
        write_whole(path, content)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrackingError(
            f"could not write {path}: {error.strerror or error}. Free space there and run the same command again: it "
            "resumes from the last checkpoint"
        ) from error


@dataclass
class Delivery:
    """delivery.json: the destination of a run's journal and the part of it that was delivered."""

    uri: str = ""
    run_id: str = ""
    arrived: int = 0
    """Number of bytes of the journal that were delivered."""
    status: str | None = None
    """A final status that was not delivered yet."""
    files: dict[str, bool] = field(default_factory=dict)
    """`path in the run's folder | folder among the artifacts` -> whether the file was delivered."""
    result: str = ""
    """Path in the run's folder of the file with which the run is finished. It is named before it is written."""
    reached: str | None = None
    """The last status that was delivered. `None` if none was, or if it is not known."""

    @classmethod
    def read(cls, folder: Path) -> Delivery:
        """Return the record of a run, or an empty record if there is none."""
        try:
            return cls(**json.loads((Path(folder) / "delivery.json").read_text()))
        except (OSError, ValueError, TypeError):
            return cls()

    def write(self, folder: Path) -> None:
        """Write the record of a run."""
        replace_whole(Path(folder) / "delivery.json", json.dumps(asdict(self), indent=1).encode())

    def waiting(self, folder: Path) -> list[str]:
        """Return the files that were not delivered, without a result that is not written yet."""
        ahead = f"{self.result}|" if self.result and not (Path(folder) / self.result).is_file() else None
        return [name for name, arrived in self.files.items() if not arrived and name != ahead]

    def due(self, folder: Path) -> str | None:
        """Return the final status that was not delivered yet, or `None`. A run with a result is finished."""
        if self.status is None and self.result and self.reached != "FINISHED":
            return "FINISHED" if (Path(folder) / self.result).is_file() else None
        return self.status

    def moved_to(self, uri: str, run_id: str) -> Delivery:
        """Return the record for a run. For another store or run, it is a record in which nothing was delivered."""
        if (self.uri, self.run_id) == (uri, run_id):
            return self
        return Delivery(uri, run_id, files=dict.fromkeys(self.files, False), result=self.result)


def unsent(points: Iterable[Point], latest: Mapping[str, int], held: Mapping[str, set[int]]) -> list[Point]:
    """Return the points that a server lacks.

    The server has each metric up to its step in `latest`, and the later steps in `held` from an earlier attempt.
    """
    return [p for p in points if p.step > latest.get(p.name, -1) and p.step not in held.get(p.name, ())]
