"""Scoring of a trained run on other test images. Training does not see test images, so it is not repeated for them.

The hash of a run contains its test images, because its scores depend on them. A run that differs from a finished run in
nothing else takes over the weights at the ends of that run's stages, and is scored with them. So does a single-task run
where the experiment has got or lost other tasks.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from cmtl_ir.base.errors import UserError
from cmtl_ir.runs.execution import ActiveRun
from cmtl_ir.runs.results import COST, write_scored
from cmtl_ir.runs.watching.scoring import Scoring
from cmtl_ir.runs.watching.watcher import Cadence
from cmtl_ir.store import checkpoint
from cmtl_ir.store.folder import has_weights, is_finished, read_identity, read_result
from cmtl_ir.store.layout import CONFIG, CONFLICT, JOURNAL, stage_folder, stage_folders
from cmtl_ir.store.run import Run, hash_of

SCORED = ("tests", "protocol")
"""Entries of an identity that only scores depend on."""
log = logging.getLogger("cmtl_ir")


def trained_alike(run: Run) -> Path | None:
    """Return the folder of a finished run that only differs in its test images or metric protocol, or `None`.

    A single-task run may also differ in the tasks that it does not train.

    It must still have the weights at the end of each of its stages. Runs with a damaged file are passed over.
    """
    wanted, store = _training_of(run.identity), run.folder.parent
    only = _only_task(run.identity)
    digests = run.identity["tasks"]
    marks = [f"seed: {run.seed}\n", *(digests.values() if only is None else [digests[only]])]
    for config in sorted(store.glob(f"*/{CONFIG}")):
        folder = config.parent
        if folder == run.folder or "." in folder.name or not (has_weights(folder) and is_finished(folder)):
            continue
        text = config.read_text(errors="replace")
        if not all(mark in text for mark in marks):  # parsing takes longer
            continue
        with suppress(UserError):
            if _training_in(folder, text) == wanted and _has_stages(folder):
                return folder
    return None


@cache
def _training_in(folder: Path, text: str) -> str | None:
    """Return what `_training_of` returns for the run in a folder. `None` if the folder has not the name of its hash.

    `text` is that of its file. It is parsed once per process, because a store may hold a thousand runs.
    """
    identity = read_identity(folder)
    return _training_of(identity) if hash_of(identity) == folder.name else None


def _training_of(identity: Mapping[str, Any]) -> str:
    kept = {key: value for key, value in identity.items() if key not in SCORED}
    only = _only_task(identity)
    if only is not None:
        for key in {"tasks", "validation"} & kept.keys():
            kept[key] = {only: kept[key].get(only)}
        kept["number"] = list(identity["tasks"]).index(only)  # networks may read the number of a task
    return json.dumps(kept, sort_keys=True)


def _only_task(identity: Mapping[str, Any]) -> str | None:
    """Return the task that a run trains if nothing else in it can depend on the other tasks. Otherwise `None`."""
    strategy = identity.get("strategy", {})
    curriculum = strategy.get("curriculum") or {}
    plain = not strategy.get("auxiliary") and not strategy.get("retention") and not strategy.get("grouping")
    alone = plain and curriculum.get("name") == "single" and "unlearning" not in identity and "without" not in identity
    return curriculum["task"] if alone and curriculum["task"] in identity.get("tasks", {}) else None


def _has_stages(folder: Path) -> bool:
    ends = [point for point in read_result(folder)["curve"] if point["stage_end"] is not None]
    return len(ends) > 0 and sorted(stage_folders(folder)) == list(range(1, len(ends) + 1))


def score_again(active: ActiveRun, trained: Path) -> None:
    """Score the run with the weights of the run in `trained`, and write all files of a finished run.

    Its curve has the ends of stages only, because no other weights are kept.
    """
    planned, folder, tracker = active.planned, active.run.folder, active.tracker
    log.warning("%s: trained before as %s; only its scores are new", active.run.name, trained.name)
    learner = planned.learner()
    scoring = Scoring(learner, planned.evaluator(), Cadence.of(planned.experiment), tracker)
    tracker.rewind(0)
    _copy_journal(active, trained, [scale.name for scale in scoring.evaluator.scales])
    for number, place in stage_folders(trained).items():
        saved = checkpoint.load_latest(place, expect={"run": trained.name})
        if saved is None:
            raise checkpoint.CheckpointError(f"{place} holds no intact checkpoint; `--fresh` trains the run again")
        learner.load_tree(saved.tree)
        stage = learner.finished[-1].name
        own = stage_folder(folder, number, stage)
        checkpoint.save(own, saved.tree, step=saved.step, keep=1, metadata={"run": folder.name})
        scoring.evaluate(stage)
    if (trained / CONFLICT).is_file():
        shutil.copyfile(trained / CONFLICT, folder / CONFLICT)
    result = read_result(trained)
    cost = {key: result[key] for key in COST if key in result}
    write_scored(active, learner, scoring, {**cost, "trained_as": trained.name})


def _copy_journal(active: ActiveRun, trained: Path, scales: Sequence[str]) -> None:
    """Log what the earlier run logged, without its scores."""
    scored = (*(f"{scale}/" for scale in scales), *(f"{scale}_val/" for scale in scales), "forgetting")
    journal = trained / JOURNAL
    for line in journal.read_text().splitlines() if journal.is_file() else ():
        entry = json.loads(line)
        values = {name: value for name, value in entry["metrics"].items() if not name.startswith(scored)}
        if values:
            active.tracker.log(entry["step"], {n: float("nan") if v is None else v for n, v in values.items()})
