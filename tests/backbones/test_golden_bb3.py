"""Outputs, sizes and keys of the authors' classes for InstructIR, MoCE-IR, MEASNet, GridFormer, HAIR, AnyIR, CAPTNet
and DyNet (float64, weights by rule), to the last printed digit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from cmtl_ir.backbones.instructir import InstructionHead, keyed_instructions

from .cases import CASES, Case, fill, image, spread
from .test_golden import assert_golden
from .test_published import count, first_seen, keys, meta


class Row(NamedTuple):
    name: str
    fields: dict[str, Any]
    shape: tuple[int, int, int]
    numbers: tuple[float, float, float, float, float]  # mean, std, y[0, 0, 0], y[1, 7, 5], y[2, -1, -1]
    given: dict[str, Tensor] = {}  # noqa: RUF012, never changed: further arguments of forward


ONE = [1, 1, 1, 1]
INSTRUCTIR = {"width": 8, "encoder": [1, 1, 1], "middle": 1, "decoder": [1, 1, 1], "text": 16}
TEXT = {"text": spread(16, "text")[None]}

# fmt: off
QUICK = [
    Row("instructir", INSTRUCTIR, (3, 64, 64), (0.7825222974, 2.1870342151, -0.1148972584, 0.7499278770, 0.4493959450), TEXT),  # noqa: E501
    Row("instructir", INSTRUCTIR, (3, 61, 50), (0.7750520437, 2.1753434903, -1.3864367052, 4.6399038155, -2.7300868668), TEXT),  # noqa: E501
]
SLOW: list[Row] = [
]
SIZES: list[tuple[str, dict[str, Any], int, int]] = [
    ("instructir", {}, 15_843_363, 696),
    ("instructir", INSTRUCTIR, 99_995, 271),
]
# fmt: on


def label(row: Row) -> str:
    return "-".join([row.name, "small" if row.fields else "published", "x".join(map(str, row.shape))])


@torch.no_grad()
@pytest.mark.parametrize("row", [*QUICK, *(pytest.param(row, marks=pytest.mark.slow) for row in SLOW)], ids=label)
def test_output_is_that_of_the_authors_class(row: Row) -> None:
    model = Case(row.name, row.fields).build().eval()
    assert_golden(model(image(*row.shape), **row.given), row.numbers)


@torch.no_grad()
@pytest.mark.slow
def test_instructir_follows_the_authors_language_head() -> None:
    head = fill(InstructionHead().double())
    instruction, logits = head(spread(384, "text")[None])
    found = torch.stack([instruction[0, 0], logits[0, 0]])
    torch.testing.assert_close(
        found, torch.tensor([0.0047966532, 0.1938337153], dtype=torch.float64), rtol=0, atol=1e-9
    )
    y = Case("instructir", {}).build().eval()(image(3, 64, 64), text=instruction)
    assert_golden(y, (1.8272036019, 4.3719637460, -0.5201024410, 5.4994139588, 4.8362150681))


@pytest.mark.parametrize(("name", "fields", "parameters", "entries"), SIZES)
def test_parameters_and_entries_are_as_many_as_the_authors(
    name: str, fields: dict[str, Any], parameters: int, entries: int
) -> None:
    model = meta(name, **fields)
    assert count(model) == parameters
    assert len(model.state_dict()) == entries


# ------------------------------------------------------------------------------------------------------------ keys


def expanded(*patterns: str) -> set[str]:
    """Shell braces: `a.{b,c}.{0..2}` stands for six names; they may be nested."""
    found: set[str] = set()
    for pattern in patterns:
        start = pattern.rfind("{")
        if start < 0:
            found.add(pattern)
            continue
        stop = pattern.index("}", start)
        inner = pattern[start + 1 : stop]
        first, _, last = inner.partition("..")
        choices = [str(i) for i in range(int(first), int(last) + 1)] if last else inner.split(",")
        found |= expanded(*(pattern[:start] + choice + pattern[stop + 1 :] for choice in choices))
    return found


WB = "{weight,bias}"
NAF = f"{{beta,gamma,{{conv{{1..5}},sca.1,norm{{1,2}}}}.{WB}}}"
KEYS: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "instructir",
        INSTRUCTIR,
        [
            f"{{intro,ending,downs.{{0..2}}}}.{WB}",
            f"{{{{encoders,decoders}}.{{0..2}}.0,middle_blks.0}}.{NAF}",
            "ups.{0..2}.0.weight",
            f"{{enc,dec}}_cond.{{0..2}}.{{beta,gamma,fc.{WB},block.{NAF}}}",
        ],
    ),
]


@pytest.mark.parametrize(("name", "fields", "patterns"), KEYS, ids=lambda value: value if type(value) is str else "")
def test_the_keys_are_those_of_the_authors(name: str, fields: dict[str, Any], patterns: list[str]) -> None:
    assert set(keys(name, **fields)) == expanded(*patterns)


ORDERS = {"instructir": "intro ending encoders decoders middle_blks ups downs enc_cond dec_cond"}


@pytest.mark.parametrize("name", ORDERS)
def test_parts_come_in_the_authors_order(name: str) -> None:
    assert first_seen(keys(name)) == ORDERS[name].split()


# ---------------------------------------------------------------------------------------- what one network promises


@torch.no_grad()
def test_instructir_takes_its_instruction_from_task_or_text() -> None:
    model = CASES["instructir"].build()
    x = image(3, 16, 16)
    first = model(x, torch.tensor([0]))
    assert not torch.allclose(first, model(x, torch.tensor([1])))
    assert not torch.allclose(first, model(x))
    torch.testing.assert_close(model(x, text=keyed_instructions(7, 8)[:1].double()), first, rtol=1e-5, atol=1e-5)


def test_an_instruction_belongs_to_the_task_number_alone() -> None:
    few, many = keyed_instructions(2, 16), keyed_instructions(9, 16)
    assert torch.equal(few, many[:2])
    torch.testing.assert_close(many.norm(dim=1), torch.ones(9))
