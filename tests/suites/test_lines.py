"""Claims about suites without a network: which test sets they hold, and where these lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from cmtl_ir.base.errors import ConfigError, UserError
from cmtl_ir.base.symmetries import SYMMETRIES, mean_of_views, turned, turned_back
from cmtl_ir.suites import composites, mixed, own, severity, unseen
from cmtl_ir.suites.catalogue import lines_of, suite_name
from cmtl_ir.suites.line import Line
from cmtl_ir.suites.scoring import opened
from cmtl_ir.suites.summary import Summary, beyond_gap, reach, summaries
from cmtl_ir.tasks.config import DataConfig, TaskConfig
from cmtl_ir.tasks.degradations.composition import Composition
from cmtl_ir.tasks.degradations.haze import Haze
from cmtl_ir.tasks.task import TestSample
from tests.tasks.files import folder_of, pattern, write

CPU = torch.device("cpu")


def task(**fields: Any) -> TaskConfig:
    return TaskConfig.model_validate(fields)


def samples(line: Line, folder: Path) -> list[TestSample]:
    return list(opened(line, DataConfig(clean=str(folder), test=str(folder)), 0, CPU, 8).test_samples())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "photos", ["a.png", "b.png"])


# ------------------------------------------------------------------------------------------------------- severity

RANGES = {
    "gaussian_noise": ("", "20.4 30.6 45.9", "66.3 96.9"),
    "rain_streaks": ("0.001", "0.002 0.004", "0.006 0.009"),
    "haze": ("", "0.5 1 1.75 2.5", "3.5"),
    "low_light": ("", "1.5 2 2.5 3", "4"),
    "snow": ("0.15", "0.3 0.5 0.75", "1"),
    "gaussian_blur": ("", "1 2 3", "4 6"),
    "motion_blur": ("6", "11 16 23 31", ""),
    "jpeg": ("", "", "25 18 15 10 7"),
    "poisson_gaussian_noise": ("", "0.129", "0.2 0.289 0.447 0.577"),
}
"""Degradation at its defaults -> levels below, inside and beyond the training range."""


@pytest.mark.parametrize("name", RANGES)
def test_levels_lie_where_the_training_range_says(name: str) -> None:
    lines = severity.lines({"one": task(degradation=name)})
    found = dict.fromkeys(("below", "inside", "beyond"), "")
    for line in lines:
        assert line.config.degradation is not None
        field = next(iter(line.config.degradation.severities))  # type: ignore[attr-defined]
        value = getattr(line.config.degradation, field)[-1]
        found[line.block] += f" {value:.3g}"
    assert tuple(text.strip() for text in found.values()) == RANGES[name]
    assert [line.level for line in lines] == [1, 2, 3, 4, 5]


def test_the_range_is_that_of_the_run_s_own_task() -> None:
    lines = severity.lines({"haze": task(degradation="haze", beta=[1.0, 1.75]), "pairs": task(input="a", target="b")})
    assert [line.block for line in lines] == ["below", "inside", "inside", "beyond", "beyond"]


def test_the_harshest_part_of_several_decides() -> None:
    both = task(degradation="composition", parts=[{"name": "haze", "beta": [0.5, 3.5]}, "jpeg"])
    assert {line.block for line in severity.lines({"both": both})} == {"beyond"}
    veil = severity.lines({"veil": task(degradation="rain_veil")})
    assert [line.block for line in veil] == ["below", "inside", "inside", "beyond", "beyond"]


def test_a_severity_by_number_stands_for_the_fields_that_it_sets() -> None:
    made = task(degradation="haze", severity=3, cast=0).degradation
    assert made is not None and made.model_dump() == Haze(beta=1.75, cast=0).model_dump()
    parts = Composition(parts=({"name": "haze", "severity": 5}, "jpeg")).parts
    assert parts[0]["beta"] == [3.5, 3.5]
    composed = task(degradation="composition", parts=["haze", "jpeg"], severity=2).degradation
    assert composed is not None
    assert composed.model_dump() == Composition.at_severity(2, parts=("haze", "jpeg")).model_dump()


@pytest.mark.error("degradations: a severity {given} that cannot be followed")
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"degradation": "haze", "severity": 6}, "1, 2, 3, 4 or 5, not 6"),
        ({"degradation": "haze", "severity": True}, "not True"),
        ({"degradation": "haze", "severity": 3, "beta": 1}, "severity: sets beta"),
        ({"input": "a", "target": "b", "severity": 3}, "unknown key"),
    ],
)
def test_a_severity_that_cannot_be_followed_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        task(**given)


# --------------------------------------------------------------------------------------- unseen, composite, mixed


def test_published_levels_stand_in_the_block_of_the_run_and_trained_degradations_are_not_unseen() -> None:
    trained = {"noise": task(degradation="gaussian_noise"), "haze": task(degradation="haze")}
    lines = unseen.lines(trained, {"rain": task(degradation="rain_streaks", brightness=[0.6, 1.0])})
    levels = {(line.task, line.name): line.block for line in lines}
    for sigma, block in ((5, "below"), (60, "beyond"), (75, "beyond"), (100, "beyond")):
        assert levels["noise", f"published, sigma {sigma}"] == block
    assert levels["haze", "MiOIR hard, beta 2.5..3"] == "beyond" and levels["noise", "MiOIR hard, sigma 50"] == "inside"
    kinds = [
        line.config.degradation.called for line in lines if line.block == "not trained" and line.config.degradation
    ]
    assert kinds[0] == "rain_streaks" and {"snow", "jpeg"} <= set(kinds) and kinds.count("rain_streaks") == 1
    assert not {"gaussian_noise", "haze", "composition", "jpeg_fast"} & set(kinds)


def test_cdd11_has_eleven_kinds_and_no_rain_with_snow() -> None:
    lines = composites.cdd11_lines({"fog": task(degradation="haze")})
    names = [line.name for line in lines]
    assert [names.count(size) for size in ("single", "double", "triple")] == [4, 5, 2]
    assert not any({"rain", "snow"} <= set(line.task.split("_")) for line in lines)
    assert {line.given for line in lines if "haze" in line.task} == {"fog"}
    parts = lines[-1].config.degradation
    assert isinstance(parts, Composition) and [one.called for one in parts.degradations] == [
        "low_light",
        "snow",
        "haze",
    ]


def test_composites_of_trained_tasks_follow_the_scene_the_lens_the_sensor_and_the_file() -> None:
    names = ("jpeg", "gaussian_noise", "haze", "low_light")
    lines = composites.composite_lines({name: task(degradation=name) for name in names})
    assert len(lines) == 6 + 4 and {line.block for line in lines} == {"zero-shot"}
    assert lines[0].name == "double: low_light, haze" and lines[-1].name == "triple: haze, gaussian_noise, jpeg"
    both = task(degradation="composition", parts=["haze", "jpeg"])
    trained = {"both": both, "haze": task(degradation="haze"), "jpeg": task(degradation="jpeg")}
    assert {line.block for line in composites.composite_lines(trained)} == {"trained on composites"}


def test_a_composite_of_one_part_is_the_part(photos: Path) -> None:
    single = next(one for one in composites.cdd11_lines({}) if one.task == "haze")
    part = task(degradation="haze", beta=[1.0, 2.0], airlight=[0.6, 0.9])
    for one, other in zip(samples(single, photos), samples(Line("", "haze", "", "", part), photos), strict=True):
        assert torch.equal(one.degraded, other.degraded)


def test_a_random_order_of_one_part_is_the_given_one(photos: Path) -> None:
    def degraded(order: str) -> torch.Tensor:
        one = task(degradation="composition", parts=["haze"], order=order)
        return samples(Line("", "haze", "", "", one), photos)[0].degraded

    assert torch.equal(degraded("random"), degraded("given"))


def test_order_has_both_orders_of_each_pair_and_they_differ(photos: Path) -> None:
    trained = {"haze": task(degradation="haze"), "noise": task(degradation="gaussian_noise", sigma=25)}
    first, second, random = composites.order_lines(trained)
    assert not torch.equal(samples(first, photos)[0].degraded, samples(second, photos)[0].degraded)
    assert isinstance(random.config.degradation, Composition) and random.config.degradation.order == "random"


def test_noise_comes_after_the_task_and_is_truncated_to_8_bits(photos: Path) -> None:
    rain = {"rain": task(degradation="rain_streaks"), "noise": task(degradation="gaussian_noise")}
    lines = mixed.lines(rain)
    assert {line.task for line in lines} == {"rain"} and [line.noise for line in lines] == [15, 25, 50]
    before = samples(Line("", "rain", "", "", rain["rain"]), photos)[0].degraded.double().mul(255).round()
    after = samples(lines[1], photos)[0].degraded.double() * 255
    assert torch.allclose(after, after.round(), atol=1e-4)
    inner = (before > 100) & (before < 155)
    noise = (after - before)[inner]
    assert abs(float(noise.mean()) + 0.5) < 1.5 and abs(float(noise.std()) - 25) < 1.5
    assert torch.equal(samples(lines[1], photos)[0].degraded, samples(lines[1], photos)[0].degraded)


def test_all_pairs_of_a_file_s_folders_are_tested(tmp_path: Path) -> None:
    for name, size in (("a", (40, 56)), ("b", (17, 33)), ("c", (64, 21))):
        write(tmp_path / "clean" / f"{name}.png", pattern(*size))
        write(tmp_path / "hazy" / f"{name}.png", pattern(*size, seed=1))
    text = (
        f"fog: {{input: {tmp_path / 'hazy'}, target: {tmp_path / 'clean'}, given: haze}}\nhard: {{degradation: haze}}\n"
    )
    (tmp_path / "mine.yaml").write_text(text)
    fog, hard = lines_of(str(tmp_path / "mine.yaml"), {"haze": task(degradation="haze")}, {})
    assert [one.image for one in samples(fog, tmp_path)] == ["a.png", "b.png", "c.png"]
    assert (fog.suite, fog.given, hard.given) == ("mine", "haze", None)


@pytest.mark.error("suites: a file with mistakes")
def test_a_file_with_mistakes_names_each(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a: 3\nb: {degradation: haze, given: fog}\nc: {degradation: hase}\n")
    with pytest.raises(ConfigError) as caught:
        own.lines(tmp_path / "mine.yaml", {"rain": task(degradation="rain_streaks")})
    assert all(words in str(caught.value) for words in ("a: expected a task", "b.given", "rain, not on 'fog'", "haze"))


@pytest.mark.error("suites: {given}")
@pytest.mark.parametrize(
    ("given", "words"),
    [("severty", "did you mean severity"), ("none.yaml", "no such file"), ("severity.yaml", "rename the file")],
)
def test_a_suite_that_does_not_exist_is_refused(
    given: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "severity.yaml").write_text("a: {degradation: haze}\n")
    with pytest.raises(UserError, match=words):
        suite_name(given)


@pytest.mark.error("suites: tasks that give no line")
def test_pairs_alone_have_no_severities() -> None:
    with pytest.raises(UserError, match="tasks of pairs have no levels"):
        lines_of("severity", {"derain": task(input="a", target="b")}, {})


# ------------------------------------------------------------------------------------------------------- measures


def rows(gains: list[float], block: str = "inside", level: int = 1) -> list[dict[str, Any]]:
    head = {"suite": "severity", "block": block, "task": "haze", "line": "", "level": level, "answer": "none"}
    return [{**head, "psnr": 20.0 + gain, "psnr_input": 20.0} for gain in gains]


def test_reach_is_the_first_severity_that_loses() -> None:
    gains = dict(zip(range(1, 6), (2, 3, 3.5, 2.5, 1), strict=True))
    assert reach(gains) == "5+" and reach({**gains, 4: -0.1, 2: 0.0}) == "4"
    found = summaries([row for level, gain in gains.items() for row in rows([gain], level=level)])
    assert np.mean([one.gain.estimate for one in found]) == pytest.approx(2.4)


def test_the_gap_needs_both_sides() -> None:
    inside, beyond = rows([3.0, 1.0], "inside") + rows([4.0], "inside", 2), rows([-1.0], "beyond", 3)
    below = rows([9.0], "below", 4)
    assert beyond_gap(summaries([*inside, *beyond, *below])) == pytest.approx((2.0 + 4.0) / 2 + 1.0)
    assert beyond_gap(summaries(inside)) is None and beyond_gap(summaries(beyond)) is None


def test_scores_are_means_over_images_of_psnr() -> None:
    head = rows([0.0])[0]
    (found,) = summaries([{**head, "psnr": -10 * np.log10(mse), "psnr_input": 25.0} for mse in (0.01, 0.0001)])
    assert isinstance(found, Summary) and found.score == pytest.approx(30.0)  # of the mean error: 22.967
    assert found.harm == 0.5 and found.images == 2


# -------------------------------------------------------------------------------------------------- self-ensembling


def test_the_eight_symmetries_are_distinct_and_undone() -> None:
    image = torch.arange(45.0).reshape(1, 3, 3, 5)
    views = [turned(image, one) for one in range(SYMMETRIES)]
    assert len({str(view.tolist()) for view in views}) == 8
    assert all(torch.equal(turned_back(view, one), image) for one, view in enumerate(views))


def test_the_mean_of_a_hand_example() -> None:
    """f multiplies the columns by (1, .5). Over identity and flip, (0, 1) becomes (0, .5) and (0, 1): mean (0, .75)."""

    def f(x: torch.Tensor) -> torch.Tensor:
        return x * torch.linspace(1, 0.5, x.shape[-1]) if x.shape[-1] > 1 else x

    image = torch.tensor([[[[0.0, 1.0]]]])
    pair = [turned_back(f(turned(image, one)), one) for one in (0, 4)]
    assert torch.stack(pair).mean(0).flatten().tolist() == [0.0, 0.75]
    # of the eight views, the four wide ones give .5, 1, 1, .5 and the four high ones keep 1
    assert mean_of_views(f, image).flatten().tolist() == [0.0, 0.875]
