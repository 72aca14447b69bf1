"""Detection of modules that couple the samples of a batch. Row gradients do not exist for such networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from cmtl_ir.base.errors import UserError


def refuse_coupling_over_ranks(model: nn.Module) -> None:
    """Raise UserError if the output for a sample depends on the other samples in the same process."""
    for name, module in coupling_modules(model):
        if module.training:
            raise UserError(
                f"{name or 'the backbone'} ({type(module).__name__}) couples the samples of a batch in train mode, and "
                "each process of torchrun sees only a part of it: start the same command without torchrun"
            )


def refuse_coupling(coupling: Sequence[tuple[str, nn.Module]]) -> None:
    """Raise ValueError if one of these modules currently couples samples of different rows."""
    for name, module in coupling:
        batch_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        if batch_norm and not module.training and not module.track_running_stats:
            raise ValueError(
                f"{name} ({type(module).__name__}) has no running statistics and couples the samples of a batch: "
                "row gradients do not exist. Use LayerNorm or GroupNorm, or track_running_stats=True and .eval()"
            )
        if module.training:
            raise ValueError(
                f"{name} ({type(module).__name__}) couples the samples of a batch in train mode: row gradients "
                f"do not exist. Freeze its statistics with model.get_submodule({name!r}).eval()"
            )


def coupling_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield (name, module) for modules that may couple samples: BatchNorm, and those with `couples_samples`."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) or (
            getattr(module, "couples_samples", False) is True and not _parts_say_more(module)
        ):
            yield name, module


def _parts_say_more(module: nn.Module) -> bool:
    """Return whether a module contains other coupling modules. It then couples only through them."""
    inner = (part for part in module.modules() if part is not module)
    return any(
        isinstance(part, nn.modules.batchnorm._BatchNorm) or getattr(part, "couples_samples", False) is True
        for part in inner
    )
