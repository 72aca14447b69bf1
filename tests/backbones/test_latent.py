"""Every network names its latent, which can be read during a forward pass and can get heads."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cmtl_ir import backbones
from cmtl_ir.backbones._latent import channels_of, latent_of, per_sample, read_output
from cmtl_ir.base.errors import ConfigError
from cmtl_ir.strategy.output import final_output, output_of
from tests.backbones.cases import CASES, image, sampled, task_numbers


@pytest.mark.parametrize("name", sampled(CASES))
def test_the_latent_of_every_network_is_read_and_changes_nothing(name: str) -> None:
    case = CASES[name]
    plain, read = case.shared(), case.build().eval()
    latent_name = latent_of(read)
    assert latent_name is not None, f"{case.name} names no latent"
    reading = read_output(read, latent_name)
    x, tasks = image(3, 32, 32, batch=2), task_numbers(2)
    expected = output_of(plain, plain(x, tasks))
    assert torch.equal(final_output(read, read(x, tasks)), expected.restored)
    latent = per_sample(reading.take(), 2)
    assert len(latent) == 2 and latent.dim() in (3, 4) and latent.requires_grad
    assert channels_of(latent) > 3 and bool((latent[0] != latent[1]).any())
    with torch.no_grad():
        read(torch.cat([x[:1], x[1:].flip(2)]), tasks)
    other = per_sample(reading.take(), 2)
    assert torch.allclose(other[0], latent[0], rtol=1e-9) and not torch.allclose(other[1], latent[1], rtol=1e-3)
    assert list(read.state_dict()) == list(plain.state_dict())
    with pytest.raises(RuntimeError, match="did not run"):
        reading.take()


def test_every_registered_network_names_its_latent() -> None:
    for name in backbones.BACKBONES:
        assert isinstance(getattr(backbones.backbone_class(name), "latent_module", None), str), name


@pytest.mark.error("backbone: no latent, where one is needed")
def test_a_network_without_a_latent_is_refused_by_name(tmp_path: Any) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\nclass Mine(torch.nn.Module):\n    def forward(self, x, task=None):\n        return x\n"
    )
    with pytest.raises(ConfigError, match=r"mine\.py:Mine names no latent, which probe needs"):
        backbones.build("headed", of={"name": f"{file}:Mine"}, heads={"probe": {"name": "l1"}}, tasks=["noise"])
