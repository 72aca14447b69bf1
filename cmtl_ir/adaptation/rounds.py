"""Adapters over images: one by one from the trained weights, in keyed streams, or twice over a folder."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from cmtl_ir.adaptation.context import ImageContext
from cmtl_ir.adaptation.subject import Choice, OneNetwork, Subject
from cmtl_ir.adaptation.working import WorkingCopy
from cmtl_ir.base.keyed import name_key
from cmtl_ir.strategy.adaptation import Adapter


@dataclass(frozen=True)
class Given:
    """A degraded image."""

    name: str
    degraded: Tensor  # [1, 3, H, W] in [0, 1]
    task: str | None = None
    """Its task, which decides what a network is told that needs it; `None`: not given."""


@dataclass(frozen=True)
class Answer:
    """The answer to an image, and what it took."""

    place: int
    """Number of the image in its folder."""
    order: int
    """Number of the order in which the images came; 0 where the order does not matter."""
    restored: Tensor
    seconds: float
    steps: int
    drift: float
    """|w - w0| / |w0| after the image."""
    moved: float
    """Share of the parameters that differ from their trained values after the image."""


@dataclass
class _Adapted:
    """An adapter at work on one network."""

    adapter: Adapter
    copy: WorkingCopy
    begun: dict[str, object] = field(default_factory=dict)


class Session:
    """An adapter, with a working copy of every network that images are sent to. `say` tells the user facts, once."""

    def __init__(self, adapter: Adapter, subject: Subject, say: Callable[[str], None]) -> None:
        self.adapter, self.subject, self._say = adapter, subject, say
        self._said: set[str] = set()
        self._at_work: dict[tuple[int, int], _Adapted] = {}
        self._first: dict[int, int] = {}

    def start_again(self) -> None:
        """Set weights and state back to what they were before the first image."""
        self._at_work.clear()
        self._first.clear()

    @cached_property
    def _numbered(self) -> bool:
        return not isinstance(self.subject, OneNetwork) or self.subject.reads_number()

    def _slot(self, choice: Choice) -> tuple[int, int]:
        """Return the network, and the task number for which an episodic adapter has prepared it.

        What is prepared depends on the number if the network reads it. It must not depend on which image came first.
        """
        first = self._first.setdefault(choice.key, choice.number)
        if self.adapter.reads != "image" or choice.number == first or not self._numbered:
            return choice.key, first
        return choice.key, choice.number

    def answer(self, given: Given, place: int = 0, order: int = 0) -> Answer:
        """Return the answer to an image. Between images, weights and state go on unless the adapter is episodic."""
        degraded = given.degraded.to(self.subject.device, memory_format=torch.channels_last)
        choice = self.subject.choose(degraded, given.task)
        slot = self._slot(choice)
        if slot not in self._at_work:
            self._at_work[slot] = self._begun(choice.network, choice.number)
        at_work = self._at_work[slot]
        if self.adapter.reads == "image":
            at_work.copy.reset()
            at_work.adapter.load_state_dict(copy.deepcopy(at_work.begun))
        task = given.task if self.adapter.task_given else None
        context = ImageContext(self.subject, given.name, task, choice.number)
        start = self._now()
        with torch.enable_grad():
            restored = at_work.adapter.adapt(at_work.copy.network, degraded, context).detach()
        seconds = self._now() - start
        self._tell(context)
        return Answer(place, order, restored, seconds, context.steps, *at_work.copy.drift())

    def _begun(self, network: torch.nn.Module, number: int) -> _Adapted:
        adapter, working = self.adapter.model_copy(deep=True), WorkingCopy(network)
        adapter.reset()
        context = ImageContext(self.subject, "", None, number)
        with torch.enable_grad():
            adapter.begin(working.network, context)
        self._tell(context)
        working.reset()
        return _Adapted(adapter, working, copy.deepcopy(adapter.state_dict()))

    def _tell(self, context: ImageContext) -> None:
        for text in context.notes:
            if text not in self._said:
                self._said.add(text)
                self._say(text)

    def _now(self) -> float:
        if self.subject.device.type != "cpu":
            torch.accelerator.synchronize()
        return time.perf_counter()


def keyed_order(count: int, seed: int, order: int) -> list[int]:
    """Return 0 .. count - 1 in the keyed order of that number."""
    return sorted(range(count), key=lambda place: name_key(seed, "order", order, place))


def answers(session: Session, images: Sequence[Given], orders: int) -> Iterator[Answer]:
    """Yield the answers to the images of one folder.

    An episodic adapter answers each once; an online one each in `orders` keyed orders, from the trained weights each
    time; one that reads the folder sees each once before it answers.
    """
    seed, count = session.subject.origin.seed, len(images)
    session.start_again()
    if session.adapter.reads == "image":
        for place, given in enumerate(images):
            yield session.answer(given, place)
        return
    streams = orders if session.adapter.reads == "stream" else 1
    for order in range(streams):
        session.start_again()
        places = keyed_order(count, seed, order)
        if session.adapter.reads == "folder":
            for place in places:
                session.answer(images[place])
        for place in places:
            yield session.answer(images[place], place, order)
