"""The scores of a trained run or of an authors' checkpoint on suites."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cmtl_ir.adaptation.naming import columns_of
from cmtl_ir.backbones.building import pick_device
from cmtl_ir.base.errors import UserError
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.inference.adapting import read_seed, subject_of
from cmtl_ir.inference.published import Published
from cmtl_ir.inference.suite_answers import adapted_answers, network_of, plain_answers, usable
from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.measures.metric import smallest_side
from cmtl_ir.store.lookup import find_run
from cmtl_ir.suites.catalogue import lines_of, suite_name
from cmtl_ir.suites.line import Line
from cmtl_ir.suites.scoring import Answer, FolderAnswer, score
from cmtl_ir.tasks.config import TaskConfig

log = logging.getLogger("cmtl_ir")


def evaluate_suites(
    run: str | Path | Published,
    experiment: Experiment,
    suites: Sequence[str],
    *,
    adapt: Sequence[str] = (),
    out: str | Path = "runs",
    device: str = "auto",
    metrics: Sequence[str] = (),
    task: str | None = None,
    ranges: Experiment | None = None,
    say: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Score a run or a checkpoint on suites, by name or file. Return one row per line, image, answer and order.

    `adapt` holds NAME or NAME:field=value,... per adapter, each of which is an answer. `task` is the trained task whose
    number is given for lines that contain none. `None`: the first one. `ranges` is the experiment as it was trained,
    which says what lies inside the training range. `None`: `experiment`. `say` is called with lines for the user;
    `None` logs them. Raises UserError before anything is scored for an unknown suite, adapter or task, and for a suite
    that has nothing to test.
    """
    chosen, tell, adapters = pick_device(device), say or log.info, columns_of(list(adapt))
    names = [suite_name(one) for one in suites]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"two suites have the name {', '.join(sorted(twice))}")
    used = run if isinstance(run, Published) else find_run(run, out)
    asked = experiment.evaluation
    network = network_of(used, experiment, Path(out), chosen, asked.tile, tell)
    if task is not None and task not in network.known:
        raise UserError(f"--task {task!r}: this run knows {', '.join(network.known)}")
    trained_with = (ranges or experiment).tasks
    trained = {name: trained_with[name] for name in network.trained if name in trained_with}
    others = {name: one for name, one in experiment.tasks.items() if name not in trained}
    lines = [line for one in suites for line in _with_images(lines_of(one, trained, others), experiment.tasks)]
    answers: dict[str, Answer | FolderAnswer] = {**plain_answers(network, chosen, task)}
    if adapt:
        subject = subject_of(used, chosen, asked.tile, Path(out), tell, experiment)
        answers |= adapted_answers(adapters, subject, task, tell)
    measured = list(dict.fromkeys([*asked.metrics, *metrics]))
    evaluator = Evaluator({}, asked.protocol, asked.tile, chosen, metrics=measured, known=network.known)
    seed, smallest = read_seed(used, experiment.seeds[0]), smallest_side(asked.protocol, measured)
    return score(lines, answers, evaluator, experiment.data, seed, smallest)


def usable_adapters(
    run: Path, experiment: Experiment, adapt: Sequence[str], *, out: str | Path = "runs", device: str = "auto"
) -> list[str]:
    """Return those of some adapters that a run can be used with, and warn of the others."""
    subject = subject_of(run, pick_device(device), experiment.evaluation.tile, Path(out), log.info, experiment)
    adapters = {label: one for label, one in columns_of(list(adapt)).items() if label in adapt}
    return list(usable(adapters, subject, lambda text: log.warning("%s: %s", run.name, text)))


def _with_images(lines: Sequence[Line], tasks: Mapping[str, TaskConfig]) -> list[Line]:
    """Return lines whose trained tasks have the test images that the experiment names, which may be overridden."""
    return [
        replace(
            line, config=line.config.model_copy(update={"test": tasks[line.task].test, "clean": tasks[line.task].clean})
        )
        if line.task in tasks and line.given == line.task
        else line
        for line in lines
    ]
