"""A comparison as tidy pandas frames, read when they are first used. `columns.COLUMNS` explains every column."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import UserError
from cmtl_ir.config import reading
from cmtl_ir.config.own_training import flat
from cmtl_ir.config.progressive import samples_of
from cmtl_ir.measures.continual import NEVER
from cmtl_ir.measures.curve import scales_in
from cmtl_ir.measures.scale import Scale
from cmtl_ir.store.folder import with_nan
from cmtl_ir.store.layout import CONFIG, CONFLICT, CURVE, PER_IMAGE, RESULT, SUITES
from cmtl_ir.store.listing import comparisons, has_list
from cmtl_ir.strategy.families import KEYS

from . import sources
from .columns import COLUMNS, RUN, columns_of, frame_of
from .sources import Member, Source

if TYPE_CHECKING:
    import pandas as pd


class Frames:
    """All data frames of one comparison."""

    def __init__(self, source: Source) -> None:
        self.source, self.name, self.experiment = source, source.name, source.experiment
        self.stale = (*source.stale, *((one.label, one.seed) for one in source.members if one in self._outdated))
        self.members = tuple(one for one in source.members if one not in self._outdated)

    @classmethod
    def of_folder(cls, folder: str | Path) -> Frames:
        """Read the comparison in the folder OUT/NAME that `cmtl-ir run` wrote. Raise UserError if there is none."""
        return cls(sources.of_folder(Path(folder)))

    @classmethod
    def of_store(cls, uri: str, comparison: str) -> Frames:
        """Read a comparison from a tracking store. Raise UserError if the store does not have it."""
        return cls(sources.of_store(uri, comparison))

    @cached_property
    def _outdated(self) -> tuple[Member, ...]:
        """The finished runs of another definition of their strategy than that of the experiment.

        Only where finished runs of one label differ and one of them has the definition of the experiment.
        """
        found: list[Member] = []
        for label, wanted in self.experiment.get("strategies", {}).items():
            own = [one for one in self.source.members if one.label == label and one.finished]
            if len(own) > 1:
                files = {one: one.file(CONFIG) for one in own}
                known = {
                    one: _defined(dict(yaml.read(file))["identity"].get("strategy"))
                    for one, file in files.items()
                    if file
                }
                if _defined(wanted) in known.values():
                    found += [one for one, strategy in known.items() if strategy != _defined(wanted)]
        return tuple(found)

    @cached_property
    def finished(self) -> tuple[Member, ...]:
        """The runs with readable scores."""
        return tuple(one for one in self.members if one.finished and one.file(PER_IMAGE) is not None)

    @cached_property
    def labels(self) -> list[str]:
        """Names of all strategies, finished or not, in the order of the experiment."""
        return list(dict.fromkeys(member.label for member in self.members))

    @cached_property
    def tasks(self) -> list[str]:
        """Task names in the order of the experiment, or in the order of the scores if the experiment is not known."""
        return list(self.experiment.get("tasks", {})) or list(dict.fromkeys(self.images["task"]))

    def own_training(self, label: str) -> dict[str, Any]:
        """Return the training settings that a strategy alone was given. Empty if it has none."""
        return (self.experiment.get("strategies", {}).get(label) or {}).get("training") or {}

    @cached_property
    def results(self) -> dict[str, dict[str, Any]]:
        """Run -> its result. Empty if the store does not have the result."""
        files = {member.run: member.file(RESULT) for member in self.finished}
        return {run: with_nan(json.loads(file.read_text())) if file else {} for run, file in files.items()}

    @cached_property
    def scales(self) -> tuple[Scale, ...]:
        """The metrics that at least one finished run was scored by, PSNR first."""
        return scales_in(list(self.results.values()))

    @cached_property
    def configs(self) -> dict[str, dict[str, Any]]:
        """Run -> its record: `identity` and `environment` of every finished run."""
        files = {member.run: member.file(CONFIG) for member in self.finished}
        return {run: dict(yaml.read(file)) if file else {} for run, file in files.items()}

    # --------------------------------------------------------------------------------------------- the frames

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row per run, including unfinished runs."""
        rows = []
        for member in self.members:
            strategy = self.configs.get(member.run, {}).get("identity", {}).get("strategy")
            strategy = strategy or self.experiment.get("strategies", {}).get(member.label, {})
            words = ", ".join(filter(None, [_parts(strategy), *_own(self.own_training(member.label))]))
            known = {"curriculum": (strategy.get("curriculum") or {}).get("name", ""), "parts": words}
            rows.append({**_run(member), "status": member.status, **known, "steps": self.steps.get(member.run)})
        return frame_of("runs", rows)

    @cached_property
    def cost(self) -> pd.DataFrame:
        """Cost of training, one row per finished run."""
        return frame_of("cost", [_run(member) | self._cost_of(member.run) for member in self.finished])

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One row per evaluation and task of the finished runs."""
        return frame_of("curves", self._files(CURVE), self.scales)

    @cached_property
    def matrices(self) -> pd.DataFrame:
        """One row per stage and task: the evaluations at the ends of stages, with the stage's number."""
        frame = self.curves[self.curves["stage_end"] != ""].rename(columns={"stage_end": "stage_name"})
        frame["stage"] = frame.groupby("run")["step"].rank("dense").astype(int) - 1
        own = {run: self._own_stages(run) for run in frame["run"].unique()}
        frame["own_stage"] = [own[run].get(task, NEVER) for run, task in zip(frame["run"], frame["task"], strict=True)]
        return frame[columns_of("matrices", self.scales)].reset_index(drop=True)

    @cached_property
    def images(self) -> pd.DataFrame:
        """One row per test image, variant and task of the finished runs."""
        return frame_of("images", self._files(PER_IMAGE), self.scales)

    @cached_property
    def suites(self) -> list[dict[str, Any]]:
        """One row per line of a suite, test image and answer of the finished runs, as `evaluate --suite` left them."""
        return list(self._files(SUITES))

    @cached_property
    def conflict(self) -> pd.DataFrame:
        """One row per pair of gradient rows and logged step of the finished runs, over the whole network."""
        return self.conflict_blocks[self.conflict_blocks["block"] == ""].reset_index(drop=True)

    @cached_property
    def conflict_blocks(self) -> pd.DataFrame:
        """Like `conflict`, with additional rows for single blocks of parameters."""
        return frame_of("conflict", self._files(CONFLICT))

    @cached_property
    def logged(self) -> pd.DataFrame:
        """Everything that was logged, including by unfinished runs."""
        import pandas as pd

        names = pd.DataFrame([_run(member) for member in self.members], columns=list(RUN))
        return self.source.logged().merge(names, on="run")[list(COLUMNS["logged"])]

    def _files(self, name: str) -> Iterable[dict[str, Any]]:
        for member in self.finished:
            file = member.file(name)
            if file is not None:
                with file.open(newline="") as opened:
                    head = _run(member)
                    yield from ({**head, **row} for row in csv.DictReader(opened))

    @cached_property
    def steps(self) -> dict[str, int]:
        """Finished run -> number of optimizer steps really done."""
        known = {run: result["steps"] for run, result in self.results.items() if "steps" in result}
        return {**{str(run): int(step) for run, step in self.curves.groupby("run")["step"].max().items()}, **known}

    def _cost_of(self, run: str) -> dict[str, Any]:
        result, config, steps = self.results[run], self.configs[run], self.steps.get(run)
        alone = result.get("step_seconds")  # seconds of the optimizer steps, if the engine times them separately
        seconds = result.get("seconds") if alone is None else alone
        training = config.get("identity", {}).get("training", {})
        batch = samples_of(training) / training["steps"] if {"steps", "batch"} <= training.keys() else None
        peak = result.get("peak_memory_bytes")
        environment = result.get("environment") or config.get("environment", {})
        return {
            "steps": steps, "seconds": seconds, "timed": "run" if alone is None else "steps",
            "seconds_per_step": _ratio(seconds, steps),
            "cpu_seconds_per_step": _ratio(result.get("step_cpu_seconds"), steps),
            "cuda_seconds_per_step": _ratio(result.get("step_cuda_seconds"), steps),
            "forward_passes": _ratio(_ratio(result.get("samples_forward"), steps), batch),
            "backward_passes": _ratio(_ratio(result.get("samples_backward"), steps), batch),
            "parameters": result.get("parameters"), "peak_memory_mb": peak and peak / 1e6,
            "device": environment.get("device", ""),
        }  # fmt: skip

    def _own_stages(self, run: str) -> dict[str, int]:
        """Return task -> the stage that first trained it.

        It is read from the result. If a store has none, it is the first stage whose logged losses name the task.
        """
        if "continual" in self.results.get(run, {}):
            return dict(self.results[run]["continual"]["own_stage"])
        ends = sorted(self.curves[(self.curves["run"] == run) & (self.curves["stage_end"] != "")]["step"].unique())
        losses = self.logged[(self.logged["run"] == run) & self.logged["metric"].str.startswith("loss/")]
        own: dict[str, int] = {}
        for metric, step in losses.groupby("metric")["step"].min().items():
            task = str(metric).removeprefix("loss/").rpartition(".")[2]  # the task of review.rain is rain
            stage = sum(end < step for end in ends)
            own[task] = min(stage, own.get(task, stage))
        return own


def _ratio(total: float | None, count: float | None) -> float | None:
    return total / count if total is not None and count else None


def _run(member: Member) -> dict[str, Any]:
    return {"run": member.run, "label": member.label, "seed": member.seed}


def _parts(strategy: dict[str, Any]) -> str:
    neutral = {key: family.neutral for key, family in KEYS.items()}
    named = {key: _named(part) for key, part in strategy.items() if part and key in KEYS}
    return ", ".join(f"{key}={name}" for key, name in named.items() if neutral.get(key) != name)


def _defined(strategy: dict[str, Any] | None) -> dict[str, Any]:
    """Return the parts of a resolved strategy, which an experiment file and the identity of a run both have."""
    return {key: part for key, part in (strategy or {}).items() if key != "training" and part != []}


def _own(training: dict[str, Any]) -> list[str]:
    return [f"training.{path}={value}" for path, value in flat(training).items()]


def _named(part: Any) -> str:
    """Return the name of a part, given as `{name: ...}` or as a name. The names of a list are joined by `+`."""
    if isinstance(part, list):
        return "+".join(_named(one) for one in part)
    return str(part["name"] if isinstance(part, dict) else part)


def opened(where: str, out: str | Path = "runs", uri: str | None = None) -> Frames:
    """Open the comparison of a folder, an experiment file or a name.

    `uri`: tracking store to read from, or `None` to read the folder.
    Raise UserError with the command that produces the comparison if there is none.
    """

    folder = Path(where)
    if uri is None and has_list(folder):
        return Frames.of_folder(folder)
    if uri is None and has_list(Path(out) / where):
        return Frames.of_folder(Path(out) / where)
    is_file = folder.suffix in (".yaml", ".yml") or where in reading.shipped_experiments()
    name = reading.load(where).name if is_file else folder.name
    if uri is not None:
        return Frames.of_store(uri, name)
    if not has_list(Path(out) / name):
        known = ", ".join(folder.name for folder, _ in comparisons(Path(out))) or "none yet"
        raise UserError(
            f"no comparison {where!r} in {out} (there: {known}); "
            f"`cmtl-ir run {where if is_file else 'EXPERIMENT'} --out {out}` makes it"
        )
    return Frames.of_folder(Path(out) / name)
