"""An authors' checkpoint is used like a run; what does not fit is said by key, with the way out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from skimage import io
from torch import nn

from cmtl_ir import evaluate, restore
from cmtl_ir.base import yaml
from cmtl_ir.base.errors import ConfigError, UserError
from cmtl_ir.base.weights_file import WeightsError
from cmtl_ir.inference.published import published
from tests import tiny
from tests.inference import files
from tests.inference.files import CPU, FIELDS, answer, command, network, table


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return network()


@pytest.fixture
def file(trained: nn.Module, tmp_path: Path) -> Path:
    """As from DataParallel under BasicSR: wrapped and prefixed."""
    path = tmp_path / "authors.pth"
    torch.save({"params": {f"module.{key}": value for key, value in trained.state_dict().items()}}, path)
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return files.photo(tmp_path / "photo.png")


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_restore_gives_what_the_network_gives_and_says_which_weights_were_taken(
    file: Path, photo: Path, trained: nn.Module, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = [part for one in FIELDS for part in ("--set", prefix + one)]
    target = photo.with_name("restored.png")
    assert command("restore", "--weights", file, "--backbone", "nafnet", *fields, photo, target) == 0
    assert "from `params`, without the prefix `module.`" in capsys.readouterr().out
    found, expected = io.imread(target).astype(int), answer(trained, photo).astype(int)
    assert np.abs(found - expected).max() <= 1 and np.abs(expected - io.imread(photo)).max() > 3


def test_safetensors_are_read_as_well(trained: nn.Module, photo: Path, tmp_path: Path) -> None:
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    used = published(tmp_path / "w.safetensors", "nafnet", FIELDS)
    assert tiny.same(used.model(CPU).state_dict(), trained.state_dict())
    (written,) = restore(used, photo, tmp_path / "restored")
    assert written.is_file()


def test_evaluate_scores_a_checkpoint_on_an_experiments_test_sets(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = tmp_path / "tiny.yaml"
    experiment.write_text(yaml.dump({**tiny.RAW, "backbone": {"name": "srresnet"}}))
    fields = [part for one in FIELDS for part in ("--set", f"backbone.{one}")]
    scores = tmp_path / "scores.csv"
    ended = command(
        "evaluate", "--weights", file, "--backbone", "nafnet", "--file", experiment, "--csv", scores, *fields,
        "--set", "data.test_limit=1",
    )  # fmt: skip
    told = capsys.readouterr()
    assert ended == 0 and "from `params`" in told.out, told.err
    rows = table(scores)
    assert [row["task"] for row in rows] == ["noise", "rain", "haze"]
    used = published(file, "nafnet", FIELDS)
    again = evaluate(used, tiny.experiment(data={"test_limit": 1}))
    assert [float(row["psnr"]) for row in rows] == [row["psnr"] for row in again]
    assert all(row["psnr"] != row["psnr_input"] for row in rows)


@pytest.mark.error("weights: of another network or with other fields")
def test_keys_that_do_not_fit_are_named_with_the_way_out(file: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"(?s)authors\.pth does not fit.*missing: .*describe nafnet.*--set backbone\.FIELD"
    ):
        published(file, "nafnet", ["width=4"]).model(CPU)
    with pytest.raises(WeightsError, match=r"other shape: intro\.weight \(4, 3, 3, 3\) instead of \(8, 3, 3, 3\)"):
        published(file, "nafnet", ["width=8", *FIELDS[1:]]).model(CPU)
    with pytest.raises(WeightsError, match=r"unexpected: beta|unexpected: \S*intro"):
        published(file, "srresnet").model(CPU)


@pytest.mark.error("backbone: a wrong name or field of --backbone")
@pytest.mark.parametrize(
    ("backbone", "fields", "words"),
    [
        ("nafnte", [], "did you mean nafnet"),
        ("nafnet", ["widht=4"], r"backbone\.widht: unknown key; did you mean width"),
        ("nafnet", ["width=wide"], r"backbone\.width"),
        ("nafnet", ["width"], "expected path=value"),
    ],
)
def test_a_wrong_name_or_field_is_a_sentence(file: Path, backbone: str, fields: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        published(file, backbone, fields)


@pytest.mark.error("backbone: fields that contradict each other")
def test_fields_that_contradict_each_other_are_a_sentence(file: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"nafnet: encoder has 1 levels and decoder 4.*its fields were.*describe nafnet"
    ):
        published(file, "nafnet", ["encoder=[1]"]).model(CPU)


@pytest.mark.error("restore: --task with a checkpoint")
def test_a_checkpoint_names_no_tasks(file: Path, photo: Path, tmp_path: Path) -> None:
    used = published(file, "nafnet", FIELDS)
    with pytest.raises(UserError, match="names no tasks; give the number"):
        restore(used, photo, tmp_path / "a.png", task="haze")
    assert restore(used, photo, tmp_path / "b.png", task="2")


@pytest.mark.error("command: an incomplete command")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["restore", "--weights", "w.pth", "a.png", "b.png"], "name their network with --backbone: "),
        (["restore", "--weights", "w.pth", "--backbone", "nafnet", "run", "a.png", "b.png"], "expected SOURCE TARGET"),
        (["restore", "a.png", "b.png"], "expected RUN SOURCE TARGET"),
        (["evaluate", "--weights", "w.pth", "--backbone", "nafnet"], "--file"),
        (["evaluate", "--weights", "w.pth", "--backbone", "nafnet", "--file", "quickstart"], "w.pth: no such file"),
    ],
)
def test_a_command_that_lacks_something_says_what(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*arguments) == 2
    assert words in capsys.readouterr().err
