"""Table of the training settings that strategies were given on their own."""

from __future__ import annotations

from typing import Any

from ..data import own_training
from ..data.study import Study
from .formats import Cell, Table


def training_table(study: Study) -> Table | None:
    """Return the table strategy x own setting, or `None` if no strategy was given one."""
    frames = study.frames
    named = {label: own_training.declared(frames, label) for label in study.labels}
    paths = list(dict.fromkeys(path for own in named.values() for path in own))
    if not paths:
        return None
    rows = []
    for label, own in named.items():
        values = [own[path] if path in own else own_training.shared_value(frames, path) for path in paths]
        shown = [_cell(value, path in own) for value, path in zip(values, paths, strict=True)]
        rows.append([Cell(label), *shown])
    notes = ["In brackets: the value of the experiment, for a strategy without its own.", *study.cautions]
    return Table("training", "Training settings of single strategies", ["strategy", *paths], rows, notes)


def _cell(value: Any, is_own: bool) -> Cell:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    text = f"{value:g}" if is_number else str(value)
    return Cell(text if is_own else f"({text})", float(value) if is_number else None)
