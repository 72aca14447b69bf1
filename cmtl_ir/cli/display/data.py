"""Terminal output on data sets. Only sums are computed here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from cmtl_ir.cli.terminal import Terminal
from cmtl_ir.tasks.datasets.record import Layout
from cmtl_ir.tasks.images.cache import default_cache

if TYPE_CHECKING:  # `data list` needs no torch
    from cmtl_ir.tasks.leaks import Leak
    from cmtl_ir.tasks.task import Task
    from cmtl_ir.tasks.verification import Finding

console = Terminal()


def say(text: str) -> None:
    """Print one line."""
    console.print(text, soft_wrap=True)


def layouts(rows: Sequence[Layout]) -> None:
    """Print the table of data sets. For a single one, print where its images are looked for."""
    if len(rows) == 1:
        _one(rows[0])
        return
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    for column in ("name", "kind", "published", "source", "terms"):
        table.add_column(column, no_wrap=column == "name", overflow="fold")
    for row in rows:
        counts = ", ".join(_counted(row, split) for split in row.splits)
        table.add_row(row.name, row.kind, counts, row.source, row.terms)
    console.print(table)
    say("Nothing is downloaded. `cmtl-ir data list NAME` shows where the images of a set are looked for.")


def _counted(row: Layout, split: str) -> str:
    count = row.splits[split].count
    return f"{split} {count if count is not None else '?'}"


def _one(row: Layout) -> None:
    console.print(Text.assemble((row.name, "bold"), f" ({row.kind}): {{dataset: {row.name}, root: FOLDER}}"))
    say(f"folder below data.root: {row.folder}")
    for split in row.splits:
        say(f"{_counted(row, split)}: {'; or '.join(map(str, row.forms(split)))}")
    say(f"source: {row.source}")
    say(f"terms: {row.terms}")


def findings(found: Iterable[Finding], limit: int) -> bool:
    """Print findings while files are read. Return whether there is no problem."""
    total = 0
    for one in found:
        published = "" if one.published is None else f" of {one.published} published"
        say(f"{one.where}: {one.what}: {one.found}{published}, {'ok' if not one.problems else 'NOT ok'}")
        for listed, mark in ((one.problems, "!"), (one.notes, "-")):
            shown = listed if limit == 0 else listed[:limit]
            for line in shown:
                say(f"  {mark} {line}")
            if len(listed) > len(shown):
                say(f"  {mark} and {len(listed) - len(shown)} more; `--limit 0` shows all")
        total += len(one.problems)
    say("all is well" if total == 0 else f"{total} problem{'s' if total > 1 else ''}")
    return total == 0


def leaks(found: Sequence[Leak], tasks: Mapping[str, Task]) -> bool:
    """Print one line per leaking pair of images, even if several tasks share it. Return whether there is none."""
    pairs: dict[tuple[str, str], list[Leak]] = {}
    for one in found:
        pairs.setdefault((one.test_image, one.train_image), []).append(one)
    for (test_image, train_image), same in pairs.items():
        how = "the same pixels as" if same[0].exact else f"a near-duplicate (correlation {same[0].similarity:.3f}) of"
        tested, learning = ({getattr(one, side) for one in same} for side in ("test_task", "train_task"))
        say(f"! {test_image}, tested by {_all(tested)}: {how} {train_image}, learnt from by {_all(learning)}")
    compared = ", ".join(f"{name} {len(one.splits.train)} and {len(one.splits.test)}" for name, one in tasks.items())
    say(f"training and test images, all against all: {compared}")
    say(f"{len(pairs)} pair{'s' if len(pairs) > 1 else ''} of images leak" if pairs else "no leak")
    return not pairs


def _all(names: set[str]) -> str:
    return ", ".join(sorted(names))


def packed(tasks: Mapping[str, Task]) -> None:
    """Print the images and megabytes of each split, and the folder of the packs."""
    table = Table(box=SIMPLE_HEAD)
    for column in ("task", "split", "images", "megabytes"):
        table.add_column(column, justify="left" if column in ("task", "split") else "right")
    for name, task in tasks.items():
        for split, store in (("train", task.splits.train), ("val", task.splits.val), ("test", task.splits.test)):
            if store is not None:
                pixels = int(store.sizes.prod(axis=1).sum())
                table.add_row(name, split, str(len(store)), f"{3e-6 * pixels:.1f}")
    console.print(table)
    say(f"in {default_cache() / 'packs'}; tasks with the same images share them")
