"""Execute the cells of docs/tutorial.md, and write what they print and draw, and the notebook.

python -m docs.site.tutorial
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from .modules import ROOT
from .notebook import CELL, notebook

PAGE = ROOT / "docs" / "tutorial.md"
PICTURE = re.compile(r"!\[[^]]*\]\(tutorial/([\w.]+)\)")


def executed(page: str, shorter: Mapping[str, str]) -> Iterator[str]:
    """Execute the cells in the current folder, one after the other in one namespace, and yield what each prints.

    `shorter`: text of a cell -> text in its place, to train for less time.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, found in enumerate(CELL.finditer(page), start=1):
        code = found["code"]
        for old, new in shorter.items():
            code = code.replace(old, new)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, f"cell {number}", "exec"), namespace)
        yield printed.getvalue()


def with_outputs(page: str, outputs: list[str]) -> str:
    """Return the page with the output below each cell. A cell that prints nothing has none."""
    left = iter(outputs)

    def cell(found: re.Match[str]) -> str:
        printed = next(left).rstrip()
        block = f"\n```text\n{printed}\n```\n" if printed else ""
        return f"```python\n{found['code']}```\n{block}"

    return CELL.sub(cell, page)


def main() -> None:
    """Execute all cells in a folder of their own, and write the page and its pictures."""
    page = PAGE.read_text()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        PAGE.write_text(with_outputs(page, list(executed(page, {}))))
        PAGE.with_suffix(".ipynb").write_text(notebook(page))
        pictures = PAGE.with_suffix("")
        pictures.mkdir(exist_ok=True)
        for name in PICTURE.findall(page):
            shutil.copyfile(name, pictures / name)


if __name__ == "__main__":
    main()
