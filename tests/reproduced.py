"""Print, for each method and network, what it is checked against, as collected from the tests.

    python -m tests.reproduced > docs/reproduced.md

A test belongs to a method if it is parametrized with the method's name or names it, or its class, in its code. The
reference is the first sentence of the test's module.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from cmtl_ir import backbones
from cmtl_ir.strategy import registry

FAMILIES = (
    "curriculum", "weighting", "surgery", "retention", "objective", "grouping", "unlearning", "adaptation",
    "degradation",
)  # fmt: skip
ROOMS = {"unlearning": ("unlearning",), "degradation": ("tasks",), "backbone": ("backbones", "gradients"),
         "retention": ("retention", "avalanche"), "weighting": ("weighting",), "surgery": ("surgery",),
         "curriculum": ("curriculum", "retention"), "objective": ("objective",), "grouping": ("grouping",),
         "adaptation": ("adaptation",)}  # fmt: skip
"""Family -> folders of tests/ that check it against something outside itself."""
TOLERANCE = re.compile(r"(?:[ra]tol|abs|rel)=([0-9.]+(?:e-?[0-9]+)?)\b|< ([0-9.]*e-[0-9]+)|, ([0-9]e-[0-9]+)\)")
EXACT = ("torch.equal", "same(")


@dataclass
class Evidence:
    """The tests of one method in one module."""

    tests: int = 0
    tolerances: set[float] = field(default_factory=set)
    exact: bool = False

    def agreement(self) -> str:
        """Return the strictest agreement that a test demands."""
        if self.exact:
            return "bits"
        return f"{min(self.tolerances):g}" if self.tolerances else "property"


class Collector:
    """A plugin of pytest that keeps the collected tests."""

    def __init__(self) -> None:
        self.items: list[pytest.Function] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self.items = [item for item in items if isinstance(item, pytest.Function)]


def collected() -> list[pytest.Function]:
    """Return all tests."""
    plugin = Collector()
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"], plugins=[plugin])
    return plugin.items


def names() -> dict[str, list[str]]:
    """Return the names of each family."""
    return {**{family: registry.names(family) for family in FAMILIES}, "backbone": backbones.names()}


def evidence(items: Iterable[pytest.Function]) -> dict[tuple[str, str], dict[str, Evidence]]:
    """Return (family, name) -> subject of a test module -> the tests of the method there."""
    found: dict[tuple[str, str], dict[str, Evidence]] = defaultdict(lambda: defaultdict(Evidence))
    known = names()
    for item in items:
        source = inspect.getsource(item.function)
        words = set(re.findall(r"\w+", item.name)) | set(re.findall(r"[\"'](\w+)[\"']", source))
        words |= {registry.snake_case(name) for name in re.findall(r"\b[A-Z]\w+", source)}
        for family, own in known.items():
            for name in words.intersection(own) if item.path.parent.name in ROOMS[family] else ():
                one = found[family, name][subject(item)]
                one.tests += 1
                one.tolerances |= {float(next(filter(None, match))) for match in TOLERANCE.findall(source)} - {0.0}
                one.exact |= any(word in source for word in EXACT)
    return found


def subject(item: pytest.Function) -> str:
    """Return the first sentence of the docstring of a test's module."""
    text = re.split(r"(?<=[.!?])\s|\n\n", inspect.getdoc(item.module) or "")[0]
    return " ".join(text.split()).rstrip(".")


HEAD = """# What each method is checked against

Collected from the tests by `python -m tests.reproduced > docs/reproduced.md`. Each family has a list of the subjects of
its test modules. The row of a method names those that test it, with the strictest agreement that a test demands: *bits*
for equality to the last bit, a tolerance, or *property* for a claim without numbers.
"""


def page(found: dict[tuple[str, str], dict[str, Evidence]]) -> str:
    """Return the page in Markdown."""
    lines = [HEAD]
    for family, own in names().items():
        subjects = sorted({one for name in own for one in found[family, name]})
        lines += [f"## {family}", "", *(f"{number}. {one}" for number, one in enumerate(subjects, 1)), ""]
        lines += ["| name | tests | checked by (agreement) |", "|---|---:|---|"]
        for name in own:
            checks = found[family, name]
            cells = [f"{subjects.index(one) + 1} ({checks[one].agreement()})" for one in sorted(checks)]
            lines.append(f"| {name} | {sum(one.tests for one in checks.values())} | {', '.join(cells) or '-'} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(page(evidence(collected())), end="")
