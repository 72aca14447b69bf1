"""Plugins of Avalanche as retentions, hosted unmodified or refused by name with the reason.

A plugin acts where our loop asks for a penalty, when `.grad` holds the step's gradient. Its draws come from generators
that are keyed by (seed, step) and restored afterwards. A data loader that would continue from step to step is restarted
at each step.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from pydantic import Field, PrivateAttr, create_model
from torch import Tensor, nn

from cmtl_ir.base import keyed
from cmtl_ir.base.errors import UnknownName, suggestion
from cmtl_ir.strategy.data import Learner, Stage
from cmtl_ir.strategy.parts import Cost, Retention

from ...shared.weights import device_of, fixed_crops
from ._library import library
from ._run import keyed_generators, strategy_of
from ._samples import dataset_of, sample_named

FAMILY = "retention"
KEPT: dict[str, tuple[str, ...]] = {
    "EWCPlugin": ("saved_params", "importances"),
    "MASPlugin": ("params", "importance"),
    "GEMPlugin": ("memory_x", "memory_y", "memory_tid"),
    "AGEMPlugin": ("buffers",),
}
"""Plugin -> its attributes that a checkpoint keeps. These plugins can be hosted."""
_LABELS = "it is made for class labels"
_LOADER = "it replaces the data loader, but here a sample is an id"
REFUSED = {
    "SynapticIntelligencePlugin": "it keeps a view of the live weights, so that on a CPU its importance is 0; use si",
    "RWalkPlugin": "it needs the gradients after the optimizer's step",
    "LwFPlugin": f"{_LABELS}: a softmax over classes; use distill",
    "LFLPlugin": "it needs a backbone with `get_features`; use distill",
    "FeatureDistillationPlugin": "it needs a backbone with `get_features`; use distill",
    "ReplayPlugin": f"{_LOADER}; use replay",
    "GenerativeReplayPlugin": f"{_LOADER}; use degradation_replay",
    "MIRPlugin": f"{_LOADER}; use replay",
    "RARPlugin": f"{_LOADER}; use replay",
    "GDumbPlugin": _LABELS,
    "BiCPlugin": _LABELS,
    "CoPEPlugin": _LABELS,
    "CWRStarPlugin": _LABELS,
    "GSS_greedyPlugin": _LABELS,
}


def names() -> list[str]:
    """Return the names that can be hosted, whether Avalanche is installed or not."""
    return sorted(KEPT)


def host(family: str, name: str) -> type[Retention]:
    """Return the retention that runs Avalanche's plugin `name`.

    Raise UnknownName with the reason if it cannot be hosted.
    """
    if family != FAMILY:
        raise UnknownName(f"avalanche:{name} is a {FAMILY}, not a {family}")
    if name in REFUSED:
        raise UnknownName(f"avalanche:{name} cannot be hosted: {REFUSED[name]}")
    if name not in KEPT:
        raise UnknownName(f"unknown retention 'avalanche:{name}': {suggestion(name, sorted(KEPT))}")
    return _hosted(getattr(library("avalanche.training.plugins"), name))


class Guest(Retention):
    """A plugin of Avalanche.

    Its fields are the arguments of the plugin's constructor, and two for the data set that the plugin is given at a
    stage's end.
    """

    cost: ClassVar[Cost] = Cost(backward_passes="1, and the plugin's own", memory="what the plugin keeps")
    guest: ClassVar[type]

    crops: int = Field(500, ge=1)
    """Number of samples in the data set that the plugin is given at a stage's end: fixed training crops of the stage's
    tasks."""
    dataset_batch: int = Field(1, ge=1)
    """Batch size with which the plugin reads that data set. 1 makes EWC's importance the per-sample Fisher."""

    _plugin: Any = PrivateAttr(None)
    _run: Any = PrivateAttr(None)
    _learner: Any = PrivateAttr(None)

    def model_post_init(self, context: Any, /) -> None:
        """Build the plugin, so that a bad argument is reported before training."""
        super().model_post_init(context)
        own = {name: getattr(self, name) for name in type(self).model_fields if name not in Guest.model_fields}
        self._plugin = self.guest(**own)

    def reset(self) -> None:
        """Reset the state and build the plugin again."""
        self._state = {"stages": 0}
        self.model_post_init(None)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of finished stages, and the plugin's attributes as tensors and sample names."""
        kept = {name: _plain(getattr(self._plugin, name)) for name in KEPT[self.guest.__name__]}
        return {"plugin": kept, **self._state}  # a loaded state, until a stage restores it

    def enter_stage(self, stage: Stage, learner: Learner) -> None:
        """Give the plugin access to the run, and restore its attributes from a loaded state."""
        learner.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # A-GEM: grad.view(-1)
        self._learner, self._run = learner, strategy_of(learner, self.state["stages"], self.dataset_batch)
        if "plugin" in self.state:
            self._restore(self.state.pop("plugin"))

    def penalty(self, model: nn.Module) -> Tensor | None:
        """Return what the plugin adds to the loss. Before that, it may change the gradients in `.grad`."""
        plugin, run, parameters = self._plugin, self._run, list(model.parameters())
        step = [parameter.grad for parameter in parameters]
        with keyed_generators(keyed.name_key(self._learner.seed, self._learner.step, "avalanche"), run.device):
            if getattr(plugin, "buffer_dataloader", None) is not None:
                plugin.buffer_dliter = iter(plugin.buffer_dataloader)
            plugin.before_training_iteration(run)  # GEM, A-GEM: gradients of their memories
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient
        run.loss = torch.ones((), device=run.device)  # not 0: MAS takes that for "no loss"
        plugin.before_backward(run)
        plugin.after_backward(run)
        return run.loss - 1.0 if run.loss.requires_grad else None

    def end_stage(self, stage: Stage, learner: Learner) -> None:
        """Give the plugin a data set of the stage."""
        samples = [(task, int(ids)) for task, ids in fixed_crops(stage, self.crops)]
        self._run.experience = SimpleNamespace(dataset=dataset_of(learner, samples))
        training = learner.model.training
        with keyed_generators(keyed.name_key(learner.seed, stage.name, "avalanche"), self._run.device):
            self._plugin.after_training_exp(self._run)
        learner.model.train(training)
        self._run.optimizer.zero_grad()
        self.state["stages"] += 1

    def _restore(self, kept: Mapping[str, Any]) -> None:
        device = device_of(self._learner)
        if self.guest.__name__ == "AGEMPlugin":
            with keyed_generators(0, device):  # its data loaders draw a seed, which no step uses
                for names in kept["buffers"]:
                    self._plugin.update_memory(dataset_of(self._learner, [sample_named(name) for name in names]))
            return
        for name, value in kept.items():
            own = value if self.guest.__name__ == "GEMPlugin" else _parameter_data(value)
            current = getattr(self._plugin, name)
            current.update(own) if isinstance(current, dict) else setattr(self._plugin, name, own)


@cache
def _hosted(guest: type) -> type[Retention]:
    """Return a Retention whose fields are the plugin's arguments."""
    fields: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(guest).parameters.items()):
        default = ... if parameter.default is parameter.empty else parameter.default
        kind = {int: int, str: str, bool: bool}.get(
            parameter.annotation if default is ... else type(default), float | None if default is None else float
        )
        fields[name] = (kind, Field(default, description=f"As in Avalanche's {guest.__name__}."))
    made = create_model(f"Avalanche{guest.__name__}", __base__=Guest, __module__=__name__, **fields)
    made.__doc__ = f"Avalanche's {guest.__name__}, hosted unmodified. {inspect.cleandoc(guest.__doc__ or '')}"
    made.guest = guest
    return made


def _plain(value: Any) -> Any:
    """Return Avalanche's records as tensors, dicts and lists, and a data set as the names of its samples."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if hasattr(value, "samples"):
        return [str(name) for name in value.samples]
    return value.data if hasattr(value, "expand") and not isinstance(value, Tensor) else value


def _parameter_data(value: Any) -> Any:
    """Return parameter records of Avalanche rebuilt from their plain form."""
    if isinstance(value, dict):
        return {
            key: library("avalanche.training.utils").ParamData(str(key), init_tensor=one, device=one.device)
            if isinstance(one, Tensor)
            else _parameter_data(one)
            for key, one in value.items()
        }
    return value
