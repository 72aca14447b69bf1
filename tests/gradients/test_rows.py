"""Row gradients: every engine equals autograd and reuses its buffers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.gradients.rows import Engine, RowGradients
from cmtl_ir.strategy.output import Output

from ..backbones.cases import CASES, COUPLED, sampled
from .cases import ENGINES, Step, assert_same_rows, both_engines, built, every_network, read
from .networks import NETWORKS, UNSUITED

SIZES = ([2, 2], [1, 3, 1], [4, 1])


# ------------------------------------------------------------------------------------------------ the same rows


@pytest.mark.parametrize("name", sampled(name for name in CASES if name not in COUPLED))
def test_the_rows_of_every_backbone_are_those_of_autograd(name: str) -> None:
    model = CASES[name].build().train().to(memory_format=torch.channels_last)  # as a learner trains it
    step = Step(model, [1, 2], side=16)
    expected = step.reference()
    for engine in ENGINES:
        found = step.rows(engine)
        assert found.fallback is None
        assert_same_rows(read(found), expected)


@both_engines
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@every_network
def test_the_rows_of_every_way_to_use_a_parameter_are_those_of_autograd(
    name: str, sizes: list[int], engine: Engine
) -> None:
    step = Step(built(name), sizes)
    found = step.rows(engine)
    assert found.fallback is None
    assert_same_rows(read(found), step.reference())


@every_network
def test_a_joint_pass_is_one_forward_pass(name: str) -> None:
    step = Step(built(name), [2, 2, 1])
    engine = step.rows("grouped")
    step.passes = 0
    engine(step.forward, step.sizes, step.loss)
    assert step.passes == 1


@pytest.mark.parametrize("name", UNSUITED)
def test_what_a_joint_pass_cannot_split_goes_to_stream_with_the_reason(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    make, reason = UNSUITED[name]
    torch.manual_seed(0)
    step = Step(make().double(), [5, 3])  # the width is 8, too: `turned` looks like samples
    engine = step.rows("grouped")
    assert engine.fallback is not None and reason in engine.fallback
    assert [record.getMessage() for record in caplog.records if engine.fallback in record.getMessage()]
    assert_same_rows(read(engine), step.reference())


@both_engines
def test_the_losses_come_detached_and_no_gradient_is_left_behind(engine: Engine) -> None:
    step = Step(built("windows"), [2, 1])
    _, losses = RowGradients(step.model, 2, engine)(step.forward, step.sizes, step.loss)
    assert not any(loss.requires_grad for loss in losses)
    assert_close(torch.stack(losses), torch.stack(step.losses()).detach())
    assert all(parameter.grad is None for parameter in step.model.parameters())


@pytest.mark.parametrize("seed", range(3))
def test_the_check_before_the_first_joint_pass_leaves_the_weights_as_they_were(seed: int) -> None:
    torch.manual_seed(seed)
    model = NETWORKS["prompts"]()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    Step(model, [1, 2], dtype=torch.float32).rows("grouped")
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


@both_engines
def test_a_repeated_step_repeats_to_the_last_bit(engine: Engine) -> None:
    step = Step(built("prompts", torch.float32), [2, 3], dtype=torch.float32)
    assert torch.equal(step.rows(engine).buffer, step.rows(engine).buffer)


# ------------------------------------------------------------------------------------------------ micro-batches


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
@pytest.mark.parametrize("name", ["windows", "shared_and_unused", "group_norm"])
def test_rows_in_micro_batches_are_the_rows_of_one_graph(name: str, micro_batch: int) -> None:
    step = Step(built(name), [5, 1, 3])
    assert_same_rows(read(step.rows("stream", micro_batch=micro_batch)), step.reference())


@pytest.mark.parametrize(("micro_batch", "largest"), [(1, 1), (2, 2), (4, 4), (9, 5)])
def test_no_forward_pass_holds_more_than_a_micro_batch(micro_batch: int, largest: int) -> None:
    step, seen = Step(built("strides"), [5, 1, 3]), []

    def forward(start: int, stop: int) -> Output:
        seen.append(stop - start)
        return step.forward(start, stop)

    RowGradients(step.model, 3, "stream", micro_batch=micro_batch)(forward, step.sizes, step.loss)
    assert max(seen) == largest


# ------------------------------------------------------------------------------------------------------ buffers


class Largest(TorchDispatchMode):
    """The most numbers in any storage that an operation made anew."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        known = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in known:
                self.numbers = max(self.numbers, tensor.untyped_storage().nbytes() // tensor.element_size())
        return output


@both_engines
def test_a_step_allocates_nothing_of_the_size_of_a_row(engine: Engine) -> None:
    """24 pointwise layers: P = 24 * 272, one parameter has 256 numbers, one activation at most 512."""
    model = nn.Sequential(nn.Conv2d(3, 16, 1), *(nn.Conv2d(16, 16, 1) for _ in range(24))).double()
    step = Step(nn.Sequential(model), [1, 1], side=4)
    step.forward = lambda start, stop: Output.of(model(step.x[start:stop]))  # type: ignore[method-assign]
    made = step.rows(engine)
    with Largest() as seen:
        made(step.forward, step.sizes, step.loss)
    assert made.size == 24 * 272 + 64 and 256 <= seen.numbers <= 1024


@both_engines
def test_the_buffers_stay_where_they_are_from_step_to_step(engine: Engine) -> None:
    step = Step(built("prompts"), [2, 2])
    made = step.rows(engine)
    places = []
    for _ in range(3):
        rows, _ = made(step.forward, step.sizes, step.loss)
        made.write_update(rows.mean(0))
        places.append([rows.data_ptr(), *(p.grad.data_ptr() for p in made.parameters if p.grad is not None)])
    assert places[0] == places[1] == places[2]


@both_engines
def test_fewer_rows_take_part_of_the_buffer_and_more_rows_a_larger_one(engine: Engine) -> None:
    model = built("strides")
    many, few = Step(model, [1, 2, 1]), Step(model, [2, 1])
    made = few.rows(engine)
    for step in (many, few, many):
        rows, _ = made(step.forward, step.sizes, step.loss)
        assert_same_rows(rows, step.reference())
    assert len(made.buffer) == 3


@both_engines
def test_a_row_that_does_not_reach_a_parameter_leaves_no_old_number_there(engine: Engine) -> None:
    class Switch(nn.Module):
        used = True

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor, task: Tensor) -> Tensor:
            return self.second(self.first(x)) if self.used else self.first(x)

    step = Step(Switch().double(), [1, 1])
    made = step.rows(engine)
    step.model.used = False
    rows, _ = made(step.forward, step.sizes, step.loss)
    assert_same_rows(rows, step.reference())
    made.write_update(rows.mean(0))
    assert [parameter.grad is None for parameter in made.parameters] == [False, False, True, True]


@both_engines
@pytest.mark.parametrize("name", ["shared_and_unused", "strides", "patches"])
def test_the_mean_of_the_rows_in_grad_is_what_a_joint_backward_leaves(name: str, engine: Engine) -> None:
    step = Step(built(name).to(memory_format=torch.channels_last), [2, 2, 2])
    made = step.rows(engine)
    made.write_update(made.buffer.mean(0))
    ours = [parameter.grad for parameter in made.parameters]
    step.model.zero_grad(set_to_none=True)
    torch.stack(step.losses()).mean().backward()
    for parameter, found in zip(made.parameters, ours, strict=True):
        assert (found is None) == (parameter.grad is None)
        if found is not None and parameter.grad is not None:
            assert found.stride() == parameter.stride()
            assert_close(found, parameter.grad, rtol=1e-10, atol=1e-12)


# ------------------------------------------------------------------------------------- which parameters, which types


@pytest.mark.error("training: a pattern of training.shared that matches nothing")
@both_engines
def test_rows_can_be_compared_on_shared_blocks(engine: Engine) -> None:
    step = Step(built("windows"), [2, 1])
    made, whole = step.rows(engine), step.reference()
    kept = torch.cat([torch.full((p.numel(),), n.startswith("qkv")) for n, p in step.model.named_parameters()])
    columns = made.columns(["qkv*"], "shared")
    assert sum(part.stop - part.start for part in columns) == int(kept.sum())
    shared = whole[:, kept]
    assert_close(made.gramian(made.buffer, columns), shared @ shared.T, rtol=1e-9, atol=0)
    assert made.columns(["*"], "shared") == [slice(0, made.size)]  # neighbours are one slice
    with pytest.raises(ConfigError, match="shared: no parameter matches 'qvk"):
        made.columns(["qvk*"], "shared")


@both_engines
def test_frozen_parameters_have_no_column(engine: Engine) -> None:
    step = Step(built("strides"), [2, 1])
    whole = step.reference()
    step.model.first.requires_grad_(False)
    frozen = sum(parameter.numel() for parameter in step.model.first.parameters())
    assert_same_rows(read(step.rows(engine)), whole[:, frozen:])


@pytest.mark.error("training: all parameters are frozen")
def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(ValueError, match="no parameter is trained"):
        RowGradients(built("strides").requires_grad_(False), 2, "stream")


@pytest.mark.parametrize("name", ["nafnet", "unet", "restormer", "swinir", "transweather"])
def test_under_bfloat16_autocast_both_engines_give_float32_rows_near_the_exact_ones(name: str) -> None:
    model = CASES[name].build(torch.float32).train().to(memory_format=torch.channels_last)
    step = Step(model, [1, 2], side=16, dtype=torch.float32)
    exact = step.reference()
    plain = step.forward

    def forward(start: int, stop: int) -> Output:
        with torch.autocast("cpu", torch.bfloat16):
            output = plain(start, stop)
            return output.with_tensors([tensor.float() for tensor in output.tensors()])

    step.forward = forward  # type: ignore[method-assign]
    for way in ENGINES:
        engine = step.rows(way)
        rows = read(engine)
        assert engine.fallback is None and rows.dtype == torch.float32
        assert float(torch.cosine_similarity(rows, exact).min()) > 0.97
        assert bool(((rows.norm(dim=1) / exact.norm(dim=1)).log().abs() < 0.2).all())
