"""`cmtl-ir tune`: the same trials for every strategy, resumed by the same command, and default and best compared."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from cmtl_ir.analysis.data.frames import Frames
from cmtl_ir.analysis.data.study import Study
from cmtl_ir.analysis.tables.training import training_table
from cmtl_ir.analysis.tables.tuning import tuning_table
from cmtl_ir.base import yaml
from cmtl_ir.base.errors import ConfigError, UserError
from cmtl_ir.cli import commands
from cmtl_ir.config import reading
from cmtl_ir.runs.workspace import Workspace
from cmtl_ir.search import tuning
from cmtl_ir.search.config import Plan
from cmtl_ir.search.design import radical_inverse
from cmtl_ir.search.trials import search
from tests import tiny

LR, TEMPERATURE = "training.optimizer.lr", "weighting.temperature"
RANGE = {"float": [1e-3, 1e-2], "log": True}
STRATEGIES: dict[str, Any] = {"joint": {}, "art": {"weighting": "art", "training": {"optimizer": {"lr": 2e-3}}}}


def file_of(folder: Path, tune: Any, **raw: Any) -> str:
    file = folder / "tiny.yaml"
    quick: dict[str, Any] = {"training": {"steps": 4}, "data": {"test_crop": 24, "val": 0.2}, "conflict": {"every": 0}}
    quick["tasks"] = {"haze": None}
    whole = tiny.merged(tiny.merged(tiny.RAW, quick), {"strategies": STRATEGIES, **raw})
    file.write_text(yaml.dump({**whole, **({} if tune is None else {"tune": tune})}))
    return str(file)


def test_points_are_the_default_and_then_the_same_multiples_for_every_strategy(tmp_path: Path) -> None:
    made = tuning.load(file_of(tmp_path, None))
    assert made.experiment.name == "tiny-tuned" and made.trials == 5
    tried = {one.label: [point[f"strategy.{LR}"] for point in one.plan.points] for one in made.studies}
    assert tried == {"joint": [4e-3, 1e-3, 2e-3, 8e-3, 16e-3], "art": [2e-3, 5e-4, 1e-3, 4e-3, 8e-3]}
    first = made.studies[1].plan.experiment(made.studies[1].plan.points[1], "art")
    assert first.strategies["art"].training == {"optimizer": {"lr": 5e-4}} and first.seeds == [1000]


def test_continuous_settings_are_drawn_alike_and_settings_of_its_own_only_for_the_strategy(tmp_path: Path) -> None:
    own = {"art": {TEMPERATURE: {"float": [0.05, 2.0]}}}
    made = tuning.load(file_of(tmp_path, {"trials": 8, "shared": {LR: RANGE}, "own": own}))
    joint, art = (list(one.plan.points) for one in made.studies)
    assert joint[1:] == art[1:] and len({point[f"strategy.{LR}"] for point in joint}) == 8
    assert art[0] == {f"strategy.{LR}": 2e-3, f"strategy.{TEMPERATURE}": made.studies[1].default[TEMPERATURE]}
    longer = tuning.load(file_of(tmp_path, {"trials": 9, "shared": {LR: RANGE}, "own": own}))
    assert longer.studies[0].plan.points[:8] == tuple(joint)  # more trials go on where fewer ended
    sampled = tuning.load(file_of(tmp_path, {"trials": 8, "shared": {LR: RANGE}, "sampler": "TPESampler"}))
    assert [len(one.plan.points) for one in sampled.studies] == [1, 1]
    assert Plan.of(made.studies[0].plan.payload()) == made.studies[0].plan


def test_the_radical_inverse_mirrors_the_digits() -> None:
    assert [radical_inverse(n, 2) for n in range(1, 5)] == [0.5, 0.25, 0.75, 0.125]
    assert radical_inverse(5, 3) == pytest.approx(7 / 9)  # 12 in base 3 -> .21


@pytest.mark.parametrize(
    ("tune", "said"),
    [
        ({"trails": 3}, "tune.trails: unknown key; did you mean trials"),
        ({"strategies": ["jiont"]}, "no strategy 'jiont'; did you mean joint"),
        ({"seeds": [0]}, r"tune.seeds: \[0\] are also seeds of the comparison"),
        ({"trials": 6}, "tune.trials: 6, but joint has only 5 settings"),
        ({"shared": {LR: RANGE}}, "tune.trials: is required"),
        ({"shared": {"data.patch": {"choice": [16, 24]}}}, "tune.shared.data.patch: shared settings are settings of"),
        ({"shared": {"training.optimizer.rl": RANGE}}, "the strategy joint has no setting training.optimizer.rl"),
        ({"shared": {LR: {"times": [0.5, 2]}}}, "times: expected a list of factors above 0 that has 1"),
        ({"shared": {"training.loss": {"times": [1, 2]}}}, "times: the default of joint, 'l1', is not a number"),
        ({"shared": {LR: {"choice": [1e-3, 4e-3]}}}, "the default of art, 0.002, is not in it"),
        ({"shared": {LR: {"float": [1e-3, 3e-3]}}, "trials": 3}, "the default of joint, 0.004, is not in it"),
        ({"own": {"joint": {TEMPERATURE: RANGE}}}, "the strategy joint has no setting weighting.temperature"),
        ({"own": {"atr": {}}}, "tune.own.atr: no strategy to tune; did you mean art"),
        ({"own": {"art": {LR: RANGE}}}, "is shared already"),
        ({"own": {"art": {TEMPERATURE: {"float": [0.05]}}}}, r"float: expected \[low, high\]"),
        ([1], "tune: expected"),
    ],
)
def test_mistakes_are_answered_with_their_path(tmp_path: Path, tune: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        tuning.load(file_of(tmp_path, tune))


def test_the_shipped_tuning_is_valid_and_other_commands_name_it() -> None:
    made = tuning.load("tuned")
    assert len({len(one.plan.points) for one in made.studies}) == 1 and len(made.studies) == 7
    made.studies[0].plan.check()
    assert list(made.experiment.strategies) == [one.label for one in made.studies]
    with pytest.raises(ConfigError, match="`cmtl-ir tune tuned` does both"):
        reading.load("tuned")


def test_a_search_over_a_setting_that_the_strategy_has_itself_is_refused(tmp_path: Path) -> None:
    from cmtl_ir.search import config as search_config

    file = Path(file_of(tmp_path, None))
    raw = yaml.read(file)
    file.write_text(yaml.dump({**raw, "search": {"strategy": "art", "space": {LR: RANGE}}}))
    with pytest.raises(ConfigError, match=f"its own setting, which outranks it: search strategy.{LR} instead"):
        search_config.load(str(file))
    file.write_text(yaml.dump({**raw, "search": {"strategy": "art", "space": {f"strategy.{LR}": RANGE}}}))
    (plan,) = search_config.load(str(file))
    assert plan.experiment({f"strategy.{LR}": 5e-3}, "x").strategies["x"].training == {"optimizer": {"lr": 5e-3}}


# ------------------------------------------------------------------------------------------- from file to report


def tuned(file: str, out: Path, *more: str) -> int:
    return commands.app(["tune", file, "--out", str(out), "--device", "cpu", *more], standalone_mode=False) or 0


def test_tuning_needs_validation_images_and_values_that_are_valid(tmp_path: Path) -> None:
    wrong = {"shared": {"training.ema": {"choice": [None, 2.0]}}}
    with pytest.raises(
        ConfigError, match=r"(?s)training\.ema = 2\.0.*strategies\.trial\.training\.ema: .* less than 1"
    ):
        tuned(file_of(tmp_path, wrong), tmp_path)
    with pytest.raises(UserError, match=r"never on test images, and there are none: set data\.val"):
        tuned(file_of(tmp_path, None, data={"val": None}), tmp_path)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tuned comparison, stopped after the first trial and continued."""
    out = tmp_path_factory.mktemp("tuned")
    file = file_of(out, {"shared": {LR: {"times": [1, 0.25]}}})
    assert tuned(file, out, "--dry-run") == 0 and not (out / "store").exists()
    search(tuning.load(file, trials=1).studies[0].plan, Workspace.at(out, "cpu"))
    (first,) = out.glob("store/*/result.json")
    before = first.stat().st_mtime_ns
    assert tuned(file, out) == 0 and first.stat().st_mtime_ns == before
    assert 6 <= len(list(out.glob("store/*/result.json"))) <= 8  # two trials, the default, and the best if it differs
    return out / "tiny"


def test_every_strategy_had_the_same_trials_and_its_default_first(done: Path) -> None:
    with (done / "tuning.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert [(row["strategy"], row["trials"], row["complete"]) for row in rows] == [
        ("joint", "2", "2"),
        ("art", "2", "2"),
    ]
    assert all(float(row["best_score"]) >= float(row["default_score"]) for row in rows)
    assert all(float(row["cpu_seconds"]) > 0 for row in rows)
    assert rows[1]["default"] == f"{LR} 0.002"
    for row in rows:
        with (done.parent / f"tiny-{row['strategy']}" / "trials.csv").open(newline="") as opened:
            scores = [float(trial["mean_psnr"]) for trial in csv.DictReader(opened)]
        assert (max(scores), scores[0]) == (float(row["best_score"]), float(row["default_score"]))


def test_the_report_shows_default_and_best_side_by_side_and_ranks_them(done: Path) -> None:
    study = Study.of(Frames.of_folder(done))
    assert study.labels == ["joint", "joint_tuned", "art", "art_tuned"]
    assert study.reasons == [] and study.cautions == [] and len(study.ranking) == 4
    table, settings = tuning_table(study), training_table(study)
    assert table is not None and settings is not None
    assert [row[0].text for row in table.rows] == ["joint", "art"] and table.rows[0][6].text == "2"
    means = study.measures.set_index("label")["average"]
    row = table.rows[1]
    assert [cell.value for cell in row[3:6]] == pytest.approx([means["art"], means["art_tuned"],
                                                              means["art_tuned"] - means["art"]])  # fmt: skip
    assert settings.headings == ["strategy", "optimizer.lr"]
    assert settings.rows[0][1].text == "0.004" and settings.rows[2][1].text == "0.002"
