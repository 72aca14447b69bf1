"""Pages that are made from docstrings: the reference of each folder, and the annotated tree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from .modules import ROOT, Module, of_package, packages

FOLDER = "reference"
SECTIONS = {"Strategies": "cmtl_ir.strategies", "Analysis": "cmtl_ir.analysis", "Engine": "cmtl_ir"}
"""Section of the reference -> prefix of its packages; the first prefix that fits counts."""
FACE = "cmtl_ir"
UNLISTED = "cmtl_ir.cli"
"""The command line is described by `--help` and by the pages of docs/."""


def is_listed(package: str) -> bool:
    """Whether a folder has a page in the reference."""
    public = [one for one in of_package(package) if not one.is_private]
    return package == FACE or (bool(public) and not package.startswith(UNLISTED))


def page_of(package: str) -> str:
    """Return the page of a folder, relative to the pages."""
    return f"{FOLDER}/{package.removeprefix('cmtl_ir.')}.md"


def target_of(module: Module) -> str | None:
    """Return the page and anchor of a module. `None` if the reference does not have it."""
    if module.is_private or not is_listed(module.package):
        return None
    return page_of(module.package) + ("" if module.is_package else f"#{module.name}")


def reference_pages() -> dict[str, str]:
    """Return page -> Markdown with the directives of mkdocstrings."""
    return {page_of(one.name): _page(one) for one in packages() if is_listed(one.name)}


def reference_nav() -> list[dict[str, list[dict[str, str]]]]:
    """Return the sections, each with the title and page of its folders."""
    found: dict[str, list[dict[str, str]]] = {section: [] for section in reversed(SECTIONS)}
    for one in packages():
        if is_listed(one.name):
            section, prefix = next(item for item in SECTIONS.items() if one.name.startswith(item[1]))
            found[section].append({one.name.removeprefix(f"{prefix}."): page_of(one.name)})
    return [{section: entries} for section, entries in found.items()]


def _page(package: Module) -> str:
    lines = [f"# {package.name}", "", _with_blocks(package.docstring), ""]
    if package.name == FACE:
        names = [name for name in _offered(package) if not name.startswith("_")]
        return "\n\n".join([*lines, *(f"::: {FACE}.{name}" for name in names)])
    for module in of_package(package.name):
        if not module.is_private:
            lines += [f"::: {module.name}", ""]
    return "\n".join(lines)


def _with_blocks(docstring: str) -> str:
    """Return a docstring whose examples after `>>>` are blocks of code."""
    return re.sub(
        r"(?:^>>> .*\n?)+", lambda found: f"```python\n{found[0].rstrip()}\n```\n", docstring, flags=re.MULTILINE
    )


def _offered(package: Module) -> list[str]:
    """Return the names in `__all__`."""
    for node in ast.parse(package.path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def tree_page() -> str:
    """Return the annotated tree: every folder and file with the first sentence of its docstring."""
    lines = [
        "# The annotated tree",
        "",
        "Every folder and file of the package, each with the first sentence of its docstring. Names lead to the "
        "reference. Files with a leading underscore hold pieces that several others share.",
        "",
    ]
    for package in packages():
        folder = package.path.parent.relative_to(ROOT)
        lines += [f"## {folder}/", "", package.summary, "", "| file | content |", "|---|---|"]
        lines += [f"| {_link(one)} | {one.summary} |" for one in of_package(package.name)]
        lines += [""]
    lines += [
        "## experiments/",
        "",
        "Files that `cmtl-ir run NAME` finds by name.",
        "",
        "| file | content |",
        "|---|---|",
    ]
    return "\n".join([*lines, *_experiments(), ""])


def _link(module: Module) -> str:
    name, target = f"`{module.path.name}`", target_of(module)
    return name if target is None else f"[{name}]({target})"


def _experiments() -> Iterator[str]:
    """Yield one row per shipped file, with the first line of its comment."""
    home = ROOT / "experiments"
    for path in sorted(home.rglob("*.yaml")):
        first = path.read_text().partition("\n")[0]
        yield f"| `{path.relative_to(home)}` | {first.removeprefix('#').strip() if first.startswith('#') else ''} |"
