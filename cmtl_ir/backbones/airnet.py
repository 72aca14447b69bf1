"""AirNet. Shapes: B images, C = 64 channels, H x W pixels, D = 256 contrast features, Q keys in the queue."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = 64
FEATURES = 256
KEYS_PER_SAMPLE = 256
SLOPE = 0.1
MOMENTUM = 0.999  # of the key encoder
TEMPERATURE = 0.07  # of the contrast


def _conv(channels: int, outputs: int, bias: bool = True, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, outputs, size, stride=stride, padding=size // 2, bias=bias)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


# --------------------------------------------------------------------------------- restorer, guided by the encoder


class DeformableConv(nn.Module):
    """DCN: a modulated 3x3 deformable convolution whose offsets depend on features and representation."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(CHANNELS, CHANNELS, 3, 3).uniform_(-1 / 24, 1 / 24))
        self.conv_offset_mask = _conv(2 * CHANNELS, 27)
        for parameter in self.conv_offset_mask.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor, representation: Tensor) -> Tensor:  # [B, C, H, W] each
        taps = self.taps(features, self.conv_offset_mask(torch.cat([features, representation], dim=1)))
        return F.conv2d(taps, self.weight, stride=3)

    @classmethod
    def taps(cls, features: Tensor, t: Tensor) -> Tensor:  # [B, C, H, W], [B, 27, H, W] -> [B, C, 3H, 3W]
        """Sample the features at the nine taps of every pixel. A plain convolution of stride 3 sums them."""
        batch, _, height, width = features.shape
        # bfloat16 cannot distinguish pixel 200 from 201, so positions need float32.
        exact = torch.promote_types(t.dtype, torch.float32)
        offsets = t[:, :18].to(exact).view(batch, 3, 3, 2, height, width).permute(0, 4, 1, 5, 2, 3)
        strength = t[:, 18:].sigmoid().view(batch, 3, 3, height, width).permute(0, 3, 1, 4, 2)
        grid = cls._grid(offsets.reshape(batch, 3 * height, 3 * width, 2))
        sampled = F.grid_sample(features.to(exact), grid, padding_mode="zeros", align_corners=False)
        return sampled * strength.reshape(batch, 1, 3 * height, 3 * width)

    @staticmethod
    def _grid(offsets: Tensor) -> Tensor:  # [B, 3H, 3W, (dy, dx)] in pixels -> [B, 3H, 3W, (x, y)] in [-1, 1]
        rows, columns = offsets.shape[1:3]
        row, column = torch.arange(rows, device=offsets.device), torch.arange(columns, device=offsets.device)
        y = (row // 3 + row % 3 - 1)[:, None] + offsets[..., 0]
        x = column // 3 + column % 3 - 1 + offsets[..., 1]
        return torch.stack([(6 * x + 3) / columns - 1, (6 * y + 3) / rows - 1], dim=-1)


class FeatureTransform(nn.Module):
    """SFT: features scaled and shifted, pixel by pixel, by the representation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_gamma = self._branch()
        self.conv_beta = self._branch()

    @staticmethod
    def _branch() -> nn.Sequential:
        first, second = (_conv(CHANNELS, CHANNELS, bias=False, size=1) for _ in range(2))
        return nn.Sequential(first, nn.LeakyReLU(SLOPE), second)

    def forward(self, features: Tensor, representation: Tensor) -> Tensor:  # [B, C, H, W] each
        return features * self.conv_gamma(representation) + self.conv_beta(representation)


class GuidedModule(nn.Module):
    """DGM: features + DCN + SFT."""

    def __init__(self) -> None:
        super().__init__()
        self.dcn = DeformableConv()
        self.sft = FeatureTransform()

    def forward(self, features: Tensor, representation: Tensor) -> Tensor:
        return features + self.dcn(features, representation) + self.sft(features, representation)


class GuidedBlock(nn.Module):
    """DGB: two guided modules, each followed by a convolution, with a skip around them."""

    def __init__(self) -> None:
        super().__init__()
        self.dgm1 = GuidedModule()
        self.dgm2 = GuidedModule()
        self.conv1 = _conv(CHANNELS, CHANNELS)
        self.conv2 = _conv(CHANNELS, CHANNELS)

    def forward(self, features: Tensor, representation: Tensor) -> Tensor:
        h = _leaky(self.conv1(_leaky(self.dgm1(features, representation))))
        return features + self.conv2(_leaky(self.dgm2(h, representation)))


class Guided(nn.Module):
    """Guided parts in sequence and a final convolution, with a skip around them: a group of blocks, or all groups."""

    def __init__(self, parts: list[nn.Module]) -> None:
        super().__init__()
        self.body = nn.ModuleList([*parts, _conv(CHANNELS, CHANNELS)])

    def forward(self, features: Tensor, representation: Tensor) -> Tensor:
        return through(self.body, features, representation)


def through(body: nn.ModuleList, features: Tensor, representation: Tensor) -> Tensor:
    """Return features + last(the other parts, in sequence)."""
    h = features
    for part in body[:-1]:
        h = part(h, representation)
    return features + body[-1](h)


class Restorer(nn.Module):
    """R (the authors' DGRN): groups of guided blocks between two convolutions, without a global skip."""

    def __init__(self, groups: int, blocks: int) -> None:
        super().__init__()
        self.head = nn.Sequential(_conv(3, CHANNELS))
        guided = (Guided([GuidedBlock() for _ in range(blocks)]) for _ in range(groups))
        self.body = nn.ModuleList([*guided, _conv(CHANNELS, CHANNELS)])
        self.tail = nn.Sequential(_conv(CHANNELS, 3))

    def forward(self, x: Tensor, representation: Tensor) -> Tensor:  # [B, 3, H, W], [B, C, H, W] -> [B, 3, H, W]
        return self.tail(through(self.body, self.head(x), representation))


# -------------------------------------------------------------------------------- encoder, trained by contrast (MoCo)


class ResidualBlock(nn.Module):
    """RB: two normalised convolutions plus a normalised 1x1 shortcut."""

    def __init__(self, channels: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            _conv(channels, outputs, bias=False, stride=stride),
            nn.BatchNorm2d(outputs),
            nn.LeakyReLU(SLOPE),
            _conv(outputs, outputs, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential(
            _conv(channels, outputs, bias=False, size=1, stride=stride), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        return _leaky(self.backbone(x) + self.shortcut(x))


class Encoder(nn.Module):
    """E_pre computes the representation z. E and mlp turn z into one contrast feature per image."""

    def __init__(self) -> None:
        super().__init__()
        self.E_pre = ResidualBlock(3, CHANNELS, 1)
        self.E = nn.Sequential(ResidualBlock(CHANNELS, 128, 2), ResidualBlock(128, FEATURES, 2))
        self.mlp = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.LeakyReLU(SLOPE), nn.Linear(FEATURES, FEATURES))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # [B, 3, H, W] -> z [B, C, H, W], unit rows [B, D]
        representation = self.E_pre(x)
        return representation, F.normalize(self.mlp(self.E(representation).mean((2, 3))), dim=1)


class Contrast(nn.Module):
    """Momentum contrast (He et al., CVPR 2020): crops of one degraded image are positives, a queue holds negatives."""

    queue: Tensor
    queue_ptr: Tensor

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.encoder_q = Encoder()
        self.encoder_k = Encoder()
        self.encoder_k.load_state_dict(self.encoder_q.state_dict())
        self.encoder_k.requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.randn(FEATURES, KEYS_PER_SAMPLE * batch), dim=0))  # [D, Q]
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))

    def forward(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Return z [B, C, H, W] of `query` and logits [B, 1 + Q]; advance the key encoder and the queue by one step.

        Raises ValueError if the batch is larger than the queue.
        """
        representation, q = self.encoder_q(query)
        with torch.no_grad():
            self.follow(MOMENTUM)
            k = self.encoder_k(key)[1]
        # A copy, because the queue changes before the backward pass reads it.
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ self.queue.clone()], dim=1) / TEMPERATURE
        self.enqueue(k)
        return representation, logits

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Move the key encoder towards the query encoder: m k + (1 - m) q for each parameter."""
        for ours, theirs in zip(self.encoder_k.parameters(), self.encoder_q.parameters(), strict=True):
            ours.mul_(momentum).add_(theirs, alpha=1 - momentum)

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:  # [B, D]
        """Replace the oldest keys. Raise ValueError if the batch is larger than the queue."""
        start, size = int(self.queue_ptr), self.queue.shape[1]
        if len(keys) > size:
            raise ValueError(f"a batch of {len(keys)} is larger than the queue of {size} keys; raise contrast_batch")
        places = (start + torch.arange(len(keys), device=keys.device)) % size
        self.queue[:, places] = keys.T
        self.queue_ptr[0] = (start + len(keys)) % size


class ContrastiveEncoder(nn.Module):
    """The contrast under the authors' name, `E.E`."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.E = Contrast(batch)


class AirNet(nn.Module):
    """All-In-One Image Restoration for Unknown Corruption (Li et al., CVPR 2022).

    A restorer in which every module is guided by z, a representation of the degradation that is as large as the image.
    Any H and W, no padding, no global skip. `model(x)` restores. `contrastive(xq, xk)` is the authors' training pass.
    Its cross-entropy is the only loss that trains the encoder beyond its first block. In experiments it is the
    auxiliary objective `degradation_contrast` with `encoder: own`, which a strategy has unless it lists its own
    objectives. With `auxiliary: []` it is AirNet without contrast: L1 trains the restorer and the first block alone.

    In training, BatchNorm makes z depend on the whole batch, so samples are coupled. `frozen_statistics` keeps the
    encoder's norms at their running statistics (zero mean, unit variance in a new network), so that row gradients
    exist.

    Departure: the deformable convolution is computed by grid_sample and a strided convolution. It is equal up to
    rounding and takes about 0.3 MB of training memory per pixel. Its backward pass is not bit-repeatable on a GPU.
    """

    couples_samples = True
    latent_module: ClassVar[str] = "E.E.encoder_q.E_pre"
    encoder_module: ClassVar[str] = "E.E.encoder_q.E_pre"
    published_auxiliary: ClassVar[tuple[dict[str, Any], ...]] = (
        {"name": "degradation_contrast", "encoder": "own", "negatives": "all", "weight": 0.1},
    )
    # Read by the contrast only.
    unused: tuple[str, ...] = ("E.E.encoder_q.E.*", "E.E.encoder_q.mlp.*", "E.E.encoder_k.*")
    sized_by_file: tuple[str, ...] = ("E.E.queue",)

    def __init__(
        self, *, groups: int = 5, blocks: int = 5, contrast_batch: int = 5, frozen_statistics: bool = False
    ) -> None:
        super().__init__()
        self.frozen_statistics = frozen_statistics
        self.couples_samples = not frozen_statistics
        self.R = Restorer(groups, blocks)
        self.E = ContrastiveEncoder(contrast_batch)

    def train(self, mode: bool = True) -> AirNet:
        """Set the mode of the network; the encoder stays in eval mode if its statistics are frozen."""
        super().train(mode)
        if self.frozen_statistics:
            self.E.eval()
        return self

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W] -> [B, 3, H, W]
        return self.R(x, self.E.E.encoder_q.E_pre(x))

    def forward_features(self, x: Tensor, task: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the restored images [B, 3, H, W], and unit vectors "contrast" [B, D] of their degradation."""
        representation, query = self.E.E.encoder_q(x)
        return self.R(x, representation), {"contrast": query}

    @property
    def contrast(self) -> Contrast:
        """Key encoder and queue, for an objective that contrasts the degradations of crops."""
        return self.E.E

    def contrastive(self, xq: Tensor, xk: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # [B, 3, H, W] twice
        """Return restored xq [B, 3, H, W], logits [B, 1 + Q] and labels [B]. xk holds another crop of each image."""
        representation, logits = self.E.E(xq, xk)
        labels = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        return self.R(xq, representation), logits, labels
