"""Claims about citations: every entry stands for something that exists, and says what its docstring says."""

from __future__ import annotations

import inspect
import re
import unicodedata

import pytest

from cmtl_ir.cli import main
from cmtl_ir.config import catalogue, citations

ENTRIES = [(entry, name) for entry, names in citations.entries() for name in names]
ORIGINAL = {
    "curriculum": {"interleaved", "joint", "mixed_matched", "sequential", "single", "severity_ramp", "worst"},
    "weighting": {"equal", "manual", "proportional"},
    "retention": {"degradation_replay", "freeze"},
    "objective": {"diffusion", "expert_balance", "gradient", "l1", "own_classes", "side_images"},
    "grouping": {"conflict", "manual", "random"},
    "adaptation": {"consistency", "none"},
    "backbone": {"independent_networks", "own_encoders"},
}
"""Parts without a paper of their own."""


def plain(text: str) -> str:
    """Letters without accents, whether written in Unicode or in TeX."""
    text = re.sub(r"\\.|[{}]", "", text)
    return "".join(letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter))


def field(entry: str, name: str) -> str:
    found = re.search(rf"^  {name} = \{{(.*)\}},$", entry, re.MULTILINE)
    assert found, f"no {name} in {entry}"
    return found[1]


@pytest.mark.parametrize(("entry", "name"), ENTRIES, ids=[name for _, name in ENTRIES])
def test_an_entry_and_the_docstring_name_one_paper(entry: str, name: str) -> None:
    said = plain(inspect.getdoc(catalogue._class(*name.split("/"))) or "")
    surname = plain(re.split(",| and ", field(entry, "author"))[0])
    assert surname in said, f"{name}: the docstring does not name {surname}"
    preprint = re.search(r"arXiv:(\d{4}\.\d{5})", entry)
    assert (preprint[1] if preprint and "arXiv" in said else field(entry, "year")) in said
    assert field(entry, "title")


@pytest.mark.parametrize(
    "family",
    [
        "curriculum",
        "weighting",
        "surgery",
        "retention",
        "objective",
        "grouping",
        "unlearning",
        "adaptation",
        "backbone",
    ],
)
def test_every_part_has_an_entry_or_is_known_to_have_no_paper(family: str) -> None:
    cited = {name.partition("/")[2] for _, name in ENTRIES if name.startswith(f"{family}/")}
    assert set(catalogue.families()[family]) - cited == ORIGINAL.get(family, set())


def test_keys_are_unique_and_braces_close() -> None:
    text = [entry for entry, _ in citations.entries()]
    keys = [entry.partition("{")[2].partition(",")[0] for entry in text]
    assert len(set(keys)) == len(keys) > 50
    assert all(entry.count("{") == entry.count("}") and entry.endswith("\n}") for entry in text)


def test_describe_prints_the_papers_and_the_suite(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["describe", "mgda", "--bibtex"])
    said = capsys.readouterr().out
    assert re.findall(r"^@\w+\{(\w+),", said, re.MULTILINE) == [
        "desideri2012mgda",
        "sener2018multiobjective",
        "cmtl_ir",
    ]
    assert "names =" not in said
