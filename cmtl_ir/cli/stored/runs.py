"""`cmtl-ir runs ...` and `cmtl-ir cache ...`: what lies on disk. Other packages are imported when needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cmtl_ir.cli.options import Out

if TYPE_CHECKING:
    from cmtl_ir.store.holdings import Held

runs = typer.Typer(help="Runs on disk: list them, show one, remove what is not needed.", no_args_is_help=True)
cache = typer.Typer(help="Decoded images that runs share: list them, remove them.", no_args_is_help=True)

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@runs.command(name="list")
def list_(
    out: Out = Path("runs"),
    unreferenced: Annotated[
        bool, typer.Option("--unreferenced", help="Only those that no comparison and no other run needs.")
    ] = False,
) -> None:
    """List every run with its state, its size and who needs it, largest first."""
    from rich.table import Table

    from cmtl_ir.cli.display import say, show
    from cmtl_ir.store.holdings import holdings

    found = [one for one in holdings(out) if not (unreferenced and one.referenced)]
    table = Table("run", "state", "size", "needed by")
    for one in found:
        table.add_row(one.folder.name, one.state, _size(one.size), _needed(one))
    if found:
        show(table)
    say(f"{len(found)} runs, {_size(sum(one.size for one in found))}")


@runs.command(name="show")
def show_(
    run: Annotated[str, typer.Argument(help="COMPARISON/LABEL[/SEED], a hash, or its beginning.")],
    out: Out = Path("runs"),
) -> None:
    """Show one run: its strategy, its scores, who needs it, and the size of its parts."""
    from cmtl_ir.base import yaml
    from cmtl_ir.cli.display import say
    from cmtl_ir.store.folder import has_config, has_result, read_identity, read_result
    from cmtl_ir.store.holdings import held_run, size_of

    held = held_run(run, out)
    say(f"{held.folder}: {held.state}, {_size(held.size)}, needed by {_needed(held)}")
    if has_config(held.folder):
        identity = read_identity(held.folder)
        chosen = {key: identity[key] for key in ("backbone", "training", "strategy", "seed") if key in identity}
        say(yaml.dump(chosen).rstrip())
    if has_result(held.folder):
        scores = ", ".join(f"{task} {value:.2f}" for task, value in read_result(held.folder)["psnr"].items())
        say(f"PSNR [dB]: {scores}")
    for part in sorted(held.folder.iterdir()):
        say(f"  {part.name}: {_size(size_of(part) if part.is_dir() else part.stat().st_size)}")


@runs.command()
def rm(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Runs (hash or its beginning) or comparisons (name); a comparison's runs stay."),
    ] = None,
    unreferenced: Annotated[
        bool, typer.Option("--unreferenced", help="All that no comparison and no other run needs.")
    ] = False,
    yes: Yes = False,
    out: Out = Path("runs"),
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow store that has their records; default: as recorded.")
    ] = None,
) -> None:
    """Remove runs or comparisons for good, with their records in the tracking store. Refuse what a comparison lists."""
    from cmtl_ir.base.errors import UserError
    from cmtl_ir.cli.display import say
    from cmtl_ir.runs.removing import check_removable, remove_comparison, remove_run
    from cmtl_ir.store.holdings import comparison_folder, held_run, holdings

    if bool(names) == unreferenced:
        raise UserError("runs rm: name runs or comparisons, or give --unreferenced, and not both")
    homes = [folder for name in names or [] if (folder := comparison_folder(name, out)) is not None]
    found = [held_run(name, out) for name in names or [] if comparison_folder(name, out) is None]
    if unreferenced:
        found = [one for one in holdings(out) if not one.referenced]
    for one in found:
        check_removable(one)
    for home in homes:
        say(f"{home}: the comparison; its runs stay until `cmtl-ir runs rm --unreferenced`")
    for one in found:
        say(f"{one.folder}: {one.state}, {_size(one.size)}")
    if not (found or homes):
        say("nothing to remove")
        return
    _confirm(yes)
    for home in homes:
        remove_comparison(home, tracking_uri)
    for one in found:
        remove_run(one, tracking_uri)
    say(f"removed {len(homes) + len(found)} of them, {_size(sum(one.size for one in found))} of runs")


@runs.command()
def disk(out: Out = Path("runs")) -> None:
    """Show what takes the space of a folder of results: runs by need, tables, and the tracking store."""
    import shutil

    from cmtl_ir.cli.display import say
    from cmtl_ir.store.holdings import holdings, size_of
    from cmtl_ir.store.layout import CHECKPOINTS, STAGES
    from cmtl_ir.store.listing import comparisons

    found = holdings(out)
    parts = {"runs that are needed": [one for one in found if one.referenced]}
    parts["runs that nothing needs"] = [one for one in found if not one.referenced]
    for words, some in parts.items():
        say(f"{words}: {len(some)}, {_size(sum(one.size for one in some))}")
    saved = sum(size_of(one.folder / kind) for one in found for kind in (CHECKPOINTS, STAGES))
    say(f"of all runs, checkpoints to resume or to start from: {_size(saved)}")
    for folder, rows in comparisons(out):
        say(f"{folder.name}: {len(rows)} runs; tables, figures and reports {_size(size_of(folder))}")
    tracked = sum(one.stat().st_size for one in out.glob("mlflow.db*")) + size_of(out / "mlartifacts")
    say(f"tracking store: {_size(tracked)}")
    if out.exists():
        say(f"free: {_size(shutil.disk_usage(out).free)}")


@cache.command(name="list")
def cache_list() -> None:
    """List the decoded images of each source, largest first."""
    from cmtl_ir.cli.display import say
    from cmtl_ir.store.holdings import size_of
    from cmtl_ir.tasks.images.cache import cached_folders, default_cache

    sizes = {one: size_of(one) for one in cached_folders()}
    for one in sorted(sizes, key=lambda one: -sizes[one]):
        say(f"{one.relative_to(default_cache())}: {_size(sizes[one])}")
    say(f"{default_cache()}: {len(sizes)} sources, {_size(sum(sizes.values()))}")


@cache.command(name="rm")
def cache_rm(yes: Yes = False) -> None:
    """Remove all decoded images. The next run that needs them decodes them again."""
    import shutil

    from cmtl_ir.cli.display import say
    from cmtl_ir.store.holdings import size_of
    from cmtl_ir.tasks.images.cache import cached_folders, default_cache

    found = cached_folders()
    say(f"{default_cache()}: {len(found)} sources, {_size(sum(map(size_of, found)))}")
    if found:
        _confirm(yes)
    for one in found:
        shutil.rmtree(one)


def _confirm(yes: bool) -> None:
    """Ask, and leave the command unless the answer is yes."""
    import sys

    from cmtl_ir.base.errors import UserError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError("nothing was removed: there is no terminal to ask on; give --yes")
    typer.confirm("Remove them for good?", abort=True)


def _needed(one: Held) -> str:
    words = [*one.listed, *(f"run {name}" for name in one.used_by)]
    return ", ".join(words) or (f"nothing (formerly {', '.join(one.stale)})" if one.stale else "nothing")


def _size(number: int) -> str:
    return f"{number / 1e9:.2f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"
