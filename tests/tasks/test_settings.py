"""The shipped settings equal the published protocols, and each has a counterpart that needs no data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cmtl_ir import cli
from cmtl_ir.config import experiment as config
from cmtl_ir.config import reading
from cmtl_ir.measures.protocol import PROTOCOLS
from cmtl_ir.strategies.curriculum.cumulative import Cumulative
from cmtl_ir.tasks.datasets.table import LAYOUTS
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.tasks.verification import Finding, verify
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from tests import tiny
from tests.curriculum.cases import walk
from tests.tasks.trees import tree

CPU = torch.device("cpu")
PLACES: dict[str, dict[str, list[tuple[str, int | None]]]] = {
    # where in the file -> data set and the number of images or pairs that its authors published
    "setting1": {
        "noise.train": [("bsd400", 400), ("wed", 4744)],
        "noise.test": [("cbsd68", 68)],
        "rain.train": [("rain100l", 200)],
        "rain.test": [("rain100l", 100)],
        "haze.train": [("ots", 72135)],
        "haze.test": [("sots_outdoor", 500)],
    },
    "setting3": {
        "rain.train": [("allweather", None)],
        "rain.test": [("outdoor_rain", 750)],
        "snow.train": [("allweather", None)],
        "snow.test": [("snow100k", 16801)],
        "raindrops.train": [("allweather", None)],
        "raindrops.test": [("raindrop", 58)],
    },
    "setting4": {
        f"{task}.{split}": [("weatherstream", None)] for task in ("rain", "snow", "fog") for split in ("train", "test")
    },
    "mio7": {"data.clean": [("div2k", 800), ("flickr2k", 2650)], "data.test": [("mio100", 100)]},
}
PLACES["setting2"] = PLACES["setting1"] | {
    "blur.train": [("gopro", 2103)],
    "blur.test": [("gopro", 1111)],
    "dark.train": [("lol_v1", 485)],
    "dark.test": [("lol_v1", 15)],
}
SETTINGS = sorted(PLACES)


def setting(name: str, *overrides: str) -> config.Experiment:
    return reading.load(f"settings/{name}", overrides)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with some images of every set that the settings name, each split as its authors lay it out."""
    root = tmp_path_factory.mktemp("data sets")
    used = {name for places in PLACES.values() for entries in places.values() for name, _ in entries}
    for name in sorted(used):
        row = LAYOUTS[name]
        for split in row.splits:
            tree(root / row.folder, row.forms(split)[0], 2)
    return root


@pytest.fixture(scope="module")
def found(shelf: Path) -> dict[str, list[Finding]]:
    """Setting -> what `data verify` finds on that shelf."""
    return {name: _findings(setting(name, f"data.root={shelf}", "data.patch=16")) for name in SETTINGS}


def _findings(experiment: config.Experiment) -> list[Finding]:
    return list(verify(experiment.tasks, experiment.data))


# --------------------------------------------------------------------------------------------- images and draws


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_names_the_published_sets(name: str, found: dict[str, list[Finding]]) -> None:
    named: dict[str, list[tuple[str, int | None]]] = {}
    for finding in found[name]:
        named.setdefault(finding.where, []).append((finding.what, finding.published))
    assert named == PLACES[name]
    assert all(finding.found >= 2 for finding in found[name])
    assert all("were published" in problem for finding in found[name] for problem in finding.problems)


@pytest.mark.parametrize(
    ("name", "draws", "total"),
    [
        ("setting1", {"noise": 46_296, "rain": 24_000, "haze": 72_135}, 142_431),
        ("setting2", {"noise": 46_296, "rain": 24_000, "haze": 72_135, "blur": 10_515, "dark": 9_700}, 162_646),
    ],
)
def test_an_epoch_has_the_published_draws(
    name: str, draws: dict[str, int], total: int, found: dict[str, list[Finding]]
) -> None:
    experiment, images = setting(name), dict.fromkeys(draws, 0)
    for finding in found[name]:
        task, _, split = finding.where.partition(".")
        images[task] += (finding.published or 0) if split == "train" else 0
    assert {task: count * experiment.tasks[task].repeats for task, count in images.items()} == draws
    assert sum(draws.values()) == total


@pytest.mark.parametrize(
    ("name", "epoch", "epochs"), [("setting1", 142_431, 120), ("setting2", 162_646, 150), ("setting3", 18_069, 200)]
)
def test_steps_are_the_published_epochs(name: str, epoch: int, epochs: int) -> None:
    training = setting(name).training
    assert training.steps == epochs * -(-epoch // training.batch)


def test_warm_up_and_cosine_are_promptirs() -> None:
    training = setting("setting1").training
    assert training.schedule.warmup / training.steps == pytest.approx(15 / 120)
    assert training.steps * training.schedule.stretch == pytest.approx(150 * 4451)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_trains_from_disk(name: str, shelf: Path) -> None:
    experiment = setting(name, f"data.root={shelf}", "data.patch=16")
    for task in build_tasks(experiment.tasks, experiment.data, 0, CPU).values():
        batch, tested = task.batch(torch.arange(3)), next(task.test_samples())
        assert batch.degraded.shape == (3, 3, 16, 16) and not torch.equal(batch.degraded, batch.clean)
        assert tested.degraded.shape == tested.clean.shape


# ------------------------------------------------------------------------------------------- training and testing


PROTOCOL: list[tuple[str, dict[str, Any]]] = [
    ("setting1", {"data.patch": 128, "training.batch": 32, "training.optimizer.lr": 2e-4, "backbone.name": "promptir",
                  "training.optimizer.name": "adamw", "evaluation.protocol": "promptir"}),
    ("setting2", {"data.patch": 128, "training.batch": 32, "training.optimizer.lr": 2e-4, "backbone.name": "promptir",
                  "evaluation.protocol": "promptir"}),
    ("setting3", {"data.patch": 256, "training.batch": 18, "training.optimizer.lr": 2e-4, "data.flips": "none",
                  "backbone.name": "transweather", "training.optimizer.name": "adam",
                  "evaluation.protocol": "basicsr_y"}),
    ("mio7", {"training.batch": 16, "training.steps": 2_500_000, "training.optimizer.lr": 2e-4,
              "training.schedule.floor": 1e-7, "training.optimizer.betas": [0.9, 0.99], "backbone.name": "srresnet",
              "evaluation.protocol": "mio"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), PROTOCOL)
def test_a_setting_has_the_published_protocol(name: str, expected: dict[str, Any]) -> None:
    resolved = setting(name).resolved()
    for path, value in expected.items():
        inner: Any = resolved
        for key in path.split("."):
            inner = inner[key]
        assert inner == value, path


def test_noise_is_promptirs() -> None:
    """Floored to 8 bits, three levels, tested at each: three rows of the table."""
    noise = setting("setting1").tasks["noise"].degradation
    assert noise is not None
    fields = noise.model_dump(mode="json")
    assert (fields["sigma"], fields["quantise"], len(noise.variants())) == ([15, 25, 50], "floor", 3)


def test_mio7_has_the_published_ranges_and_order() -> None:
    experiment = setting("mio7")
    fields = {name: task.degradation.model_dump() for name, task in experiment.tasks.items() if task.degradation}
    assert list(fields) == ["sr", "blur", "noise", "jpeg", "rain", "haze_syn", "dark"]  # s b n j r h d
    assert (fields["sr"]["factor"], fields["sr"]["antialias"]) == ((4,), False)
    assert (fields["blur"]["sigma"], fields["blur"]["window"]) == ((1, 3), (7, 21))
    assert [255 * limit for limit in fields["noise"]["read"]] == pytest.approx([15, 50], abs=0.01)
    assert fields["noise"]["shot"] == (0, 0) and fields["jpeg"]["quality"] == (30, 70)
    assert (fields["rain"]["length"], fields["rain"]["angle"]) == ((20, 40), (-45, 45))
    assert fields["rain"]["density"] == pytest.approx((0.01 * 50 / 256, 0.01 * 100 / 256), abs=1e-4)
    assert (fields["haze_syn"]["beta"], fields["haze_syn"]["airlight"]) == ((0.5, 2.5), (0.8, 1.0))
    assert (fields["dark"]["gamma"], fields["dark"]["gain"], fields["dark"]["noisy"]) == ((1, 3), (1, 1), False)
    assert PROTOCOLS["mio"].border == 4


def test_mio7_runs_mioirs_stages() -> None:
    experiment = setting("mio7")
    curriculum = experiment.strategies["sequential"].curriculum
    assert isinstance(curriculum, Cumulative)
    stages = walk(curriculum, list(experiment.tasks), experiment.training.steps)
    lengths = [stage.steps for stage in stages]
    assert lengths == [250_000] * 6 + [1_000_000]


def test_without_data_a_setting_says_where_to_name_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CMTL_IR_DATA", raising=False)
    for root, words in ((None, "where is bsd400?"), (tmp_path, f"bsd400: no folder BSD400 in {tmp_path}")):
        arguments = ["run", "settings/setting1", "--dry-run"] + ([] if root is None else ["--set", f"data.root={root}"])
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        said = capsys.readouterr().err
        assert ended.value.code == 2 and words in said and "comes from:" in said


# ---------------------------------------------------------------------------------------------------------- twins


@pytest.mark.parametrize("name", SETTINGS)
def test_a_twin_trains_on_the_embedded_photographs(name: str) -> None:
    """Every strategy of it; in ten steps, as seven stages need at least ten."""
    experiment = setting(f"{name}-mini", "training.steps=10", "training.batch=7", "data.patch=16", "data.test_limit=1")
    tasks = build_tasks(experiment.tasks, experiment.data, 0, CPU)
    for strategy in experiment.strategies.values():
        learner = Learner(experiment, strategy.fresh(), tasks, 0, CPU)
        before, watcher = tiny.weights(learner), tiny.Silent()
        train(learner, watcher)
        assert len(watcher.results) == 10 and not tiny.same(tiny.weights(learner), before)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_twin_has_the_settings_strategies_and_protocol(name: str) -> None:
    """Where the tasks stand in for others (setting 4: the same photographs) nothing else may differ."""
    whole, twin = setting(name), setting(f"{name}-mini")
    assert list(whole.strategies) == list(twin.strategies) and list(whole.tasks) == list(twin.tasks)
    assert whole.evaluation.protocol == twin.evaluation.protocol and whole.data.flips == twin.data.flips


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("setting1", {"noise": 46_296, "rain": 24_000, "haze": 72_135}),
        ("setting2", {"noise": 46_296, "rain": 24_000, "haze": 72_135, "blur": 10_515, "dark": 9_700}),
    ],
)
def test_a_twin_mixes_its_tasks_as_published(name: str, published: dict[str, int]) -> None:
    experiment = setting(f"{name}-mini", "data.patch=16")
    sizes = {task: one.size for task, one in build_tasks(experiment.tasks, experiment.data, 0, CPU).items()}
    curriculum = experiment.strategies["joint_by_size"].curriculum
    (stage,) = walk(curriculum, list(sizes), 100, **sizes)
    shares = {task: count / sum(published.values()) for task, count in published.items()}
    assert stage.mixture == pytest.approx(shares, abs=1e-3)
