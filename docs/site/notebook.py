"""A page of cells as a Jupyter notebook."""

from __future__ import annotations

import json
import re
from typing import Any

CELL = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<printed>.*?)^```\n)?", re.DOTALL | re.MULTILINE)
"""A block of code, and the block of text that it prints."""


def notebook(page: str) -> str:
    """Return the notebook (format 4.5) of a Markdown page. Blocks of Python are cells; what they print is left out."""
    cells: list[dict[str, Any]] = []
    end = 0
    for found in CELL.finditer(page):
        cells += [
            _cell("markdown", page[end : found.start()], len(cells)),
            _cell("code", found["code"], len(cells) + 1),
        ]
        end = found.end()
    cells.append(_cell("markdown", page[end:], len(cells)))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    wanted = [one for one in cells if one["source"]]
    return json.dumps({"cells": wanted, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"


def _cell(kind: str, text: str, number: int) -> dict[str, Any]:
    code: dict[str, Any] = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {
        "cell_type": kind,
        "id": f"cell-{number}",
        "metadata": {},
        "source": text.strip().splitlines(keepends=True),
        **code,
    }
