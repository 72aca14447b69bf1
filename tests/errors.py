"""Write docs/errors.md: the messages that are raised in the tests with the marker `error(cause)`.

    python -m tests.errors          # runs the tests whose causes are not on the page, and drops causes without a test
    python -m tests.errors --all    # runs all of them: before a release, and after messages were reworded

A cause is written `area: what is wrong`, with parameters of the test in braces. The messages are those that leave
`pytest.raises` or the command line while a test runs. For any other message, the marker has the argument `says`.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cmtl_ir.base import escaping
from cmtl_ir.base.errors import UserError

ROOT = Path(__file__).parents[1]
MOST = 3
"""Maximum number of messages of one cause."""
LONGEST = 400
"""Maximum number of characters of a message."""
GAP = "…"
"""Stands for what differs between machines, and for what is cut."""


Rows = dict[tuple[str, str], list[str]]
"""(area, cause) -> lines of its table."""


def causes_of(item: pytest.Item) -> dict[tuple[str, str], pytest.Mark]:
    """Return (area, cause) -> marker of a test, with the parameters of the test filled in."""
    params = getattr(getattr(item, "callspec", None), "params", {})
    found = {mark.args[0].format_map(params): mark for mark in item.iter_markers("error")}
    return {
        (_cell(area), _cell(rest)): mark for (area, _, rest), mark in ((c.partition(": "), m) for c, m in found.items())
    }


def marked_files() -> list[str]:
    """Return the test modules that use the marker."""
    found = (ROOT / "tests").rglob("test_*.py")
    return [str(file) for file in sorted(found) if "mark.error(" in file.read_text(encoding="utf-8")]


# ------------------------------------------------------------------------------------------------ what is raised


class Recorder:
    """A plugin of pytest that runs the marked tests of unknown causes, and keeps their messages."""

    def __init__(self, known: Collection[tuple[str, str]] = ()) -> None:
        self.known = known
        self.messages: dict[tuple[str, str], list[str]] = {}
        """Messages of every cause that a test has. Empty for the known ones."""
        self.failed: list[str] = []
        self._said: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        causes = {item: causes_of(item) for item in items}
        self.messages = {cause: [] for named in causes.values() for cause in named}
        items[:] = [item for item, named in causes.items() if any(cause not in self.known for cause in named)]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        self._said = []
        with self._listening():
            yield
        for cause, mark in causes_of(item).items():
            kept = self.messages[cause]
            said = [mark.kwargs["says"]] if "says" in mark.kwargs else [readable(text) for text in self._said]
            kept += [text for text in dict.fromkeys(said) if text not in kept][: MOST - len(kept)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        raises, printable = type(pytest.raises(UserError)), escaping.printable
        leave = raises.__exit__

        def left(context: Any, kind: Any, value: Any, trace: Any) -> Any:
            if isinstance(value, Exception):
                self._said.append(text_of(value))
            return leave(context, kind, value, trace)

        def printed(text: str) -> str:
            self._said.append(text)
            return printable(text)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(raises, "__exit__", left)
            patch.setattr(escaping, "printable", printed)
            yield


def text_of(error: Exception) -> str:
    """Return the message of an error. One of pydantic is written as the command line writes it."""
    if not hasattr(error, "errors"):
        return str(error)
    first = error.errors()[0]
    place, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def readable(text: str) -> str:
    """Return a message in one line, without what differs between machines: folders, versions, hashes, free space."""
    for pattern, instead in {
        r"(?:/[\w.-]+)*/pytest-of-\w+/pytest-\d+(?:/popen-gw\d+)?/[\w\[\].-]+/": "",
        r"(?:/[\w.-]+)*/pytest-of-\w+/pytest-\d+(?:/popen-gw\d+)?/[\w\[\].-]+": "FOLDER",
        rf"{re.escape(str(ROOT))}/?": "",
        r"\(looked from [^)]*\)": f"(looked from {GAP})",
        r"PyTorch \d[\w.+]*": "PyTorch",
        r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,64}\b": GAP,
        rf"{re.escape(str(Path.home()))}/": "~/",
        r"known: \.[^;]*": f"known: {GAP}",  # the folder that the tests are run in
        r"(\w)\1{20,}": rf"\1\1\1{GAP}",
        r"\b0x[0-9a-f]+": GAP,
        r"\n\s*": " ",
    }.items():
        text = re.sub(pattern, instead, text)
    text = escaping.one_line(text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 2]} {GAP}"


# ------------------------------------------------------------------------------------------------------ the page

IMPERATIVES = (
    "add|ask|change|check|choose|convert|copy|correct|delete|describe|did you mean|enlarge|expected|fetch|free|give|"
    "install|it has|it knows|keep|known|leave|lower|make|name|omit|raise|remove|rename|repair|restart|run|see|set|"
    "start|train|try|use|wait|write"
)
WAY_OUT = re.compile(rf"(?:[;.:,] | \()(?=(?:or )?(?:{IMPERATIVES})\b|`cmtl-ir|--\w)|; ")


def rows(cause: str, messages: Iterable[str]) -> list[str]:
    """Return the lines of a cause: what each message says is wrong, and what to do."""
    split = (WAY_OUT.split(text, maxsplit=1) for text in sorted(messages))
    return [f"| {cause} | {_cell(parts[0])} | {_cell(parts[1]) if len(parts) > 1 else '-'} |" for parts in split]


NAMED = re.compile(
    r"\w[/._]\w|--\w|`\w|[\w…]: |'[\w{]|\bstep|\d|FOLDER|^\w+ \||"
    r"\b(?:auxiliary|avalanche|backbone|folders|like|swinir|task|teacher|widths)\b"
)
"""What names a file, a key, an option, a step, or the value at fault."""
HEAD = """# Errors

An error that a user can mend ends a command with exit code 2 and a message: what is wrong, with the file, key or step,
and what to do. This page lists messages by area. It is made from the tests (`python -m tests.errors`). Names of files
and values are those of the tests, and … stands for what differs between machines.
"""
PAGE = ROOT / "docs" / "errors.md"


def page(found: Rows) -> str:
    """Return the page in Markdown, sorted by area and cause."""
    lines = [HEAD]
    for area in sorted({area for area, _ in found}):
        lines += [f"## {area}", "", "| cause | message | way out |", "|---|---|---|"]
        lines += [line for (own, _), listed in sorted(found.items()) if own == area for line in listed]
        lines.append("")
    return "\n".join(lines)


def read(text: str) -> Rows:
    """Return the rows of a page."""
    found: Rows = defaultdict(list)
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        area, _, table = section.partition("\n")
        for line in table.splitlines()[3:]:
            if cause := re.match(r"\| (.*?) \| ", line):
                found[area, cause[1]].append(line)
    return dict(found)


def _cell(text: str) -> str:
    """Return Markdown of a cell, in which text between backticks is code."""
    parts = re.split(r"(`[^`|]+`)", text)
    return "".join(
        part if place % 2 else escaping._inline(part).replace("|", r"\|") for place, part in enumerate(parts)
    )


def main(arguments: Sequence[str]) -> None:
    """Run the marked tests and write the page. Exit with the names of tests that fail or raise nothing."""
    old = read(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else {}
    recorder, said = Recorder(() if "--all" in arguments else old), io.StringIO()
    with contextlib.redirect_stdout(said):
        pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *marked_files()], plugins=[recorder])
    found = {cause: rows(cause[1], texts) or old.get(cause, []) for cause, texts in recorder.messages.items()}
    silent = [cause for cause, listed in found.items() if not listed]
    if recorder.failed or silent:
        sys.exit(f"tests that fail: {recorder.failed}; causes without a message: {silent}\n{said.getvalue()[-3000:]}")
    PAGE.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
