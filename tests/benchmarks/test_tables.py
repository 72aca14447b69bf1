"""The tables of start-up times and of memory are made to their end, each from processes of its own."""

from __future__ import annotations

import re

import pytest

from tests.benchmarks import memory


def test_a_store_is_packed_and_trained_from_within_its_memory(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert memory.main(["--store", "3", "--steps", "1"]) == 0
    said = capsys.readouterr().out
    (row,) = re.findall(r"^\| (3 \| .*) \|$", said, re.MULTILINE)
    images, store, _, imports, packed, trained, read = [float(cell.replace(",", "")) for cell in row.split(" | ")]
    assert (images, store, read) == (3, 18, 20) and 100 < imports <= packed <= trained < memory.GOAL
    assert re.search(r"^within 4 GiB: at most \d\.\d\d GiB were resident$", said, re.MULTILINE)
    monkeypatch.setattr(memory, "row_of", lambda count, steps: [count, 6.0, 0.0, 300.0, 400.0, 5000.0, steps])
    assert memory.main(["--store", "10000"]) == 1
    said = capsys.readouterr().out
    assert "OVER 4 GiB: at most 4.88 GiB" in said and "| 219 |" in said  # steps of 20 MB until 4 GiB were read
