"""Stein's two-stage procedure: train the pilot's seeds, then as many further seeds as each difference needs.

Each strategy's difference to the baseline (PSNR, mean over tasks, paired by seed) gets the number of seeds that its
pilot asks for. The pilot are the seeds of the experiment. Further seeds are the integers after its largest one, so the
same command plans the same runs again and resumes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

from cmtl_ir.base.errors import UserError
from cmtl_ir.base.ranks import current
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.measures.seeds import default_baseline, two_stage_half_width, two_stage_seeds
from cmtl_ir.runs.comparison import train_prepared
from cmtl_ir.runs.plan import Comparison, Prepared, prepare
from cmtl_ir.runs.workspace import Workspace
from cmtl_ir.store.run import Run

MAX_SEEDS = 20
"""Largest number of seeds of a strategy, if no other is asked for."""
Scores = dict[str, dict[int, float]]
"""Strategy -> seed -> PSNR in dB, mean over tasks."""


@dataclass(frozen=True)
class Aim:
    """Precision that a two-stage comparison aims at."""

    half_width: float
    """Largest half-width of the 95 % interval of each difference in dB."""
    max_seeds: int = MAX_SEEDS
    """Largest number of seeds of a strategy, including the pilot."""


@dataclass(frozen=True)
class SeedPlan:
    """Seeds of every strategy, as far as its pilot is known."""

    aim: Aim
    baseline: str
    pilot: tuple[int, ...]
    spread: Mapping[str, float]
    """Strategy -> standard deviation of its difference over the pilot in dB. Strategies whose pilot is not finished are
    left out, and so are the baseline and single-task references."""

    def needed(self, label: str) -> int:
        """Return the number of seeds that a strategy's pilot asks for."""
        return two_stage_seeds(self.spread[label], len(self.pilot), self.aim.half_width)

    def count(self, label: str) -> int:
        """Return the number of seeds that a strategy gets. The baseline gets those of the strategy with the most."""
        if label == self.baseline:
            return max((self.count(other) for other in self.spread), default=len(self.pilot))
        if label not in self.spread:
            return len(self.pilot)
        return min(self.needed(label), max(self.aim.max_seeds, len(self.pilot)))

    def seeds(self, label: str) -> tuple[int, ...]:
        """Return the seeds of a strategy: the pilot, then the integers after its largest seed."""
        first = max(self.pilot) + 1
        return (*self.pilot, *range(first, first + self.count(label) - len(self.pilot)))

    def further(self) -> list[int]:
        """Return the seeds after the pilot that at least one strategy needs."""
        return list(self.seeds(self.baseline)[len(self.pilot) :])

    def half_width(self, label: str) -> float:
        """Return the half-width in dB of the interval of a strategy after all its seeds."""
        return two_stage_half_width(self.spread[label], len(self.pilot), self.count(label))


def competing(experiment: Experiment) -> list[str]:
    """Return the strategies that are compared: all but single-task references."""
    return [label for label, one in experiment.strategies.items() if one.curriculum.called != "single"]


def check(experiment: Experiment, aim: Aim) -> None:
    """Raise UserError if an experiment cannot be a pilot."""
    pilot, labels = len(experiment.seeds), competing(experiment)
    if not aim.half_width > 0:
        raise UserError(f"--resolve {aim.half_width:g}: a half-width in dB above 0, as in --resolve 0.2")
    if pilot < 2:
        raise UserError(
            f"--resolve plans from the spread between the experiment's seeds, of which there is {pilot}: "
            "give at least two (--set 'seeds=[0, 1, 2]')"
        )
    if len(labels) < 2:
        raise UserError(f"--resolve needs a baseline and another strategy; the experiment compares {', '.join(labels)}")
    if aim.max_seeds < pilot:
        raise UserError(f"--max-seeds {aim.max_seeds}: the experiment itself has {pilot} seeds")


def seed_scores(runs: Sequence[Run]) -> Scores:
    """Return the scores of the finished runs."""
    found: Scores = {}
    for run in runs:
        if run.status == "finished":
            found.setdefault(run.label, {})[run.seed] = fmean(run.result()["psnr"].values())
    return found


def plan_of(experiment: Experiment, runs: Sequence[Run], aim: Aim) -> SeedPlan:
    """Return the plan that follows from the finished runs of the pilot."""
    labels, pilot = competing(experiment), tuple(experiment.seeds)
    scores, baseline = seed_scores(runs), default_baseline(labels)
    own = {label: scores.get(label, {}) for label in labels}
    whole = [label for label in labels if all(seed in own[label] for seed in pilot)]
    spread = {
        label: stdev(own[label][seed] - own[baseline][seed] for seed in pilot)
        for label in whole
        if label != baseline and baseline in whole
    }
    return SeedPlan(aim, baseline, pilot, spread)


def prepare_further(experiment: Experiment, plan: SeedPlan, out: Path, device: str) -> Prepared | None:
    """Plan the runs of the further seeds. `None` if no strategy needs any."""
    further = plan.further()
    if not further:
        return None
    prepared = prepare(experiment.model_copy(update={"seeds": further}), out, device)
    wanted = [one for one in prepared.planned if one.run.seed in plan.seeds(one.run.label)]
    return replace(prepared, experiment=experiment, planned=wanted)


def prepare_both(experiment: Experiment, aim: Aim, out: Path, device: str = "auto") -> tuple[Prepared, SeedPlan]:
    """Plan the pilot and, as far as it is finished, the runs that follow from it."""
    check(experiment, aim)
    pilot = prepare(experiment, out, device)
    plan = plan_of(experiment, pilot.runs, aim)
    further = prepare_further(experiment, plan, out, device)
    if further is None:
        return pilot, plan
    return replace(pilot, tasks=pilot.tasks | further.tasks, planned=[*pilot.planned, *further.planned]), plan


def train_two_stages(
    experiment: Experiment, workspace: Workspace, aim: Aim, fresh: bool = False, say: Callable[[str], None] = print
) -> tuple[Comparison, SeedPlan]:
    """Tell the plan, train the pilot, tell the plan that follows from it, and train the further seeds.

    A strategy with a failed run in the pilot gets no further seeds. `say` is called with each line of the plan.
    """
    check(experiment, aim)
    if current().count > 1:
        raise UserError("--resolve plans from finished runs: start it without torchrun (--workers trains several runs)")
    planned = prepare(experiment, workspace.out, workspace.device)
    known = plan_of(experiment, () if fresh else planned.runs, aim)
    _tell(experiment, known, say)
    pilot = train_prepared(planned, workspace, fresh)
    plan = plan_of(experiment, pilot.runs, aim)
    if plan != known:
        _tell(experiment, plan, say)
    prepared = prepare_further(experiment, plan, workspace.out, workspace.device)
    if prepared is None:
        return pilot, plan
    further = train_prepared(prepared, workspace, fresh)
    whole = experiment.model_copy(update={"seeds": [*plan.pilot, *plan.further()]})
    runs, failures = [*pilot.runs, *further.runs], pilot.failures | further.failures
    return replace(pilot, experiment=whole, runs=runs, failures=failures), plan


def _tell(experiment: Experiment, plan: SeedPlan, say: Callable[[str], None]) -> None:
    for line in words(experiment, plan):
        say(line)


def words(experiment: Experiment, plan: SeedPlan) -> list[str]:
    """Return the plan as lines of text."""
    listed, aim = ", ".join(map(str, plan.pilot)), plan.aim
    lines = [
        f"two-stage plan (Stein): 95 % interval of each difference to {plan.baseline}, PSNR as mean over tasks, of "
        f"half-width {aim.half_width:g} dB; pilot: seeds {listed}"
    ]
    others = [label for label in competing(experiment) if label != plan.baseline]
    lines += [f"  {label}: {_words_of(plan, label)}" for label in others]
    if set(others) <= set(plan.spread):
        lines.append(f"  {plan.baseline} (baseline): {plan.count(plan.baseline)} seeds, those of all others")
    references = [label for label in experiment.strategies if label not in (*others, plan.baseline)]
    if references:
        lines.append(f"  {', '.join(references)}: references, with the seeds of the pilot only")
    return lines


def _words_of(plan: SeedPlan, label: str) -> str:
    if label not in plan.spread:
        return f"known after the pilot; at most {plan.aim.max_seeds} seeds"
    needed, count = plan.needed(label), plan.count(label)
    text = f"SD {plan.spread[label]:.3f} dB in the pilot"
    if needed > count:
        return (
            f"{text}, which asks for {needed:,} seeds; --max-seeds {plan.aim.max_seeds} leaves a half-width of "
            f"{plan.half_width(label):.2f} dB"
        )
    if count == len(plan.pilot):
        return f"{text}, {count} seeds: the pilot is enough (half-width {plan.half_width(label):.2f} dB)"
    further = plan.seeds(label)[len(plan.pilot) :]
    named = f"seed {further[0]}" if len(further) == 1 else f"seeds {further[0]} to {further[-1]}"
    return f"{text}, {count} seeds: {named} follow{'s' if len(further) == 1 else ''}"
