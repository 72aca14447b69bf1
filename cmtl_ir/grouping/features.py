"""Last-layer features of a fixed network, on the same patches under every degradation and on an unknown image.

All features together take gigabytes, so only their Gram matrix and channel statistics leave this file. Notation: n
patches of S x S pixels, C channels, D = C S S feature elements per patch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from cmtl_ir.base import keyed
from cmtl_ir.base.errors import UserError, brief
from cmtl_ir.base.files import write_whole
from cmtl_ir.gradients.gramian import gramian
from cmtl_ir.strategy.grouping import Features
from cmtl_ir.tasks.images.crops import unit
from cmtl_ir.tasks.images.store import PairStore
from cmtl_ir.tasks.task import Task

MEMORY = 512_000_000
"""Bytes of features that are held at once. More patches are processed by pairs of blocks."""
FORWARD = 16
"""Patches per forward pass."""

Patches = Callable[[Tensor], Tensor]
"""Maps numbers [b] of patches to degraded patches [b, 3, S, S] on the device."""


# --------------------------------------------------------------------------------------------------- features


@contextmanager
def last_layer(model: nn.Module, size: int, device: torch.device) -> Iterator[Callable[[Tensor], Tensor]]:
    """Yield a function from patches [b, 3, S, S] to the input of the last layer with weights in a forward pass."""
    seen: list[nn.Module] = []
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    layers = [module for module in model.modules() if isinstance(module, kinds)]
    hooks = [layer.register_forward_pre_hook(lambda module, _: seen.append(module)) for layer in layers]
    caught: list[Tensor] = []
    numbers = torch.zeros(1, dtype=torch.int64, device=device)
    try:
        with torch.no_grad():
            model(torch.zeros(1, 3, size, size, device=device), numbers)
        last = seen[-1]
        for hook in hooks:
            hook.remove()
        hooks = [last.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))]

        def features(patches: Tensor) -> Tensor:
            caught.clear()
            with torch.no_grad():
                model(patches.to(memory_format=torch.channels_last), numbers.expand(len(patches)))
            return caught[-1].float()

        yield features
    finally:
        for hook in hooks:
            hook.remove()


def measured(model: nn.Module, patches: Patches, count: int, size: int, device: torch.device) -> Features:
    """Return Gram matrix and channel statistics of `count` patches for a network in eval mode."""
    training = model.training
    model.eval()
    with last_layer(model, size, device) as features:
        channels: list[Tensor] = []

        def rows(numbers: Tensor, describe: bool) -> Tensor:
            pieces = []
            for some in numbers.split(FORWARD):
                maps = features(patches(some))
                if describe:
                    channels.append(_statistics(maps))
                pieces.append(maps.flatten(1) / maps[0].numel() ** 0.5)
            return torch.cat(pieces)

        gram = _blockwise(rows, count)
    model.train(training)
    return Features(gram, torch.cat(channels))


def _statistics(maps: Tensor) -> Tensor:
    """Return mean and standard deviation of each channel, [b, C, ...] -> [b, 2C] float64 on the CPU."""
    flat = maps.flatten(2).double()
    return torch.cat([flat.mean(2), flat.std(2, unbiased=False)], dim=1).cpu()


def _blockwise(rows: Callable[[Tensor, bool], Tensor], count: int) -> Tensor:
    """Return the Gram matrix [count, count] in float64. Features that exceed the memory are computed repeatedly."""
    first = rows(torch.arange(1), False)
    half = max(1, MEMORY // (first[0].numel() * 4) // 2)
    if count <= 2 * half:
        return gramian(rows(torch.arange(count), True))
    blocks = torch.arange(count).split(half)
    gram = torch.zeros(count, count, dtype=torch.float64)
    for i, a in enumerate(blocks):
        own = rows(a, True)
        gram[a[0] : a[-1] + 1, a[0] : a[-1] + 1] = gramian(own)
        for b in blocks[i + 1 :]:
            products = gramian(torch.cat([own, rows(b, False)]))[: len(a), len(a) :]
            gram[a[0] : a[-1] + 1, b[0] : b[-1] + 1] = products
            gram[b[0] : b[-1] + 1, a[0] : a[-1] + 1] = products.T
    return gram


# ---------------------------------------------------------------------------------------------------- patches


def training_patches(task: Task, size: int) -> tuple[Patches, int]:
    """Return the task's degradation on keyed patches of its training images, and the side of the patches.

    The side is smaller than `size` if an image is smaller. The choice of patches depends on the images alone, so tasks
    on the same images see the same patches.
    """
    side = min(size, int(task.splits.train.sizes.min()))
    return partial(_cut, task, side), side


def _cut(task: Task, side: int, numbers: Tensor) -> Tensor:
    store = task.splits.train
    keys = keyed.keys_of(keyed.name_key("grouping patches", task.seed), numbers)
    images = keyed.permuted(keyed.name_key("grouping images", task.seed), numbers % len(store), len(store))
    room = torch.from_numpy(store.sizes)[images] - side + 1
    corners = keyed.integers(keyed.substream(keys, "corner"), 0, 1 << 31, (2,)) % room
    flips = torch.zeros_like(images)
    planes = 2 if isinstance(store, PairStore) else 1
    raw = [torch.empty(len(numbers), 3, side, side, dtype=torch.uint8) for _ in range(planes)]
    store.crops(images, corners, flips, *raw)
    pixels = unit(raw[0].to(task.device))
    if task.degradation is None:
        return pixels
    own = keyed.substream(keyed.keys_of(keyed.name_key("grouping", task.seed, task.name), numbers), "degradation")
    sizes = torch.from_numpy(store.sizes)[images]
    with torch.no_grad():
        return task.degradation(pixels, *(one.to(task.device) for one in (own, corners, sizes)))


def image_patches(image: Tensor, count: int, size: int) -> tuple[Patches, int]:
    """Return patches spread evenly over an image [1, 3, H, W], and their side. They overlap if the image is small."""
    side = min(size, *image.shape[-2:])
    across = max(1, round((count * image.shape[-1] / image.shape[-2]) ** 0.5))
    down = -(-count // across)
    height, width = (length - side for length in image.shape[-2:])
    corners = [
        (round(height * (i + 0.5) / down), round(width * (j + 0.5) / across))
        for i in range(down)
        for j in range(across)
    ]

    def cut(numbers: Tensor) -> Tensor:
        chosen = [corners[number * len(corners) // count] for number in numbers.tolist()]
        return torch.cat([image[..., top : top + side, left : left + side] for top, left in chosen])

    return cut, side


# ------------------------------------------------------------------------------------------------------ files


def save_features(path: Path, features: dict[str, Features]) -> None:
    """Write the features of all tasks to one safetensors file, completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Any] = {}
    for task, one in features.items():
        tensors |= {f"{task}.gram": one.gram.contiguous(), f"{task}.channels": one.channels.contiguous()}
    write_whole(path, save(tensors))


def load_features(path: Path) -> dict[str, Features]:
    """Read a file that `save_features` wrote and return the features per task. Raise UserError if it is damaged."""
    try:
        tensors = load_file(path)
    except (SafetensorError, FileNotFoundError) as error:
        raise UserError(
            f"{path} is missing or damaged ({brief(error)}): copy it from a backup, or train the grouped run again "
            "with `cmtl-ir run EXPERIMENT --fresh`"
        ) from error
    tasks = [name.removesuffix(".gram") for name in tensors if name.endswith(".gram")]
    return {task: Features(tensors[f"{task}.gram"], tensors[f"{task}.channels"]) for task in tasks}
