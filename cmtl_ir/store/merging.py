"""One comparison of the runs of several comparisons that were made under the same conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import UserError
from cmtl_ir.store.layout import EXPERIMENT
from cmtl_ir.store.listing import claim_folder, list_runs, listed_runs, what_counts


def merge(folders: Sequence[Path]) -> Path:
    """Write the comparison of all runs of several comparisons next to them, and return its folder.

    It is called A_and_B. Strategies that have the same label and definition become one, with the seeds of both. A label
    that means something else in a later comparison becomes LABEL_COMPARISON. No run is copied or trained.

    Raises UserError if a comparison is named twice, if they lie in different folders of results, or if their tasks,
    data, backbone, training or evaluation differ, with the keys that differ.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError(f"{' '.join(str(one) for one in folders)}: a comparison is named twice")
    if len({folder.resolve().parent for folder in folders}) > 1:
        raise UserError(f"{folders[1]} and {folders[0]} lie in different folders of results; merge those of one folder")
    found = [yaml.read(folder / EXPERIMENT) for folder in folders]
    first = what_counts(found[0])
    for folder, one in zip(folders[1:], found[1:], strict=True):
        if other := sorted(_differing(first, what_counts(one))):
            raise UserError(
                f"{folder.name} cannot be compared with {folders[0].name}: it differs in {', '.join(other)}; report "
                "them separately"
            )
    strategies, rows = _together(folders, found)
    seeds = list(dict.fromkeys(seed for one in found for seed in one["seeds"]))
    name = "_and_".join(folder.name for folder in folders)
    merged = claim_folder({**found[0], "name": name, "seeds": seeds, "strategies": strategies}, folders[0].parent)
    list_runs(merged, rows)
    return merged


def _together(
    folders: Sequence[Path], found: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the strategies by label, and the rows of the lists of runs under these labels."""
    strategies: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for folder, one in zip(folders, found, strict=True):
        called = {}
        for label, strategy in one["strategies"].items():
            called[label] = label if strategies.get(label, strategy) == strategy else f"{label}_{folder.name}"
            strategies[called[label]] = strategy
        rows += [{**row, "label": called.get(row["label"], row["label"])} for row in listed_runs(folder)]
    return strategies, rows


def _differing(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Yield the dotted keys in which two trees of plain data differ."""
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        if one != other:
            yield path
        return
    for key in dict.fromkeys([*one, *other]):
        yield from _differing(one.get(key), other.get(key), f"{path}.{key}" if path else str(key))
