"""The state of a run: weights, optimizer, data counters and parts, the interface for parts, and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from cmtl_ir.backbones.building import initial_model, network_to_device
from cmtl_ir.base.errors import ConfigError, UserError
from cmtl_ir.base.keyed import name_key
from cmtl_ir.base.ranks import ALONE, Ranks
from cmtl_ir.base.trees import to_device, to_json
from cmtl_ir.config.experiment import Experiment, Strategy
from cmtl_ir.config.own_training import trained_under
from cmtl_ir.config.progressive import Phase, phase_at
from cmtl_ir.strategy.data import UNLABELLED, Batch, History, Row, Stage
from cmtl_ir.strategy.degradation import Degradation
from cmtl_ir.strategy.families import KEYS
from cmtl_ir.strategy.making import objective_of
from cmtl_ir.strategy.objective import sample_losses
from cmtl_ir.strategy.output import Output, output_of
from cmtl_ir.strategy.parts import Part
from cmtl_ir.tasks.task import Task
from cmtl_ir.training.fine_tuning import fine_tuned
from cmtl_ir.training.optimization import (
    AveragedWeights,
    group_by_rate,
    load_optimizer,
    make_optimizer,
    mean_of,
    optimizer_tree,
)
from cmtl_ir.training.passes import Passes
from cmtl_ir.training.selection import Selection
from cmtl_ir.training.shares import DataState

ON_CPU = ("weighting", "surgery")
"""Families whose parts compute on the CPU and keep their state there."""
LEARNED = "learned"
"""Name of the stage of the tasks that a run knew before its first step."""


class Learner:
    """One backbone being trained under one strategy."""

    def __init__(
        self,
        experiment: Experiment,
        strategy: Strategy,
        tasks: Mapping[str, Task],
        seed: int,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        """`ranks`: the processes that share the samples of each step."""
        experiment, strategy = trained_under(experiment, strategy)
        self.training, self.seed, self.device, self.ranks = experiment.training, seed, device, ranks
        self.patch = experiment.data.patch  # the largest side of a crop
        self.blocks = experiment.conflict.blocks or {}
        self.task_of = dict(tasks)
        self.tasks = tuple(tasks)
        self.strategy = strategy.fresh()
        self.objective = objective_of(self.training.loss)
        self.backbone = strategy.backbone(experiment.backbone, self.tasks)
        self.model = network_to_device(initial_model(self.backbone, seed), device)
        self.network: Any = torch.compile(self.model) if self.training.compile else self.model
        self.autocast = self.training.precision == "bf16" or (
            self.training.precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
        )
        self._check(experiment.backbone["name"])
        self.optimizer = make_optimizer(self.training.optimizer, self.trained_parameters())
        self.average: AveragedWeights | None = None
        self.data = DataState()
        self.passes = Passes()
        self.before: list[Tensor] | None = None  # weights before the last step, kept only if the next step is logged
        self.step, self.stage_step = 0, 0
        self.stage: Stage | None = None
        self.finished: tuple[Stage, ...] = ()
        self.recent: list[dict[str, Tensor]] = []  # weights at the last evaluations of the stage, for `Stage.average`
        self.selection = Selection()
        self.evaluated_every = experiment.evaluation.every
        self.teachers: Callable[[str], nn.Module] | None = None  # task -> network of its single-task run
        self.finished_runs: Callable[[str], nn.Module] | None = None  # name -> network of a finished run
        self.proxies: Callable[[], Tensor] | None = None  # losses of the curriculum's proxies
        self.learned: tuple[str, ...] = ()  # tasks that the weights of `start` already know
        self.excluded: frozenset[str] = frozenset()  # tasks whose samples are counted but never seen
        for part in self.parts().values():
            part.reset()

    def _check(self, name: str) -> None:
        """Raise ConfigError if the backbone cannot be trained as the settings say."""
        if "pair" in self.objective.needs and not hasattr(self.model, self.objective.pair):
            raise ConfigError(f"training.loss {self.objective.called}: backbone {name} has no {self.objective.pair}")
        if self.ranks.count > 1 and self.training.selects:
            raise ConfigError("training.keep_best and training.stop_early: not with torchrun; train in one process")
        if not self.trained_parameters():
            raise ConfigError(f"backbone {name}: no parameter is trained; all are frozen (requires_grad=False)")

    # ------------------------------------------------------------------------------ what a part may see

    def batch(self, task: str, ids: Tensor, images: str | None = None) -> Batch:
        """Return the samples (task, ids), or those on the clean crops of (images, ids) if `images` names a task."""
        if images is None:
            return self._task(task).batch(ids)
        if images == UNLABELLED:
            return self._task(task).unlabelled_batch(ids)
        return self._task(task).batch_on(self._task(images), ids, ids)

    def _task(self, name: str) -> Task:
        """Return a task with the crops of the current step."""
        return self.task_of[name].at(self.phase_after(0).patch)

    def forward(
        self, degraded: Tensor, task_numbers: Tensor, network: nn.Module | None = None, **pair: Tensor
    ) -> Output:
        """Return the output for images [N, 3, H, W] of tasks [N] under the run's precision.

        `pair` is handed to the network: the clean images and keys of `Samples.pair`, for an objective that needs them.
        """
        degraded = degraded.to(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            returned = (network or self.network)(degraded, task_numbers, **pair)
        return self.passes.counted(output_of(network or self.model, returned), len(degraded))

    def restore(self, batch: Batch, network: nn.Module | None = None) -> Output:
        """Return the output of `network` for a batch. `None` means the network in training."""
        return self.forward(batch.degraded, self.task_numbers(batch.task, len(batch.ids)), network)

    def sample_losses(self, output: Output, batch: Batch) -> Tensor:
        """Return the base objective of each sample, [B]."""
        return sample_losses(self.objective, output, batch)

    def second_view(self, batch: Batch) -> Batch:
        """Return other crops of the same images, degraded with the same parameters but independent noise."""
        return self._task(batch.task).second_view(batch.ids)

    def degradation(self, task: str) -> Degradation | None:
        """Return the degradation of a task; `None` for pairs of files."""
        return self.task_of[task].degradation

    def degrade_again(self, batch: Batch, clean: Tensor | None = None, images: str | None = None) -> Tensor:
        """Return images degraded with the parameters of the samples of a batch, and noise of their own."""
        return self.task_of[batch.task].degrade_again(batch.ids, clean, unlabelled=images == UNLABELLED)

    def teacher(self, task: str) -> nn.Module:
        """Return the frozen network of the single-task run of a task. Raise UserError if there is none."""
        if self.teachers is None:
            raise UserError(f"the teacher of {task} is a finished single-task run, but this run is in no store")
        return self.teachers(task)

    def finished_run(self, name: str) -> nn.Module:
        """Return the frozen network of a finished run. Raise UserError if there is none."""
        if self.finished_runs is None:
            raise UserError(f"the run {name} is looked up in the store of a run, but this run is in no store")
        return self.finished_runs(name)

    def fine_tuned(self, task: str, steps: int, rate: float) -> nn.Module:
        """Return a frozen copy of the network after some steps on one task alone."""
        return fine_tuned(self, task, steps, rate)

    def proxy_losses(self) -> Tensor:
        """Return mean base objectives [n, K] of the proxies of the curriculum. Raise UserError if there are none."""
        if self.proxies is None:
            raise UserError(f"curriculum {self.strategy.curriculum.called}: this run has no proxies to fit a law to")
        return self.proxies()

    def fresh_network(self, number: int) -> nn.Module:
        """Return a network like the one in training with other initial weights."""
        seed = name_key(self.seed, "fresh network", number)
        return network_to_device(initial_model(self.backbone, seed), self.device)

    # ------------------------------------------------------------------------------------------- helpers

    def task_numbers(self, task: str, count: int) -> Tensor:
        """Return the task's place in the experiment file, [count] int64, for backbones with explicit prompts."""
        return torch.full((count,), self.tasks.index(task), device=self.device)

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that the optimizer updates."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def copy_of_weights(self) -> list[Tensor]:
        """Return a copy of the trained weights."""
        return [parameter.detach().clone() for parameter in self.trained_parameters()]

    def parts(self) -> dict[str, Part]:
        """Return family -> part of this strategy. Parts of a family that allows several have keys `family.label`."""
        named: dict[str, Part] = {}
        for key, family in KEYS.items():
            for part in self.strategy.parts_of(key):
                named[f"{key}.{getattr(part, 'label', part.called)}" if family.many else key] = part
        return named

    def history(self) -> History:
        """Return the history from which the curriculum decides the next stage."""
        sizes = {name: task.size for name, task in self.task_of.items()}
        tasks = tuple(task for task in self.tasks if task not in self.learned)
        own = self.finished[1:] if self.learned else self.finished
        return History(tasks, self.training.steps, own, sizes, self, self.learned)

    def evaluated_weights(self) -> dict[str, Tensor]:
        """Return the weights that are scored and stored, which are the averaged ones if the run averages."""
        return self.average.weights if self.average is not None else self.model.state_dict()

    def kept_counts(self, rows: Sequence[Row], counts: Sequence[int]) -> list[int]:
        """Return the counts, with 0 for excluded tasks. The draws of the other tasks do not depend on the exclusion."""
        return [0 if row.task in self.excluded else count for row, count in zip(rows, counts, strict=True)]

    def seen(self, stage: Stage) -> Stage:
        """Return the stage as history and parts see it: without excluded tasks, and with 0 steps if no task is left."""
        if not self.excluded:
            return stage
        mixture = {row: share for row, share in stage.mixture.items() if row.rpartition(":")[2] not in self.excluded}
        return replace(stage, mixture=mixture, steps=stage.steps if mixture or not stage.mixture else 0)

    def learned_stage(self) -> Stage:
        """Return the stage, of 0 steps, that stands for the tasks that the weights of `start` already know."""
        return Stage(LEARNED, dict.fromkeys(self.learned, 1.0 / len(self.learned)), 0)

    def phase_after(self, steps: int) -> Phase:
        """Return crops and batch of the step that follows in `steps` steps within the stage; 0: the current one.

        Outside of stages, it is the last phase.
        """
        usual = Phase(self.patch, self.training.batch)
        offset, length = (0, 0) if self.stage is None else self.stage.span or (0, self.stage.steps)
        return phase_at(self.training.progressive, usual, offset + self.stage_step + steps, length)

    @property
    def steps_left(self) -> int:
        """Number of remaining steps of the current stage."""
        return 0 if self.stage is None else self.stage.steps - self.stage_step

    def end_stage_now(self) -> None:
        """Make the current step the last one of its stage."""
        assert self.stage is not None
        self.stage = replace(self.stage, steps=self.stage_step + 1)

    def stop_stage(self) -> None:
        """Make the step that was just taken the last one of its stage."""
        assert self.stage is not None
        self.stage = replace(self.stage, steps=self.stage_step)

    def start_stage(self, stage: Stage) -> None:
        """Set up optimizer and averages for a stage. The weights are not changed."""
        self.stage, self.stage_step = stage, 0
        if stage.fresh_optimizer:
            self.optimizer = make_optimizer(self.training.optimizer, self.trained_parameters())
        group_by_rate(self.optimizer, dict(self.model.named_parameters()), stage.rates)
        if stage.weights == "ema" and self.training.ema is None:
            raise ConfigError(f"stage {stage.name} hands over averaged weights: set training.ema")
        if stage.average > 0 and not self.strategy.curriculum.averages:
            raise TypeError(f"{self.strategy.curriculum.called} uses Stage.average: it must set `averages`")
        self.recent, self.selection = [], Selection()
        if self.training.ema is not None:
            self.average = AveragedWeights(self.model, self.training.ema)

    def remember_weights(self) -> None:
        """Store the weights after a step with an evaluation, at most as many as the stage averages."""
        if self.stage is None or self.stage.average == 0:
            return
        due = self.evaluated_every > 0 and self.step % self.evaluated_every == 0
        if due or self.steps_left == 0:
            now = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
            self.recent = [*self.recent, now][-self.stage.average :]

    def hand_over(self) -> None:
        """Replace the weights at the end of a stage by the weights that it hands over."""
        assert self.stage is not None
        if self.stage.weights == "ema" and self.average is not None:
            self.model.load_state_dict(self.average.weights)
        handed = bool(self.recent) or self.selection.weights is not None
        if self.recent:
            self.model.load_state_dict(mean_of(self.recent))
            self.recent = []
        if self.selection.weights is not None:
            self.model.load_state_dict(self.selection.weights)
        if handed and self.training.ema is not None:  # the weights handed over are also those evaluated
            self.average = AveragedWeights(self.model, self.training.ema)

    def finish_stage(self) -> None:
        """Close the current stage and append it to the history."""
        assert self.stage is not None
        self.finished, self.stage = (*self.finished, self.seen(self.stage)), None

    def agree(self) -> None:
        """Copy the state of rank 0. Values that ranks compute (importance, choices) may differ in their last bits."""
        if self.ranks.count > 1:
            tensors: dict[str, Tensor] = {}
            to_json(self.tree(), (), tensors)
            self.ranks.copy_of_first(tensors.values())

    # ---------------------------------------------------------------------------------------- checkpoints

    def tree(self) -> dict[str, Any]:
        """Return everything needed to resume, as a tree of tensors and plain values."""
        return {
            "model": dict(self.model.state_dict()),
            "optimizer": optimizer_tree(self.optimizer),
            "average": self.average.weights if self.average is not None else None,
            "data": self.data.tree(),
            "before": self.before,
            **({"recent": self.recent} if self.recent else {}),
            **({"selection": self.selection.tree()} if self.selection.best is not None else {}),
            "step": self.step,
            "stage": asdict(self.stage) if self.stage is not None else None,
            "stage_step": self.stage_step,
            "finished": [asdict(stage) for stage in self.finished],
            "parts": {family: part.state_dict() for family, part in self.parts().items()},
        }

    def load_tree(self, tree: Mapping[str, Any]) -> None:
        """Restore the state that `tree` returned."""
        self.model.load_state_dict(tree["model"])
        stages = [*tree["finished"], *([tree["stage"]] if tree["stage"] is not None else [])]
        rates = stages[-1].get("rates", {}) if stages else {}  # rates of the stage that last grouped the optimizer
        group_by_rate(self.optimizer, dict(self.model.named_parameters()), rates)
        load_optimizer(self.optimizer, tree["optimizer"])
        self.recent = to_device(tree.get("recent", []), self.device)
        self.selection = Selection.of(tree.get("selection"), self.device)
        if tree["average"] is not None and self.training.ema is not None:
            self.average = AveragedWeights(self.model, self.training.ema)
            self.average.weights = {name: value.to(self.device) for name, value in tree["average"].items()}
        self.data = DataState(dict(tree["data"]["counters"]), dict(tree["data"]["carry"]))
        self.before = None if tree["before"] is None else [value.to(self.device) for value in tree["before"]]
        self.step, self.stage_step = tree["step"], tree["stage_step"]
        self.stage = _stage(tree["stage"]) if tree["stage"] is not None else None
        self.finished = tuple(_stage(stage) for stage in tree["finished"])
        for family, part in self.parts().items():
            state = tree["parts"][family]
            part.load_state_dict(state if family in ON_CPU else to_device(state, self.device))


def _stage(plain: Mapping[str, Any]) -> Stage:
    return Stage(**{**plain, "span": tuple(plain["span"]) if plain["span"] is not None else None})
