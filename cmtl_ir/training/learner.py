"""The state of a run: weights, optimizer, data counters and parts; what a part may see, what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from cmtl_ir.backbones.building import initial_model, to_device
from cmtl_ir.base.ranks import ALONE, Ranks
from cmtl_ir.base.trees import to_json
from cmtl_ir.config.experiment import Experiment, Strategy
from cmtl_ir.strategy.data import Batch, History, Row, Stage
from cmtl_ir.strategy.objective import sample_losses
from cmtl_ir.strategy.parts import Part
from cmtl_ir.tasks.task import Task
from cmtl_ir.training.optimization import AveragedWeights, load_optimizer, make_optimizer, optimizer_tree
from cmtl_ir.training.shares import DataState


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
        """`ranks`: the processes that share each step's samples."""
        self.training, self.seed, self.device, self.ranks = experiment.training, seed, device, ranks
        self.patch = experiment.data.patch
        self.blocks = experiment.conflict.blocks or {}
        self.task_of = dict(tasks)
        self.tasks = tuple(tasks)
        self.strategy = strategy.fresh()
        self.model = to_device(initial_model(strategy.backbone(experiment.backbone, self.tasks), seed), device)
        self.network: Any = torch.compile(self.model) if self.training.compile else self.model
        self.autocast = self.training.precision == "bf16" or (
            self.training.precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
        )
        self.optimizer = make_optimizer(self.training.optimizer, self.trained_parameters())
        self.average: AveragedWeights | None = None
        self.data = DataState()
        self.before: list[Tensor] | None = None  # the weights one step ago, kept only when the next step is logged
        self.step = 0
        self.stage: Stage | None = None
        self.stage_step = 0
        self.finished: tuple[Stage, ...] = ()
        self.excluded: frozenset[str] = (
            frozenset()
        )  # tasks whose samples are counted but never seen: a run without them
        for part in self.parts().values():
            part.reset()

    # ------------------------------------------------------------------------------ what a part may see

    def batch(self, task: str, ids: Tensor, images: str | None = None) -> Batch:
        """The samples (task, ids), on the clean crops of (images, ids) if given."""
        if images is None:
            return self.task_of[task].batch(ids)
        return self.task_of[task].batch_on(self.task_of[images], ids, ids)

    def forward(self, degraded: Tensor, task_numbers: Tensor, network: nn.Module | None = None) -> Any:
        """The backbone's output under the run's precision: [N, 3, H, W], [N] -> tensor or list of tensors."""
        degraded = degraded.to(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            return (network or self.network)(degraded, task_numbers)

    def restore(self, batch: Batch, network: nn.Module | None = None) -> Any:
        """The backbone's output for a batch, or another network's."""
        return self.forward(batch.degraded, self.task_numbers(batch.task, len(batch.ids)), network)

    def sample_losses(self, restored: Any, batch: Batch) -> Tensor:
        """[B]: the run's loss of each sample."""
        return sample_losses(self.training.loss, restored, batch.clean)

    # ------------------------------------------------------------------------------------------- helpers

    def task_numbers(self, task: str, count: int) -> Tensor:
        """[count] int64: the task's place in the experiment file, for backbones with explicit prompts."""
        return torch.full((count,), self.tasks.index(task), device=self.device)

    def trained_parameters(self) -> list[nn.Parameter]:
        """Parameters that the optimizer moves."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def copy_of_weights(self) -> list[Tensor]:
        """The trained weights as they are now."""
        return [parameter.detach().clone() for parameter in self.trained_parameters()]

    def parts(self) -> dict[str, Part]:
        """Family -> part, those that this strategy has."""
        named = {family: getattr(self.strategy, family) for family in type(self.strategy).model_fields}
        return {family: part for family, part in named.items() if part is not None}

    def history(self) -> History:
        """What the curriculum decides the next stage from."""
        sizes = {name: task.size for name, task in self.task_of.items()}
        return History(self.tasks, self.training.steps, self.finished, sizes, self)

    def evaluated_weights(self) -> dict[str, Tensor]:
        """The weights that are scored and shipped: averaged ones where the run averages."""
        return self.average.weights if self.average is not None else self.model.state_dict()

    def kept_counts(self, rows: Sequence[Row], counts: Sequence[int]) -> list[int]:
        """The counts with excluded tasks at 0: the other tasks' draws stay what they are with those tasks present."""
        return [0 if row.task in self.excluded else count for row, count in zip(rows, counts, strict=True)]

    def seen(self, stage: Stage) -> Stage:
        """The stage as history and parts see it: without excluded tasks, and without a step if they were all of it."""
        if not self.excluded:
            return stage
        mixture = {row: share for row, share in stage.mixture.items() if row.rpartition(":")[2] not in self.excluded}
        return replace(stage, mixture=mixture, steps=stage.steps if mixture or not stage.mixture else 0)

    @property
    def steps_left(self) -> int:
        """Of the stage at hand."""
        return 0 if self.stage is None else self.stage.steps - self.stage_step

    def end_stage_now(self) -> None:
        """Make the step at hand the last one of its stage."""
        assert self.stage is not None
        self.stage = replace(self.stage, steps=self.stage_step + 1)

    def start_stage(self, stage: Stage) -> None:
        """Optimizer and averages as the stage wants them; the weights stay as they are."""
        self.stage, self.stage_step = stage, 0
        if stage.fresh_optimizer:
            self.optimizer = make_optimizer(self.training.optimizer, self.trained_parameters())
        if self.training.ema is not None:
            self.average = AveragedWeights(self.model, self.training.ema)

    def finish_stage(self) -> None:
        """Close the stage: it joins the history."""
        assert self.stage is not None
        self.finished, self.stage = (*self.finished, self.seen(self.stage)), None

    def agree(self) -> None:
        """Take over rank 0's state: what a rank worked out for itself (importance, choices) may differ in last bits."""
        if self.ranks.count > 1:
            tensors: dict[str, Tensor] = {}
            to_json(self.tree(), (), tensors)
            self.ranks.copy_of_first(tensors.values())

    # ---------------------------------------------------------------------------------------- checkpoints

    def tree(self) -> dict[str, Any]:
        """Everything that resumption needs, as a tree of tensors and plain values."""
        return {
            "model": dict(self.model.state_dict()),
            "optimizer": optimizer_tree(self.optimizer),
            "average": self.average.weights if self.average is not None else None,
            "data": self.data.tree(),
            "before": self.before,
            "step": self.step,
            "stage": asdict(self.stage) if self.stage is not None else None,
            "stage_step": self.stage_step,
            "finished": [asdict(stage) for stage in self.finished],
            "parts": {family: part.state_dict() for family, part in self.parts().items()},
        }

    def load_tree(self, tree: Mapping[str, Any]) -> None:
        """Take up where `tree` was taken."""
        self.model.load_state_dict(tree["model"])
        load_optimizer(self.optimizer, tree["optimizer"])
        if tree["average"] is not None and self.training.ema is not None:
            self.average = AveragedWeights(self.model, self.training.ema)
            self.average.weights = {name: value.to(self.device) for name, value in tree["average"].items()}
        self.data = DataState(dict(tree["data"]["counters"]), dict(tree["data"]["carry"]))
        self.before = None if tree["before"] is None else [value.to(self.device) for value in tree["before"]]
        self.step, self.stage_step = tree["step"], tree["stage_step"]
        self.stage = _stage(tree["stage"]) if tree["stage"] is not None else None
        self.finished = tuple(_stage(stage) for stage in tree["finished"])
        for family, part in self.parts().items():
            part.load_state_dict(tree["parts"][family])


def _stage(plain: Mapping[str, Any]) -> Stage:
    return Stage(**{**plain, "span": tuple(plain["span"]) if plain["span"] is not None else None})
