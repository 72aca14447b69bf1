"""Measures of what a model still knows, without training it and without the test set. B: samples per batch."""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cmtl_ir.backbones.building import initial_model, network_to_device
from cmtl_ir.store.checkpoint import load_weights
from cmtl_ir.strategy.data import Batch, Learner
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.unlearning import Request

PROBE = 1 << 40
"""First id of the crops for stop rules and searches. They are cut from training images, but no run trains on them."""
PROBE_CROPS = 32


def untouched(output: Output, batch: Batch) -> Output:
    """Return the degraded images in place of every image of a network's output."""
    return output.filled(batch.degraded)


def identity_losses(learner: Learner, output: Output, batch: Batch) -> Tensor:
    """Return the loss of leaving the images unchanged, m_i = loss(x_i, y_i), [B]."""
    return learner.sample_losses(untouched(output, batch), batch)


@torch.no_grad()
def probe_psnr(learner: Learner, tasks: Sequence[str], network: nn.Module | None = None) -> float:
    """Return the mean over tasks of the mean PSNR in dB on fixed crops of training images.

    No counter of the learner moves. `network` replaces the model of the learner. `None` takes the model itself, and
    `nn.Identity()` leaves the images unchanged.
    """
    training, ids = learner.model.training, torch.arange(PROBE, PROBE + PROBE_CROPS)
    learner.model.eval()
    means = []
    for task in tasks:
        batch = learner.batch(task, ids)
        alone = isinstance(network, nn.Identity)
        restored = batch.degraded if alone else learner.restore(batch, network).restored.float()
        error = (restored.clamp(0, 1) - batch.clean).square().mean((1, 2, 3)).clamp_min(1e-10)
        means.append(float((-10.0 * torch.log10(error)).mean()))
    learner.model.train(training)
    return sum(means) / len(means)


def target_psnr(learner: Learner, request: Request) -> float:
    """Return the PSNR in dB on the probe at which forgetting is complete.

    It is the PSNR of the retrained reference, or that of the identity if there is no reference.
    """
    if request.reference is None:
        return probe_psnr(learner, request.forget, nn.Identity())
    weights, header = load_weights(request.reference)
    network = initial_model(json.loads(header["backbone"]), 0)  # the model that forgets may be an ensemble
    network.load_state_dict(weights)
    network = network_to_device(network, next(learner.model.parameters()).device)
    return probe_psnr(learner, request.forget, network.eval())
