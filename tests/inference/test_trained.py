"""A trained run is used as it was trained: its weights are checked, and no option is ignored in silence."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cmtl_ir import restore
from cmtl_ir.backbones.building import pick_device
from cmtl_ir.base import yaml
from cmtl_ir.base.errors import ConfigError, UserError
from cmtl_ir.inference import restoration
from cmtl_ir.inference.scored import load_scored
from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.runs import comparison
from cmtl_ir.store import checkpoint
from cmtl_ir.tasks.suite import build_tasks
from tests import tiny
from tests.inference.files import CPU, command, photo, table


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished comparison of one strategy."""
    out = tmp_path_factory.mktemp("trained") / "runs"
    comparison.run(tiny.experiment(training={"steps": 2}, conflict={"every": 0}, evaluation={"every": 0}), out, "cpu")
    return out


@pytest.fixture
def run(done: Path, tmp_path: Path) -> Path:
    """A copy of the folder of the run."""
    (folder,) = (one.parent for one in done.glob("store/*/weights.safetensors"))
    return Path(shutil.copytree(folder, tmp_path / "run"))


# --------------------------------------------------------------------------------------------------- weights


def changed(file: Path, value: float) -> None:
    weights, header = checkpoint.load_weights(file)
    weights["intro.bias"][0] = value
    checkpoint.save_weights(file, weights, header)


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-9] ^= 4
    file.write_bytes(content)


def other_network(file: Path) -> None:
    weights, header = checkpoint.load_weights(file)
    checkpoint.save_weights(file, {**weights, "extra": torch.ones(1)}, header)


DAMAGES: dict[str, tuple[Any, str]] = {
    "a flipped bit": (flipped, r"is damaged: its SHA-256 .*copy the file from a backup, or train the run again"),
    "NaN": (lambda file: changed(file, float("nan")), r"NaN or infinity: intro\.bias; train the run again .*--fresh"),
    "infinity": (lambda file: changed(file, float("inf")), r"NaN or infinity: intro\.bias; train the run again"),
    "foreign": (lambda file: save_file({"x": torch.ones(1)}, file), r"names no backbone.*--weights FILE --backbone"),
    "of other code": (other_network, r"does not fit its backbone, whose code has changed since"),
}


@pytest.mark.parametrize(
    "cause", [pytest.param(one, marks=pytest.mark.error(f"run: weights {one}")) for one in DAMAGES]
)
def test_weights_of_a_run_that_are_not_what_was_trained_are_refused(run: Path, tmp_path: Path, cause: str) -> None:
    damage, words = DAMAGES[cause]
    damage(run / "weights.safetensors")
    for use in (
        lambda: restore(run, photo(tmp_path / "a.png"), tmp_path / "b.png"),
        lambda: restoration.evaluate(run, tiny.experiment()),
    ):
        with pytest.raises(UserError, match=r"run/weights\.safetensors.*" + words):
            use()
    assert not (tmp_path / "b.png").exists()


# --------------------------------------------------------------------------------------------------- devices


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("gpu", "no such device", marks=pytest.mark.error("device: an unknown name")),
        pytest.param("cuda:99", "finds no such device", marks=pytest.mark.error("device: not on this machine")),
        pytest.param("meta", "finds no such device", marks=pytest.mark.error("device: one that computes nothing")),
        pytest.param("cuda:x", "no such device", marks=pytest.mark.error("device: no number")),
    ],
)
def test_a_device_that_cannot_be_used_is_a_sentence(
    name: str, words: str, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["restore", "tiny/joint", photo(tmp_path / "a.png"), tmp_path / "b.png", "--out", done]
    assert command(*arguments, "--device", name) == 2
    said = capsys.readouterr().err
    assert f"--device {name}: " in said and words in said and "use auto, cpu" in said


@pytest.mark.error("device: CUDA without a GPU")
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_a_sentence() -> None:
    with pytest.raises(
        UserError, match=r"--device cuda: PyTorch .* finds no such device on this machine; use auto, cpu"
    ):
        pick_device("cuda")


@pytest.mark.parametrize("name", ["auto", "cpu", "cpu:0"])
def test_devices_that_exist_are_taken(name: str) -> None:
    assert pick_device(name).type == ("cuda" if name == "auto" and torch.cuda.is_available() else "cpu")


# ----------------------------------------------------------------------------------- no override is ignored


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with folders of photographs that tests read."""
    home = tmp_path_factory.mktemp("files")
    for folder in ("clean", "rainy", "own"):
        for number in range(12):
            photo(home / folder / f"{number}.png", left=number + len(folder))
    return home


@pytest.fixture(scope="module")
def files(home: Path) -> dict[str, Path]:
    """Experiments: of degradations, of pairs alone, and of both."""
    pairs = {"input": str(home / "rainy"), "target": str(home / "clean")}
    noise = {"degradation": "gaussian_noise", "sigma": [25]}
    tasks = {
        "degraded": {"noise": noise},
        "paired": {"rain": pairs, "haze": {"degradation": "haze", "test": {"clean": str(home / "own")}}},
        "mixed": {"noise": noise, "rain": pairs},
    }
    for name, found in tasks.items():
        (home / f"{name}.yaml").write_text(yaml.dump({**tiny.RAW, "tasks": found}))
    return {name: home / f"{name}.yaml" for name in tasks}


EFFECTIVE = {
    "degraded": [
        "data.test=OWN", "data.clean=OWN", "data.test_limit=1", "data.test_crop=32", "tasks.noise.sigma=[50]",
        "evaluation.protocol=mio", "evaluation.tile=512", "evaluation.metrics=[psnr]", "tasks.noise.test.clean=OWN",
        "data.on_error=skip", "data.bits=12", "data.holdout=rotate",
    ],
    "paired": ["tasks.rain=null", "tasks.haze.test.clean=CLEAN", "data.test_limit=1"],
}  # fmt: skip
IGNORED = {
    # override: (experiment, what the message says)
    "data.test=OWN": ("paired", ["does not reach the tasks rain, haze", "tasks.rain.test.input=FOLDER", "=null"]),
    "data.clean=OWN": ("paired", ["concerns training alone", "leave it out"]),
    "backbone.local_training_size=48": ("degraded", ["fixed by its training", "--weights RUN/weights.safetensors"]),
    "backbone=srresnet": ("degraded", ["fixed by its training", "--weights RUN/weights.safetensors"]),
    "training.steps=5": ("degraded", ["concerns training alone", "leave it out"]),
    "data.train=OWN": ("degraded", ["concerns training alone", "leave it out"]),
    "data.dead_leaves=4": ("degraded", ["concerns training alone", "leave it out"]),
    "data.patch=8": ("degraded", ["concerns training alone", "leave it out"]),
    "tasks.noise.repeats=2": ("degraded", ["concerns training alone", "leave it out"]),
    "evaluation.every=3": ("degraded", ["concerns training alone", "leave it out"]),
    "seeds=[7]": ("degraded", ["concerns training alone", "leave it out"]),
    "strategies.joint.surgery=pcgrad": ("degraded", ["concerns training alone", "leave it out"]),
}


def placed(override: str, folder: Path) -> str:
    return override.replace("OWN", str(folder / "own")).replace("CLEAN", str(folder / "clean"))


@pytest.mark.parametrize(("name", "override"), [(name, one) for name, listed in EFFECTIVE.items() for one in listed])
def test_overrides_that_change_what_is_scored_are_followed(
    files: dict[str, Path], home: Path, name: str, override: str
) -> None:
    override = placed(override, home)
    with_it, without = (load_scored(str(files[name]), given) for given in ([override], []))
    digests, fields = [], []
    for one in (with_it, without):
        built = build_tasks(one.tasks, one.data, 1, CPU)
        digests.append({task: found.test_digest for task, found in built.items()})
        fields.append(one.evaluation)
    assert digests[0] != digests[1] or fields[0] != fields[1] or override in ("data.on_error=skip", "data.bits=12")


@pytest.mark.parametrize(
    "override", [pytest.param(one, marks=pytest.mark.error(f"evaluate: --set {one} is ignored")) for one in IGNORED]
)
def test_overrides_that_change_nothing_that_is_scored_are_refused_by_name(
    files: dict[str, Path], home: Path, override: str
) -> None:
    name, words = IGNORED[override]
    given = placed(override, home)
    for others in ([], ["data.test_limit=1"]):
        with pytest.raises(ConfigError) as caught:
            load_scored(str(files[name]), [*others, given])
        said = str(caught.value)
        assert f"--set {given}: changes nothing that is scored" in said and all(word in said for word in words), said


def test_an_override_that_repeats_the_file_or_needs_another_is_followed(files: dict[str, Path], home: Path) -> None:
    again = load_scored(str(files["degraded"]), ["data.patch=16", "evaluation.protocol=promptir"])
    assert again == load_scored(str(files["degraded"]), [])
    pairs = [f"tasks.rain.test.{side}={home / 'own'}" for side in ("input", "target")]
    assert load_scored(str(files["paired"]), pairs).tasks["rain"].test is not None


def test_tasks_that_an_override_does_not_reach_are_named(
    files: dict[str, Path], home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load_scored(str(files["mixed"]), [f"data.test={home / 'own'}"])
    assert "does not reach the tasks rain, which" in caplog.text and "tasks.rain.test.input=FOLDER" in caplog.text


def test_a_subset_of_the_tasks_keeps_the_numbers_that_the_network_knows(done: Path) -> None:
    seen: list[int] = []

    class Spy(torch.nn.Module):
        def forward(self, x: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
            seen.append(int(task))
            return x

    whole = tiny.experiment(data={"test_limit": 1})
    tasks = build_tasks({"haze": whole.tasks["haze"]}, whole.data, 0, CPU)
    Evaluator(tasks, "promptir", 1024, CPU, known=["noise", "rain", "haze"]).scores(Spy())
    assert seen == [2]


def test_a_run_is_scored_on_the_images_that_its_own_seed_held_out(run: Path) -> None:
    config = yaml.read(run / "config.yaml")
    config["identity"]["seed"] = 1
    (run / "config.yaml").write_text(yaml.dump(config))
    rotated = tiny.experiment(data={"holdout": "rotate"}, evaluation={"metrics": ["psnr"]})
    held = [build_tasks(rotated.tasks, rotated.data, seed, CPU)["rain"].splits.test.names for seed in (0, 1)]
    scored = {row["image"] for row in restoration.evaluate(run, rotated)}
    assert scored == set(held[1]) != set(held[0])


def test_evaluate_leaves_tasks_out_that_are_set_to_null(done: Path, tmp_path: Path) -> None:
    found = []
    for name, given in (("all", []), ("one", ["--set", "tasks.noise=null", "--set", "tasks.rain=null"])):
        file = tmp_path / f"{name}.csv"
        assert command("evaluate", "tiny/joint", "--out", done, "--device", "cpu", "--csv", file, *given) == 0
        found.append([row for row in table(file) if row["task"] == "haze"])
    assert found[0] == found[1] != []


# ---------------------------------------------------------------------------------------------- command lines

COMMANDS = {
    # cause: (arguments, what the message says)
    "--csv in no folder": (["evaluate", "tiny/joint", "--csv", "nodir/x.csv"], ["--csv nodir/x.csv", "make it"]),
    "--csv of profile in no folder": (["profile", "nafnet", "--csv", "nodir/x.csv"], ["--csv nodir/x.csv", "make it"]),
    "--csv onto a folder": (["evaluate", "tiny/joint", "--csv", "."], ["--csv .: is a folder", "name a file"]),
    "an unknown metric": (["evaluate", "tiny/joint", "--metric", "foo"], ["--metric foo", "known: "]),
    "a near metric": (["evaluate", "tiny/joint", "--metric", "lpisp"], ["--metric lpisp", "did you mean lpips"]),
    "--backbone without --weights": (
        ["evaluate", "tiny/joint", "--backbone", "nafnet"], ["--backbone nafnet: belongs to --weights FILE"]
    ),
    "--set of restore without --weights": (
        ["restore", "tiny/joint", "a.png", "b.png", "--set", "width=8"], ["--set width=8: belongs to --weights FILE"]
    ),
    "--on-error of another kind": (
        ["restore", "tiny/joint", "a.png", "b.png", "--on-error", "ignore"], ["--on-error ignore", "stop or skip"]
    ),
    "a task that the run does not know": (
        ["restore", "tiny/joint", "a.png", "b.png", "--task", "fog"], ["--task 'fog'", "noise, rain, haze"]
    ),
    "--task of evaluate that the run does not know": (
        ["evaluate", "tiny/joint", "--task", "fog"], ["--task 'fog'", "noise, rain, haze"]
    ),
    "the task of an adapted network": (
        ["evaluate", "tiny/joint", "--task", "noise", "--adapt", "none"], ["--adapt cannot be combined with --task"]
    ),
    "an unknown suite": (["evaluate", "tiny/joint", "--suite", "composit"], ["no suite", "did you mean composite"]),
    "profile of fields that contradict": (
        ["profile", "nafnet", "--set", "encoder=[1]"], ["encoder has 1 levels and decoder 4", "describe nafnet"]
    ),
    "profile of an image that is too small": (
        ["profile", "OWN", "--size", "16"], ["fails on 16x16 pixels", "--size"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("cause", [pytest.param(one, marks=pytest.mark.error(f"command: {one}")) for one in COMMANDS])
def test_a_command_that_cannot_be_followed_says_so_before_the_work(
    cause: str, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "a.png")
    (tmp_path / "own.py").write_text(OWN)
    arguments, words = COMMANDS[cause]
    arguments = [one.replace("OWN", f"{tmp_path / 'own.py'}:Small") for one in arguments]
    out = [] if arguments[0] == "profile" else ["--out", done]
    assert command(*arguments, *out) == 2
    said = capsys.readouterr()
    assert all(word in said.err for word in words), said.err
    assert "PSNR" not in said.out and not (tmp_path / "b.png").exists()


OWN = """
from torch import nn


class Small(nn.Module):
    def forward(self, x, task=None):
        return nn.functional.pad(x, (80, 0, 0, 0), mode="reflect")
"""
