"""The terminal: whatever is printed is text, never markup or a command to the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import Task, TextColumn
from rich.text import Text

from cmtl_ir.base.escaping import printable


class Terminal(Console):
    """A console without markup: labels, names of files and messages are printed as they are.

    A style is given as `Text(text, style)` or as the `style` of a column or row.
    """

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text of a string, which may be printed, a cell, a heading or a title."""
        return super().render_str(printable(text), **options)


class Words(TextColumn):
    """A column of a progress bar that shows a field of its task as text."""

    def render(self, task: Task) -> Text:
        """Return the field of one task."""
        return Text(printable(self.text_format.format(task=task)), style=self.style, justify=self.justify)
