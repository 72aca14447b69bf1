"""The command line: thin. It knows all rooms and imports them only when a command needs them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="cmtl-ir",
    help="Train one image-restoration backbone under many learning strategies and compare them fairly.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _experiments(incomplete: str) -> list[str]:
    from cmtl_ir.config import shipped_experiments

    return [name for name in shipped_experiments() if name.startswith(incomplete)]


def _part_names(incomplete: str) -> list[str]:
    from cmtl_ir.catalogue import all_names

    return [name for name in all_names() if name.startswith(incomplete)]


File = Annotated[
    str, typer.Argument(help="An experiment file, or the name of a shipped one.", autocompletion=_experiments)
]
Out = Annotated[Path, typer.Option(help="Folder for runs, tables and the tracking store.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")]
Set = Annotated[list[str], typer.Option("--set", metavar="PATH=VALUE", help="Override any key: training.steps=300.")]


@app.command()
def run(
    file: File,
    strategy: Annotated[list[str], typer.Option(help="Only these labels (repeat the option).")] = [],  # noqa: B006
    seed: Annotated[list[int], typer.Option(help="Only these seeds (repeat the option).")] = [],  # noqa: B006
    steps: Annotated[int | None, typer.Option(help="Another budget for every strategy.", min=1)] = None,
    device: Device = "auto",
    set_: Set = [],  # noqa: B006
    out: Out = Path("runs"),
    tracking_uri: Annotated[
        str | None, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow store; default: sqlite in OUT.")
    ] = None,
    fresh: Annotated[bool, typer.Option(help="Train again; earlier results are renamed, not deleted.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Check everything and say what would run, without training.")] = False,
) -> None:
    """Train and compare the strategies of an experiment; skips what is finished, resumes what was stopped."""
    from cmtl_ir import config, display, runs

    experiment = runs.narrowed_to(config.load(file, set_), strategy, seed, steps)
    if dry_run:
        display.dry_run(runs.prepare(experiment, out, device))
        return
    with display.live() as shown:
        comparison = runs.run(experiment, out, device, fresh, tracking_uri, shown.of_run)
    from cmtl_ir.analysis.comparison import leave_figures_and_tables

    files = leave_figures_and_tables(comparison)
    display.comparison(comparison, files)
    if comparison.failures:
        raise typer.Exit(1)


@app.command(name="list")
def list_(
    pattern: Annotated[str, typer.Argument(help="Shell pattern, as in 'pc*'.")] = "*",
) -> None:
    """List strategies' parts, degradations, backbones and shipped experiments."""
    from cmtl_ir import catalogue, display

    display.catalogue(catalogue.matching(pattern), pattern)


@app.command()
def describe(
    name: Annotated[str, typer.Argument(help="Name of a part, degradation or backbone.", autocompletion=_part_names)],
) -> None:
    """Say what a name means: paper, equation, fields with defaults, cost."""
    from cmtl_ir import catalogue, display

    display.description(catalogue.describe(name))


@app.command()
def schema() -> None:
    """Print the JSON schema of experiment files, for editors that complete YAML."""
    import json

    from cmtl_ir.catalogue import json_schema

    print(json.dumps(json_schema(), indent=1))


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(help="A finished run: COMPARISON/LABEL[/SEED], its hash, or its folder.")],
    file: Annotated[str, typer.Option(help="Experiment whose test sets to score.", autocompletion=_experiments)] = "",
    set_: Set = [],  # noqa: B006
    out: Out = Path("runs"),
    device: Device = "auto",
    csv: Annotated[Path | None, typer.Option(help="Also write the scores of each image to this file.")] = None,
) -> None:
    """Score a trained run again, on its own test sets or on others (--set data.test=FOLDER)."""
    from cmtl_ir import config, display, restoration

    folder = restoration.find_run(run, out)
    experiment = config.load(file or str(restoration.experiment_of(folder, out)), set_)
    rows = restoration.evaluate(folder, experiment, out=out, device=device)
    display.scores(rows, experiment.evaluation.protocol, csv)


@app.command()
def restore(
    run: Annotated[str, typer.Argument(help="A finished run: COMPARISON/LABEL[/SEED], its hash, or its folder.")],
    source: Annotated[Path, typer.Argument(help="An image or a folder of images.")],
    target: Annotated[Path, typer.Argument(help="Where to write; a folder keeps the source's structure.")],
    task: Annotated[str | None, typer.Option(help="Task name, for backbones with explicit prompts.")] = None,
    out: Out = Path("runs"),
    device: Device = "auto",
    tile: Annotated[int, typer.Option(help="Larger sides go through overlapping tiles.", min=64)] = 1024,
    overwrite: Annotated[bool, typer.Option(help="Replace files that exist.")] = False,
) -> None:
    """Restore images with a trained run."""
    from cmtl_ir import display, restoration

    with display.counting("restoring") as told:
        files = restoration.restore(
            run, source, target, out=out, task=task, device=device, tile=tile, overwrite=overwrite, told=told
        )
    display.say(f"{len(files)} image{'s' if len(files) != 1 else ''} restored into {target}")


def main(arguments: list[str] | None = None) -> Any:
    """Entry point: errors that are answers end with exit code 2 (130 when interrupted), without a traceback."""
    from cmtl_ir.errors import Interrupted, UserError

    try:
        return app(args=arguments)
    except Interrupted as stopped:
        print(f"\n{stopped}", file=sys.stderr)
        sys.exit(130)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
