"""One probe batch of a strategy before anything is trained: a discarded network makes one small step.

Two samples per task pass through the network at the size of the training crops, in train and in eval mode, and then
through one whole step of the training loop. Nothing of this outlives the call: weights, data counters and parts belong
to a learner of the probe, and the states of global generators are put back.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cmtl_ir.backbones.building import initial_model, network_to_device
from cmtl_ir.base.errors import UserError, brief, suggestion
from cmtl_ir.config.experiment import Experiment, Strategy
from cmtl_ir.config.progressive import PhaseConfig
from cmtl_ir.gradients.coupling import coupling_modules, refuse_coupling
from cmtl_ir.gradients.rows import choose_engine
from cmtl_ir.strategy.data import Stage
from cmtl_ir.strategy.output import Output
from cmtl_ir.tasks.task import Task
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from cmtl_ir.training.step import NonFinite, StepResult

EACH = 2
"""Samples per task: a row of two is cut into halves where conflict is logged."""
COUPLED = 1e-3
"""Largest difference, relative to the largest value, that other samples of a batch may make by rounding."""


def faults_of(
    experiment: Experiment,
    strategy: Strategy,
    tasks: Mapping[str, Task],
    seed: int,
    device: torch.device,
    start: Callable[[Learner], None] | None = None,
) -> list[str]:
    """Return why the strategy cannot be trained: a sentence per fault, each with its key. Empty if it can.

    `start` fills a learner with the weights that the run begins from. `None` stands for initial weights.
    """
    with _generators_kept(device):
        try:
            learner = _learner(experiment, strategy, tasks, seed, device)
            if start is not None:
                start(learner)
                _know(learner)
            found = [*_unmatched(learner), *_faulty_images(learner)]
            if not found:
                found = [*_coupled(experiment, learner)]
            return found or [*_first_step(learner, look=experiment.conflict.every > 0)]
        except UserError as error:
            return [str(error)]
        except Exception as error:  # a network, loss or part of one's own may raise anything
            return [f"its first batch fails with {_told(error)}"]


@contextmanager
def _generators_kept(device: torch.device) -> Iterator[None]:
    """Put the states of the global generators back at the end."""
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device], device_type=_kind(device)):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _kind(device: torch.device) -> str:
    return "cuda" if device.type == "cpu" else device.type


def _learner(
    experiment: Experiment, strategy: Strategy, tasks: Mapping[str, Task], seed: int, device: torch.device
) -> Learner:
    """Return a learner that takes two samples per task, with the engine that the run will use, and without a store."""
    training = experiment.training
    update: dict[str, Any] = {"batch": EACH * len(tasks), "compile": False}
    if training.engine == "auto" and training.micro_batch is None:
        update["engine"] = choose_engine(training.batch / len(tasks), experiment.data.patch)
    patches = [one.patch for one in training.progressive or () if one.patch is not None]
    update["progressive"] = (PhaseConfig(until=1.0, patch=min(patches)),) if patches else None
    small = experiment.model_copy(update={"training": training.model_copy(update=update)})
    learner = Learner(small, strategy, tasks, seed, device)

    def untrained(name: str) -> nn.Module:
        """Stand in for the network of another run, which need not exist yet."""
        model = initial_model(experiment.backbone, seed)
        return network_to_device(model, device).eval().requires_grad_(False)

    learner.teachers = learner.finished_runs = untrained
    curriculum, count = learner.strategy.curriculum, len(learner.tasks)
    learner.proxies = lambda: torch.ones(len(curriculum.proxies(learner.tasks)), count, dtype=torch.float64)
    return learner


def _know(learner: Learner) -> None:
    """Let the retention refuse tasks that the weights already know. What it would measure on their data is left out."""
    stage, retention = learner.learned_stage() if learner.learned else None, learner.strategy.retention
    if stage is None:
        return
    if retention is not None:
        retention.begin_stage(stage, learner)
        retention.learned_before(stage, learner)
    learner.finished = (stage,)


def _told(error: Exception) -> str:
    """Return kind, message and place of an error, preferably a place outside of PyTorch."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if f"{Path(torch.__file__).parent}" not in frame.filename] or frames
    return f"{type(error).__name__}: {brief(error)} ({Path(own[-1].filename).name}, line {own[-1].lineno})"


# ---------------------------------------------------------------------------------------------------- patterns


def _unmatched(learner: Learner) -> Iterator[str]:
    """Yield faults of the patterns of parameter names in `training.shared` and `conflict.blocks`."""
    named = {"training.shared": learner.training.shared or []}
    named |= {f"conflict.blocks.{name}": patterns for name, patterns in learner.blocks.items()}
    known = dict(learner.model.named_parameters())
    for key, patterns in named.items():
        for pattern in patterns:
            matching = [name for name in known if fnmatch(name, pattern)]
            if not matching:
                yield f"{key}: no parameter matches {pattern!r}; {suggestion(pattern, list(known))}"
            elif not any(known[name].requires_grad for name in matching):
                yield f"{key}: {pattern!r} matches frozen parameters only ({matching[0]}); name trained ones"


# ------------------------------------------------------------------------------------------------------ images


def _samples(learner: Learner, begin: int = 0) -> tuple[Tensor, Tensor]:
    """Return degraded images [N, 3, P, P] of all tasks, from the id `begin` on, and the numbers of their tasks [N]."""
    batches = [learner.batch(task, torch.arange(begin, begin + EACH)) for task in learner.tasks]
    numbers = [learner.task_numbers(task, EACH) for task in learner.tasks]
    return torch.cat([batch.degraded for batch in batches]), torch.cat(numbers)


@torch.no_grad()
def _faulty_images(learner: Learner) -> Iterator[str]:
    """Yield faults of what the network returns: another shape than that of its input, NaN, infinite values."""
    degraded, numbers = _samples(learner)
    model = learner.model
    if "pair" not in learner.objective.needs:  # else the forward pass of a step needs the clean images
        model.train()
        yield from _of_output(learner, learner.forward(degraded, numbers), degraded, "train")
    model.eval()
    first = degraded[:1]
    yield from _of_output(learner, learner.forward(first, numbers[:1]).final(), first, "eval")
    model.train()


def _of_output(learner: Learner, output: Output, given: Tensor, mode: str) -> Iterator[str]:
    called = f"backbone: in {mode} mode, the network"
    if output.restored.shape != given.shape:
        yield (
            f"{called} returns {list(output.restored.shape)} for images {list(given.shape)}; "
            "the restored image must have the shape of its input"
        )
        return
    for image in output.images:
        if image.dim() != 4 or image.shape[:2] != given.shape[:2]:
            yield f"{called} returns an image {list(image.shape)}; expected [{len(given)}, 3, height, width]"
            return
    fine = torch.stack([torch.isfinite(image).flatten(1).all(1) for image in output.images]).all(0).tolist()
    tasks = dict.fromkeys(learner.tasks[place // EACH] for place, good in enumerate(fine) if not good)
    if tasks:
        yield (
            f"{called} returns NaN or infinite values for {', '.join(tasks)} before it is trained; look at its initial "
            "weights, at divisions and roots, and at training.precision"
        )


# ---------------------------------------------------------------------------------------------------- coupling


def _coupled(experiment: Experiment, learner: Learner) -> Iterator[str]:
    """Yield a fault if gradients of single rows are needed, but samples of a batch see each other."""
    wanted = _asking_for_rows(experiment, learner)
    if not wanted:
        return
    try:
        learner.model.train()
        refuse_coupling(list(coupling_modules(learner.model)))
        if "pair" not in learner.objective.needs and _depends_on_others(learner):
            raise ValueError(
                "the output for an image changes with the other images of its batch: row gradients do not exist. "
                "Compute statistics for each image separately"
            )
    except ValueError as error:
        yield f"{' and '.join(wanted)} need(s) the gradient of each row, but {error}"


def _asking_for_rows(experiment: Experiment, learner: Learner) -> list[str]:
    """Return the keys that make a step compute one gradient per row."""
    found = []
    for key in ("weighting", "surgery", "retention"):
        found += [f"{key} {part.called}" for part in learner.strategy.parts_of(key) if _needs(part) != "losses"]
    if experiment.conflict.every:
        found.append("conflict.every")
    return [*found, "training.micro_batch"] if experiment.training.micro_batch is not None else found


def _needs(part: Any) -> str:
    return getattr(part, "needs", "losses")


@torch.no_grad()
def _depends_on_others(learner: Learner) -> bool:
    """Return whether the first half of a batch gets another output if the second half is exchanged.

    Both batches have the same size and begin with the same state of the generators, so that dropout is the same.
    """
    one, numbers = _samples(learner)
    half = len(one) // 2
    other = torch.cat([one[:half], _samples(learner, begin=EACH)[0][half:]])
    outputs = []
    for degraded in (one, other):
        torch.manual_seed(0)
        outputs.append([image[:half].float() for image in learner.forward(degraded, numbers).images])
    return any(float((a - b).abs().max()) > COUPLED * float(a.abs().max()) for a, b in zip(*outputs, strict=True))


# ------------------------------------------------------------------------------------------------ the first step


class _Enough(Exception):
    """Raised after the first step."""


class _FirstStep:
    """A watcher that looks at the gradients of the first step and ends the training after it."""

    def __init__(self, look: bool) -> None:
        self.look, self.faults = look, list[str]()

    def wants_gradients(self, step: int) -> bool:
        return self.look

    def stage_started(self, learner: Learner, stage: Stage) -> None:
        learner.optimizer.register_step_pre_hook(lambda *_: self.see(learner.trained_parameters()))

    def see(self, parameters: Sequence[nn.Parameter]) -> None:
        given = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not given:
            self.faults.append("backbone: no parameter gets a gradient; its forward pass must not detach its output")
        elif not all(bool(torch.isfinite(one).all()) for one in given):
            self.faults.append("the gradient of the first step is NaN or infinite; look at training.loss and backbone")

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        raise _Enough

    def stage_ended(self, learner: Learner, stage: Stage) -> None:
        raise _Enough


def _first_step(learner: Learner, look: bool) -> Iterator[str]:
    """Yield the faults that one step of the training loop shows."""
    watcher = _FirstStep(look)
    try:
        train(learner, watcher)
    except _Enough:
        yield from watcher.faults
    except NonFinite as error:
        yield f"the loss or the gradient of {error} is NaN or infinite in the first step; look at training.loss"
    except RuntimeError as error:
        if "does not require grad" not in str(error):
            raise
        yield "backbone: no parameter gets a gradient; its forward pass must not detach its output"
