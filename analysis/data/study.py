"""A comparison and what follows from it once: what may be ranked, against which baseline, and every measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from cmtl_ir.base.errors import UserError, suggestion
from cmtl_ir.measures.scale import PSNR, Scale

from . import fairness, measures, significance
from .frames import Frames
from .significance import Verdict

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Study:
    """What tables, words and figures are made of. `baseline`: what differences are tested against."""

    frames: Frames
    baseline: str
    conflict_at: tuple[tuple[int, int], ...] = ()
    """Windows of steps (first, last) that the conflict heat-maps show; empty: training cut in three."""
    _measures: dict[Scale, pd.DataFrame] = field(default_factory=dict, repr=False)
    _verdicts: dict[Scale, dict[tuple[str, str], Verdict]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, frames: Frames, baseline: str | None = None, conflict_at: Sequence[tuple[int, int]] = ()) -> Study:
        """Raises UserError where nothing is finished or no strategy has the baseline's name."""
        labels = fairness.competitors(frames)
        if not labels:
            raise UserError(" ".join([f"{frames.source.where}: no run has scores.", *fairness.missing(frames)[:1]]))
        if baseline in frames.labels and baseline not in labels:
            raise UserError(
                f"--baseline {baseline!r} has no finished run that competes; those that have: {', '.join(labels)}"
            )
        if baseline is not None and baseline not in labels:
            raise UserError(f"--baseline {baseline!r}: {suggestion(baseline, labels)}")
        return cls(frames, baseline or significance.default_baseline(frames), tuple(conflict_at))

    @cached_property
    def labels(self) -> list[str]:
        """The strategies that compete, in the order of the experiment."""
        return fairness.competitors(self.frames)

    @cached_property
    def seeds(self) -> dict[str, int]:
        """Strategy -> number of finished seeds."""
        return {label: sum(one.label == label for one in self.frames.finished) for label in self.labels}

    @cached_property
    def reasons(self) -> list[str]:
        """Why nothing may be ranked; empty if it may."""
        return fairness.reasons_not_to_rank(self.frames)

    @cached_property
    def missing(self) -> list[str]:
        """What is not there, each with the command that makes it."""
        return fairness.missing(self.frames)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """`measures.scores`."""
        return measures.scores(self.frames)

    @property
    def scales(self) -> tuple[Scale, ...]:
        """The metrics, PSNR first."""
        return self.frames.scales

    @property
    def measures(self) -> pd.DataFrame:
        """`measures_of` PSNR."""
        return self.measures_of(PSNR)

    def measures_of(self, scale: Scale) -> pd.DataFrame:
        """`measures.of_runs`, of the strategies that compete."""
        if scale not in self._measures:
            table = measures.of_runs(self.frames, scale)
            self._measures[scale] = table[table["label"].isin(self.labels)]
        return self._measures[scale]

    def verdicts(self, scale: Scale = PSNR) -> dict[tuple[str, str], Verdict]:
        """(strategy, task) -> comparison with the baseline; empty where ranking is refused."""
        if scale not in self._verdicts:
            known = {} if self.reasons else significance.verdicts(self.frames, self.baseline, scale)
            self._verdicts[scale] = known
        return self._verdicts[scale]

    @cached_property
    def ranking(self) -> list[str]:
        """Best mean PSNR first, of the strategies with all their seeds; empty where ranking is refused."""
        return [] if self.reasons else measures.ranked(self.frames)

    @cached_property
    def protocol(self) -> str:
        """The metric protocols of the runs: one, or they are not comparable."""
        named = {config.get("identity", {}).get("protocol") for config in self.frames.configs.values()}
        return ", ".join(sorted(str(one) for one in named if one))
