"""A comparison with everything derived from it: ranking, baseline, measures and verdicts, each computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from cmtl_ir.base.errors import UserError, suggestion
from cmtl_ir.measures import seeds as statistics
from cmtl_ir.measures.scale import PSNR, Scale
from cmtl_ir.measures.seeds import SeedDifference

from . import fairness, measures, own_training, significance
from .frames import Frames
from .significance import Verdict

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Study:
    """Data of the tables, sentences and figures. `baseline`: strategy that all others are tested against."""

    frames: Frames
    baseline: str
    conflict_at: tuple[tuple[int, int], ...] = ()
    """Windows of steps (first, last) of the conflict heat-maps. If empty, training is cut into three."""
    _measures: dict[Scale, pd.DataFrame] = field(default_factory=dict, repr=False)
    _verdicts: dict[Scale, dict[tuple[str, str], Verdict]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, frames: Frames, baseline: str | None = None, conflict_at: Sequence[tuple[int, int]] = ()) -> Study:
        """Return the study of frames. Raise UserError if no run is finished or no strategy has the baseline's name.

        `baseline`: name of a strategy, or `None` for the default one.
        """
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
        """The competing strategies, in the order of the experiment."""
        return fairness.competitors(self.frames)

    @cached_property
    def seeds(self) -> dict[str, int]:
        """Strategy -> number of finished seeds."""
        return {label: sum(one.label == label for one in self.frames.finished) for label in self.labels}

    @cached_property
    def reasons(self) -> list[str]:
        """Why the runs may not be ranked. Empty if they may."""
        return fairness.reasons_not_to_rank(self.frames)

    @cached_property
    def missing(self) -> list[str]:
        """Sentences on missing runs, each with the command that produces them."""
        return fairness.missing(self.frames)

    @cached_property
    def cautions(self) -> list[str]:
        """Sentences on training settings and weights to begin from that only some strategies were given."""
        return [*own_training.cautions(self.frames, self.labels), *fairness.unequal_starts(self.frames)]

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Mean scores of each run and task, see `measures.scores`."""
        return measures.scores(self.frames)

    @property
    def scales(self) -> tuple[Scale, ...]:
        """The metrics of the comparison, PSNR first."""
        return self.frames.scales

    @property
    def measures(self) -> pd.DataFrame:
        """Measures of PSNR, see `measures_of`."""
        return self.measures_of(PSNR)

    def measures_of(self, scale: Scale) -> pd.DataFrame:
        """Return the measures of the competing strategies' runs, see `measures.of_runs`."""
        if scale not in self._measures:
            table = measures.of_runs(self.frames, scale)
            self._measures[scale] = table[table["label"].isin(self.labels)]
        return self._measures[scale]

    def verdicts(self, scale: Scale = PSNR) -> dict[tuple[str, str], Verdict]:
        """Return (strategy, task) -> verdict against the baseline. Empty if the runs may not be ranked."""
        if scale not in self._verdicts:
            known = {} if self.reasons else significance.verdicts(self.frames, self.baseline, scale)
            self._verdicts[scale] = known
        return self._verdicts[scale]

    def over_seeds(self, scale: Scale = PSNR) -> dict[str, SeedDifference]:
        """Return strategy -> difference to the baseline over seeds, mean over tasks. Empty if not comparable."""
        if self.reasons:
            return {}
        means = self.measures_of(scale).dropna(subset=["average"])
        scores = {
            label: {int(seed): float(score) for seed, score in zip(own["seed"], own["average"], strict=True)}
            for label, own in means.groupby("label", sort=False)
        }
        return statistics.over_seeds({label: scores.get(label, {}) for label in self.labels}, self.baseline)

    @cached_property
    def ranking(self) -> list[str]:
        """Strategies with all seeds finished, best mean PSNR first. Empty if the runs may not be ranked."""
        return [] if self.reasons else measures.ranked(self.frames)

    @cached_property
    def protocol(self) -> str:
        """The metric protocols of the runs, joined by commas. Runs under several protocols are not comparable."""
        named = {config.get("identity", {}).get("protocol") for config in self.frames.configs.values()}
        return ", ".join(sorted(str(one) for one in named if one))
