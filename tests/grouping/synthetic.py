"""Probes and features without a network: what a grouping is asked with, made up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from cmtl_ir.strategy.grouping import Array, Features, Group, Grouping


class MadeUpProbe:
    """A probe whose answers are given."""

    def __init__(
        self,
        tasks: Sequence[str],
        matrix: Callable[[str, str], float] | None = None,
        features: Mapping[str, Features] | None = None,
        score: Callable[[tuple[str, ...], str], float] | None = None,
        seed: int = 0,
    ) -> None:
        self.tasks, self.seed, self.notes = tuple(tasks), seed, list[str]()
        self._matrix, self._features, self._score = matrix, features, score
        self.asked = list[tuple[str, ...]]()

    def features(self) -> Mapping[str, Features]:
        assert self._features is not None
        return self._features

    def affinity(self, every: int, look_ahead: str) -> Array:
        assert self._matrix is not None
        return np.array([[self._matrix(a, b) for b in self.tasks] for a in self.tasks])

    def cosines(self, every: int) -> Array:
        return self.affinity(every, "")

    def validation(self, groups: Sequence[Sequence[str]]) -> list[dict[str, float]]:
        assert self._score is not None
        self.asked += [tuple(group) for group in groups]
        return [{task: self._score(tuple(group), task) for task in group} for group in groups]

    def say(self, text: str) -> None:
        self.notes.append(text)

    def under(self, grouping: Grouping) -> MadeUpProbe:
        return self


def as_sets(groups: Sequence[Group]) -> set[tuple[frozenset[str], frozenset[str]]]:
    """Groups without any order."""
    return {(frozenset(group.tasks), frozenset(group.serves)) for group in groups}


def features(rows: Array) -> Features:
    """Features [n, D] of n patches as the engine gives them; every element is a channel's mean."""
    tensor = torch.from_numpy(rows)
    return Features(tensor @ tensor.T / rows.shape[1], torch.cat([tensor[:, :8], tensor[:, :8].abs()], 1))


def degraded(scale: float, shape: float, patches: int, key: int, size: int = 400) -> Features:
    """Patches that share contents of low rank, under a degradation of its own strength and tail."""
    draws = np.random.default_rng(key)
    contents = draws.normal(size=(patches, 6)) @ np.random.default_rng(1).normal(size=(6, size))
    noise = draws.gamma(1 / shape, size=(patches, size)) ** (1 / shape) * draws.choice([-1, 1], size=(patches, size))
    return features(0.3 * contents + scale * noise / noise.std())
