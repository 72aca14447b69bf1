"""IPT: one transformer between the heads and tails of the tasks. Shapes: B images, n feature maps, S x S pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from cmtl_ir.backbones._layers import pad_to
from cmtl_ir.backbones._quarter_tiles import tiled
from cmtl_ir.backbones._query_transformer import QueryTransformer
from cmtl_ir.backbones._upsample import shuffle_steps
from cmtl_ir.backbones.swinir import MEAN


class MeanShift(nn.Conv2d):
    """Adds a constant colour. The authors' frozen 1x1 convolution; its weight is the identity and is not multiplied.

    So autocast does not round the image.
    """

    def __init__(self, sign: int, value_range: float) -> None:
        super().__init__(3, 3, 1)
        with torch.no_grad():
            self.weight.copy_(torch.eye(3).view(3, 3, 1, 1))
            # The authors' constants have float32's precision in any dtype.
            self.get_parameter("bias").copy_(sign * value_range * torch.tensor(MEAN, dtype=torch.float32))
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:  # [B, 3, H, W]
        return x + self.get_parameter("bias").view(1, 3, 1, 1)


class ResidualBlock(nn.Module):
    """x + conv relu conv x, with 5x5 convolutions."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(features, features, 5, padding=2), nn.ReLU(), nn.Conv2d(features, features, 5, padding=2)
        )

    def forward(self, x: Tensor) -> Tensor:  # [B, n, S, S]
        return x + self.body(x)


def _head(features: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, features, 3, padding=1), ResidualBlock(features), ResidualBlock(features))


def _tail(features: int, scale: int) -> nn.Sequential:
    return nn.Sequential(nn.Sequential(*shuffle_steps(features, scale)), nn.Conv2d(features, 3, 3, padding=1))


class IPT(nn.Module):
    """Pre-Trained Image Processing Transformer (Chen et al., CVPR 2021, arXiv 2012.00364).

    Task k has head k, query k and tail k around one transformer that takes `image_size` x `image_size` pixels only.
    Larger images are tiled as the authors do it, smaller ones are padded by reflection (by the border where they are
    too small to reflect) and cropped after. A 256 x 256 image is 361 tiles of 48 x 48.

    `tasks` is the number of tasks. With one task `task` is not read; with more, `task` [B] is required, and a batch
    may mix tasks whose scales agree. A head and a tail run on the whole batch if one of its images needs them; those
    of tasks that are absent get no gradient. `scales` holds the enlargement of each task, None for 1 everywhere; with
    scale s the output is [B, 3, sH, sW]. `value_range` is the range in which the network sees the image: 255 in the
    published weights. Raises ValueError for a missing or unknown task number and for mixed scales.

    The authors' weights are under Apache-2.0. Departures: their switches that remove the query, the positions or the
    norms (no_mlp, no_pos, no_norm) are left out, as all are off in the published model.
    """

    couples_samples = False
    unused: tuple[str, ...] = ("sub_mean.*", "add_mean.*")
    latent_module: ClassVar[str] = "body.encoder"

    def __init__(
        self,
        *,
        features: int = 64,
        image_size: int = 48,
        patch: int = 3,
        heads: int = 12,
        layers: int = 12,
        tasks: int = 1,
        scales: Sequence[int] | None = None,
        value_range: float = 255.0,
    ) -> None:
        super().__init__()
        if image_size % patch or image_size < 4:
            raise ValueError(f"image_size {image_size} is at least 4 and a multiple of patch {patch}")
        self.scales = [1] * tasks if scales is None else list(scales)
        if len(self.scales) != tasks:
            raise ValueError(f"scales has {len(self.scales)} numbers for {tasks} tasks: give one per task")
        self.image_size, self.tasks, self.value_range = image_size, tasks, value_range
        self.sub_mean = MeanShift(-1, value_range)
        self.add_mean = MeanShift(1, value_range)
        self.head = nn.ModuleList(_head(features) for _ in range(tasks))
        self.body = QueryTransformer(features, image_size, patch, heads, layers, tasks)
        self.tail = nn.ModuleList(_tail(features, scale) for scale in self.scales)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W] -> [B, 3, scale H, scale W]
        task, present = self._present(x, task)
        scale = self.scales[present[0]]
        height, width = x.shape[-2:]
        padded = self.sub_mean(pad_to(x, 1, "reflect", smallest=self.image_size) * self.value_range)

        def network(tiles: Tensor, each: int) -> Tensor:
            return self._restored(tiles, task.repeat_interleave(each), present)

        y = self.add_mean(tiled(network, padded, self.image_size, scale)) / self.value_range
        return y[:, :, : scale * height, : scale * width]

    def _present(self, x: Tensor, task: Tensor | None) -> tuple[Tensor, list[int]]:
        """Task numbers [B], and those that occur."""
        if self.tasks == 1:
            return torch.zeros(len(x), dtype=torch.int64, device=x.device), [0]
        if task is None:
            raise ValueError("IPT with several tasks needs the task number of every image: model(x, task)")
        present = task.unique().tolist()
        if present[0] < 0 or present[-1] >= self.tasks:
            raise ValueError(f"task numbers {present} for a network of {self.tasks} tasks")
        if len({self.scales[one] for one in present}) > 1:
            raise ValueError(f"tasks {present} enlarge by {self.scales}: a batch needs one scale")
        return task, present

    def _restored(self, tiles: Tensor, task: Tensor, present: list[int]) -> Tensor:  # [B, 3, S, S], [B]
        features = _by_task(self.head, tiles, task, present)
        return _by_task(self.tail, features + self.body(features, task), task, present)


def _by_task(modules: nn.ModuleList, x: Tensor, task: Tensor, present: list[int]) -> Tensor:  # [B, ...], [B]
    """For each sample the output of its task's module."""
    y = modules[present[0]](x)
    for one in present[1:]:
        y = torch.where((task == one).view(-1, 1, 1, 1), modules[one](x), y)
    return y
