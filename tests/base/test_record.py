"""A record's plain data are what a run's hash is made of."""

from __future__ import annotations

from typing import Annotated

import pytest

from cmtl_ir.base.record import OmitIfDefault, Record


class Older(Record):
    lr: float = 1e-3


class Younger(Record):
    """The same record after three fields were added to it."""

    lr: float = 1e-3
    clip: Annotated[float | None, OmitIfDefault()] = None
    kinds: Annotated[tuple[str, ...], OmitIfDefault()] = ()
    told: bool = False


def test_a_marked_field_is_left_out_while_it_has_its_default() -> None:
    assert Older().model_dump(mode="json") == {"lr": 1e-3}
    assert Younger().model_dump(mode="json") == {"lr": 1e-3, "told": False}


@pytest.mark.parametrize("given", [{"clip": 1.0}, {"kinds": ("a",)}, {"clip": 0.5, "kinds": ("a", "b")}])
def test_what_is_given_is_kept_and_reads_back(given: dict[str, object]) -> None:
    made = Younger.model_validate(given)
    plain = made.model_dump()
    assert plain == {"lr": 1e-3, "told": False, **given}
    assert Younger.model_validate(plain) == made
