"""Claims about --resolve: which seeds are trained after the pilot, that a repeated command trains nothing new."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmtl_ir.analysis.tables.two_stage import two_stage_table
from cmtl_ir.base.errors import UserError
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.runs import comparison, two_stage
from cmtl_ir.runs.plan import PlannedRun
from cmtl_ir.runs.two_stage import Aim
from cmtl_ir.runs.workspace import Workspace
from cmtl_ir.store.folder import write_result
from cmtl_ir.store.layout import WEIGHTS
from cmtl_ir.store.listing import listed_runs
from tests import tiny

STRATEGIES = {
    "steady": {"surgery": "pcgrad"},
    "joint": {},
    "shaky": {"weighting": "equal"},
    "alone": {"curriculum": {"name": "single", "task": "noise"}},
}
DIFFERENCES = {"joint": [0.0] * 9, "alone": [0.0] * 9, "steady": [0.5, 0.51, 0.5], "shaky": [0.0, 0.4, 0.2, *[0.1] * 6]}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(label, seed) of every run that is trained. Training writes a score by label and seed."""
    done: list[tuple[str, int]] = []

    def execute(planned: PlannedRun, workspace: Workspace, parent: str) -> None:
        run = planned.run
        if run.status == "finished":
            return
        done.append((run.label, run.seed))
        run.folder.mkdir(parents=True)
        (run.folder / WEIGHTS).touch()
        score = 20.0 + run.seed + DIFFERENCES[run.label][run.seed - 5]
        made = {"psnr": {"noise": score - 1.0, "rain": score + 1.0}, "seconds": 1.0}
        write_result(run.folder, made | {"continual": {"mean_forgetting_db": None}})

    monkeypatch.setattr(comparison, "execute", execute)
    return done


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return tiny.experiment(STRATEGIES, seeds=[6, 5, 7])


def test_each_strategy_gets_the_seeds_that_its_pilot_asks_for(
    experiment: Experiment, trained: list[tuple[str, int]], tmp_path: Path
) -> None:
    """SD of steady .00577: (4.303 * .00577 / .35)^2 < 3; SD of shaky .2: (4.303 * .2 / .35)^2 = 6.05, so 7."""
    place, said = Workspace.at(tmp_path, "cpu"), list[str]()
    made, plan = two_stage.train_two_stages(experiment, place, Aim(0.35), say=said.append)
    pilot = {(label, seed) for label in STRATEGIES for seed in (5, 6, 7)}
    further = {(label, seed) for label in ("joint", "shaky") for seed in (8, 9, 10, 11)}
    assert set(trained[:12]) == pilot and set(trained[12:]) == further and len(trained) == 20
    assert {(row["label"], row["seed"]) for row in listed_runs(made.folder)} == pilot | further
    assert said[2] == "  shaky: known after the pilot; at most 20 seeds"
    assert any("shaky: SD 0.200 dB in the pilot, 7 seeds: seeds 8 to 11 follow" in line for line in said)
    assert any("steady" in line and "the pilot is enough" in line for line in said)
    table = two_stage_table(plan, two_stage.seed_scores(made.runs))
    assert table is not None
    (shaky,) = [row for row in table.rows if row[0].text == "shaky"]
    assert shaky[2].text == "0.14 ± 0.33"  # mean of 0, .4, .2 and four times .1; 4.303 * .2 / sqrt(7)
    told = list[str]()
    again = two_stage.train_two_stages(experiment, place, Aim(0.35), say=told.append)[0]
    assert (
        told == two_stage.words(experiment, plan)
        and len(trained) == 20
        and {one.name for one in again.runs} == {one.name for one in made.runs}
    )


def test_a_dry_run_plans_what_is_known_and_a_cap_says_what_it_leaves(
    experiment: Experiment, trained: list[tuple[str, int]], tmp_path: Path
) -> None:
    aim = Aim(0.1, max_seeds=8)
    prepared, plan = two_stage.prepare_both(experiment, aim, tmp_path, "cpu")
    assert len(prepared.runs) == 12 and plan.spread == {}
    assert "  shaky: known after the pilot; at most 8 seeds" in two_stage.words(experiment, plan)
    comparison.train_all(experiment, Workspace.at(tmp_path, "cpu"))
    assert len(trained) == 12
    prepared, plan = two_stage.prepare_both(experiment, aim, tmp_path, "cpu")
    assert len(trained) == 12 and [one.seed for one in prepared.runs if one.label == "shaky"] == [
        6,
        5,
        7,
        8,
        9,
        10,
        11,
        12,
    ]
    (said,) = [line for line in two_stage.words(experiment, plan) if "shaky" in line]
    assert said.endswith("asks for 75 seeds; --max-seeds 8 leaves a half-width of 0.30 dB")


@pytest.mark.parametrize(
    ("seeds", "aim", "said"),
    [([0], Aim(0.2), "of which there is 1"), ([0, 1], Aim(0.0), "above 0"), ([0, 1, 2], Aim(0.2, 2), "has 3 seeds")],
)
def test_what_cannot_be_planned_is_refused(seeds: list[int], aim: Aim, said: str) -> None:
    with pytest.raises(UserError, match=said):
        two_stage.check(tiny.experiment(STRATEGIES, seeds=seeds), aim)
