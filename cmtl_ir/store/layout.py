"""Names of the files and folders that runs and comparisons leave. No other room spells them out.

OUT/store/HASH/             a run; its name is the hash of its identity
    config.yaml             its identity, and the environment that it was trained in
    checkpoints/, stages/   to resume it, and to start others from the end of one of its stages
    metrics.jsonl           its journal (written by tracking/)
    result.json             scores, curve and cost; it exists once the run is finished
    weights.safetensors     the evaluated weights
    curve.csv, per_image.csv, conflict.csv, restored/
    groups.json, uses.json  of a grouped run: what its groups are, and the runs that it uses
    probes/                 of a proxy run: what groupings measured on it
    lock, log.txt
OUT/COMPARISON/             a comparison
    experiment.yaml         its experiment, with all defaults
    runs.json               its runs: label, seed, hash
    audits/                 of unlearning
"""

from __future__ import annotations

from pathlib import Path

STORE = "store"
CONFIG, RESULT, WEIGHTS = "config.yaml", "result.json", "weights.safetensors"
CURVE, PER_IMAGE, CONFLICT, RESTORED = "curve.csv", "per_image.csv", "conflict.csv", "restored"
GROUPS, USES, PROBES = "groups.json", "uses.json", "probes"
CHECKPOINTS, STAGES, JOURNAL, LOCK, LOG = "checkpoints", "stages", "metrics.jsonl", "lock", "log.txt"
EXPERIMENT, RUNS, RUNS_LOCK, AUDITS, LOGS = "experiment.yaml", "runs.json", "runs.lock", "audits", "logs"


def run_folder(out: Path, hash_: str) -> Path:
    """The folder of the run of this hash."""
    return Path(out) / STORE / hash_


def stage_folder(run: Path, number: int, name: str) -> Path:
    """The folder of the checkpoint at the end of a run's `number`-th stage, from 1."""
    return run / STAGES / f"{number:02d}-{name.replace(':', '.')}"


def stage_folders(run: Path) -> dict[int, Path]:
    """Number of a finished stage -> the folder of the checkpoint at its end."""
    return {int(one.name.partition("-")[0]): one for one in sorted((run / STAGES).glob("*-*"))}


def image_file(run: Path, task: str, kind: str) -> Path:
    """The picture of a task's example in a run's folder; `kind` is input, restored or clean."""
    return run / RESTORED / f"{task}.{kind}.png"


def experiment_file(out: Path, comparison: str) -> Path:
    """The resolved experiment of a comparison."""
    return Path(out) / comparison / EXPERIMENT
