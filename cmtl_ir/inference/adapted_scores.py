"""Scores of a trained network with and without adaptation at test time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cmtl_ir.adaptation.naming import columns_of
from cmtl_ir.adaptation.scoring import adapted_scores
from cmtl_ir.adaptation.subject import OneNetwork
from cmtl_ir.backbones.building import pick_device
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.inference.adapting import read_seed, subject_of
from cmtl_ir.inference.published import Published
from cmtl_ir.inference.restoration import check_metrics, evaluator_of
from cmtl_ir.store.lookup import find_run

log = logging.getLogger("cmtl_ir")


def evaluate_adapted(
    run: str | Path | Published,
    experiment: Experiment,
    adapt: Sequence[str],
    *,
    out: str | Path = "runs",
    device: str = "auto",
    metrics: Sequence[str] = (),
    say: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Score a run or a checkpoint on an experiment's test sets under `none`, `self_ensemble`, and the adapters named.

    `adapt` holds NAME or NAME:field=value,... per adapter. Returns one row per image, adapter and order, as
    `adapted_scores` does. Raises UserError before anything is scored if an adapter, a metric, the device, the weights
    or the test images cannot be used.
    """
    adapters, chosen = columns_of(list(adapt)), pick_device(device)
    check_metrics(metrics)
    used = run if isinstance(run, Published) else find_run(run, out)
    tell = say or log.info
    subject = subject_of(used, chosen, experiment.evaluation.tile, Path(out), tell, experiment)
    known = list(experiment.tasks) if isinstance(used, Published) else subject.origin.tasks
    seed = read_seed(used, experiment.seeds[0])
    evaluator = evaluator_of(experiment, known, chosen, metrics, seed)
    if isinstance(subject, OneNetwork) and subject.reads_number():
        tell("the network is told the number of each image's task, with and without adaptation")
    return adapted_scores(evaluator, subject, adapters, tell)
