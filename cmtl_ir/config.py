"""YAML -> frozen, validated records. The shape of an experiment file is this file; parts bring their own fields."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from cmtl_ir import yaml
from cmtl_ir.errors import ConfigError
from cmtl_ir.grouping import Grouping
from cmtl_ir.parts import Problem, backbone_fields, part_from, problems_of
from cmtl_ir.records import Record
from cmtl_ir.registry import suggestion
from cmtl_ir.strategy import Curriculum, Part, Retention, Schedule, Surgery, Weighting
from cmtl_ir.tasks.config import DataConfig, TaskConfig
from cmtl_ir.unlearning.config import UnlearningConfig, unlearning_from

log = logging.getLogger("cmtl_ir")
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
PARTS: dict[str, tuple[type[Part], str | None]] = {
    "curriculum": (Curriculum, "joint"),
    "weighting": (Weighting, "proportional"),
    "surgery": (Surgery, None),
    "retention": (Retention, None),
    "grouping": (Grouping, None),
}
"""Family -> its contract and the neutral part that stands in when the key is absent."""


class OptimizerConfig(Record):
    """The optimizer, the same for every strategy."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    """Which optimizer."""
    lr: float = Field(1e-3, gt=0)
    """Base learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Moment decay of adam and adamw."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled for adamw, added to the gradient otherwise."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Of sgd."""


class ScheduleConfig(Record):
    """Learning rate within each stage."""

    name: Literal["cosine", "constant"] = "cosine"
    """Cosine from lr to floor, or constant."""
    warmup: int = Field(0, ge=0)
    """Steps of linear warm-up at the start of a stage."""
    floor: float = Field(0.0, ge=0)
    """Learning rate at the end of a cosine."""
    stretch: float = Field(1.0, ge=1)
    """The cosine is laid out for so many times the stage and stopped at its end: PromptIR's, for 150 epochs and stopped
    at 120, is 1.25."""

    def of_stage(self, cycles: int = 1) -> Schedule:
        """The schedule of one stage."""
        return Schedule(self.name, self.warmup, cycles, self.floor, self.stretch)


class TrainingConfig(Record):
    """How every strategy trains: the same steps, batch, loss and optimizer for all."""

    steps: int = Field(900, gt=0)
    """Optimizer steps of a whole run."""
    batch: int = Field(12, gt=0)
    """Samples a step, over all tasks."""
    loss: Literal["l1", "charbonnier", "psnr"] = "l1"
    """Loss of one sample: mean |e|; mean sqrt(e^2 + 1e-6); 10 log10(mse + 1e-8) in dB."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Optimizer and learning rate."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Learning-rate schedule of a stage."""
    clip: float | None = Field(None, gt=0)
    """Largest gradient norm; null: no clipping."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights, which is then what is evaluated; null: none."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """auto: bf16 autocast on a GPU that has it, else float32."""
    engine: Literal["auto", "stream", "grouped"] = "auto"
    """How per-row gradients are computed; auto: a fixed rule of device, sizes and parameters."""
    micro_batch: int | None = Field(None, gt=0)
    """At most so many samples in one pass, for batches that do not fit: gradients are gathered row by row and piece by
    piece, at the price of a second forward pass of rows that have more; null: as many as there are."""
    shared: list[str] | None = Field(None, min_length=1)
    """Shell patterns of parameter names, as in `encoder*`: the rows are compared on these alone, and what a surgery
    makes of it moves all parameters; null: on all. For methods that need no more than the Gramian."""
    compile: bool = False
    """torch.compile of the backbone (fixed patch size)."""

    @field_validator("optimizer", "schedule", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _micro_batches_stream(self) -> TrainingConfig:
        if self.micro_batch is not None and self.engine == "grouped":
            raise ValueError("micro_batch goes row by row: engine cannot be grouped")
        return self

    @model_serializer(mode="wrap")
    def _only_what_is_asked_for(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `micro_batch` and `shared` where they are null: runs older than these fields keep their identity."""
        return {key: value for key, value in handler(self).items() if key not in YOUNGER or value is not None}


YOUNGER = ("micro_batch", "shared")


class EvaluationConfig(Record):
    """When and how test images are scored; for the record only: nothing is selected on them."""

    every: int = Field(0, ge=0)
    """Steps between evaluations; 0: at the end of each stage only."""
    protocol: Literal["promptir", "basicsr_rgb", "basicsr_y", "matlab_y", "mio", "nafnet"] = "promptir"
    """Metric protocol; tables never mix two."""
    tile: int = Field(1024, ge=64)
    """Images with a side above this many pixels are restored in overlapping tiles of this side."""


class ConflictConfig(Record):
    """Gradient-conflict statistics."""

    every: int = Field(0, ge=0)
    """Steps between logged conflict statistics; 0: never. Part of a run's identity: a logged step updates from
    the very row gradients that it logs."""
    blocks: dict[str, list[str]] | None = None
    """Name -> shell patterns of parameter names, as in `encoder: [encoders*, downs*]`: the same statistics for these
    parameters alone, too. Not part of a run's identity: what is finished is not trained again for them."""


class CheckpointConfig(Record):
    """When state is saved so that a killed run goes on to the same weights."""

    every: int = Field(200, gt=0)
    """Steps between checkpoints; one is also written at stage ends and on Ctrl-C or SIGTERM."""
    minutes: float | None = Field(10.0, gt=0)
    """Also save when the last checkpoint is so many minutes old; null: by steps alone."""
    keep: int = Field(2, ge=1)
    """How many of the newest to keep."""


class Strategy(Record):
    """A composition of parts. A part is a name or `{name: ..., field: value}`; absent parts are neutral."""

    curriculum: Curriculum
    weighting: Weighting
    surgery: Surgery | None = None
    retention: Retention | None = None
    grouping: Grouping | None = None

    def resolved(self) -> dict[str, Any]:
        """Every part with all its fields, as plain data: what the run's identity is made of."""
        return {family: described(getattr(self, family)) for family in PARTS}

    @property
    def idle_weighting(self) -> bool:
        """True: a weighting is asked for beside a surgery whose direction does not depend on it."""
        kept = self.surgery is not None and self.surgery.keeps_direction
        return kept and type(self.weighting) is not type(neutral().weighting)

    def backbone(self, fields: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, Any]:
        """Name and fields of the network that this strategy trains: the experiment's, or one that is made of it."""
        return dict(self.retention.backbone(fields, tasks) if self.retention is not None else fields)

    def fresh(self) -> Strategy:
        """A copy whose parts have their own, empty state."""
        parts = {family: getattr(self, family) for family in PARTS}
        return Strategy(**{family: part and part.model_copy(deep=True) for family, part in parts.items()})


def neutral() -> Strategy:
    """Joint training and nothing else: every part neutral."""
    return _strategy({}, "neutral", [])


def described(part: Part | None) -> dict[str, Any] | None:
    """Name and fields of a part as plain data; None stays None."""
    return None if part is None else {"name": part.called, **part.model_dump(mode="json")}


class Experiment(Record):
    """One experiment file: one backbone, some tasks, many strategies, the same budget for each."""

    name: str = Field(pattern=NAME)
    """Name of the comparison: its folder and its parent run."""
    tasks: dict[str, TaskConfig]
    """Task name -> degradation or folders; names match [a-z][a-z0-9_]*."""
    data: DataConfig = DataConfig()
    """Images shared by the tasks."""
    backbone: dict[str, Any] = Field({"name": "nafnet"})
    """Name and constructor fields of the shared backbone."""
    training: TrainingConfig = TrainingConfig()
    """Budget and optimizer, the same for all strategies."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Scoring of test images."""
    conflict: ConflictConfig = ConflictConfig()
    """Gradient-conflict statistics."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Saving for resumption; not part of a run's identity."""
    seeds: list[int] = Field([0], min_length=1)
    """Each strategy is trained once a seed."""
    strategies: dict[str, Strategy] = Field(min_length=1)
    """Label -> composition of parts."""
    unlearning: UnlearningConfig | None = None
    """What `cmtl-ir unlearn FILE` makes a finished run of this experiment forget."""

    @field_validator("tasks")
    @classmethod
    def _task_names(cls, tasks: dict[str, TaskConfig]) -> dict[str, TaskConfig]:
        import re

        wrong = [name for name in tasks if not re.fullmatch(r"[a-z][a-z0-9_]*", name)]
        if wrong or not tasks:
            raise ValueError(f"task names match [a-z][a-z0-9_]*; not so: {wrong}" if wrong else "no task is given")
        return tasks

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("a seed is given twice")
        return seeds

    @model_validator(mode="after")
    def _parts_know_their_tasks(self) -> Experiment:
        for label, strategy in self.strategies.items():
            for family in PARTS:
                part = getattr(strategy, family)
                unknown = sorted(set(part.named_tasks()) - set(self.tasks)) if part is not None else []
                if unknown:
                    near = suggestion(unknown[0], list(self.tasks))
                    raise ValueError(f"strategies.{label}.{family} names the unknown task {unknown[0]!r}; {near}")
        return self

    def resolved(self) -> dict[str, Any]:
        """The whole experiment with every default written out, as plain data."""
        plain = self.model_dump(mode="json", exclude={"strategies", "unlearning"})
        asked = {"unlearning": self.unlearning.resolved()} if self.unlearning is not None else {}
        return {**plain, "strategies": {label: one.resolved() for label, one in self.strategies.items()}, **asked}


# ---------------------------------------------------------------------------------------------- from YAML text


def find(name: str) -> Path:
    """The file of that path, or the shipped experiment of that name. Raises ConfigError with near names."""
    path = Path(name).expanduser()
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        if path.is_file():
            return path
        raise ConfigError(f"{name}: no such file{_shipped_hint(path.stem)}")
    shipped = shipped_experiments()
    if name in shipped:
        return shipped[name]
    raise ConfigError(f"no experiment {name!r}: {suggestion(name, list(shipped))} (or give a path ending in .yaml)")


def _shipped_hint(stem: str) -> str:
    return (
        f"; the shipped experiment of that name runs as `cmtl-ir run {stem}`" if stem in shipped_experiments() else ""
    )


def shipped_experiments() -> dict[str, Path]:
    """Name -> file of every experiment that is installed with the package."""
    home = Path(str(resources.files("cmtl_ir.experiments")))
    return {str(path.relative_to(home).with_suffix("")): path for path in sorted(home.rglob("*.yaml"))}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Deep merge: mappings merge key by key, everything else is replaced; null removes a key."""
    result = dict(base)
    for key, value in over.items():
        if value is None and key in base and isinstance(base[key], Mapping):
            del result[key]
        elif isinstance(value, Mapping) and isinstance(base.get(key), Mapping):
            result[key] = merged(base[key], value)
        else:
            result[key] = value
    return result


def read_raw(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The mapping in a file with everything that it `extends:` merged beneath it."""
    path = path.resolve()
    if path in seen:
        raise ConfigError(f"{path}: extends itself: {' -> '.join(str(one) for one in (*seen, path))}")
    content = yaml.read(path)
    base = content.pop("extends", None)
    if base is None:
        return content
    beneath = path.parent / str(base)
    return merged(read_raw(beneath if beneath.is_file() else find(str(base)), (*seen, path)), content)


def with_overrides(raw: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply `path=value` overrides; values are YAML. Raises ConfigError for one without `=`."""
    for override in overrides:
        dotted, equals, text = override.partition("=")
        if not equals or not dotted:
            raise ConfigError(f"--set {override!r}: expected path=value, as in training.steps=300")
        nested: Any = yaml.parse(text)
        for key in reversed(dotted.split(".")):
            nested = {key: nested}
        raw = merged(raw, nested)
    return raw


def load(name: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """The validated experiment of a file or of a shipped name. Raises ConfigError listing every mistake found."""
    path = find(str(name))
    raw = with_overrides(read_raw(path), overrides)
    if "search" in raw:
        raise ConfigError(f"{path} is a search: `cmtl-ir search {name}` runs it")
    experiment = validate(raw, str(name))
    for label, strategy in experiment.strategies.items():
        if strategy.surgery is not None and strategy.idle_weighting:
            log.warning(
                "strategies.%s: where the tasks' gradients are independent, the direction of %s does not depend on "
                "task weights; %s changes the length of its steps alone",
                *(label, strategy.surgery.called, strategy.weighting.called),
            )
    return experiment


def validate(raw: Mapping[str, Any], source: str) -> Experiment:
    """Raw keys and values -> Experiment; all mistakes at once, each with its path in the file."""
    problems: list[Problem] = []
    content = dict(raw)
    strategies = content.pop("strategies", {"joint": {}})
    content["strategies"] = _strategies(strategies, problems)
    content["unlearning"] = unlearning_from(
        content.get("unlearning"), list(content.get("tasks", ())), list(content["strategies"]), problems
    )
    content["backbone"] = backbone_fields(content.get("backbone", {"name": "nafnet"}), problems)
    experiment = None
    try:
        experiment = Experiment.model_validate(content)
    except ValidationError as error:
        problems += problems_of(error, Experiment)
    if problems or experiment is None:
        listed = "\n".join(f"  {problem}" for problem in dict.fromkeys(str(one) for one in problems))
        raise ConfigError(f"{source}:\n{listed}")
    return experiment


def _strategies(raw: Any, problems: list[Problem]) -> Any:
    if not isinstance(raw, Mapping) or not raw:
        problems.append(Problem("strategies", "expected label: {curriculum: ..., weighting: ..., surgery: ...}"))
        return {"joint": _strategy({}, "strategies.joint", [])}
    return {str(label): _strategy(parts, f"strategies.{label}", problems) for label, parts in raw.items()}


def _strategy(raw: Any, path: str, problems: list[Problem]) -> Strategy:
    parts = raw if isinstance(raw, Mapping) else {}
    if raw is not None and not isinstance(raw, Mapping):
        problems.append(Problem(path, f"expected parts such as {{surgery: pcgrad}}, found {raw!r}"))
    for key in parts:
        if key not in PARTS:
            problems.append(Problem(f"{path}.{key}", f"unknown part; {suggestion(str(key), list(PARTS))}"))
    made: dict[str, Any] = {}
    for family, (contract, neutral) in PARTS.items():
        given = parts.get(family, neutral)
        part = part_from(family, given, f"{path}.{family}", problems) if given is not None else None
        made[family] = part if isinstance(part, contract) or neutral is None else part_from(family, neutral, path, [])
    return Strategy.model_construct(**made)
