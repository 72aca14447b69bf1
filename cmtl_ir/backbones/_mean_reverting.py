"""IR-SDE (Luo et al., ICML 2023): the mean-reverting SDE, and what networks that predict its noise do with it.

The forward process turns the clean image x0 into the degraded image mu plus noise; its reverse restores.
Shapes: B images [B, 3, H, W], T steps, times t [B] int64 from 0 (clean) to T (noise).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from cmtl_ir.backbones._layers import image_keys
from cmtl_ir.base import keyed

STEPS = 100  # of training
NOISE = 50 / 255  # lambda: deviation at the end of the forward process
REST = 0.005  # epsilon: what is left of x0 - mu at its end
COSINE_OFFSET = 0.008

# Hashed once, not at every step.
START, STATE = keyed.name_key("start"), keyed.name_key("state")

Sampler = Literal["posterior", "sde", "ode"]


class MeanReverting:
    """The tables of the SDE for a number of steps, in float64."""

    def __init__(self, steps: int = STEPS) -> None:
        if steps < 1:
            raise ValueError(f"the SDE needs at least one step, not {steps}")
        self.steps = steps
        k = torch.arange(steps + 2, device="cpu").double()
        cosine = ((k / (steps + 2) + COSINE_OFFSET) / (1 + COSINE_OFFSET) * (math.pi / 2)).cos().square()
        self.theta = 1 - cosine[1:] / cosine[0]  # [T + 1]
        self.theta_sum = self.theta.cumsum(0) - self.theta[0]  # Theta
        self.dt = -math.log(REST) / float(self.theta_sum[-1])
        self.sigma = NOISE * (2 * self.theta).sqrt()
        self.deviation = NOISE * (1 - (-2 * self.theta_sum * self.dt).exp()).sqrt()  # of the noise in x_t
        self.decay = (-self.theta_sum * self.dt).exp()  # what is left of x0 - mu
        step_decay = (-self.theta * self.dt).exp()
        before = self.decay.roll(1)  # [t] is that of t - 1; nobody asks for t = 0
        shrunk = 1 - self.decay.square()
        self.from_state = step_decay * (1 - before.square()) / shrunk
        self.from_clean = before * (1 - step_decay.square()) / shrunk
        variance = (1 - step_decay.square()) * (1 - before.square()) / shrunk
        self.posterior_deviation = NOISE * variance.clamp(min=1e-20 * self.dt).sqrt()

    def at(self, table: Tensor, t: Tensor, like: Tensor) -> Tensor:  # [B] -> [B, 1, 1, 1]
        """The entries of a table for the times of images."""
        return table.to(t.device)[t].to(like.dtype).view(-1, 1, 1, 1)

    def noised(self, clean: Tensor, mu: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t of the forward process."""
        return mu + (clean - mu) * self.at(self.decay, t, mu) + self.at(self.deviation, t, mu) * noise

    def start(self, mu: Tensor, noise: Tensor) -> Tensor:
        """x_T, where the reverse begins."""
        return mu + NOISE * noise

    def clean(self, state: Tensor, mu: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x0, if `noise` is what x_t holds."""
        return (state - mu - self.at(self.deviation, t, mu) * noise) / self.at(self.decay, t, mu) + mu

    def reverse_mean(self, state: Tensor, mu: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_{t-1} of the reverse SDE without its own noise."""
        return self._drifted(state, mu, t, noise, 1.0)

    def ode_step(self, state: Tensor, mu: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_{t-1} of the probability flow."""
        return self._drifted(state, mu, t, noise, 0.5)

    def optimum(self, state: Tensor, mu: Tensor, t: Tensor, clean: Tensor) -> Tensor:
        """The most probable x_{t-1} between x_t and x0: the mean of the posterior."""
        return self.at(self.from_state, t, mu) * (state - mu) + self.at(self.from_clean, t, mu) * (clean - mu) + mu

    def reverse_noise(self, t: Tensor, like: Tensor) -> Tensor:
        """The deviation of the noise that the reverse SDE adds."""
        return self.at(self.sigma, t, like) * math.sqrt(self.dt)

    def _drifted(self, state: Tensor, mu: Tensor, t: Tensor, noise: Tensor, part: float) -> Tensor:
        theta, sigma = self.at(self.theta, t, mu), self.at(self.sigma, t, mu)
        score = -noise / self.at(self.deviation, t, mu)
        return state - (theta * (mu - state) - part * sigma.square() * score) * self.dt


class MeanRevertingNet(nn.Module):
    """A network that predicts the noise of a state, with the sampler that restores by it.

    `noise` compiles as one graph; the sampler around it breaks the graph where it draws numbers.
    """

    def __init__(self, steps: int, sampler: Sampler) -> None:
        super().__init__()
        self.sde = MeanReverting(steps)
        self.training_sde = MeanReverting()
        self.sampler = sampler
        self.step_keys = [keyed.name_key("step", number) for number in range(steps + 1)]

    def noise(self, state: Tensor, mu: Tensor, t: Tensor, *conditions: Tensor | None) -> Tensor:
        """The noise in x_t [B, 3, H, W] of any size; t [B] counts training steps and need not be whole."""
        raise NotImplementedError

    def restored(self, x: Tensor, *conditions: Tensor | None) -> Tensor:
        """Sample from mu + noise, which is keyed by the content of each image."""
        keys = image_keys(x)
        return self.sampled(self.sde.start(x, _normal(keys, START, x)), x, *conditions, keys=keys)

    def sampled(self, state: Tensor, mu: Tensor, *conditions: Tensor | None, keys: Tensor | None) -> Tensor:
        """Run the reverse process from x_T to x_0. `keys` [B] make its noise; `None` leaves the noise out."""
        sde = self.sde
        for step in range(sde.steps, 0, -1):
            t = torch.full((len(mu),), step, device=mu.device)
            noise = self.noise(state, mu, t.to(mu.dtype) * STEPS / sde.steps, *conditions).to(mu.dtype)
            if self.sampler == "ode":
                state = sde.ode_step(state, mu, t, noise)
                continue
            if self.sampler == "posterior":
                state = sde.optimum(state, mu, t, sde.clean(state, mu, t, noise))
                deviation = sde.at(sde.posterior_deviation, t, mu)
            else:
                state = sde.reverse_mean(state, mu, t, noise)
                deviation = sde.reverse_noise(t, mu)
            if keys is not None:
                state = state + deviation * _normal(keys, self.step_keys[step], mu)
        return state

    def training_pair(
        self, x: Tensor, target: Tensor, *conditions: Tensor | None, keys: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The predicted and the most probable x_{t-1}, whose L1 distance is the authors' loss.

        The time (1 .. 100) and the noise of each image come from its key in `keys` [B]. `None` makes the keys from the
        pixels of x.
        """
        keys = image_keys(x) if keys is None else keys
        t = keyed.integers(keyed.substream(keys, "time"), 1, STEPS + 1)
        sde = self.training_sde
        state = sde.noised(target, x, t, _normal(keys, STATE, x))
        predicted = sde.reverse_mean(state, x, t, self.noise(state, x, t.to(x.dtype), *conditions).to(x.dtype))
        return predicted, sde.optimum(state, x, t, target)


def _normal(keys: Tensor, purpose: int, like: Tensor) -> Tensor:
    return keyed.normal(keyed.mix(keys ^ purpose), like.shape[1:]).to(like.dtype)
