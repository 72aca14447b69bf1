"""A network's output may be a tensor, a list or a record: the rows are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from torch import Tensor

from cmtl_ir.gradients.outputs import part_of, tensors_of, with_tensors
from cmtl_ir.gradients.rows import Engine, RowGradients

from .cases import Step, assert_same_rows, both_engines, built, read


@dataclass(frozen=True)
class Record:
    """Images and features, as a learner hands them to a loss."""

    images: tuple[Tensor, ...]
    features: Mapping[str, Tensor] = field(default_factory=dict)
    note: str = "kept"

    def tensors(self) -> list[Tensor]:
        return [*self.images, *self.features.values()]

    def part(self, start: int, stop: int) -> Record:
        return with_tensors(self, [tensor[start:stop] for tensor in self.tensors()])


class RecordStep(Step):
    """The step of a network with two outputs, one of which is a feature of a record."""

    def forward(self, start: int, stop: int) -> Any:
        first, second = super().forward(start, stop)
        return Record((first,), {"latent": second})

    def loss(self, output: Any, row: int) -> Tensor:
        assert isinstance(output, Record) and output.note == "kept"
        return super().loss([output.images[0], output.features["latent"]], row)


@both_engines
@pytest.mark.parametrize("micro_batch", [None, 2])
def test_the_rows_of_a_record_are_those_of_a_list(engine: Engine, micro_batch: int | None) -> None:
    model, sizes = built("shared_and_unused"), [3, 1, 2]
    step = RecordStep(model, sizes)
    made = RowGradients(model, len(sizes), engine, micro_batch)
    made(step.forward, step.sizes, step.loss)
    assert made.fallback is None
    assert_same_rows(read(made), Step(model, sizes).reference())


def test_a_part_keeps_the_form_of_its_output() -> None:
    tensor = Step(built("strides"), [3]).x
    record = Record((tensor,), {"latent": tensor * 2})
    for output in (tensor, [tensor, tensor * 2], record):
        part = part_of(output, 1, 3)
        assert type(part) is type(output)
        assert [one.tolist() for one in tensors_of(part)] == [one[1:3].tolist() for one in tensors_of(output)]


def test_a_record_that_cannot_be_rebuilt_is_named() -> None:
    class Odd:
        def tensors(self) -> list[Tensor]:
            return []

    with pytest.raises(TypeError, match="Odd is not a dataclass"):
        with_tensors(Odd(), [])
