"""Verdicts of the report: over-forgotten, still known, harmed, or undecided."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from cmtl_ir.analysis.unlearning import forgetting_table, in_words
from cmtl_ir.measures.scale import PSNR, SSIM, Scale
from cmtl_ir.measures.statistics import Interval
from cmtl_ir.unlearning.audit import Audit
from cmtl_ir.unlearning.relearn import Relearning, is_checked
from cmtl_ir.unlearning.report import ORIGINAL, Measured, Report, figures, verdict

IDENTITY = {"haze": 13.0, "rain": 17.0}
BACK = Relearning([(0, 12.0), (5, 16.0)], 15.5)


def measured(label: str, seed: int, haze: float, rain: float, back: Relearning | None = BACK) -> Measured:
    """A model of these PSNR."""
    scores = {"haze": haze, "rain": rain}
    result = {"psnr": scores, "ssim": scores, "psnr_input": IDENTITY, "ssim_input": IDENTITY, "steps": 9}
    audit = Audit({"haze": 0.1, "rain": 0.01}, Interval(0.5, 0.4, 0.6, 64), back)
    return Measured(label, label, seed, Path(f"{label}-{seed}"), result, audit, 9, 1.0)


def report(*methods: tuple[str, float, float], retrained: float | None = 12.0, seeds: int = 1) -> Report:
    """The original restores haze at 18 dB and rain at 22, the retrained model rain at 23; then (label, haze, rain)."""
    models = []
    for seed in range(seeds):
        models.append(measured(ORIGINAL, seed, 18.0, 22.0))
        if retrained is not None:
            models.append(measured("retrain", seed, retrained, 23.0))
        models += [measured(label, seed, haze, rain) for label, haze, rain in methods]
    references = {seed: None if retrained is None else f"retrain-{seed}" for seed in range(seeds)}
    models.sort(key=lambda one: [ORIGINAL, "retrain", *(label for label, _, _ in methods)].index(one.label))
    return Report("it", Path(), ("haze",), ("rain",), (), models, references, "cmtl-ir unlearn it", 100)


@pytest.mark.parametrize(
    ("haze", "rain", "words"),
    [
        (12.5, 22.0, []),
        (11.1, 22.0, []),  # within 1 dB of the lower of 12 (retrained) and 13 (untouched)
        (10.9, 22.0, ["over-forgotten: haze is 1.10 dB below the lower of the retrained model and the untouched"]),
        (13.1, 22.0, ["still known: haze is 1.10 dB above the retrained model"]),
        (12.5, 21.85, ["collateral damage: rain -0.15 dB against the original"]),
        (12.5, 21.95, []),
        (9.0, 10.0, ["over-forgotten", "collateral damage: rain -12.00 dB"]),
    ],
)
def test_damage_is_said_in_words(haze: float, rain: float, words: list[str]) -> None:
    said = verdict(report(("some", haze, rain)), "some")
    assert len(said) == len(words) and all(part in whole for part, whole in zip(words, said, strict=True))


def test_a_retrained_model_above_the_untouched_image_does_not_lift_the_mark() -> None:
    said = verdict(report(("some", 11.9, 22.0), retrained=16.0), "some")
    assert said == ["over-forgotten: haze is 1.10 dB below the lower of the retrained model and the untouched image"]


def test_without_a_reference_the_untouched_image_is_the_mark_and_nothing_is_called_forgotten() -> None:
    made = report(("low", 11.9, 22.0), ("high", 18.0, 22.0), retrained=None)
    assert verdict(made, "low") == ["over-forgotten: haze is 1.10 dB below the untouched image"]
    assert verdict(made, "high") == [] and "no reference for seed 0: nothing can be called forgotten" in in_words(made)
    assert "cmtl-ir unlearn it" in in_words(made)


def test_harm_and_gap_answer_two_questions() -> None:
    made = report(("some", 12.5, 22.4))
    one = made.of("some")[0]
    assert made.harm(one, "rain") == pytest.approx(0.4) and made.gap(one, "rain") == pytest.approx(-0.6)
    assert made.gap(one, "haze") == pytest.approx(0.5)
    named = figures(made, one)
    assert named["harm_db/rain"] == pytest.approx(0.4) and named["gap_db/rain"] == pytest.approx(-0.6)
    assert named["relearning_steps"] == 5 and named["membership_auc"] == 0.5 and "harm_db/haze" not in named


@pytest.mark.parametrize(("steps", "said"), [(45, True), (55, False), (None, False)])
def test_what_comes_back_much_sooner_than_to_the_retrained_model_was_only_hidden(steps: int | None, said: bool) -> None:
    made = report()
    never = Relearning([(0, 10.0), (100, 12.0)], 15.5)
    made.models[1] = measured("retrain", 0, 12.0, 23.0, never)
    back = never if steps is None else Relearning([(0, 12.0), (steps, 16.0)], 15.5)
    made.models.append(measured("some", 0, 12.0, 22.0, back))
    words = ["comes back: relearnt in 45 steps, the retrained model in more than 100"] if said else []
    assert verdict(made, "some") == words and verdict(made, "retrain") == []


@pytest.mark.parametrize(
    ("own", "retraining", "words"),
    [
        ((1.0, 8.0), (2.0, 4.0), ["costs more than retraining: 8 against 4 CPU s"]),
        ((9.0, 4.1), (2.0, 4.0), []),  # wall time does not count where CPU time is known, nor do 5 %
        ((9.0, None), (2.0, 4.0), ["costs more than retraining: 9 against 2 s"]),
    ],
)
def test_a_method_that_costs_more_than_retraining_is_said_to(
    own: tuple[float, float | None], retraining: tuple[float, float], words: list[str]
) -> None:
    made = report(("some", 12.5, 22.0))
    for place, times in enumerate([(5.0, 5.0), retraining, own]):
        made.models[place] = replace(made.models[place], seconds=times[0], cpu_seconds=times[1])
    assert verdict(made, "some") == words and verdict(made, "retrain") == []
    table = forgetting_table(made)
    assert made.time_unit in table.headings and words == [one for one in [table.rows[-1][-1].text] if one]


def test_the_original_is_judged_by_nobody() -> None:
    assert verdict(report(), ORIGINAL) == []


def test_the_table_has_every_figure_of_every_model_and_the_input_first() -> None:
    table = forgetting_table(report(("some", 12.5, 21.0), seeds=3))
    cells = {row[0].text: dict(zip(table.headings, (cell.text for cell in row), strict=True)) for row in table.rows}
    assert list(cells) == ["(degraded input)", ORIGINAL, "retrain", "some"]
    assert cells["(degraded input)"]["PSNR haze"].startswith("13.00") and cells["some"]["harm rain"].startswith("-1.00")
    assert cells["retrain"]["gap haze"].startswith("0.00") and cells["some"]["distance forget"].startswith("25.50")
    assert "collateral damage" in cells["some"]["in words"] and cells["some"]["relearning steps"].startswith("5")


def test_a_metric_of_which_less_is_better_counts_the_other_way() -> None:
    """The metric is 50 - PSNR: harm and gap must be those in dB."""
    scale = Scale("mae", "levels", higher_is_better=False, digits=3)
    made = report(("some", 12.5, 21.0))
    for one in made.models:
        one.result["metrics"] = [two.plain() for two in (PSNR, SSIM, scale)]
        for suffix in ("", "_input"):
            one.result[f"mae{suffix}"] = {task: 50.0 - score for task, score in one.result[f"psnr{suffix}"].items()}
    some = made.of("some")[0]
    for task in ("haze", "rain"):
        assert made.harm(some, task, scale) == pytest.approx(made.harm(some, task))
        assert made.gap(some, task, scale) == pytest.approx(made.gap(some, task))
    named = figures(made, some)
    assert named["harm_mae/rain"] == pytest.approx(named["harm_db/rain"])
    assert named["gap_mae/haze"] == pytest.approx(named["gap_db/haze"]) == 0.5
    table = forgetting_table(made)
    cells = {row[0].text: dict(zip(table.headings, (cell.text for cell in row), strict=True)) for row in table.rows}
    assert cells["some"]["MAE haze"] == "37.500" and cells["some"]["harm MAE rain"] == "-1.000"
    assert cells["(degraded input)"]["MAE rain"] == "33.000"
    assert any(note.startswith("MAE: lower is better") for note in table.notes)


def test_the_terminal_has_a_table_of_each_further_metric(capsys: pytest.CaptureFixture[str]) -> None:
    from cmtl_ir.cli.display import unlearning as display_unlearning

    made = report(("some", 12.5, 21.0))
    display_unlearning.outcome(made, {}, [])
    assert "MAE" not in capsys.readouterr().out
    for one in made.models:
        one.result["metrics"] = [two.plain() for two in (PSNR, SSIM, Scale("mae", "levels", higher_is_better=False))]
        one.result["mae"] = {"haze": 37.5, "rain": 29.0}
    display_unlearning.outcome(made, {}, [])
    shown = capsys.readouterr().out
    assert "forget haze, MAE" in shown and "37.5000" in shown


def test_a_narrow_terminal_has_every_column_and_the_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cmtl_ir.cli.display import unlearning as display_unlearning

    monkeypatch.setattr(display_unlearning.console, "_width", 40)
    display_unlearning.outcome(report(("some", 12.5, 21.0)), {}, [])
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("forget dB", "gap dB", "harm rain", "AUC", "relearn", "steps"))
    (line, *_) = [line for line in shown.splitlines() if "(degraded input)" in line]
    assert "13.00" in line


def test_relearning_is_measured_at_steps_a_tenth_of_themselves_apart() -> None:
    checked = [step for step in range(1, 101) if is_checked(step)]
    assert checked[:20] == list(range(1, 21))
    assert all(after - before <= 0.1 * after + 1 for before, after in pairwise(checked)) and len(checked) < 60


def test_a_budget_that_does_not_bring_it_back_is_an_inequality() -> None:
    late = measured("late", 0, 12.0, 22.0, Relearning([(0, 10.0), (100, 12.0)], 15.5))
    made = report()
    made.models.append(late)
    table = forgetting_table(made)
    assert table.rows[-1][table.headings.index("relearning steps")].text == "> 100"
    assert "relearning_steps" not in figures(made, late)
