"""The records of an experiment file: frozen and validated. Parts add their own fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PrivateAttr, create_model, field_validator, model_validator

from cmtl_ir.backbones.fields import published_auxiliary
from cmtl_ir.base import names
from cmtl_ir.base.errors import suggestion
from cmtl_ir.base.problems import Problem
from cmtl_ir.base.record import OmitIfDefault, Record
from cmtl_ir.config.evaluation import EvaluationConfig
from cmtl_ir.config.optimizer import OptimizerConfig, ScheduleConfig
from cmtl_ir.config.progressive import Progressive, check_progressive
from cmtl_ir.config.selection import KeepBestConfig, StopEarlyConfig, check_selection
from cmtl_ir.config.stages import refuse_stages_without_a_loss
from cmtl_ir.config.start import StartConfig
from cmtl_ir.config.unlearning import UnlearningConfig
from cmtl_ir.config.watching import CheckpointConfig, ConflictConfig
from cmtl_ir.strategy.families import KEYS
from cmtl_ir.strategy.making import base_described, base_objective, described
from cmtl_ir.strategy.objective import Objective
from cmtl_ir.strategy.parts import Part
from cmtl_ir.tasks.config import DataConfig, TaskConfig

Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
LARGEST_BATCH = 1_000_000

if TYPE_CHECKING:
    from cmtl_ir.strategy.grouping import Grouping
    from cmtl_ir.strategy.parts import Curriculum, Retention, Surgery, Weighting


class TrainingConfig(Record):
    """Training settings, the same for every strategy unless it has its own (`strategies.LABEL.training`)."""

    steps: int = Field(900, gt=0, le=10**12)
    """Optimizer steps of a whole run."""
    batch: int = Field(12, gt=0, le=LARGEST_BATCH)
    """Samples per step, over all tasks."""
    loss: str | dict[str, Any] = "l1"
    """Base objective, the loss of one sample: a name, `file.py:Class`, or {name: ..., field: value}."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Optimizer and learning rate."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Learning-rate schedule of a stage."""
    clip: float | None = Field(None, gt=0)
    """Largest gradient norm; null: no clipping."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights. If set, the average is evaluated; null: no average."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """auto: bf16 autocast on GPUs that support it, otherwise float32."""
    engine: Literal["auto", "stream", "grouped"] = "auto"
    """How row gradients are computed. auto: a fixed rule of device, sizes and number of parameters."""
    micro_batch: Annotated[int | None, OmitIfDefault()] = Field(None, gt=0)
    """Largest number of samples per pass, for batches that do not fit in memory. Gradients are accumulated row by row
    and piece by piece; rows with more samples cost a second forward pass. null: no limit."""
    shared: Annotated[list[str] | None, OmitIfDefault()] = Field(None, min_length=1)
    """Shell patterns of parameter names, as in `encoder*`. The Gramian is computed on these parameters only, and the
    resulting weights of the rows apply to all parameters; null: on all. Only for methods that need no more than the
    Gramian."""
    compile: bool = False
    """Whether to compile the backbone with torch.compile (fixed patch size)."""
    keep_best: Annotated[KeepBestConfig | None, OmitIfDefault()] = None
    """Hand over the weights of the evaluation of each stage that is best on `data.val`, as in {on: mean_psnr}; null:
    those of the last step. They are scored and stored."""
    stop_early: Annotated[StopEarlyConfig | None, OmitIfDefault()] = None
    """End a stage once `data.val` has not become better for some evaluations, as in {patience: 3}; null: at its end."""

    progressive: Annotated[Progressive | None, OmitIfDefault()] = None
    """Phases of each stage with their own crops and batch, as in [{until: .3, patch: 32, batch: 16}, {until: 1}]; null:
    crops of data.patch and samples of training.batch throughout."""

    @property
    def selects(self) -> bool:
        """Whether validation images decide which weights are scored."""
        return self.keep_best is not None or self.stop_early is not None

    @field_validator("optimizer", "schedule", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("loss", mode="before")
    @classmethod
    def _base_objective(cls, given: Any) -> str | dict[str, Any]:
        problems: list[Problem] = []
        objective = base_objective(given, "", problems)
        if problems or objective is None:
            raise ValueError("; ".join(map(str, problems)))
        return base_described(objective)

    @model_validator(mode="after")
    def _micro_batches_stream(self) -> TrainingConfig:
        if self.micro_batch is not None and self.engine == "grouped":
            raise ValueError("micro_batch needs the engine stream: set engine to auto or stream")
        return self


def _keys_of_a_strategy() -> dict[str, Any]:
    """Return field definitions for pydantic, one per family that is a key of a strategy."""
    fields: dict[str, Any] = {}
    for key, family in KEYS.items():
        contract: Any = family.base()
        if family.many:
            fields[key] = (tuple[contract, ...], ())
        elif family.neutral is not None:
            fields[key] = (contract, ...)
        else:
            fields[key] = (contract | None, None)
    return fields


_Keys: Any = create_model("_Keys", __base__=Record, **_keys_of_a_strategy())


class Strategy(_Keys):
    """A composition of parts. A part is a name or `{name: ..., field: value}`; absent parts are neutral.

    The fields are the keys of the table of families. Those that the engine calls are declared here for type checkers.
    """

    if TYPE_CHECKING:
        curriculum: Curriculum
        weighting: Weighting
        surgery: Surgery | None
        retention: Retention | None
        grouping: Grouping | None
        auxiliary: tuple[Objective, ...]

    weighting_sees: Literal["restoration", "total"] = "restoration"
    """restoration: weighting and surgery see the base objective; total: its sum with the auxiliary objectives."""
    training: dict[str, Any] | None = None
    """Training settings of this strategy alone, merged over those of the experiment; null: none of its own. The
    identity of a run holds the merged settings, so a strategy may also be given them by its own experiment."""
    start: StartConfig | None = None
    """Weights that this strategy begins from; null: those of the experiment's `start`, or else initial weights."""

    def resolved(self) -> dict[str, Any]:
        """Return every part with all its fields as plain data. It is part of the identity of a run."""
        found: dict[str, Any] = {}
        for key, family in KEYS.items():
            parts = self.parts_of(key)
            if family.many:
                plain: Any = [described(part) for part in parts]
            else:
                plain = described(parts[0]) if parts else None
            if parts or family.always_in_identity:
                found[key] = plain
        if self.auxiliary and self.weighting_sees != "restoration":
            found["weighting_sees"] = self.weighting_sees
        return found

    def parts_of(self, key: str) -> tuple[Part, ...]:
        """Return the parts of a key: several for a family that takes a list, none if the key is absent."""
        given = getattr(self, key)
        if given is None:
            return ()
        return tuple(given) if KEYS[key].many else (given,)

    def names(self) -> dict[str, str | None]:
        """Return key -> name of its part: `None` for an absent one, the labels of several joined by `+`."""
        named: dict[str, str | None] = {}
        for key, family in KEYS.items():
            called = [part.label if isinstance(part, Objective) else part.called for part in self.parts_of(key)]
            if called or not family.many:
                named[key] = "+".join(called) or None
        return named

    @property
    def idle_weighting(self) -> bool:
        """Whether a weighting is given together with a surgery whose direction does not depend on it."""
        kept = self.surgery is not None and self.surgery.keeps_direction
        return kept and self.weighting.called != KEYS["weighting"].neutral

    def backbone(self, fields: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, Any]:
        """Return name and fields of the network to train: that of the experiment, or one built from it."""
        made = self.retention.backbone(fields, tasks) if self.retention is not None else fields
        for objective in self.auxiliary:
            made = objective.backbone(made, tasks)
        return dict(made)

    def fresh(self) -> Strategy:
        """Return a copy whose parts have an empty state of their own."""
        made: dict[str, Any] = {}
        for key, family in KEYS.items():
            parts = tuple(part.model_copy(deep=True) for part in self.parts_of(key))
            made[key] = parts if family.many else next(iter(parts), None)
        return Strategy(**made, weighting_sees=self.weighting_sees, training=self.training, start=self.start)


class Experiment(Record):
    """An experiment file: one backbone, some tasks, several strategies with the same budget."""

    name: str
    """Name of the comparison, of its folder and of its parent run."""
    tasks: dict[str, TaskConfig]
    """Task name -> degradation or folders. Names are checked by `cmtl_ir.base.names.task`."""
    data: DataConfig = DataConfig()
    """Images that the tasks share."""
    backbone: dict[str, Any] = Field({"name": "nafnet"})
    """Name and constructor fields of the shared backbone."""
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    """Budget and optimizer, the same for all strategies unless one has its own settings."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Scoring of test images."""
    conflict: ConflictConfig = ConflictConfig()
    """Gradient-conflict statistics."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Checkpoints. Not part of a run's identity."""
    start: Annotated[StartConfig | None, OmitIfDefault()] = None
    """Weights that all strategies begin from: a run, a file, or {from: ..., learned: [...]}; null: initial weights."""
    seeds: list[Seed] = Field([0], min_length=1)
    """Seeds. Each strategy is trained once per seed."""
    strategies: dict[str, Strategy] = Field(min_length=1)
    """Label -> composition of parts."""
    unlearning: UnlearningConfig | None = None
    """Request that `cmtl-ir unlearn FILE` carries out on a finished run of this experiment."""
    _plain: Strategy | None = PrivateAttr(default=None)
    """A strategy that names nothing: neutral parts, with the objectives of `training.auxiliary` or the backbone's."""

    @field_validator("name")
    @classmethod
    def _usable_name(cls, name: str) -> str:
        return names.experiment(name)

    @field_validator("tasks")
    @classmethod
    def _task_names(cls, tasks: dict[str, TaskConfig]) -> dict[str, TaskConfig]:
        for name in tasks:
            names.task(name)
        if not tasks:
            raise ValueError("no task is given")
        return tasks

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("a seed is given twice")
        return seeds

    @model_validator(mode="after")
    def _starts_know_their_tasks(self) -> Experiment:
        own = {f"strategies.{label}.start": one.start for label, one in self.strategies.items()}
        for path, start in {"start": self.start, **own}.items():
            if start is not None:
                start.check(list(self.tasks), path)
        return self

    def start_of(self, strategy: Strategy) -> StartConfig | None:
        """Return the weights that a strategy begins from. `None` stands for initial weights."""
        start = strategy.start or self.start
        return None if start is None or start.is_initial else start

    @model_validator(mode="after")
    def _parts_know_their_tasks(self) -> Experiment:
        for label, strategy in self.strategies.items():
            for key in KEYS:
                named = {task for part in strategy.parts_of(key) for task in part.named_tasks()}
                unknown = sorted(named - set(self.tasks))
                if unknown:
                    near = suggestion(unknown[0], list(self.tasks))
                    raise ValueError(f"strategies.{label}.{key} names the unknown task {unknown[0]!r}; {near}")
        refuse_stages_without_a_loss(self.strategies)
        check_selection(self)
        check_progressive(self)
        return self

    def resolved(self) -> dict[str, Any]:
        """Return the experiment as plain data, with every default."""
        plain = self.model_dump(mode="json", exclude={"strategies", "unlearning"})
        asked = {"unlearning": self.unlearning.resolved()} if self.unlearning is not None else {}
        published = published_auxiliary(self.backbone["name"])
        silent: dict[str, Any] = {"auxiliary": []} if published else {}  # a missing key would stand for the published
        strategies = {label: {**silent, **_declared(one)} for label, one in self.strategies.items()}
        return {**plain, "strategies": strategies, **asked}


def _declared(strategy: Strategy) -> dict[str, Any]:
    """Return a strategy as its experiment file declares it: its parts, and its own training settings and start."""
    own: dict[str, Any] = {} if strategy.training is None else {"training": strategy.training}
    if strategy.start is not None:
        own["start"] = strategy.start.model_dump(mode="json")
    return {**strategy.resolved(), **own}
