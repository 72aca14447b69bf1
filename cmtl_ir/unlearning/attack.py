"""Membership inference: can the samples that a model was trained on be told from those that it was not? n: samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cmtl_ir.base import keyed
from cmtl_ir.measures.statistics import LEVEL, Interval
from cmtl_ir.training.learner import Learner
from cmtl_ir.unlearning.probe import PROBE, PROBE_CROPS, identity_losses

CANDIDATES = 256
"""Members, and as many others, of each forgotten task."""
FEWEST = 20
"""Below, nothing is attacked."""
OTHERS = PROBE + PROBE_CROPS
"""First id of the draws that are no members: of the same images, but draws that no run trains on."""


def separation(members: ArrayLike, others: ArrayLike) -> Interval:
    """AUC = P(member's score > other's score) [n], [m] with DeLong's 95 % interval (DeLong et al., Biometrics 1988).

    Fitting a logistic regression to the one score, as the unlearning literature does, learns nothing but its sign, and
    learning that by cross-validation leaves intervals that cover .79 to .86 of the cases where nothing is to be found.
    """
    own, other = np.asarray(members, dtype=np.float64), np.asarray(others, dtype=np.float64)
    n, few = len(own), min(len(own), len(other))
    if few < FEWEST:
        return Interval(math.nan, math.nan, math.nan, n, f"{few} samples are too few, {FEWEST} are needed")
    from scipy import stats

    above = _share_below(other, own)  # [n]: for each member, the share of others below it
    beneath = _share_below(own, other)
    area = float(above.mean())
    variance = above.var(ddof=1) / n + beneath.var(ddof=1) / len(other)
    half = float(stats.norm.ppf(0.5 + LEVEL / 2) * math.sqrt(variance))
    return Interval(area, max(0.0, area - half), min(1.0, area + half), n)


def _share_below(values: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each of `at`, the share of `values` that is smaller; equal ones count half."""
    ordered = np.sort(values)
    below, up_to = np.searchsorted(ordered, at, "left"), np.searchsorted(ordered, at, "right")
    return (below + up_to) / (2.0 * len(values))


@torch.no_grad()
def familiarity(learner: Learner, task: str, ids: Tensor) -> Tensor:
    """[n]: log(identity's loss / loss) of the samples (task, ids): the larger, the better the model knows them.

    Against the identity's, because losses of mild and strong degradations differ more than members and others do.
    """
    learner.model.eval()
    found = []
    for some in ids.split(32):
        batch = learner.batch(task, some)
        output = learner.restore(batch).final()
        losses = learner.sample_losses(output, batch).double()
        found.append(torch.log(identity_losses(learner, output, batch).double() / losses.clamp_min(1e-12)))
    return torch.cat(found).cpu()


def membership(learner: Learner, drawn: dict[str, int], tasks: Sequence[str]) -> Interval:
    """AUC of telling the draws that the original was trained on, `drawn` of each task, from later ones of the same
    images: two random parts of one pool, so that a model that has seen neither gives .5.
    """
    members, others = [], []
    for task in tasks:
        count = min(CANDIDATES, drawn.get(task, 0))
        if count:
            key = keyed.name_key(learner.seed, "membership", task)
            members.append(familiarity(learner, task, keyed.permuted(key, torch.arange(count), drawn[task])))
            others.append(familiarity(learner, task, torch.arange(OTHERS, OTHERS + count)))
    return separation(*(torch.cat(part).numpy() if part else () for part in (members, others)))
