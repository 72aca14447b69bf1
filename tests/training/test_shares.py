"""Every step draws the same number of samples, shares are kept over time, and dropped rows change nothing."""

from __future__ import annotations

import pytest
import torch

from cmtl_ir.strategy.data import Row, Stage
from cmtl_ir.training.shares import DataState, apportion, stage_rows


def drawn_over(rows: list[Row], batch: int, steps: int) -> dict[str, list[int]]:
    carry: dict[str, float] = {}
    counts: dict[str, list[int]] = {row.name: [] for row in rows}
    for _ in range(steps):
        step, carry = apportion(rows, batch, carry)
        assert sum(step) == batch
        for row, count in zip(rows, step, strict=True):
            counts[row.name].append(count)
    return counts


@pytest.mark.parametrize("shares", [[1 / 3] * 3, [0.5, 0.3, 0.2], [0.9, 0.05, 0.05], [1 / 7] * 7])
@pytest.mark.parametrize("batch", [1, 5, 12])
def test_totals_follow_the_shares(shares: list[float], batch: int) -> None:
    rows = [Row(f"t{i}", f"t{i}", share) for i, share in enumerate(shares)]
    steps = 200
    for row in rows:
        total = sum(drawn_over(rows, batch, steps)[row.name])
        assert abs(total - batch * steps * row.share) <= 1.0 + 1e-9


def test_whole_quotas_are_drawn_exactly() -> None:
    rows = [Row(name, name, 1 / 3) for name in ("a", "b", "c")]
    assert all(count == 4 for counts in drawn_over(rows, 12, 50).values() for count in counts)


def test_ties_go_by_task_name_not_by_position() -> None:
    rows = [Row(name, name, 0.5) for name in ("rain", "haze")]
    forward, _ = apportion(rows, 3, {})
    backward, _ = apportion(rows[::-1], 3, {})
    assert dict(zip(("rain", "haze"), forward, strict=True)) == dict(zip(("haze", "rain"), backward, strict=True))
    assert forward == [1, 2]


def test_protecting_rows_take_their_shares_and_stage_rows_share_the_rest() -> None:
    stage = Stage("two", {"haze": 3.0, "rain": 1.0}, 10)
    rows = stage_rows(stage, [Row("memory:noise", "noise", 0.5, 1.0, [1, 2, 3])])
    assert [(row.name, row.share) for row in rows] == [("haze", 0.375), ("rain", 0.125), ("memory:noise", 0.5)]


@pytest.mark.parametrize(
    "dropped",
    [
        Row("memory:noise", "noise", 0.0, 1.0, [1]),
        Row("memory:noise", "noise", 0.5, 0.0, [1]),
        Row("memory:noise", "noise", 0.5, 1.0, []),
    ],
    ids=["share 0", "coefficient 0", "empty memory"],
)
def test_a_row_of_nothing_is_dropped_before_counting(dropped: Row) -> None:
    stage = Stage("one", {"haze": 1.0, "review:rain": 1.0}, 10, memory={"review:rain": []})
    assert stage_rows(stage, [dropped]) == stage_rows(Stage("one", {"haze": 1.0}, 10), [])


@pytest.mark.error("training: rows that leave nothing to the others")
def test_protecting_rows_cannot_take_everything() -> None:
    with pytest.raises(ValueError, match="nothing is left"):
        stage_rows(Stage("one", {"haze": 1.0}, 10), [Row("memory:rain", "rain", 1.0, 1.0, [1])])


def test_stage_rows_of_one_task_share_its_stream_and_memories_do_not_move_it() -> None:
    state = DataState()
    assert state.draw(Row("rain", "rain", 1.0), 3, 0).tolist() == [0, 1, 2]
    state.draw(Row("memory:rain", "rain", 1.0, 1.0, [7, 8, 9]), 5, 0)
    assert state.draw(Row("rain", "rain", 1.0), 2, 0).tolist() == [3, 4]


def test_a_memory_shows_every_id_once_a_round() -> None:
    state, row = DataState(), Row("memory:rain", "rain", 1.0, 1.0, [10, 20, 30, 40, 50])
    drawn = torch.cat([state.draw(row, count, 0) for count in (2, 5, 3)]).tolist()
    assert sorted(drawn[:5]) == sorted(drawn[5:]) == [10, 20, 30, 40, 50]
    assert drawn[:5] != drawn[5:]
