"""The command line. It calls all other packages, and imports each of them when a command needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cmtl_ir.cli.data import data
from cmtl_ir.cli.options import (
    Adapt,
    AdaptOne,
    Backbone,
    Device,
    DryRun,
    File,
    FinishedRun,
    Fresh,
    Given,
    Labels,
    MaxSeeds,
    Metrics,
    Offline,
    Out,
    Places,
    Quiet,
    Ray,
    Resolve,
    Set,
    Suite,
    TrackingUri,
    Verbose,
    Weights,
    Workers,
    aim_of,
    check_scoring,
    checkpoint_of,
    experiments,
    loudness_of,
    names_of,
    only_with_weights,
    part_names,
    scored_by,
    table_file,
    used_with_weights,
)
from cmtl_ir.cli.profile import profile
from cmtl_ir.cli.report import compare, report
from cmtl_ir.cli.search import search, sync
from cmtl_ir.cli.stored.export import export
from cmtl_ir.cli.stored.inspect import inspect
from cmtl_ir.cli.stored.runs import cache, runs
from cmtl_ir.cli.tune import tune
from cmtl_ir.cli.unlearn import unlearn

app = typer.Typer(
    name="cmtl-ir",
    help="Train one image-restoration backbone under many learning strategies and compare them fairly.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group, called in ((data, "data"), (runs, "runs"), (cache, "cache")):
    app.add_typer(group, name=called)
for command in (profile, inspect, export, search, tune, sync, unlearn, report, compare):
    app.command()(command)


@app.command()
def run(
    file: File,
    strategy: Labels = [],  # noqa: B006
    seed: Annotated[list[int], typer.Option(help="Only these seeds (repeat the option).")] = [],  # noqa: B006
    steps: Annotated[int | None, typer.Option(help="Another number of steps for every strategy.", min=1)] = None,
    device: Device = "auto",
    set_: Set = [],  # noqa: B006
    out: Out = Path("runs"),
    tracking_uri: TrackingUri = None,
    offline: Offline = False,
    workers: Workers = 1,
    ray: Ray = None,
    fresh: Fresh = False,
    dry_run: DryRun = False,
    resolve: Resolve = None,
    max_seeds: MaxSeeds = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Train and compare the strategies of an experiment. Finished runs are skipped, stopped ones are resumed."""
    from cmtl_ir.base import ranks as distributed
    from cmtl_ir.cli import display
    from cmtl_ir.cli.display import resolution as display_resolution
    from cmtl_ir.config import reading
    from cmtl_ir.runs import comparison as comparisons
    from cmtl_ir.runs import plan, two_stage
    from cmtl_ir.runs.workspace import Workspace

    experiment, aim = plan.narrowed_to(reading.load(file, set_), strategy, seed, steps), aim_of(resolve, max_seeds)
    check_scoring(experiment)
    if dry_run:
        display_resolution.dry_run(experiment, aim, out, device)
        return
    with distributed.joined() as ranks, display.live(loudness_of(verbose, quiet)) as shown:
        workspace = Workspace.at(out, device, None if offline else tracking_uri, workers, ray, shown.of_run)
        if aim is None:
            comparison, seeds = comparisons.train_all(experiment, workspace, fresh), None
        else:
            comparison, seeds = two_stage.train_two_stages(experiment, workspace, aim, fresh, display.say)
    if ranks.number > 0:  # under torchrun, only rank 0 prints
        return
    from cmtl_ir.analysis.comparison import leave_figures_and_tables
    from cmtl_ir.inference import suite_files

    suite_files.leave_suites(comparison, out, device)
    files = leave_figures_and_tables(comparison, seeds)
    comparison.tracking.publish(comparison.parent, files)
    display_resolution.results(comparison, seeds, files)
    if comparison.failures:
        raise typer.Exit(1)


@app.command(name="list")
def list_(
    pattern: Annotated[str, typer.Argument(help="Shell pattern, as in 'pc*'.")] = "*",
) -> None:
    """List the parts of strategies, degradations, backbones and shipped experiments."""
    from cmtl_ir.cli import display
    from cmtl_ir.config import catalogue

    display.catalogue(catalogue.matching(pattern), catalogue.guests(pattern), pattern)


@app.command()
def describe(
    name: Annotated[
        str,
        typer.Argument(
            help="A part, degradation or backbone: NAME, library:NAME, or file.py:Class.", autocompletion=part_names
        ),
    ],
    bibtex: Annotated[bool, typer.Option("--bibtex", help="Print the BibTeX entries to cite instead.")] = False,
) -> None:
    """Describe a part, degradation or backbone: paper, equation, fields with defaults, cost."""
    from cmtl_ir.cli import display
    from cmtl_ir.config import catalogue, citations

    found = catalogue.describe(name)
    if bibtex:
        print("\n\n".join(filter(None, [found.bibtex, citations.bibtex(found.family, found.name)])))
    else:
        display.description(found)


@app.command()
def schema() -> None:
    """Print the JSON schema of experiment files, for editors that complete YAML."""
    from cmtl_ir.base.files import json_text
    from cmtl_ir.config.schema import json_schema
    from cmtl_ir.search.config import SearchConfig
    from cmtl_ir.search.tuning import TuneConfig

    print(json_text(json_schema({"search": SearchConfig, "tune": TuneConfig})))


@app.command()
def evaluate(
    run: FinishedRun = "",
    file: Annotated[str, typer.Option(help="Experiment whose test sets to score.", autocompletion=experiments)] = "",
    weights: Weights = None,
    backbone: Backbone = "",
    set_: Set = [],  # noqa: B006
    out: Out = Path("runs"),
    device: Device = "auto",
    metric: Metrics = [],  # noqa: B006
    adapt: Adapt = [],  # noqa: B006
    csv: Annotated[Path | None, typer.Option(help="Also write the scores of each image to this file.")] = None,
    suite: Suite = [],  # noqa: B006
    task: Given = None,
) -> None:
    """Score a trained run again, or an authors' checkpoint.

    Test sets are those of the run or others, as with --set data.test=FOLDER. A --set that does not affect the scores
    is refused. A checkpoint is given as --weights FILE --backbone NAME --file EXPERIMENT, and its fields as --set
    backbone.width=64.
    """
    from cmtl_ir.base.errors import UserError
    from cmtl_ir.cli import display
    from cmtl_ir.cli.display import scores as display_scores
    from cmtl_ir.cli.display import suites as display_suites
    from cmtl_ir.inference import restoration
    from cmtl_ir.inference.scored import load_scored
    from cmtl_ir.measures.metric import metrics_from

    csv = table_file(csv)
    if adapt and task and not suite:
        raise UserError("--adapt cannot be combined with --task, except on a --suite; leave one of them out")
    used, source, overrides = scored_by(run, file, weights, backbone, set_, out)
    experiment = load_scored(source, overrides)
    if suite:
        keeps = weights is None and not (file or set_ or metric)
        display_suites.evaluate(used, experiment, suite, adapt, source, out, device, metric, task, csv, keeps)
        return
    restoration.check_metrics(metric)
    scales = [one.scale for one in metrics_from(dict.fromkeys([*experiment.evaluation.metrics, *metric]))]
    if adapt:
        from cmtl_ir.cli.display import adaptation as display_adaptation

        display_adaptation.evaluate(used, experiment, adapt, out, device, metric, scales[0], csv)
        return
    rows = restoration.evaluate(used, experiment, out=out, device=device, metrics=metric, task=task, say=display.say)
    display_scores.scores(rows, scales, experiment.evaluation.protocol, csv)
    display.routing(restoration.routing(used, rows, out=out))


@app.command()
def similarity(
    file: File,
    measure: Annotated[
        list[str],
        typer.Option(
            help="Grouping whose measure to take (repeat the option); default: grids, tag, conflict.",
            autocompletion=names_of("grouping"),
        ),
    ] = [],  # noqa: B006
    seed: Annotated[int | None, typer.Option(help="Seed; default: the first of the experiment.")] = None,
    share: Annotated[
        float | None, typer.Option(help="Share of the training budget that the proxy runs get; default: 0.1.", min=0)
    ] = None,
    device: Device = "auto",
    set_: Set = [],  # noqa: B006
    out: Out = Path("runs"),
    tracking_uri: TrackingUri = None,
    weights: Weights = None,
    backbone: Backbone = "",
) -> None:
    """Measure how similar an experiment's tasks are, by degradation distance, task affinity and gradient cosine.

    The proxy runs begin from the experiment's `start`, or from --weights FILE, instead of initial weights.
    """
    from cmtl_ir.analysis.similarity import leave_similarity
    from cmtl_ir.cli import display
    from cmtl_ir.cli.stored.outside import begun_from
    from cmtl_ir.config import reading
    from cmtl_ir.grouping.similarity import similarity
    from cmtl_ir.runs.workspace import Workspace

    measures = measure or ["grids", "tag", "conflict"]
    workspace = Workspace.at(out, device, tracking_uri)
    if weights is None:
        only_with_weights(backbone=backbone)
        experiment = reading.load(file, set_)
    else:
        experiment = begun_from(weights, backbone, file, set_)
    found = similarity(experiment, measures, workspace, seed, share)
    files = leave_similarity(found.matrices, found.folder, found.notes, found.groups)
    display.similarity(found.matrices, found.notes, files)


@app.command()
def restore(
    places: Places,
    task: Annotated[str | None, typer.Option(help="Task name, for explicit prompts and grouped runs.")] = None,
    weights: Weights = None,
    backbone: Backbone = "",
    set_: Annotated[list[str], typer.Option("--set", metavar="FIELD=VALUE", help="Field of BACKBONE: width=64.")] = [],  # noqa: B006
    out: Out = Path("runs"),
    device: Device = "auto",
    tile: Annotated[int, typer.Option(help="Larger sides go through overlapping tiles of this side.", min=128)] = 1024,
    overwrite: Annotated[
        bool, typer.Option(help="Replace files that exist; without it, what a folder still lacks is restored.")
    ] = False,
    on_error: Annotated[
        str, typer.Option(metavar="stop|skip", help="What to do with an image that cannot be restored.")
    ] = "stop",
    quality: Annotated[int, typer.Option(help="Quality of JPEG and WebP targets, 1 to 100.", min=1, max=100)] = 95,
    adapt: AdaptOne = None,
) -> None:
    """Restore images with a trained run, or with an authors' checkpoint (--weights FILE --backbone NAME).

    The same command again restores what a folder still lacks.
    """
    from cmtl_ir.base.errors import UserError
    from cmtl_ir.cli import display
    from cmtl_ir.inference import restoration, targets

    expected = 3 if weights is None else 2
    if len(places) != expected:
        wanted = "RUN SOURCE TARGET" if weights is None else "SOURCE TARGET"
        raise UserError(f"expected {wanted}, found {' '.join(places) or 'nothing'}")
    used_with_weights(weights, backbone, set_)
    source, target = (Path(one).expanduser() for one in places[-2:])
    used: Any = places[0] if weights is None else checkpoint_of(weights, backbone, set_)
    with display.counting("restoring") as advance:
        files = restoration.restore(
            used, source, target, out=out, task=task, device=device, tile=tile, overwrite=overwrite, on_error=on_error,
            quality=quality, adapt=adapt, told=advance, say=display.say,
        )  # fmt: skip
    display.say(f"{len(files)} image{'s' if len(files) != 1 else ''} restored into {target}")
    if kind := targets.lossy_kind(files):
        display.say(
            f"{kind} of quality {quality} loses detail: a .png target keeps every level, --quality sets another"
        )
