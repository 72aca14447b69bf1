"""`torchjd:NAME`: classes of TorchJD as surgeries."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from cmtl_ir.base import errors
from cmtl_ir.strategies.guests import torchjd as hosting
from cmtl_ir.strategy import registry

from . import claims
from .families import NAMES, equal_rows, normal, zeros

aggregation = pytest.importorskip("torchjd.aggregation", reason='pip install "torchjd[full]"')
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

GUESTS = hosting.guests(aggregation)
ARGUMENTS = {"c": 0.4, "alpha": 1.0, "n_byzantine": 1, "trim_number": 1}  # those without a default there


def make(name: str, **fields: Any) -> Any:
    part = registry.load("surgery", f"torchjd:{name}")
    required = {key: ARGUMENTS[key] for key, field in part.model_fields.items() if field.is_required()}
    return part(**required | fields)


def test_every_gramian_weighting_is_offered() -> None:
    """As aggregator and as weighting; the next release of TorchJD shows here first."""
    offered = {name for name in GUESTS if not name.endswith("Weighting")}
    assert offered == {
        *("AlignedMTL", "CAGrad", "DualProj", "FairGrad", "GradVac", "IMTLG", "Krum", "MGDA", "PCD", "PCGrad"),
        *("UPGrad", "ConFIG", "GradDrop", "TrimmedMean"),
    }
    for name in aggregation.__all__:
        if name.endswith("Weighting") and name in GUESTS:
            assert name.removesuffix("Weighting") in offered


@pytest.mark.parametrize("name", GUESTS)
def test_guests_keep_the_convention_of_scale(name: str) -> None:
    rows = equal_rows(5, 12)
    update = claims.apply(make(name), rows)[1]
    factor = 1.4 if name.startswith("CAGrad") else 1.0  # TorchJD does not rescale: (1 + c) times the mean
    assert_close(update, rows[0] * factor, rtol=1e-6, atol=1e-9)
    v, update = claims.apply(make(name), zeros(5, 12))
    assert_close(v, torch.full_like(v, 0.2))
    assert_close(update, torch.zeros_like(update))


@pytest.mark.parametrize("scale", [1e-20, 1e-6, 1e15])
@pytest.mark.parametrize("name", [name for name in GUESTS if not name.startswith("PCD")])
def test_cut_offs_do_not_bite(name: str, scale: float) -> None:
    rows = normal(5, 12)
    update, scaled = (claims.apply(make(name), rows * factor)[1] / factor for factor in (1.0, scale))
    assert_close(scaled, update, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        *(("UPGrad", "upgrad"), ("DualProj", "dualproj"), ("IMTLG", "imtl_g"), ("AlignedMTL", "aligned_mtl")),
        *(("FairGrad", "fairgrad"), ("ConFIG", "config"), ("MGDA", "mgda")),
    ],
)
def test_guest_and_own_method_agree(name: str, own: str) -> None:
    rows = normal(3, 30)
    guest, house = claims.apply(make(name), rows)[1], claims.apply(registry.load("surgery", own)(), rows)[1]
    assert_close(guest, house, rtol=5e-3, atol=5e-3)


def test_arguments_reach_the_constructor() -> None:
    part = make("UPGrad", pref_vector=[1, 2, 3], projector={"norm_eps": 0, "reg_eps": 1e-9})
    assert part._module.pref_vector.tolist() == [1, 2, 3]
    assert part._module.projector.reg_eps == 1e-9
    assert registry.load("surgery", "torchjd:CAGrad").model_fields["c"].is_required()
    with pytest.raises(ValueError):
        make("CAGrad", c=-1.0)
    with pytest.raises(ValueError, match="extra"):
        make("CAGrad", radius=1.0)


def test_draws_are_keyed_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    draws = {tuple(claims.apply(make("PCGrad"), normal(5, 6), step)[0].tolist()) for step in (0, 0, 0, 1, 2)}
    assert torch.equal(torch.get_rng_state(), before)
    assert len(draws) == 3


def test_state_starts_anew_when_other_rows_are_present() -> None:
    """It goes by position in TorchJD; a mix-up of rows would be silent."""
    guest, fresh = make("GradVac"), make("GradVac")
    claims.apply(guest, normal(3, 9), names=NAMES[:3])
    second = claims.apply(guest, normal(3, 9), 1, names=NAMES[1:4])[0]
    assert torch.equal(second, claims.apply(fresh, normal(3, 9), 1, names=NAMES[1:4])[0])


def test_unknown_and_refused_names_say_what_to_do() -> None:
    with pytest.raises(errors.UnknownName, match=r"did you mean .*UPGrad"):
        registry.load("surgery", "torchjd:Upgrad")
    with pytest.raises(errors.UnknownName, match="use nash_mtl"):
        registry.load("surgery", "torchjd:NashMTL")
    with pytest.raises(errors.UnknownName, match="not a weighting"):
        registry.load("weighting", "torchjd:UPGrad")


def test_without_torchjd_the_error_has_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    with pytest.raises(ImportError, match=r'pip install "torchjd\[full\]"'):
        registry.load("surgery", "torchjd:UPGrad")
