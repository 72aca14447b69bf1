"""Claims about honesty: what is not comparable is not ranked, and what is missing is said with what makes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cmtl_ir.analysis import summary
from cmtl_ir.analysis.data.frames import Frames
from cmtl_ir.analysis.data.study import Study
from cmtl_ir.analysis.report import markdown, page
from cmtl_ir.analysis.tables import scores
from cmtl_ir.analysis.tables.runs import runs_table
from cmtl_ir.base import yaml
from cmtl_ir.base.errors import UserError
from cmtl_ir.config.reading import with_overrides
from cmtl_ir.measures.scale import PSNR
from tests.analysis import forged

FINAL = {(label, seed): {"noise": 26.0 + seed, "rain": 25.0} for label in ("joint", "pcgrad") for seed in (0, 1)}
PCGRAD = ("pcgrad", 1)


def study_of(folder: Path) -> Study:
    return Study.of(Frames.of_folder(folder))


DIFFERENCES: dict[str, tuple[dict[str, Any], str]] = {
    "test images": ({"tests": {"rain": "cropped"}}, "test data of rain differ (digests)"),
    "training images": ({"tasks": {"noise": "other"}}, "training data of noise differ (digests)"),
    "protocol": ({"protocol": "matlab_y"}, "metric protocol differ"),
    "backbone": ({"backbone": {"width": 8}}, "backbone.width differs"),
    "learning rate": ({"training": {"optimizer": {"lr": 1e-3}}}, "training.optimizer differs"),
    "patch": ({"patch": 32}, "patch size differ"),
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_runs_that_differ_in_more_than_the_strategy_are_not_ranked(what: str, tmp_path: Path) -> None:
    identity, why = DIFFERENCES[what]
    study = study_of(forged.comparison(tmp_path, FINAL, identities={PCGRAD: identity}))
    assert study.ranking == [] and study.verdicts() == {}
    (reason,) = study.reasons
    assert reason.startswith(why) and "pcgrad (seed 1)" in reason, reason
    assert summary.summary(study)[0].startswith("Not ranked")
    table = scores.score_table(study, PSNR)
    assert all(cell.style == "" for row in table.rows for cell in row) and "Not ranked" in table.notes[0]


def test_images_that_rotate_with_the_seed_are_compared_within_a_seed(tmp_path: Path) -> None:
    rotated = {
        key: {"holdout": "rotate", "tasks": {"noise": f"train {key[1]}"}, "tests": {"noise": f"test {key[1]}"}}
        for key in FINAL
    }
    study = study_of(forged.comparison(tmp_path / "rotated", FINAL, identities=rotated))
    assert study.reasons == [] and len(study.ranking) == 2
    other = {**rotated, PCGRAD: {**rotated[PCGRAD], "tests": {"noise": "test 0"}}}
    (reason,) = study_of(forged.comparison(tmp_path / "other", FINAL, identities=other)).reasons
    assert reason == "test data of noise differ (digests): joint (seed 1): test 1; pcgrad (seed 1): test 0"


def test_inputs_that_rotate_with_the_seed_are_shown_for_each_seed() -> None:
    results = [
        {"label": label, "seed": seed, "psnr": {"rain": 25.0}, "psnr_input": {"rain": 18.0 + seed}}
        for label in ("joint", "pcgrad")
        for seed in (0, 1)
    ]
    for one in results:
        one["continual"] = {"mean_forgetting_db": None}
    shown = [[cell.text for cell in row[:3]] for row in runs_table(results, ["rain"], (PSNR,)).rows]
    assert shown[:2] == [["(degraded input)", "0", "18.00"], ["(degraded input)", "1", "19.00"]]
    assert [row[0] for row in shown[2:]] == ["joint", "joint", "pcgrad", "pcgrad"]
    one_seed = runs_table(results[::2], ["rain"], (PSNR,)).rows
    assert [cell.text for cell in one_seed[0][:3]] == ["(degraded input)", "", "18.00"] and len(one_seed) == 3


def test_unequal_steps_are_those_really_done(tmp_path: Path) -> None:
    study = study_of(forged.comparison(tmp_path, FINAL, results={PCGRAD: {"steps": 59}}))
    assert study.reasons == ["optimizer steps differ: joint (seed 0, 1), pcgrad (seed 0): 60; pcgrad (seed 1): 59"]


def test_what_changes_rounding_only_is_comparable(tmp_path: Path) -> None:
    identity = {"training": {"engine": "stream", "precision": "bf16", "compile": True}}
    study = study_of(forged.comparison(tmp_path, FINAL, identities={PCGRAD: identity}))
    assert study.reasons == [] and len(study.ranking) == 2


def test_weights_to_begin_from_are_ranked_with_a_caution_where_strategies_differ_in_them(tmp_path: Path) -> None:
    """Not where each seed has weights of its own."""
    starts = {seed: {"start": {"weights": f"{seed}" * 64, "learned": ["noise"]}} for seed in (0, 1)}
    one = {("pcgrad", seed): starts[seed] for seed in (0, 1)}
    study = study_of(forged.comparison(tmp_path / "one", FINAL, identities=one))
    assert study.reasons == [] and len(study.ranking) == 2
    (caution,) = study.cautions
    assert "joint (seed 0): initial weights; pcgrad (seed 0): 00000000." in caution
    both = one | {("joint", seed): starts[seed] for seed in (0, 1)}
    assert study_of(forged.comparison(tmp_path / "both", FINAL, identities=both)).cautions == []


OWN = {"optimizer": {"lr": 1e-3}}


def with_own(folder: Path, own: dict[str, Any], trained: dict[str, Any]) -> Study:
    """A study whose strategy pcgrad declares settings, and was trained with others."""
    identities = {("pcgrad", seed): {"training": trained} for seed in (0, 1)}
    strategies = {"pcgrad": {**forged.strategy(), "training": own}}
    return study_of(forged.comparison(folder, FINAL, identities=identities, strategies=strategies))


def test_settings_that_a_strategy_declares_are_ranked_with_a_caution(tmp_path: Path) -> None:
    study = with_own(tmp_path, OWN, OWN)
    assert study.reasons == [] and len(study.ranking) == 2
    (caution,) = study.cautions
    assert caution.startswith("Only some strategies have their own training.optimizer.lr: pcgrad (0.001); joint has")
    assert not any("share one learning rate" in one for one in summary.summary(study))
    table = next(table for table in scores.all_tables(study) if table.name == "training")
    assert [[cell.text for cell in row] for row in table.rows] == [["joint", "(0.004)"], ["pcgrad", "0.001"]]
    assert "training.optimizer.lr=0.001" in set(study.frames.runs["parts"])
    text = markdown(study, scores.all_tables(study), [])
    assert f"> {caution}" in text and caution.partition("`")[0] in page(study, scores.all_tables(study), [])


@pytest.mark.parametrize(
    ("own", "trained", "why"),
    [
        (OWN, {"optimizer": {"lr": 2e-3}}, "training.optimizer differs"),
        ({"batch": 3}, {"batch": 3}, "training.batch differs"),
        (OWN, {**OWN, "loss": "mse"}, "training.loss differs"),
    ],
)
def test_what_was_not_declared_and_another_budget_still_forbid_ranking(
    tmp_path: Path, own: dict[str, Any], trained: dict[str, Any], why: str
) -> None:
    (reason,) = with_own(tmp_path, own, trained).reasons
    assert reason.startswith(why)


def test_a_reference_of_fewer_steps_does_not_forbid_ranking(tmp_path: Path) -> None:
    final = {**FINAL, ("alone", 0): {"noise": 27.0, "rain": 15.0}}
    strategies = {"alone": forged.strategy("single", task="noise")}
    study = study_of(forged.comparison(tmp_path, final, strategies=strategies, results={("alone", 0): {"steps": 20}}))
    assert study.reasons == [] and study.labels == ["joint", "pcgrad"]
    notes = scores.score_table(study, PSNR).notes
    assert any("trained 20 steps on it alone" in note for note in notes)


def test_a_strategy_with_a_seed_missing_is_shown_but_not_ranked(tmp_path: Path) -> None:
    final = {**FINAL, ("dwa", 0): {"noise": 30.0, "rain": 30.0}, ("dwa", 1): {"noise": 30.0, "rain": 30.0}}
    folder = forged.comparison(tmp_path, final, unfinished=[("dwa", 1)])
    study = study_of(folder)
    assert "dwa" in study.labels and "dwa" not in study.ranking
    told = summary.summary(study)
    assert told[0] == "5 of 6 runs have scores; the others are named below."
    assert any("Not all seeds are finished, so not ranked: dwa" in one for one in told)
    (said, _) = study.missing
    assert said.startswith("Runs without scores (unfinished: dwa (seed 1)).")
    assert f"`cmtl-ir run {folder / 'experiment.yaml'} --out {tmp_path}`" in said


def test_a_winner_needs_a_second_whole_strategy(tmp_path: Path) -> None:
    one = forged.comparison(tmp_path / "one", FINAL, unfinished=[("joint", 1)])
    assert _says(one, "pcgrad reaches a mean PSNR of 25.75 ±")
    none = forged.comparison(tmp_path / "none", FINAL, unfinished=[("joint", 1), ("pcgrad", 0)])
    assert _says(none, "Not ranked: no strategy has finished all its seeds")


def _says(folder: Path, beginning: str) -> bool:
    return any(sentence.startswith(beginning) for sentence in summary.summary(study_of(folder)))


def test_a_missing_reference_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    folder = forged.comparison(tmp_path, FINAL)
    (told,) = study_of(folder).missing
    assert "No single-task reference for noise (seed 0, 1), rain (seed 0, 1)" in told
    settings = told.split("--set '")[1:]
    values = [one.partition("'")[0] for one in settings]
    raw = with_overrides(dict(yaml.read(folder / "experiment.yaml")), values)
    assert raw["strategies"]["single_rain"] == {"curriculum": {"name": "single", "task": "rain"}}


@pytest.mark.error("report: no finished run")
def test_nothing_finished_is_an_answer_with_the_way_out(tmp_path: Path) -> None:
    folder = forged.comparison(tmp_path, FINAL, unfinished=list(FINAL))
    with pytest.raises(UserError, match=r"no run has scores\. Runs without scores .* trains what is missing"):
        study_of(folder)


@pytest.mark.error("report: an unknown baseline")
def test_an_unknown_baseline_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean pcgrad"):
        Study.of(Frames.of_folder(forged.comparison(tmp_path, FINAL)), "pcgrd")


@pytest.mark.error("report: a baseline without a finished run")
def test_a_baseline_without_a_finished_run_is_said_to_have_none(tmp_path: Path) -> None:
    folder = forged.comparison(tmp_path, FINAL, unfinished=[("pcgrad", 0), ("pcgrad", 1)])
    with pytest.raises(UserError, match="'pcgrad' has no finished run that competes; those that have: joint"):
        Study.of(Frames.of_folder(folder), "pcgrad")


def test_one_seed_is_marked_as_one_seed(tmp_path: Path) -> None:
    study = study_of(forged.comparison(tmp_path, {k: v for k, v in FINAL.items() if k[1] == 0}))
    table = scores.score_table(study, PSNR)
    assert [row[1].text for row in table.rows] == ["–", "1 (one seed)", "1 (one seed)"]
    assert any(note.startswith("One seed: no interval") for note in table.notes)
    assert summary.summary(study)[0].startswith("One seed: nothing can be said over seeds")
    assert "resolution" not in [made.name for made in scores.all_tables(study)]


def test_strategies_that_scored_the_same_everywhere_are_called_one_method(tmp_path: Path) -> None:
    folder = forged.comparison(tmp_path, {k: v for k, v in FINAL.items() if k[1] == 0})
    source, target = (Frames.of_folder(folder).members[i].file("per_image.csv") for i in (0, 1))
    assert source is not None and target is not None
    target.write_text(source.read_text())
    assert any(
        one.startswith("joint and pcgrad scored the same on every image") for one in summary.summary(study_of(folder))
    )


def test_a_later_call_that_named_only_some_seeds_does_not_shrink_the_command(tmp_path: Path) -> None:
    folder = forged.comparison(tmp_path, {**FINAL, ("dwa", 0): {"noise": 25.0, "rain": 25.0}}, unfinished=[("dwa", 0)])
    file = folder / "experiment.yaml"
    narrowed = {**yaml.read(file), "seeds": [1]}
    narrowed["strategies"] = {"joint": narrowed["strategies"]["joint"]}
    file.write_text(yaml.dump(narrowed))
    frames = Frames.of_folder(folder)
    assert frames.experiment["seeds"] == [0, 1]
    assert frames.source.command.endswith("--set 'seeds=[0, 1]'")
    assert any(told.startswith("dwa: no longer in") for told in study_of(folder).missing)


def test_a_table_of_tests_that_could_not_be_made_is_left_out(tmp_path: Path) -> None:
    few, enough = (study_of(forged.comparison(tmp_path / str(n), FINAL, images=n)) for n in (2, 8))
    assert "significance" not in [table.name for table in scores.all_tables(few)]
    assert "significance" in [table.name for table in scores.all_tables(enough)]


def test_the_summary_leads_with_seeds_and_keeps_them_apart_from_images(tmp_path: Path) -> None:
    """Every one of 24 images is better by half a dB or more, but by 6 dB with one seed: seeds prove nothing."""
    steps = {0: 0.5, 1: 0.5, 2: 6.0}
    final = {("joint", seed): {"noise": 25.0, "rain": 25.0} for seed in steps}
    final |= {("pcgrad", seed): {"noise": 25.0 + step, "rain": 25.0 + step} for seed, step in steps.items()}
    said = summary.summary(study_of(forged.comparison(tmp_path, final, images=24)))
    assert said[0].startswith("Over seeds, not significantly different from joint: pcgrad +2.33 ± 7.89 dB (3 seeds")
    assert said[1].startswith("With 80 % power these seeds detect differences to joint from 10.36 dB on")
    over_images = [one for one in said if one.startswith("Over these images, for these weights: ")]
    assert any("significantly better than joint: pcgrad (noise +2.33 dB" in one for one in over_images)
    assert not any("significantly" in one for one in said if one not in [said[0], *over_images])


def test_strategies_of_unequal_seeds_are_ranked_on_those_that_all_have(tmp_path: Path) -> None:
    """The third seed is hard: with it, joint would seem the worse one."""
    means = {("joint", 0): 25.5, ("joint", 1): 25.7, ("joint", 2): 20.0, ("pcgrad", 0): 25.0, ("pcgrad", 1): 25.1}
    final = {key: {"noise": score, "rain": score} for key, score in means.items()}
    study = study_of(forged.comparison(tmp_path, final))
    assert study.ranking == ["joint", "pcgrad"] and study.over_seeds()["pcgrad"].seeds == (0, 1)
    assert _says(tmp_path / "forged", "joint has the highest mean PSNR over the 2 seeds that all have, 25.60")
    assert any("different numbers of seeds" in note for note in scores.score_table(study, PSNR).notes)
