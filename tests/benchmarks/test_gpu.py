"""The GPU table runs line by line on a CPU, so that it works the first time that a GPU can be had."""

from __future__ import annotations

import re
import sys

import pytest

from tests.benchmarks.gpu import __main__ as gpu


def test_every_section_of_the_table_runs(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["--tiny", "--device", "cpu"])
    said = capsys.readouterr().out
    assert re.findall(r"^## (\w+)$", said, re.MULTILINE) == list(gpu.SECTIONS)
    sections = re.split(r"^## ", said, flags=re.MULTILINE)[1:]
    rows = {one.partition("\n")[0]: re.findall(r"^\| (?!.*---)(.*) \|$", one, re.MULTILINE)[1:] for one in sections}
    counts = {"throughput": 9, "data": 1, "engines": 5, "resume": 1, "workers": 2, "scoring": 3, "compiled": 2}
    assert {name: len(found) for name, found in rows.items()} == counts
    assert all(len(row.split("|")) == len(found[0].split("|")) for found in rows.values() for row in found)
    assert rows["resume"] == ["joint | 4 | equal | equal | equal"]


def test_all_sections_end_within_the_time() -> None:
    limits = gpu.limits(list(gpu.SECTIONS), minutes=9)
    assert sum(limits.values()) == pytest.approx(540) and min(limits.values()) > 30


def test_a_section_that_fails_or_takes_too_long_is_named() -> None:
    assert gpu.within([sys.executable, "-S", "-c", ""], 60) == ""
    assert gpu.within([sys.executable, "-S", "-c", "raise SystemExit(3)"], 60) == "failed with exit code 3"
    assert gpu.within([sys.executable, "-S", "-c", "import time; time.sleep(60)"], 0.2) == "stopped after 0 s"
