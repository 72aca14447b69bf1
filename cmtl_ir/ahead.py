"""The next step's samples are drawn in a thread of their own while this step trains.

A sample is a function of its task and id alone, so that it is the same whenever it is drawn. What is drawn ahead is a
guess: a step takes it if its own draw names the same ids, and draws for itself if not. No counter moves here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import torch
from torch import Tensor

from cmtl_ir.cores import cores
from cmtl_ir.strategy import Batch

Wanted = tuple[str, Tensor, str | None]
"""A task, ids [B], and the task whose clean images are taken, if another's."""
_Key = tuple[str, tuple[int, ...], str | None]


def has_room(device: torch.device) -> bool:
    """Whether a core is free to draw on: where training takes them all, drawing beside it costs more than it saves."""
    return device.type != "cpu" or torch.get_num_threads() < cores()


class Ahead:
    """Draws batches before they are asked for. A context: on leaving it the thread ends."""

    def __init__(self, draw: Callable[[str, Tensor, str | None], Batch]) -> None:
        """`draw`: must be safe to call from a thread beside the training one."""
        self._draw = draw
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="samples ahead")
        self._coming: Future[Mapping[_Key, Batch]] | None = None
        self._here: Mapping[_Key, Batch] = {}

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._thread.shutdown(cancel_futures=True)

    def expect(self, wanted: Sequence[Wanted]) -> None:
        """Begin to draw what the next step will probably ask for."""
        self._coming = self._thread.submit(self._draw_all, list(wanted)) if wanted else None

    def arrive(self) -> None:
        """Wait for what was expected, at the beginning of its step; raises what drawing it raised."""
        coming, self._coming = self._coming, None
        self._here = coming.result() if coming is not None else {}

    def batch(self, task: str, ids: Tensor, images: str | None = None) -> Batch:
        """The samples, drawn already if they were expected."""
        drawn = self._here.get(_key(task, ids, images))
        return self._draw(task, ids, images) if drawn is None else drawn

    def _draw_all(self, wanted: Sequence[Wanted]) -> Mapping[_Key, Batch]:
        return {_key(*one): self._draw(*one) for one in wanted}


def _key(task: str, ids: Tensor, images: str | None) -> _Key:
    return task, tuple(ids.tolist()), images
