"""The journal of a run: strict JSON, one line an entry, and nothing but the last line can be torn."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from cmtl_ir.tracking.journal import Journal, check_name, cleaned
from tests.tracking.cases import entries


def strict(text: str) -> object:
    def refuse(word: str) -> float:
        raise ValueError(word)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("name", ["loss/rain", "conflict/haze.rain", "memory.rain", "lr", "a b-c_d/0"])
def test_good_names_pass(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "a|b", "~", "memory:rain", "/a", "a/", "a//b", "../a", "a/..", ".", "ü", "a" * 251]
)
def test_names_that_some_system_refuses_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a metric"):
        check_name(name)


def test_what_is_not_finite() -> None:
    inf, nan = math.inf, math.nan
    assert cleaned({"psnr/rain": inf, "val/psnr": -inf, "loss/rain": inf, "x": -inf, "y": 1}) == {
        "psnr/rain": 100.0,
        "val/psnr": -100.0,
        "y": 1.0,
    }
    assert math.isnan(cleaned({"loss/rain": nan})["loss/rain"])
    assert cleaned({"x": np.float64(0.5)}) == {"x": 0.5}


def test_a_line_an_entry_in_strict_json(tmp_path: Path) -> None:
    Journal(tmp_path).append(3, {"loss/a": 0.1, "loss/b": math.nan})
    assert entries(tmp_path) == [(3, {"loss/a": 0.1, "loss/b": None})]
    strict((tmp_path / "metrics.jsonl").read_text())
    points, end = Journal(tmp_path).read(0)
    assert [(p.name, p.step) for p in points] == [("loss/a", 3), ("loss/b", 3)] and math.isnan(points[1].value)
    assert end == Journal(tmp_path).size


def test_the_first_value_of_a_step_counts(tmp_path: Path) -> None:
    log = Journal(tmp_path)
    assert log.append(3, {"a": 1.0}) and not log.append(3, {"a": 2.0}) and not log.append(2, {"a": 2.0})
    assert log.append(3, {"a": 2.0, "b": 5.0}) and not Journal(tmp_path).append(3, {"b": 6.0})
    assert not log.append(9, {})
    assert entries(tmp_path) == [(3, {"a": 1.0}), (3, {"b": 5.0})]


def test_rewinding_forgets_later_steps(tmp_path: Path) -> None:
    log = Journal(tmp_path)
    for step in (1, 3, 2, 4):
        log.append(step, {f"m{step}": float(step), "same": 0.0})
    log.rewind(2)
    assert [step for step, _ in entries(tmp_path)] == [1, 2]
    log.append(2, {"same": 1.0})
    log.append(3, {"same": 2.0})
    assert entries(tmp_path)[1:] == [(2, {"m2": 2.0}), (2, {"same": 1.0}), (3, {"same": 2.0})]


@pytest.mark.parametrize("torn", [b'{"step": 2, "ti', b"\n", b"\x00\x00\x00", b"[]\n", b"5\n", b'{"step": 2}\n'])
def test_a_torn_line_is_dropped(torn: bytes, tmp_path: Path) -> None:
    Journal(tmp_path).append(1, {"a": 1.0})
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    (tmp_path / "metrics.jsonl").write_bytes(whole + torn)
    Journal(tmp_path).append(2, {"a": 2.0})
    assert entries(tmp_path) == [(1, {"a": 1.0}), (2, {"a": 2.0})]
    assert (tmp_path / "metrics.jsonl").read_bytes().startswith(whole)
