"""Overlapping tiles of images. Shapes: B images, P tiles per image, s x s pixels of a tile."""

from __future__ import annotations

import torch
from torch import Tensor


class Tiles:
    """Square tiles that cover images of one size, the last of each axis flush with the border."""

    def __init__(self, size: tuple[int, int], side: int, stride: int) -> None:
        """Raises ValueError if a side of the images is shorter than a tile."""
        if min(size) < side:
            raise ValueError(f"images of {size[0]} x {size[1]} pixels are smaller than a tile of {side}")
        self.size, self.side = size, side
        rows, columns = (sorted({*range(0, length - side, stride), length - side}) for length in size)
        self.corners = [(row, column) for row in rows for column in columns]

    def cut(self, x: Tensor) -> Tensor:  # [B, C, H, W] -> [B P, C, s, s]
        """The tiles, image after image."""
        side = self.side
        tiles = [x[:, :, row : row + side, column : column + side] for row, column in self.corners]
        return torch.stack(tiles, dim=1).flatten(0, 1)

    def averaged(self, tiles: Tensor) -> Tensor:  # [B P, C, s, s] -> [B, C, H, W]
        """The images, every pixel the mean over the tiles that hold it."""
        each = tiles.unflatten(0, (-1, len(self.corners)))
        total = tiles.new_zeros(len(each), tiles.shape[1], *self.size)
        covers = tiles.new_zeros(self.size)
        for number, (row, column) in enumerate(self.corners):
            where = (..., slice(row, row + self.side), slice(column, column + self.side))
            total[where] += each[:, number]
            covers[where] += 1
        return total / covers
