"""BIDeN. Shapes: B images, C channels of a map, H x W pixels, n features, K heads."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from cmtl_ir.backbones._instance import InstanceNorm
from cmtl_ir.backbones._layers import pad_to
from cmtl_ir.base.errors import ConfigError

BLOCKS = 9  # of every branch of the encoder
SMALLEST = 8  # pixels a side: a quarter of it is reflected by one


def _conv(channels: int, outputs: int, size: int, stride: int = 1, padding: int | None = None) -> nn.Conv2d:
    return nn.Conv2d(channels, outputs, size, stride, size // 2 if padding is None else padding)


def _normed(conv: nn.Module) -> list[nn.Module]:
    """L: a convolution, an instance norm without parameters, a ReLU."""
    return [conv, InstanceNorm(), nn.ReLU()]


class Blur(nn.Module):
    """A fixed separable low-pass filter in the authors' buffer, `filt`."""

    filt: Tensor

    def __init__(self, channels: int, taps: tuple[float, ...], total: float) -> None:
        super().__init__()
        line = torch.tensor(taps)
        self.register_buffer("filt", (torch.outer(line, line) / total).repeat(channels, 1, 1, 1))


class Downsample(Blur):
    """S2: [B, C, H, W] -> [B, C, H / 2, W / 2]."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, (1.0, 2.0, 1.0), 16.0)

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
        return F.conv2d(padded, self.filt, stride=2, groups=x.shape[1])


class Upsample(Blur):
    """U2: [B, C, H, W] -> [B, C, 2H, 2W]."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, (1.0, 3.0, 3.0, 1.0), 16.0)

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        return F.conv_transpose2d(padded, self.filt, stride=2, padding=2, groups=x.shape[1])[:, :, 1:-1, 1:-1]


class ResidualBlock(nn.Module):
    """Rb: two normalised convolutions with reflected borders, around a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            *_normed(_conv(channels, channels, 3, padding=0)),
            nn.ReflectionPad2d(1),
            _conv(channels, channels, 3, padding=0),
            InstanceNorm(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


def _blocks(channels: int) -> list[nn.Module]:
    return [ResidualBlock(channels) for _ in range(BLOCKS)]


class Encoder(nn.Module):
    """Three branches of different receptive fields, concatenated: [B, 3, H, W] -> [B, 8n, H / 4, W / 4]."""

    def __init__(self, n: int) -> None:
        super().__init__()
        narrowing = [*_normed(_conv(n, 2 * n, 3)), Downsample(2 * n)]
        self.model1 = nn.Sequential(
            nn.ReflectionPad2d(3),
            *_normed(_conv(3, n, 7, padding=0)),
            *narrowing,
            *_normed(_conv(2 * n, 4 * n, 3)),
            Downsample(4 * n),
            *_blocks(4 * n),
        )
        self.model2 = nn.Sequential(
            nn.ReflectionPad2d(3),
            *_normed(_conv(3, n, 15, padding=4)),
            *_normed(_conv(n, 2 * n, 3)),
            Downsample(2 * n),
            *_normed(_conv(2 * n, 4 * n, 3)),
            Downsample(4 * n),
            *_normed(_conv(4 * n, 4 * n, 3)),
            *_normed(_conv(4 * n, 4 * n, 3)),
            *_blocks(4 * n),
            *_normed(_conv(4 * n, 2 * n, 1)),
        )
        self.model3 = nn.Sequential(
            *_normed(_conv(3, 4 * n, 3, stride=2)),
            Downsample(4 * n),
            *_blocks(4 * n),
            *_normed(_conv(4 * n, 2 * n, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.model1(x), self.model2(x), self.model3(x)], dim=1)


class Head(nn.Module):
    """A decoder of one component: [B, 8n, H / 4, W / 4] -> [B, 3, H, W] in [-1, 1]."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            *_normed(_conv(8 * n, 4 * n, 1)),
            *_normed(_conv(4 * n, 4 * n, 1)),
            Upsample(4 * n),
            *_normed(_conv(4 * n, 2 * n, 3)),
            Upsample(2 * n),
            *_normed(_conv(2 * n, n, 3)),
            nn.ReflectionPad2d(3),
            _conv(n, 3, 7, padding=0),
            nn.Tanh(),
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.model(features)


class Discriminator(nn.Module):
    """A patch discriminator that also says which sources an image is mixed of. Needs sides of 24 pixels."""

    def __init__(self, sources: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(3, 64, 4, padding=1), nn.LeakyReLU(0.2), Downsample(64)]
        for channels in (64, 128, 256):
            layers += [
                _conv(channels, 2 * channels, 4, padding=1), InstanceNorm(), nn.LeakyReLU(0.2),
                *([Downsample(2 * channels)] if channels < 256 else []),
            ]  # fmt: skip
        self.model = nn.Sequential(*layers)
        self.model2 = nn.Sequential(_conv(512, 1, 4, padding=1))
        self.model3 = nn.Sequential(
            _conv(512, 512, 1), InstanceNorm(), nn.LeakyReLU(0.2), nn.AdaptiveMaxPool2d(1),
            _conv(512, sources, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # [B, 3, H, W] in [-1, 1]
        """Logits of being real [B, 1, h, w], one per patch, and logits of the sources [B, sources]."""
        features = self.model(x)
        return self.model2(features), self.model3(features).flatten(1)


class BIDeN(nn.Module):
    """Blind Image Decomposition (BIDeN; Han et al., ECCV 2022).

    One encoder, one decoding head per component of the mixed image. `head: task` restores each image with the head
    of its `task` [B] (one head per task), `head: first` with head 1, which the authors' rain models train on the
    clean image. Without `task` head 1 restores. `forward_features` gives the pictures of all heads. Any H and W:
    reflected right and bottom up to a multiple of 4 and at least 8, and cropped after. Takes and returns [0, 1]; the
    encoder sees 2x - 1, and the heads end in a tanh without a skip.

    `discriminator` adds the authors' netD, which restoring does not read. The base objective `adversary` trains it
    together with the network. Weights of the authors: MIT, with parts under BSD.

    Departure: in training every head runs on every image, and the head of the task is selected after.
    """

    couples_samples = False
    unused: tuple[str, ...] = ()
    latent_module: ClassVar[str] = "netE"

    def __init__(
        self,
        *,
        features: int = 64,
        tasks: int = 6,
        head: Literal["task", "first"] = "task",
        discriminator: bool = False,
    ) -> None:
        super().__init__()
        self.tasks, self.head = tasks, head
        self.netE = Encoder(features)
        for number in range(1, tasks + 1):
            self.add_module(f"netH{number}", Head(features))
        if discriminator:
            self.netD = Discriminator(tasks)
        heads = [f"netH{number}.*" for number in range(2, tasks + 1)] if head == "first" else []
        self.unused = (*heads, "netD.*")

    def forward(
        self, x: Tensor, task: Tensor | None = None, target: Tensor | None = None, keys: Tensor | None = None
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Restore [B, 3, H, W] by the heads of the tasks [B]; with the clean images as `target`, return `judged`."""
        if target is not None:
            return self.judged(x, target, task)
        return self._chosen(self.netE(self._shown(x)), task)[:, :, : x.shape[2], : x.shape[3]]

    def forward_features(self, x: Tensor, task: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The restored image and "components" [B, K, 3, H, W], the picture of every head in [0, 1].

        With a discriminator also "sources" [B, K], its logits of which components the image is mixed of.
        """
        height, width = x.shape[-2:]
        shown = self._shown(x)
        features = self.netE(shown)
        pictures = self._pictures(features)[..., :height, :width]
        first = task is None or self.head == "first"
        restored = pictures[:, 0] if first else pictures[torch.arange(len(x), device=x.device), task]
        found = {"components": pictures}
        if hasattr(self, "netD"):
            found["sources"] = self.netD(pad_to(shown, 1, "replicate", smallest=24))[1]
        return restored, found

    def judged(self, x: Tensor, target: Tensor, task: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The restored images, and what the discriminator says, for the objective `adversary`.

        "judged" are its logits of the restored images, without a gradient for the discriminator, "fake" the same
        without a gradient for the network, "real" those of the clean images `target`, [B, 1, h, w] each. "sources"
        are its logits of which components the degraded images x contain, "present" those that they contain, [B, K].
        """
        if not hasattr(self, "netD"):
            raise ConfigError(
                "backbone biden: the objective adversary needs its discriminator; set discriminator: true"
            )
        restored = self._chosen(self.netE(self._shown(x)), task)[:, :, : x.shape[2], : x.shape[3]]
        constant = {name: value.detach() for name, value in self.netD.named_parameters()}
        shown, fake, real = (pad_to(2 * y - 1, 1, "replicate", smallest=24) for y in (x, restored, target))
        first = torch.zeros(len(x), dtype=torch.int64, device=x.device) if task is None else task
        return restored, {
            "judged": functional_call(self.netD, constant, (fake,))[0],
            "fake": self.netD(fake.detach())[0],
            "real": self.netD(real)[0],
            "sources": self.netD(shown)[1],
            "present": F.one_hot(first, self.tasks).to(x.dtype),
        }

    def picture(self, features: Tensor, number: int) -> Tensor:
        """What head `number`, counted from 0, makes of the encoder's features, in [0, 1]."""
        return (self.get_submodule(f"netH{number + 1}")(features) + 1) / 2

    def _shown(self, x: Tensor) -> Tensor:
        return 2 * pad_to(x, 4, "reflect", smallest=SMALLEST) - 1

    def _pictures(self, features: Tensor) -> Tensor:
        return torch.stack([self.picture(features, number) for number in range(self.tasks)], dim=1)

    def _chosen(self, features: Tensor, task: Tensor | None) -> Tensor:
        if task is None or self.head == "first":
            return self.picture(features, 0)
        if not self.training:
            return torch.cat([self.picture(features[i : i + 1], one) for i, one in enumerate(task.tolist())])
        chosen = F.one_hot(task, self.tasks).to(features.dtype)  # [B, K]
        return (self._pictures(features) * chosen[:, :, None, None, None]).sum(1)
