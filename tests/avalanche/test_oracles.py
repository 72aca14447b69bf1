"""EWC, A-GEM and GEM compared with Avalanche's own plugins, where both must agree."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cmtl_ir.strategies.guests.avalanche._library import library
from cmtl_ir.strategies.guests.avalanche._samples import Samples, labelled
from cmtl_ir.strategies.retention.ewc import EWC
from cmtl_ir.strategies.retention.gem import GEM
from cmtl_ir.strategy.data import Batch, StepContext
from cmtl_ir.training import loop
from tests import tiny
from tests.retention.cases import Bare, stage, strategy

from .cases import hosted

COUNT = 5  # samples a task


@pytest.fixture
def in_float64() -> Iterator[None]:
    """The plugin keeps importances in torch's default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def network_and_samples() -> tuple[nn.Module, dict[str, tuple[Tensor, Tensor]]]:
    """Two convolutions and two tasks of 5 samples, in float64."""
    generator = torch.Generator().manual_seed(3)
    shape = (COUNT, 3, 6, 6)
    images = [torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(4)]
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GELU(), nn.Conv2d(4, 3, 3, padding=1)).double()
    return model, {"rain": (images[0], images[1]), "haze": (images[2], images[3])}


def mean_loss(restored: Tensor, clean: Tensor) -> Tensor:
    return (restored - clean).abs().mean()


class Peer:
    """Avalanche's EWC beside ours: it sees the same network and the same samples, one a batch."""

    def __init__(self, plugin: Any, learner: Bare) -> None:
        self.plugin, self.learner = plugin, learner
        self.run = SimpleNamespace(
            model=learner.model,
            device=torch.device("cpu"),
            train_mb_size=1,
            clock=SimpleNamespace(train_exp_counter=0),
            optimizer=torch.optim.SGD(learner.model.parameters(), 0.1),
            _criterion=mean_loss,
            experience=None,
            loss=None,
        )

    def end_stage(self, task: str) -> None:
        samples = Samples(self.learner.batch, [(task, n) for n in range(COUNT)])
        self.run.experience = SimpleNamespace(dataset=labelled(samples, 0, task))
        self.plugin.after_training_exp(self.run)
        self.run.clock.train_exp_counter += 1

    def penalty(self) -> Tensor:
        self.run.loss = torch.zeros((), dtype=torch.float64)
        self.plugin.before_backward(self.run)
        return self.run.loss

    def importance(self, number: int) -> Tensor:
        return torch.cat([one.data.flatten() for one in self.plugin.importances[number].values()])


def walked(fields: dict[str, Any], arguments: dict[str, Any]) -> tuple[EWC, Peer]:
    """Both after a stage of rain, a move of the weights, and a stage of haze."""
    learner = Bare(*network_and_samples())
    ours, peer = EWC(crops=COUNT, **fields), Peer(library("avalanche.training.plugins").EWCPlugin(**arguments), learner)
    ours.reset()
    for task in ("rain", "haze"):
        ours.end_stage(stage(task), learner)
        peer.end_stage(task)
        with torch.no_grad():
            for number, parameter in enumerate(learner.model.parameters()):
                parameter += 0.1 * torch.sin(torch.arange(parameter.numel()).view_as(parameter) + number)
    return ours, peer


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("mode", ["separate", "online"])
def test_ewc_s_importance_and_penalty_are_avalanche_s(mode: str) -> None:
    decay = {"decay": 0.7} if mode == "online" else {}
    factor = {"decay_factor": 0.7} if mode == "online" else {}
    ours, peer = walked(
        {"mode": mode, "strength": 2.5, "normalise": "none", **decay}, {"ewc_lambda": 2.5, "mode": mode, **factor}
    )
    anchors = ours.state["anchors"]
    assert len(anchors) == (2 if mode == "separate" else 1)
    for anchor, number in zip(reversed(anchors), (1, 0), strict=False):
        torch.testing.assert_close(anchor["importance"], peer.importance(number), rtol=1e-14, atol=1e-16)
    model = peer.learner.model
    penalty, expected = ours.penalty(model), peer.penalty()
    assert penalty is not None and penalty.item() > 0
    torch.testing.assert_close(penalty, expected, rtol=1e-6, atol=0.0)  # the plugin adds up in float32
    for one, other in zip(
        torch.autograd.grad(penalty, list(model.parameters())),
        torch.autograd.grad(expected, list(model.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-12)


@pytest.mark.usefixtures("in_float64")
def test_with_mean_1_a_lambda_is_avalanche_s_times_the_mean_importance() -> None:
    learner = Bare(*network_and_samples())
    peer = Peer(library("avalanche.training.plugins").EWCPlugin(ewc_lambda=3.0), learner)
    peer.end_stage("rain")
    ours = EWC(crops=COUNT, strength=3.0 * peer.importance(0).mean().item())
    ours.reset()
    ours.end_stage(stage("rain"), learner)
    with torch.no_grad():
        next(learner.model.parameters()).add_(0.05)
    penalty = ours.penalty(learner.model)
    assert penalty is not None and penalty.item() == pytest.approx(peer.penalty().item(), rel=1e-6)


# ------------------------------------------------------------------------------------------------------ projections


class Steps(tiny.Silent):
    """What each step drew and which gradient it left for the optimizer, handed to `compare`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.drawn: list[Batch] = []
        draw = loop.draw

        def noting(*arguments: Any) -> Any:
            drawn = draw(*arguments)
            self.drawn = list(drawn.batches)
            return drawn

        monkeypatch.setattr(loop, "draw", noting)

    def stage_started(self, learner: Any, stage: Any) -> None:  # a fresh optimizer each
        learner.optimizer.register_step_pre_hook(lambda *_: self.compare(learner))

    def compare(self, learner: Any) -> None:
        raise NotImplementedError


class Reprojected(Steps):
    """At every step of a run under our A-GEM: what Avalanche's plugin makes of the same two batches and weights."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(monkeypatch)
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []  # ours, Avalanche's, the plain gradient: [P] each

    def compare(self, learner: Any) -> None:
        now, *memory = self.drawn
        if not memory:
            return
        model = copy.deepcopy(learner.model).to(memory_format=torch.contiguous_format)
        plugin = library("avalanche.training.plugins").AGEMPlugin(1, 1)
        plugin.buffers = [None]
        old = [torch.cat([getattr(one, side) for one in memory]) for side in ("degraded", "clean")]
        plugin.sample_from_memory = lambda: (*old, None)
        run = SimpleNamespace(
            model=model,
            device=torch.device("cpu"),
            _criterion=mean_loss,
            optimizer=torch.optim.SGD(model.parameters(), 0.1),
        )
        plugin.before_training_iteration(run)
        mean_loss(model(now.degraded), now.clean).backward()
        plain = flat(model)
        plugin.after_backward(run)
        self.pairs.append((flat(learner.model), flat(model), plain))


def flat(model: nn.Module) -> Tensor:
    return torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])


def test_agem_s_update_in_a_run_is_avalanche_s_from_the_same_memory_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = tiny.learner(strategy("agem"), training={"optimizer": {"lr": 2e-2}, "clip": None}, conflict={"every": 0})
    watcher = Reprojected(monkeypatch)
    loop.train(learner, watcher)
    assert len(watcher.pairs) == 8  # the second and the third stage
    turned = 0
    for ours, theirs, plain in watcher.pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 * float(plain.abs().max()))
        turned += not torch.allclose(theirs, plain, rtol=1e-3, atol=1e-5)
    assert turned >= 2


class Hosted(Steps):
    """At every step of a run under a hosted plugin: the plain gradient, what the plugin left, and what it looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(monkeypatch)
        self.seen: list[tuple[Tensor, Tensor, Tensor]] = []  # plain [P], left [P], of the memory [m, P]

    def compare(self, learner: Any) -> None:
        model = copy.deepcopy(learner.model)
        model.zero_grad()
        mean_loss(model(self.drawn[0].degraded), self.drawn[0].clean).backward()
        plugin = learner.strategy.retention._plugin
        memory = plugin.G if hasattr(plugin, "G") else plugin.reference_gradients[None]
        if memory.numel():
            self.seen.append((flat(model), flat(learner.model), memory))


@pytest.mark.parametrize("label", ["GEMPlugin", "AGEMPlugin"])
def test_a_hosted_projection_turns_the_step_s_own_gradient_and_only_where_it_must(
    label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_steps = {"optimizer": {"lr": 2e-2}, "clip": None}
    learner, watcher = tiny.learner(hosted(label), training=plain_steps, conflict={"every": 0}), Hosted(monkeypatch)
    loop.train(learner, watcher)
    assert len(watcher.seen) == 8  # the second and the third stage
    turned = 0
    for plain, left, memory in watcher.seen:
        conflict = bool((memory @ plain < 0).any())
        turned += conflict
        wanted = plain
        if conflict and label == "AGEMPlugin":
            wanted = plain - memory[0] * (memory[0] @ plain) / (memory[0] @ memory[0])
        elif conflict:
            context = StepContext(0, "two", tuple(map(str, range(len(memory)))), (1,) * len(memory), 0)
            wanted = GEM(margin=0.5).project(plain, memory, context)  # its ridge is small beside these gradients
        torch.testing.assert_close(left, wanted, rtol=1e-2, atol=1e-3 * float(plain.abs().max()))
    assert turned


def test_gem_s_update_is_avalanche_s_where_its_ridge_is_negligible() -> None:
    plugin = library("avalanche.training.plugins").GEMPlugin(1, 0.5)
    generator = torch.Generator().manual_seed(5)
    context = StepContext(0, "two", tuple(f"memory:{n}" for n in range(4)), (1,) * 4, 0)
    turned = 0
    for _ in range(30):
        memory = 30 * torch.randn(4, 40, generator=generator, dtype=torch.float64)  # against the ridge of 1e-3
        update = 30 * torch.randn(40, generator=generator, dtype=torch.float64)
        ours = GEM(margin=0.5).project(update, memory, context)
        if not (memory @ update < 0).any():
            assert torch.equal(ours, update)
            continue
        turned += 1
        plugin.G = memory
        theirs = plugin.solve_quadprog(update).double()  # float32
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))
    assert turned > 10
