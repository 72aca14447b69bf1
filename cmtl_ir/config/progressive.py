"""Progressive learning: the side of the crops and the size of the batch change within each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field

from cmtl_ir.base.record import OmitIfDefault, Record

if TYPE_CHECKING:
    from cmtl_ir.config.experiment import Experiment


class PhaseConfig(Record):
    """A part of each stage with its own crops and batch."""

    until: float = Field(gt=0, le=1)
    """End of the phase, as a share of the steps of its stage. That of the last phase is 1."""
    patch: Annotated[int | None, OmitIfDefault()] = Field(None, ge=8)
    """Side of the crops, at most `data.patch`; null: `data.patch`."""
    batch: Annotated[int | None, OmitIfDefault()] = Field(None, gt=0, le=1_000_000)
    """Samples per step, over all tasks; null: `training.batch`."""


def _in_order(phases: tuple[PhaseConfig, ...]) -> tuple[PhaseConfig, ...]:
    ends = [one.until for one in phases]
    if not ends or ends != sorted(set(ends)) or ends[-1] != 1:
        raise ValueError(
            f"`until` must increase from phase to phase and end at 1, found {', '.join(map(str, ends)) or 'none'}"
        )
    return phases


Progressive = Annotated[tuple[PhaseConfig, ...], AfterValidator(_in_order)]
"""Phases of each stage, in order (Zamir et al., Restormer, CVPR 2022, section 4)."""


class Phase(NamedTuple):
    """Crops and batch of a step."""

    patch: int
    """Side of the crops in pixels."""
    batch: int
    """Samples per step, over all tasks."""


def phase_at(phases: Sequence[PhaseConfig] | None, otherwise: Phase, step: int, steps: int) -> Phase:
    """Return the phase of a step of a stage of `steps` steps. `None` has one phase, which is `otherwise`.

    Phases end at whole steps. After the last step, it is the last phase.
    """
    if phases is None:
        return otherwise
    chosen = next((one for one in phases if step < round(one.until * steps)), phases[-1])
    return Phase(chosen.patch or otherwise.patch, chosen.batch or otherwise.batch)


def phases_of(training: Mapping[str, Any], patch: int) -> list[tuple[int, Phase]]:
    """Return (steps, phase) of each phase of a run of one stage. `training` is plain data, `patch` that of `data`."""
    found, before, steps = list[tuple[int, Phase]](), 0, training["steps"]
    for plain in training.get("progressive") or [{"until": 1.0}]:
        end = round(plain["until"] * steps)
        phase = Phase(plain.get("patch") or patch, plain.get("batch") or training["batch"])
        found.append((end - before, phase))
        before = end
    return found


def samples_of(training: Mapping[str, Any]) -> int:
    """Return the number of samples that a run of one stage draws. `training` is plain data."""
    return sum(steps * phase.batch for steps, phase in phases_of(training, 0))


def pixels_of(training: Mapping[str, Any], patch: int) -> int:
    """Return the number of pixels of these samples."""
    return sum(steps * phase.batch * phase.patch**2 for steps, phase in phases_of(training, patch))


def batch_in_words(training: Mapping[str, Any]) -> str:
    """Return the batch sizes of the phases, such as `16, then 8`."""
    batches = [phase.batch for _, phase in phases_of(training, 0)]
    return ", then ".join(str(one) for place, one in enumerate(batches) if place == 0 or batches[place - 1] != one)


def training_identity(experiment: Experiment) -> dict[str, Any]:
    """Return the training settings as the identity of a run holds them: without phases that change nothing."""
    plain = experiment.training.model_dump(mode="json")
    usual = Phase(experiment.data.patch, experiment.training.batch)
    if all(phase == usual for _, phase in phases_of(plain, experiment.data.patch)):
        plain.pop("progressive", None)
    return plain


def check_progressive(experiment: Experiment) -> None:
    """Raise ValueError if crops are larger than `data.patch`, or change where their size must not change."""
    shared, largest = experiment.training.model_dump(mode="json"), experiment.data.patch
    own = {label: one.training or {} for label, one in experiment.strategies.items()}
    for label, settings in [(None, dict[str, Any]()), *own.items()]:
        training = {**shared, **settings}
        path = "training" if label is None or "progressive" not in settings else f"strategies.{label}.training"
        patches = [phase.patch for _, phase in phases_of(training, largest)]
        for number, patch in enumerate(patches):
            if patch > largest:
                raise ValueError(
                    f"{path}.progressive.{number}.patch: {patch} is larger than data.patch, {largest}, for which the "
                    "training images are checked; set data.patch to the largest side"
                )
        if len(set(patches)) == 1:
            continue
        if training.get("compile"):
            raise ValueError(f"{path}.progressive changes the side of the crops, which training.compile needs fixed")
        if label is not None and (fixed := _fixed(experiment, label)) is not None:
            raise ValueError(
                f"{path}.progressive changes the side of the crops, but strategies.{label}.{fixed} stores outputs for "
                "crops of one side"
            )


def _fixed(experiment: Experiment, label: str) -> str | None:
    retention = experiment.strategies[label].retention
    return f"retention {retention.called}" if retention is not None and retention.fixed_patch else None
