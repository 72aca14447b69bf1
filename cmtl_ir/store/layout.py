"""Names of the files and folders of runs and comparisons. They are defined nowhere else.

OUT/store/HASH/             a run, named by the hash of its identity
    config.yaml             its identity, and the environment in which it was trained
    checkpoints/, stages/   to resume it, and to start others from the end of one of its stages
    metrics.jsonl           its journal (written by tracking/)
    result.json             scores, curve and cost; exists once the run is finished
    diverged.json           the step at which the run diverged, and the reason
    weights.safetensors     the evaluated weights
    curve.csv, per_image.csv, conflict.csv, restored/
    suites.csv              scores of suites: one row per line, image and answer
    groups.json, uses.json  of a grouped run: its groups, and the runs that it uses
    probes/                 of a proxy run: the measurements of groupings
    lock, log.txt
OUT/COMPARISON/             a comparison
    experiment.yaml         its experiment, with all defaults
    runs.json               its runs: label, seed, hash
    tuning.csv              of a tuned comparison: settings, scores and cost of tuning each strategy
    audits/                 of unlearning
"""

from __future__ import annotations

from pathlib import Path

STORE = "store"
CONFIG, RESULT, WEIGHTS = "config.yaml", "result.json", "weights.safetensors"
CURVE, PER_IMAGE, CONFLICT, RESTORED = "curve.csv", "per_image.csv", "conflict.csv", "restored"
SUITES = "suites.csv"
DIVERGED = "diverged.json"
GROUPS, USES, PROBES = "groups.json", "uses.json", "probes"
CHECKPOINTS, STAGES, JOURNAL, LOCK, LOG = "checkpoints", "stages", "metrics.jsonl", "lock", "log.txt"
EXPERIMENT, RUNS, RUNS_LOCK, AUDITS, LOGS = "experiment.yaml", "runs.json", "runs.lock", "audits", "logs"
TUNING = "tuning.csv"


def run_folder(out: Path, hash_: str) -> Path:
    """Return the folder of the run with this hash."""
    return Path(out) / STORE / hash_


def stage_folder(run: Path, number: int, name: str) -> Path:
    """Return the folder of the checkpoint at the end of stage `number` of a run, counted from 1."""
    return run / STAGES / f"{number:02d}-{name.replace(':', '.')}"


def stage_folders(run: Path) -> dict[int, Path]:
    """Return the folders of the checkpoints at stage ends by the number of the stage."""
    return {int(one.name.partition("-")[0]): one for one in sorted((run / STAGES).glob("*-*"))}


def image_file(run: Path, task: str, kind: str) -> Path:
    """Return the image file of a task's example in a run's folder. `kind` is input, restored or clean."""
    return run / RESTORED / f"{task}.{kind}.png"


def experiment_file(out: Path, comparison: str) -> Path:
    """Return the file of a comparison's resolved experiment."""
    return Path(out) / comparison / EXPERIMENT
