"""Diffusion networks: processes, sampling and training pairs."""

from __future__ import annotations

import pytest
import torch

from cmtl_ir.backbones._mean_reverting import MeanReverting

from .cases import CASES, Case, image, spread
from .test_golden_tasks_and_diffusion import assert_golden, noisy


def test_the_sde_has_the_published_tables() -> None:
    sde = MeanReverting()
    found = [
        *sde.theta[[0, 1, 50, 100]].tolist(), sde.dt, *sde.theta_sum[[50, 100]].tolist(), float(sde.sigma[50]),
        *sde.deviation[[1, 50, 100]].tolist(), float(sde.posterior_deviation[50]),
    ]  # fmt: skip
    expected = [
        0.000614239571, 0.001694615642, 0.506156409559, 0.999766572480, 0.104093807857, 9.7928167676, 50.8994480617,
        0.197281877382, 0.003682600193, 0.182869578376, 0.196075980377, 0.0614917421,
    ]  # fmt: skip
    assert found == pytest.approx(expected, abs=1e-10)


SDE_STEPS = {
    "noised": (0.4980644847, 0.2114087672, 0.4291855936, 0.3946881186, 0.5483102041),
    "optimum": (0.4999551990, 0.2707690644, 0.6507417345, 0.4269977232, 0.5569326952),
    "reverse_mean": (0.5003859848, 0.3053382564, 0.6805637907, 0.4074065703, 0.5405151248),
    "ode_step": (0.5002987340, 0.3051367389, 0.6793025100, 0.4180281608, 0.5498898851),
    "clean": (0.5050719978, 0.9879203488, 1.3666926738, 0.4857817879, -0.0909839039),
}


@pytest.mark.parametrize("step", SDE_STEPS)
def test_a_step_of_the_sde_is_the_authors(step: str) -> None:
    mu, clean, noise = image(3, 64, 64), image(3, 64, 64, key="gt"), spread(12288, "eps").reshape(1, 3, 64, 64)
    others = {"noised": (clean, noise * 0), "optimum": (noisy(mu), clean)}
    first, last = others.get(step, (noisy(mu), noise))
    assert_golden(getattr(MeanReverting(), step)(first, mu, torch.tensor([50]), last), SDE_STEPS[step])


@torch.no_grad()
@pytest.mark.parametrize("sampler", ["posterior", "sde", "ode"])
def test_ir_sdes_noise_is_keyed_by_the_image(sampler: str) -> None:
    model = Case("ir_sde", CASES["ir_sde"].fields | {"sampler": sampler, "steps": 2}).build()
    x = image(3, 12, 9, batch=2)
    restored = model(x)
    assert torch.equal(model(x), restored)
    torch.testing.assert_close(model(x.flip(0)), restored.flip(0), rtol=1e-10, atol=1e-10)
    start, vector = model.sde.start(x, image(3, 12, 9, batch=2, key="start")), model.of_task(x, None)
    noisy, noiseless = (model.sampled(start, x, vector, None, keys=keys) for keys in (torch.arange(2), None))
    assert torch.equal(noisy, noiseless) == (sampler == "ode")


@torch.no_grad()
def test_ir_sdes_training_pair_reads_time_and_noise_off_each_images_key() -> None:
    model = CASES["ir_sde"].build()
    x, target = image(3, 12, 9, batch=4), image(3, 12, 9, batch=4, key="gt")
    vector = model.of_task(x, torch.tensor([0, 1, 2, 0]))
    assert torch.equal(vector[0], vector[3]) and not torch.equal(vector[0], vector[1])
    together = torch.stack(model.training_pair(x, target, vector, None))
    alone = torch.stack(model.training_pair(x[2:3], target[2:3], vector[2:3], None))
    torch.testing.assert_close(together[:, 2:3], alone, rtol=1e-10, atol=1e-10)
    other = torch.stack(model.training_pair(x, target, vector, None, keys=torch.arange(4)))
    assert not torch.allclose(together, other)


@torch.no_grad()
def test_weather_diffusions_start_is_keyed_by_the_image() -> None:
    model = Case("weather_diffusion", CASES["weather_diffusion"].fields | {"steps": 2}).build()
    x = image(3, 20, 9, batch=2)
    restored = model(x)
    assert torch.equal(model(x), restored)
    torch.testing.assert_close(model(x.flip(0)), restored.flip(0), rtol=1e-10, atol=1e-10)
    same = x[:1].repeat(2, 1, 1, 1)
    same[1, 0, 0, 0] += 0.01  # one pixel changes the noise everywhere
    first, second = model(same)
    assert float((first - second)[:, 10:, 5:].abs().mean()) > 0.01


@torch.no_grad()
def test_weather_diffusions_training_patches_come_from_each_images_key() -> None:
    model = CASES["weather_diffusion"].build()
    x, target = image(3, 18, 20, batch=2), image(3, 18, 20, batch=2, key="gt")
    together = torch.stack(model.training_pair(x, target))
    assert together.shape == (2, 2, 3, 3, 16, 16)
    alone = torch.stack(model.training_pair(x[1:], target[1:]))
    torch.testing.assert_close(together[:, 1:], alone, rtol=1e-10, atol=1e-10)
    noise = together[1]
    assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(model.training_pair(x, target, torch.tensor([1, 2]))[1], noise)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ir_sde", "ir_sde_content", "weather_diffusion"])
def test_the_network_inside_a_sampler_compiles_without_a_graph_break(name: str) -> None:
    model = CASES[name].build(torch.float32).train()
    x, t = image(3, 16, 16, batch=2).float(), torch.tensor([3.0, 50.0])
    conditions = (torch.ones(2, 8), torch.ones(2, 8)) if name.startswith("ir_sde") else ()
    compiled = torch.compile(model.noise, fullgraph=True, backend="eager")
    torch._dynamo.reset()
    expected = model.noise(x, 1 - x, t, *conditions)
    torch.testing.assert_close(compiled(x, 1 - x, t, *conditions), expected, rtol=1e-4, atol=1e-4)
