"""Membership inference: can training samples of a model be distinguished from other samples? n: number of samples."""

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
"""Number of members, and of non-members, per forgotten task."""
FEWEST = 20
"""With fewer members or non-members, no attack is made."""
OTHERS = PROBE + PROBE_CROPS
"""First id of the non-member draws. They are taken from the same images, but no run trains on these draws."""


def separation(members: ArrayLike, others: ArrayLike) -> Interval:
    """Return AUC = P(score of a member > score of a non-member) with DeLong's 95 % interval.

    `members` and `others` are scores of shape [n] and [m]. Source: DeLong et al., Biometrics 1988.

    The unlearning literature fits a logistic regression to the single score. This learns nothing but the sign of the
    score. Learning the sign by cross-validation yields intervals that cover only .79 to .86 of the cases in which
    there is nothing to find.
    """
    own, other = np.asarray(members, dtype=np.float64), np.asarray(others, dtype=np.float64)
    n, few = len(own), min(len(own), len(other))
    if few < FEWEST:
        return Interval(math.nan, math.nan, math.nan, n, f"{few} samples are too few, {FEWEST} are needed")
    from scipy import stats

    above = _share_below(other, own)  # [n]: for each member, the share of non-members with a lower score
    beneath = _share_below(own, other)
    area = float(above.mean())
    variance = above.var(ddof=1) / n + beneath.var(ddof=1) / len(other)
    half = float(stats.norm.ppf(0.5 + LEVEL / 2) * math.sqrt(variance))
    return Interval(area, max(0.0, area - half), min(1.0, area + half), n)


def _share_below(values: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each element of `at`, the share of `values` that is smaller. Equal values count half."""
    ordered = np.sort(values)
    below, up_to = np.searchsorted(ordered, at, "left"), np.searchsorted(ordered, at, "right")
    return (below + up_to) / (2.0 * len(values))


@torch.no_grad()
def familiarity(learner: Learner, task: str, ids: Tensor) -> Tensor:
    """Return log(loss of the identity / loss of the model) [n] of the samples (task, ids).

    The larger the value, the better the model knows the sample. The loss is divided by that of the identity because
    losses of mild and strong degradations differ more than losses of members and non-members.
    """
    learner.model.eval()
    found = []
    for some in ids.split(32):
        batch = learner.batch(task, some)
        output = learner.restore(batch).final()
        losses = learner.sample_losses(output, batch).double()
        found.append(torch.log(identity_losses(learner, output, batch).double() / losses.clamp_min(1e-12)))
    return torch.cat(found).cpu()


def over_seeds(found: Sequence[Interval]) -> Interval:
    """Return the mean AUC over seeds, with the interval that follows from the attacked samples of each seed.

    It is NaN if a seed had too few samples.
    """
    mean = sum(one.estimate for one in found) / len(found)
    half = math.sqrt(sum(((one.high - one.low) / 2) ** 2 for one in found)) / len(found)
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half), len(found))


def membership(learner: Learner, drawn: dict[str, int], tasks: Sequence[str]) -> Interval:
    """Return the AUC of distinguishing draws that the original was trained on from later draws of the same images.

    `drawn` is the number of training draws per task. Members and non-members are two random parts of one pool, so a
    model that has seen neither has an AUC of .5.
    """
    members, others = [], []
    for task in tasks:
        count = min(CANDIDATES, drawn.get(task, 0))
        if count:
            key = keyed.name_key(learner.seed, "membership", task)
            members.append(familiarity(learner, task, keyed.permuted(key, torch.arange(count), drawn[task])))
            others.append(familiarity(learner, task, torch.arange(OTHERS, OTHERS + count)))
    return separation(*(torch.cat(part).numpy() if part else () for part in (members, others)))
