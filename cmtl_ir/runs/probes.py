"""One probe batch of every strategy of a plan, so that what cannot be trained is found before anything is trained."""

from __future__ import annotations

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.runs.plan import Prepared
from cmtl_ir.training.probing import faults_of


def probe(prepared: Prepared) -> None:
    """Try one small step of every strategy that has runs to train. Raise one ConfigError that lists all that fail.

    Costs two samples per task and strategy. Weights, generators and results of the runs do not depend on it.
    """
    waiting = {one.run.label: one for one in reversed(prepared.planned) if one.run.status != "finished"}
    faults: dict[str, list[str]] = {}
    for label in prepared.experiment.strategies:
        if (one := waiting.get(label)) is not None:
            for fault in faults_of(one.experiment, one.strategy, one.tasks, one.run.seed, prepared.device, one.weights):
                faults.setdefault(fault, []).append(label)
    if faults:
        listed = "\n".join(f"  strategies.{', '.join(labels)}: {fault}" for fault, labels in faults.items())
        others = [label for label in waiting if not any(label in labels for labels in faults.values())]
        rest = (
            f"\nthe other strategies pass ({', '.join(reversed(others))}): --strategy LABEL trains one"
            if others
            else ""
        )
        raise ConfigError(
            f"{prepared.experiment.name}: nothing was trained, because a probe batch fails:\n{listed}{rest}"
        )
