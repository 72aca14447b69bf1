"""The answers that are compared on suites: of a run or a checkpoint as it is, of references, and under adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cmtl_ir.adaptation.rounds import Answer as Adapted
from cmtl_ir.adaptation.rounds import Given, Session, answers
from cmtl_ir.adaptation.scoring import ORDERS
from cmtl_ir.adaptation.subject import Grouped, Subject
from cmtl_ir.base.errors import UserError
from cmtl_ir.base.symmetries import mean_of_views
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.grouping.router import GroupedModel
from cmtl_ir.inference.published import Published
from cmtl_ir.measures.tiling import restore_tiled
from cmtl_ir.runs.trained import load_model, trained_tasks
from cmtl_ir.store.folder import has_config, is_grouped, read_identity
from cmtl_ir.store.lookup import references_of
from cmtl_ir.strategy.adaptation import KINDS, Adapter
from cmtl_ir.suites.line import Line
from cmtl_ir.suites.scoring import Answer, Answered, FolderAnswer
from cmtl_ir.suites.summary import CONTROLS, ENSEMBLE, NONE, SINGLE
from cmtl_ir.tasks.degradations.composition import Composition
from cmtl_ir.tasks.task import TestSample

Plain = Callable[[Tensor, str | None], Tensor]
"""(degraded [1, 3, H, W], trained task of the image or `None`) -> restored [1, 3, H, W]."""
Say = Callable[[str], None]
PROBE = 64
"""Side in pixels of the image, a ramp of greys, on which an adapter is tried first."""


@dataclass(frozen=True)
class Network:
    """A network with the tasks that it numbers, and with those that it was trained on."""

    plain: Plain
    known: Sequence[str]
    trained: Sequence[str]
    singles: Mapping[str, Plain]
    """Task -> the single-task run of the same comparison and seed."""


def network_of(
    used: Path | Published, experiment: Experiment, out: Path, device: torch.device, tile: int, say: Say
) -> Network:
    """Return the network of a run or of a checkpoint, which has the tasks of the experiment."""
    if isinstance(used, Published):
        known = list(experiment.tasks)
        return Network(_by_number(used.model(device, say), known, device, tile), known, known, {})
    identity = read_identity(used) if has_config(used) else {}
    singles = {
        task: _by_number(*load_model(reference, device), device, tile)
        for task, reference in references_of(used, out).items()
    }
    if is_grouped(used):
        grouped = GroupedModel(used, device)
        return Network(_routed(grouped, tile), grouped.tasks, grouped.tasks, singles)
    model, known = load_model(used, device)
    return Network(_by_number(model, known, device, tile), known, trained_tasks(identity, known), singles)


def plain_answers(network: Network, device: torch.device, task: str | None = None) -> dict[str, Answer]:
    """Return the answers that each table has. `task` is given for lines that contain no trained task."""

    def plain(sample: TestSample, line: Line) -> Answered:
        return Answered(network.plain(sample.degraded.to(device), line.given or task))

    def ensemble(sample: TestSample, line: Line) -> Answered:
        view = sample.degraded.to(device)
        return Answered(mean_of_views(lambda one: network.plain(one, line.given or task), view))

    def single(sample: TestSample, line: Line) -> Answered | None:
        own = network.singles.get(line.given or "")
        return None if own is None else Answered(own(sample.degraded.to(device), line.given))

    return {NONE: plain, ENSEMBLE: ensemble, **({SINGLE: single} if network.singles else {})}


def adapted_answers(
    adapters: Mapping[str, Adapter], subject: Subject, task: str | None, say: Say
) -> dict[str, Answer | FolderAnswer]:
    """Return an answer per adapter, except those that each table has anyway. `task` is as for `plain_answers`.

    An adapter does not answer lines of the degradation that it was tuned on, nor, if it reads the task, lines that
    contain no trained task while `task` is `None`.
    """
    made: dict[str, Answer | FolderAnswer] = {}
    for label, adapter in adapters.items():
        if label not in CONTROLS:
            own = _OnLines(label, adapter, subject, task, say)
            made[label] = own.one if adapter.reads == "image" else FolderAnswer(KINDS[adapter.reads], own.all)
    return made


def usable(adapters: Mapping[str, Adapter], subject: Subject, say: Say) -> dict[str, Adapter]:
    """Return the adapters that a network can be used with, and say why the others cannot. Each tries a grey ramp."""
    ramp, found = torch.linspace(0.2, 0.8, PROBE).expand(1, 3, PROBE, PROBE).contiguous(), {}
    for label, adapter in adapters.items():
        try:
            Session(adapter, subject, lambda _: None).answer(Given("", ramp, next(iter(subject.origin.tasks), None)))
        except UserError as error:
            say(f"left out: {error}")
        else:
            found[label] = adapter
    return found


class _OnLines:
    """An adapter on the lines of suites."""

    def __init__(self, label: str, adapter: Adapter, subject: Subject, task: str | None, say: Say) -> None:
        self.label, self.adapter, self.subject, self.task, self.say = label, adapter, subject, task, say
        self.session = Session(adapter, subject, say)
        self._said = False

    def one(self, sample: TestSample, line: Line) -> Answered | None:
        """Return the answer of an episodic adapter to an image; `None` if it has none to this line."""
        if self._silent(line):
            return None
        return _answered(self.session.answer(Given(sample.image, sample.degraded, self._given(line))))

    def all(self, samples: Sequence[TestSample], line: Line) -> Iterator[Answered]:
        """Yield the answers to all images of a line, from the trained weights."""
        if not self._silent(line):
            given = [Given(sample.image, sample.degraded, self._given(line)) for sample in samples]
            yield from map(_answered, answers(self.session, given, ORDERS))

    def _given(self, line: Line) -> str | None:
        """Return the task whose number the network is given, or by which a grouped run is told where to send."""
        task = line.given or self.task
        if task is None and isinstance(self.subject, Grouped) and not self.subject.model.blind:
            return self.subject.origin.tasks[0]
        return task

    def _silent(self, line: Line) -> bool:
        tuned_on = self.adapter.tuned_on
        if tuned_on is None or tuned_on not in contents(line):
            return self.adapter.task_given and self._given(line) is None
        if not self._said:
            self.say(f"--adapt {self.label}: was tuned on {tuned_on}; it has no score where that is tested")
            self._said = True
        return True


def contents(line: Line) -> set[str]:
    """Return the names of what a line tests: its task, and the degradations in its images."""
    degradation: Any = line.config.degradation
    parts = degradation.degradations if isinstance(degradation, Composition) else [degradation]
    noise = {"gaussian_noise"} if line.noise else set()
    return {line.task, *(part.called for part in parts if part is not None), *noise}


def _answered(found: Adapted) -> Answered:
    took = {"seconds": found.seconds, "steps": found.steps, "drift": found.drift, "moved": found.moved}
    return Answered(found.restored, found.place, found.order, took)


def _by_number(model: torch.nn.Module, known: Sequence[str], device: torch.device, tile: int) -> Plain:
    def plain(degraded: Tensor, task: str | None) -> Tensor:
        number = list(known).index(task) if task is not None else 0
        numbers = torch.full((1,), number, device=device)
        return restore_tiled(model, degraded.to(device, memory_format=torch.channels_last), numbers, tile)

    return plain


def _routed(grouped: GroupedModel, tile: int) -> Plain:
    """Return the answers of a grouped run: routed by its features, or under routing: oracle by the task given."""

    def plain(degraded: Tensor, task: str | None) -> Tensor:
        routing = grouped.find(degraded) if grouped.blind else grouped.told(task or grouped.tasks[0])
        return grouped.restored(degraded, routing, tile)

    return plain
