"""Claims about tiles: their padded borders are cut, none is too large, and few are needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cmtl_ir import backbones, cli
from cmtl_ir.base.errors import ConfigError, UserError
from cmtl_ir.measures.tiling import MARGIN, SMALLEST_TILE, restore_tiled
from tests import tiny

FIRST = torch.zeros(1, dtype=torch.int64)


def photo(height: int, width: int) -> Tensor:  # [1, 3, H, W] in [0, 1]
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


def blurs(times: int, padding: str = "zeros") -> nn.Module:
    """A network that looks `times` pixels far, and pads."""
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 3, 3, padding=1, padding_mode=padding) for _ in range(times)]
    return nn.Sequential(*layers)


class OnImages(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, task: Tensor | None = None) -> Any:  # [B, 3, H, W]
        return x + self.inner(x)


def downsampling() -> nn.Module:
    """Three levels down and up: which pixels are grouped depends on where the image starts."""
    torch.manual_seed(2)
    down = [nn.Conv2d(3, 3, 2, stride=2) for _ in range(3)]
    up = [nn.ConvTranspose2d(3, 3, 2, stride=2) for _ in range(3)]
    return nn.Sequential(*down, *up)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "pixels alone": lambda: OnImages(nn.Conv2d(3, 3, 1)),
    "one pixel far": lambda: OnImages(blurs(1)),
    "as far as the margin": lambda: OnImages(blurs(MARGIN)),
    "as far as the margin, reflecting": lambda: OnImages(blurs(MARGIN, "reflect")),
    "downsampling": lambda: OnImages(downsampling()),
    "srresnet": lambda: backbones.build("srresnet", width=4, blocks=2).eval(),
}


@torch.no_grad()
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("size", [(128, 152), (136, 200), (304, 96), (400, 264)])
def test_a_local_network_gives_the_same_image_in_tiles(network: str, size: tuple[int, int]) -> None:
    model, image = NETWORKS[network](), photo(*size)
    whole = restore_tiled(model, image, FIRST, 1024)
    torch.testing.assert_close(restore_tiled(model, image, FIRST, 128), whole, atol=2e-6, rtol=0)


def passes(height: int, width: int, tile: int) -> list[tuple[int, ...]]:
    """Sizes of the tiles that a network is shown; the first of its two images counts."""
    seen: list[tuple[int, ...]] = []

    def network(x: Tensor, task: Tensor) -> list[Tensor]:
        seen.append(tuple(x.shape[2:]))
        return [x, torch.zeros_like(x)]

    image = photo(height, width)
    torch.testing.assert_close(restore_tiled(network, image, FIRST, tile), image, atol=1e-6, rtol=0)
    return seen


def test_tiles_never_exceed_their_size() -> None:
    seen = passes(200, 128, 128)
    assert len(seen) > 1 and max(seen) == (128, 128)


@pytest.mark.parametrize(("tile", "expected"), [(128, 9), (129, 9), (150, 9), (160, 6), (600, 1)])
def test_the_number_of_tiles_stays_small(tile: int, expected: int) -> None:
    assert len(passes(100, 600, tile)) == expected


@pytest.mark.parametrize("tile", [0, 64, 65, SMALLEST_TILE - 1])
@pytest.mark.error("tile: smaller than twice the overlap")
def test_a_tile_below_twice_the_overlap_is_refused(tile: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=f"tile {tile}: .*overlap by 64.* give {SMALLEST_TILE} or more"):
        restore_tiled(nn.Identity(), photo(100, 150), FIRST, tile)
    with pytest.raises(ConfigError, match=f"evaluation.tile: .*equal to {SMALLEST_TILE}"):
        tiny.experiment(evaluation={"tile": tile})
    with pytest.raises(SystemExit) as ended:
        cli.main(["restore", "run", "a.png", "b.png", "--tile", str(tile)])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "--tile" in said and str(SMALLEST_TILE) in said
