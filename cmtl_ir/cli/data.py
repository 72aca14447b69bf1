"""`cmtl-ir data ...`: data sets, their checks and packs. Other packages are imported when a command needs them."""

from __future__ import annotations

from typing import Annotated

import typer

data = typer.Typer(
    help="Data sets: list the known ones, check that they are complete, decode them once.", no_args_is_help=True
)

File = Annotated[str, typer.Argument(help="An experiment file, or the name of a shipped one.")]
Set = Annotated[list[str], typer.Option("--set", metavar="PATH=VALUE", help="Override any key: data.root=FOLDER.")]


@data.command(name="list")
def list_(
    pattern: Annotated[str, typer.Argument(help="Shell pattern, as in 'rain*'; one name shows all of it.")] = "*",
) -> None:
    """List the data sets that `dataset: NAME` knows: kind, published counts, source, terms. Nothing is downloaded."""
    import fnmatch

    from cmtl_ir.base.errors import UserError, suggestion
    from cmtl_ir.cli.display import data as display_data
    from cmtl_ir.tasks.datasets.table import LAYOUTS

    found = [row for name, row in LAYOUTS.items() if fnmatch.fnmatch(name, pattern)]
    if not found:
        raise UserError(f"no data set is called {pattern!r}; {suggestion(pattern, list(LAYOUTS))}")
    display_data.layouts(found)


@data.command()
def verify(
    file: File,
    set_: Set = [],  # noqa: B006
    limit: Annotated[int, typer.Option(help="Show at most this many problems of each split; 0: all.", min=0)] = 20,
) -> None:
    """Read every image that an experiment names: published counts, unpaired and unreadable files, by name."""
    from cmtl_ir.cli.display import data as display_data
    from cmtl_ir.config import reading
    from cmtl_ir.measures.metric import smallest_side
    from cmtl_ir.tasks.verification import verify as look

    experiment = reading.load(file, set_)
    smallest = smallest_side(experiment.evaluation.protocol, experiment.evaluation.metrics)
    if not display_data.findings(look(experiment.tasks, experiment.data, smallest), limit):
        raise typer.Exit(1)


@data.command()
def check(
    file: File,
    set_: Set = [],  # noqa: B006
) -> None:
    """Name every test image that an experiment also learns from or selects on, re-encoded copies too; then exit 1."""
    import torch

    from cmtl_ir.cli.display import data as display_data
    from cmtl_ir.config import reading
    from cmtl_ir.tasks.leaks import leaks
    from cmtl_ir.tasks.suite import build_tasks

    experiment = reading.load(file, set_)
    tasks = build_tasks(experiment.tasks, experiment.data, experiment.seeds[0], torch.device("cpu"))
    if not display_data.leaks(leaks(tasks), tasks):
        raise typer.Exit(1)


@data.command()
def pack(
    file: File,
    set_: Set = [],  # noqa: B006
) -> None:
    """Decode every image that an experiment names into the cache now, so that no run has to."""
    import torch

    from cmtl_ir.cli.display import data as display_data
    from cmtl_ir.config import reading
    from cmtl_ir.tasks.suite import build_tasks

    experiment = reading.load(file, set_)
    display_data.packed(build_tasks(experiment.tasks, experiment.data, experiment.seeds[0], torch.device("cpu")))
