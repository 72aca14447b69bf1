"""GRIDS' deep degradation representation: a Gram matrix of features -> principal coefficients -> generalised Gaussian.

Legend: n patches, m components, s keyed subsets of patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmtl_ir.base.keyed import bits, keys_of, name_key
from cmtl_ir.strategy.grouping import Features

from ._ggd import GGD, distance, fit, of_sigma

Array = NDArray[np.float64]
Kind = Literal["pooled", "per_dimension"]


def coefficients(gram: Tensor, components: int) -> Array:
    """Return the principal coefficients sqrt(l_j) V_j [..., n, m], m <= n - 1, of raw features of Gramian [..., n, n].

    Centring rows and columns removes the features' mean, so the rank is n - 1.
    """
    centred = gram - gram.mean(-1, keepdim=True)
    centred = centred - centred.mean(-2, keepdim=True)
    values, vectors = torch.linalg.eigh((centred + centred.mT) / 2)
    m = min(components, gram.shape[-1] - 1)
    return (vectors[..., -m:] * values[..., None, -m:].clamp(min=0).sqrt()).flip(-1).numpy()


def represent(gram: Tensor, components: int, kind: Kind = "pooled") -> GGD:
    """Return the fit of one degradation.

    `pooled`: all coefficients are one sample, so two numbers are kept. `per_dimension` [ours]: one fit per component,
    by rank, so the spectrum is kept.
    """
    found = coefficients(gram, components)  # [..., n, m]
    return fit(found.reshape(*found.shape[:-2], -1) if kind == "pooled" else np.moveaxis(found, -1, -2))


def refitted(gram: Tensor, n: int, components: int, subsets: int, kind: Kind = "pooled") -> GGD:
    """Return the mean (sigma, beta) of fits to `subsets` keyed choices of n patches.

    It is comparable with the fit of a query of n patches.
    """
    chosen = subsets_of(len(gram), n, subsets)  # [s, n]
    fits = represent(gram[chosen[:, :, None], chosen[:, None, :]], components, kind)
    return of_sigma(fits.sigma.mean(0), fits.beta.mean(0))


def subsets_of(total: int, n: int, subsets: int) -> Tensor:
    """Return keyed choices of n patches [s, n], the same for every degradation.

    So all degradations are compared on the same patches.
    """
    keys = keys_of(name_key("grouping subsets", n), torch.arange(subsets))
    return bits(keys, total).argsort(dim=1, stable=True)[:, : min(n, total)]


def refitted_distances(
    references: Mapping[str, Features], query: Features, components: int, subsets: int, kind: Kind = "pooled"
) -> dict[str, float]:
    """Return the symmetric KL between the query's fit and each task's, refitted at the query's size [ours].

    Read literally, the paper compares 16 patches with 300 components. Sigma is then wrong by a factor of several, and
    routing is at chance.
    """
    n, own = len(query.gram), represent(query.gram, components, kind)
    return {task: distance(own, refitted(one.gram, n, components, subsets, kind)) for task, one in references.items()}


def channel_distances(references: Mapping[str, Features], query: Features) -> dict[str, float]:
    """Return for each task the distance of mean channel statistics, in units of their spread over a task's patches."""
    spread = torch.stack([one.channels.var(0) for one in references.values()]).mean(0).sqrt().clamp(min=1e-12)
    own = query.channels.mean(0)
    return {
        task: float(((own - one.channels.mean(0)) / spread).square().mean().sqrt()) for task, one in references.items()
    }
