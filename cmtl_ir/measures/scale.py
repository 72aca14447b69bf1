"""Meaning of a metric's numbers: name, unit, direction and digits. Imports nothing heavy, so that tables load fast."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

RESERVED = {
    "hash", "seed", "continual", "continual_by_metric", "val", "curve", "steps", "seconds", "step_seconds",
    "cpu_seconds", "step_cpu_seconds", "step_cuda_seconds", "samples_forward", "samples_backward", "peak_memory_bytes",
    "parameters", "environment", "grouping", "metrics",  # keys of result.json
    "task", "variant", "image", "step", "stage_end", "stage", "stage_name", "own_stage", "run", "label",  # columns
    "routed", "group", "models", "distance", "unknown", "loss", "weight", "surgery", "lr", "forgetting",
    "cost", "groups", "conflict", "conflict_rates", "conflict_blocks", "runs", "significance",
    "resolution", "two_stage",  # files of a report
    "adapter", "kind", "order", "drift", "moved", "as_in_training",  # columns of `evaluate --adapt`
    "curves", "gains", "matrices", "restored", "weights", "pareto",
}  # fmt: skip
"""Names that a result or a table uses for something else."""


@dataclass(frozen=True)
class Scale:
    """Name, unit, direction and digits of a metric's numbers."""

    name: str
    """Name of the column, key and MLflow metric: lower case, digits and underscores."""
    unit: str = ""
    """Unit, such as `dB`. Empty for a number without unit."""
    higher_is_better: bool = True
    label: str = ""
    """Displayed name. By default the name in capitals."""
    digits: int = 4
    """Digits after the decimal point in tables."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name) or self.name.endswith(("_input", "_oracle", "_val")):
            raise ValueError(f"a metric's name matches [a-z][a-z0-9_]* and has no reserved ending, not {self.name!r}")
        if self.name in RESERVED:
            raise ValueError(f"a metric cannot be called {self.name!r}: results and tables use that name")
        if not self.label:
            object.__setattr__(self, "label", self.name.upper())

    @property
    def sign(self) -> float:
        """+1 or -1, so that `sign * score` always grows with quality."""
        return 1.0 if self.higher_is_better else -1.0

    @property
    def heading(self) -> str:
        """`PSNR dB`, `SSIM`: for the column of a table."""
        return f"{self.label} {self.unit}".strip()

    @property
    def title(self) -> str:
        """`PSNR in dB`, `SSIM`: for a sentence."""
        return f"{self.label} in {self.unit}" if self.unit else self.label

    @property
    def axis(self) -> str:
        """`PSNR (dB)`, `SSIM`: for the axis of a figure."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def best(self) -> str:
        """`highest` or `lowest`."""
        return "highest" if self.higher_is_better else "lowest"

    @property
    def worst(self) -> str:
        """The opposite of `best`."""
        return "lowest" if self.higher_is_better else "highest"

    def text(self, value: float) -> str:
        """Return a score as tables show it, without its unit."""
        return f"{value:.{self.digits}f}"

    def better(self, one: str, other: str) -> str:
        """Return the difference that is > 0 if `one` is better, as text: `one minus other`, or the reverse."""
        return f"{one} minus {other}" if self.higher_is_better else f"{other} minus {one}"

    def plain(self) -> dict[str, Any]:
        """Return the fields as plain data. `Scale(**plain)` reads them back."""
        return asdict(self)


PSNR = Scale("psnr", "dB", digits=2)
SSIM = Scale("ssim")
DEFAULT = (PSNR, SSIM)
"""Metrics of an experiment by default. PSNR ranks strategies and comes first in every table."""
