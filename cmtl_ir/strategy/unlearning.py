"""The contract of unlearning, in one line: (model, forget, retain, ...) -> model.

An `Unlearner` is a short program of stages in the ordinary loop, whose rows are `forget:TASK`, `retain:TASK` and
`adversarial:TASK` with the coefficients of its method, or an `edit` of the weights in a stage without steps. A
`Rerun` trains again without the forgotten tasks, an `Ensemble` deletes or remakes constituents: both are exact.
Legend of shapes: B samples of a row, P trained parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, PrivateAttr

from cmtl_ir.base.errors import UserError
from cmtl_ir.strategy.data import Batch, History, Learner, Row, RowLoss, Stage
from cmtl_ir.strategy.parts import Cost, Curriculum, Retention
from cmtl_ir.strategy.wrapped import Wrapped


@dataclass(frozen=True)
class Request:
    """What is asked of an unlearner."""

    forget: tuple[str, ...]
    """The tasks to forget now."""
    retain: tuple[str, ...]
    """The tasks that the run had and keeps; empty where their data are not to be used."""
    reference: Path | None = None
    """Weights of the run retrained without everything forgotten so far; None: there is none."""


class Program(Curriculum):
    """The stages of an unlearner, one after the other."""

    _stages: tuple[Stage, ...] = PrivateAttr(default=())

    @classmethod
    def of(cls, stages: Sequence[Stage]) -> Self:
        """A curriculum of exactly these stages."""
        program = cls()
        program._stages = tuple(stages)
        return program

    def stages(self) -> tuple[Stage, ...]:
        """All of them."""
        return self._stages

    def next_stage(self, history: History) -> Stage | None:
        """The first that is not finished."""
        done = len(history.stages)
        return self._stages[done] if done < len(self._stages) else None


class Unlearner(Retention):
    """How a trained model is made to forget. Without steps: override `edit`; with steps: `stages` and `rows`."""

    family: ClassVar[str] = "unlearning"
    cost: ClassVar[Cost] = Cost()
    needs_retain: ClassVar[bool] = True
    """True: cannot work without data of the retained tasks."""

    _request: Request = PrivateAttr(default=Request((), ()))

    def ask(self, request: Request) -> None:
        """Say what is to be forgotten, before training begins."""
        self._request = request

    @property
    def request(self) -> Request:
        """What is to be forgotten."""
        return self._request

    def wants_retain(self) -> bool:
        """True when, with these fields, retained tasks' data are read."""
        return self.needs_retain

    def without_retain(self) -> Self:
        """The same method without data of the retained tasks, where a field `retain` can switch them off."""
        able = "retain" in type(self).model_fields and not self.needs_retain
        return self.model_copy(update={"retain": False}) if able else self

    def wants_target(self) -> bool:
        """True when it searches or stops at the retrained reference's forget PSNR (the identity's without one)."""
        return False

    def with_steps(self, steps: int) -> Self:
        """The same method with another budget. Raises UserError where there are no steps to count."""
        raise UserError(f"--steps: {self.called} has no number of steps to choose")

    def recipe(self) -> dict[str, Any]:
        """What it changes in the parent's `training`; nested like that record."""
        return {"steps": 1, "ema": None}

    def stages(self) -> list[Stage]:
        """The program; a stage without steps for a one-shot edit."""
        return [Stage("edit", {}, 0)]

    def edit(self, learner: Learner) -> None:
        """Change the weights in place, once."""

    def begin_stage(self, stage: Stage, learner: Learner) -> None:
        """Where the stage has no steps, the edit is all there is to it."""
        if stage.steps == 0:
            self.edit(learner)

    def pooled(
        self,
        kind: str,
        coefficient: float,
        loss: RowLoss | None = None,
        *,
        memory: Sequence[int] | None = None,
        view: Callable[[Batch], Batch] | None = None,
    ) -> list[Row]:
        """One row a task of `forget` and `adversarial`, or of `retain`: coefficient * mean loss over all of them."""
        tasks = self.request.retain if kind == "retain" else self.request.forget
        named = [(f"{kind}:{task}", task) for task in tasks]
        share = 1.0 / max(len(tasks), 1)
        return [
            Row(name, task, share, coefficient, memory=memory, loss=loss, pooled=True, view=view)
            for name, task in named
        ]


class Descent(Unlearner):
    """An unlearner that takes optimizer steps at a constant rate, from the parent's weights, with a fresh optimizer."""

    steps: int = Field(150, ge=0)
    """Optimizer steps."""
    lr: float = Field(5e-4, gt=0)
    """Learning rate, constant."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of the parent's kind of optimizer."""

    def with_steps(self, steps: int) -> Self:
        """The same method with another number of steps."""
        return self.model_copy(update={"steps": steps})

    def recipe(self) -> dict[str, Any]:
        """Steps and rate; no average of weights, no warm-up."""
        optimizer = {"lr": self.lr, "weight_decay": self.weight_decay}
        return {
            "steps": max(self.steps, 1),
            "optimizer": optimizer,
            "schedule": {"name": "constant", "warmup": 0, "floor": 0.0},
            "ema": None,
        }

    def stages(self) -> list[Stage]:
        """One stage."""
        return [Stage("unlearn", {}, self.steps)]

    def begin_stage(self, stage: Stage, learner: Learner) -> None:
        """`prepare` before the first step of all."""
        if "prepared" not in self.state:
            self.prepare(learner)
            self.state["prepared"] = True

    def prepare(self, learner: Learner) -> None:
        """Measure what the method needs of the trained model; what it keeps belongs into `state`."""


class WrappedUnlearner(Wrapped, Unlearner):
    """An unlearner that does what its `base` does, until a subclass takes a hook over."""

    base: Unlearner

    def ask(self, request: Request) -> None:
        super().ask(request)
        self.base.ask(request)

    def wants_retain(self) -> bool:
        return self.base.wants_retain()

    def without_retain(self) -> Self:
        return self.model_copy(update={"base": self.base.without_retain()})

    def wants_target(self) -> bool:
        return self.base.wants_target()

    def with_steps(self, steps: int) -> Self:
        return self.model_copy(update={"base": self.base.with_steps(steps)})

    def recipe(self) -> dict[str, Any]:
        return self.base.recipe()

    def stages(self) -> list[Stage]:
        return self.base.stages()

    def edit(self, learner: Learner) -> None:
        self.base.edit(learner)


class Rerun(Unlearner):
    """Exact: training itself, again, with the forgotten tasks excluded from every batch."""

    is_reference: ClassVar[bool] = False
    """True: the run that all others are measured against."""

    def starting_stage(self, stages: Sequence[Stage], forgotten: Sequence[str]) -> int:
        """How many of the parent's finished stages can be taken as they are; 0: from the initial weights."""
        return 0


@dataclass(frozen=True)
class Constituent:
    """One model of an ensemble: an ordinary run over some ids of some tasks."""

    name: str
    tasks: tuple[str, ...]
    """Those that it reads."""
    curriculum: Curriculum
    touched: bool
    """True: it had seen something that is forgotten, so it is trained anew, in part or from the start."""
    before: Curriculum | None = None
    """What it was before, where some of its stages can be taken as they are."""
    same_stages: int = 0
    """How many leading stages of `before` are the same."""


class Ensemble(Unlearner):
    """Exact: several models trained on disjoint parts of the data, whose outputs are averaged."""

    def constituents(self, samples: Mapping[str, int], batch: int) -> list[Constituent]:
        """The models that remain, in a fixed order. `samples`: how many draws of each task the parent trained on."""
        raise TypeError(f"{type(self).__name__} does not say what it consists of")
