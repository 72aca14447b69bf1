"""Networks whose samples see each other: their row gradients do not exist, and are refused by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from cmtl_ir.base.errors import UserError


def refuse_coupling_over_ranks(model: nn.Module) -> None:
    """Raise UserError if a sample's output depends on which samples are in the same process."""
    for name, module in coupling_modules(model):
        if module.training:
            raise UserError(
                f"{name or 'the backbone'} ({type(module).__name__}) couples the samples of a batch in train mode, and "
                "the processes of torchrun each see a part of it only: start the same command without torchrun"
            )


def refuse_coupling(coupling: Sequence[tuple[str, nn.Module]]) -> None:
    """Raise ValueError if one of these modules lets samples of different rows see each other now."""
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
    """Yield the modules that may couple samples, by name: BatchNorm, and those that declare `couples_samples`."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) or (
            getattr(module, "couples_samples", False) is True and not _parts_say_more(module)
        ):
            yield name, module


def _parts_say_more(module: nn.Module) -> bool:
    """A model that declares coupling and holds BatchNorm couples through these modules, which may be in eval mode."""
    inner = (part for part in module.modules() if part is not module)
    return any(
        isinstance(part, nn.modules.batchnorm._BatchNorm) or getattr(part, "couples_samples", False) is True
        for part in inner
    )
