"""Arguments and options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:  # `--help` loads nothing heavy
    from cmtl_ir.cli.terminal import Loudness
    from cmtl_ir.config.experiment import Experiment
    from cmtl_ir.inference.published import Published
    from cmtl_ir.runs.two_stage import Aim


def experiments(incomplete: str) -> list[str]:
    """Return the names of shipped experiments that complete a word on the command line."""
    from cmtl_ir.config.reading import shipped_experiments

    return [name for name in shipped_experiments() if name.startswith(incomplete)]


def finished_runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return COMPARISON/LABEL and COMPARISON/LABEL/SEED of the finished runs in OUT that complete a word."""
    from cmtl_ir.store.folder import has_result
    from cmtl_ir.store.layout import run_folder
    from cmtl_ir.store.listing import comparisons

    out = Path(ctx.params.get("out") or "runs")
    found: dict[str, None] = {}
    for folder, rows in comparisons(out):
        for row in (row for row in rows if has_result(run_folder(out, row["hash"]))):
            found |= dict.fromkeys([f"{folder.name}/{row['label']}", f"{folder.name}/{row['label']}/{row['seed']}"])
    return [name for name in found if name.startswith(incomplete)]


def comparison_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of the comparisons in OUT and of the shipped experiments that complete a word."""
    from cmtl_ir.store.listing import comparisons

    made = [folder.name for folder, _ in comparisons(Path(ctx.params.get("out") or "runs"))]
    return list(dict.fromkeys([*(name for name in made if name.startswith(incomplete)), *experiments(incomplete)]))


def runs_and_experiments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the finished runs in OUT and the shipped experiments that complete a word."""
    return [*finished_runs(ctx, incomplete), *experiments(incomplete)]


def strategy_labels(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the labels of the strategies in FILE, or of a comparison in OUT, that complete a word."""
    from cmtl_ir.base.errors import UserError
    from cmtl_ir.config import reading
    from cmtl_ir.store.listing import comparisons

    given = ctx.args[0] if ctx.args else ""  # an option without its value leaves the arguments unread
    name = str(ctx.params.get("file") or ctx.params.get("experiment") or given)
    try:
        labels = list(reading.read_raw(reading.find(name)).get("strategies") or {})
    except (UserError, OSError, AttributeError):  # nothing may be printed into a command line that is being typed
        made = comparisons(Path(ctx.params.get("out") or "runs"))
        labels = [str(row["label"]) for folder, rows in made if folder.name == name for row in rows]
    return [label for label in dict.fromkeys(labels) if label.startswith(incomplete)]


def names_of(family: str) -> Callable[[str], list[str]]:
    """Return the completion of the names of a family."""

    def complete(incomplete: str) -> list[str]:
        from cmtl_ir.strategy.registry import names

        return [name for name in names(family) if name.startswith(incomplete)]

    return complete


def part_names(incomplete: str) -> list[str]:
    """Return the names of parts, degradations and backbones that complete a word on the command line."""
    from cmtl_ir.config.catalogue import all_names

    return [name for name in all_names() if name.startswith(incomplete)]


def backbone_names(incomplete: str) -> list[str]:
    """Return the names of backbones that complete a word on the command line."""
    from cmtl_ir.backbones import names

    return [name for name in names() if name.startswith(incomplete)]


def checkpoint_of(file: Path, backbone: str, fields: list[str]) -> Published:
    """Return the checkpoint of --weights and --backbone, with fields given as FIELD=VALUE or backbone.FIELD=VALUE."""
    from cmtl_ir.backbones import names
    from cmtl_ir.base.errors import UserError
    from cmtl_ir.inference.published import published

    if not backbone:
        raise UserError(f"--weights {file}: name their network with --backbone: {', '.join(names())}")
    return published(file, backbone, fields)


def table_file(path: Path | None) -> Path | None:
    """Return the file of --csv, or `None` if not given. Raise UserError, before any work, if it cannot be written."""
    from cmtl_ir.base.errors import UserError

    if path is None:
        return None
    path = path.expanduser()
    if path.is_dir():
        raise UserError(f"--csv {path}: is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UserError(f"--csv {path}: there is no folder {path.parent}; make it, or name a file in another one")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"--csv {path}: is not writable; make it writable, or name another file")
    return path


def used_with_weights(weights: Path | None, backbone: str, fields: list[str]) -> None:
    """Raise UserError for options that would be ignored because there is no --weights."""
    from cmtl_ir.base.errors import UserError

    for option, given in (("--backbone", backbone), ("--set", " ".join(fields))):
        if given and weights is None:
            raise UserError(f"{option} {given}: belongs to --weights FILE; the network of a run is the one it trained")


def only_with_weights(**given: object) -> None:
    """Raise UserError for options (name -> value) that would be ignored because there is no --weights."""
    from cmtl_ir.base.errors import UserError

    for option, value in given.items():
        if value:
            raise UserError(f"--{option} {value}: belongs to --weights FILE")


def loudness_of(verbose: bool, quiet: bool) -> Loudness:
    """Return how much -v and --quiet ask for. Raise UserError for both."""
    from cmtl_ir.base.errors import UserError
    from cmtl_ir.cli.terminal import Loudness

    if verbose and quiet:
        raise UserError("--verbose and --quiet: give one of them")
    return Loudness.VERBOSE if verbose else Loudness.QUIET if quiet else Loudness.NORMAL


def scored_by(
    run: str, file: str, weights: Path | None, backbone: str, set_: list[str], out: Path
) -> tuple[Any, str, list[str]]:
    """Return what `evaluate` scores (a run's folder or a checkpoint), its experiment, and the overrides of that.

    Raise UserError for options that do not go together.
    """
    from cmtl_ir.base.errors import UserError
    from cmtl_ir.store import lookup

    if weights is None:
        used_with_weights(weights, backbone, [])
        used = lookup.find_run(run, out)
        return used, file or str(lookup.experiment_of(used, out)), set_
    if run or not file:
        raise UserError("--weights is scored on the test sets of --file EXPERIMENT, and not together with a run")
    fields = [one for one in set_ if one.startswith("backbone.")]
    return checkpoint_of(weights, backbone, fields), file, [one for one in set_ if one not in fields]


def aim_of(resolve: float | None, max_seeds: int | None) -> Aim | None:
    """Return the aim of --resolve and --max-seeds, or `None` without both. Raise UserError for --max-seeds alone."""
    from cmtl_ir.base.errors import UserError
    from cmtl_ir.runs.two_stage import MAX_SEEDS, Aim

    if resolve is None:
        if max_seeds is not None:
            raise UserError(f"--max-seeds {max_seeds}: belongs to --resolve DB; the seeds of a file are its own")
        return None
    return Aim(resolve, MAX_SEEDS if max_seeds is None else max_seeds)


def check_scoring(experiment: Experiment) -> None:
    """Raise UserError if a suite or an adapter that an experiment names does not exist."""
    from cmtl_ir.suites import catalogue

    catalogue.check(experiment.evaluation.suites)
    if experiment.evaluation.adapt:
        from cmtl_ir.adaptation.naming import columns_of

        columns_of(list(experiment.evaluation.adapt))


ADAPTER = "NAME[:FIELD=VALUE,...]"
Adapt = Annotated[
    list[str],
    typer.Option(
        metavar=ADAPTER,
        help="Also score it adapted at test time, next to none and self_ensemble (repeat the option).",
    ),
]
AdaptOne = Annotated[str | None, typer.Option(metavar=ADAPTER, help="Adapt the network to the images first.")]
File = Annotated[
    str, typer.Argument(help="An experiment file, or the name of a shipped one.", autocompletion=experiments)
]
Labels = Annotated[
    list[str], typer.Option(help="Only these labels (repeat the option).", autocompletion=strategy_labels)
]
Metrics = Annotated[
    list[str],
    typer.Option(
        help="An additional metric: lpips, niqe, brisque (of cmtl-ir[metrics]), file.py:Class (repeat the option).",
        autocompletion=names_of("metric"),
    ),
]
Suite = Annotated[
    list[str],
    typer.Option(
        metavar="NAME|FILE.yaml",
        help="Score test sets beyond the training range instead: severity, unseen, composite, order, mixed_sources, "
        "cdd11, or a file of test sets (repeat the option).",
    ),
]
Given = Annotated[
    str | None, typer.Option(help="Trained task whose number is given for unknown tasks; default: the first.")
]
Out = Annotated[Path, typer.Option(help="Folder for runs, tables and the tracking store.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 and so on.")]
Set = Annotated[list[str], typer.Option("--set", metavar="PATH=VALUE", help="Override any key: training.steps=300.")]
TrackingUri = Annotated[
    str | None, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow store; default: sqlite in OUT.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Track in OUT, even if MLFLOW_TRACKING_URI is set.")]
Workers = Annotated[int, typer.Option(min=1, help="Number of runs at once, each in its own process; they share GPUs.")]
Ray = Annotated[
    str | None, typer.Option(metavar="ADDRESS|local", help="Run on a Ray cluster instead, WORKERS runs at once.")
]
Resolve = Annotated[
    float | None,
    typer.Option(
        metavar="DB",
        help="Add seeds until the 95 % interval of each difference to the baseline is at most +-DB wide (two-stage).",
    ),
]
MaxSeeds = Annotated[int | None, typer.Option(help="Most seeds of a strategy with --resolve; default: 20.", min=2)]
Fresh = Annotated[bool, typer.Option("--fresh", help="Train again; earlier results are renamed, not deleted.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and print what would run, without training.")]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", help="Also print lines of losses; in a terminal, lines above the bar.")
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print no progress, only results and warnings.")]
Weights = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="An authors' checkpoint (.pth, .ckpt, .safetensors) in place of RUN."),
]
Backbone = Annotated[str, typer.Option(metavar="NAME", help="The network of --weights.", autocompletion=backbone_names)]
TestFile = Annotated[
    str, typer.Option(metavar="EXPERIMENT", help="With --weights: its tasks and data.", autocompletion=experiments)
]
FinishedRun = Annotated[
    str,
    typer.Argument(
        help="A finished run: COMPARISON/LABEL[/SEED], its hash, or its folder.", autocompletion=finished_runs
    ),
]
Places = Annotated[
    list[str],
    typer.Argument(
        metavar="[RUN] SOURCE TARGET",
        autocompletion=finished_runs,
        help="A finished run (COMPARISON/LABEL[/SEED], its hash or folder; none with --weights), an image or a "
        "folder of images, and the file or folder to write to. A folder keeps the structure of its source.",
    ),
]
