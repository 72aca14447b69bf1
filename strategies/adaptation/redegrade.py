"""Pairs made of the test image itself: restore it, degrade the answer again, and restore that."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from cmtl_ir.base.errors import UserError
from cmtl_ir.base.keyed import permuted
from cmtl_ir.strategy.adaptation import AdaptationContext
from cmtl_ir.strategy.degradation import Degradation
from cmtl_ir.strategy.registry import register

from ._moving import Moving, Named, training_images
from ._views import ensemble, spread
from .consistency import Consistency

CONFIDENT = 0.5
"""Probability of a degradation below which `routed` falls back to `consistency`."""


@register
class Redegrade(Moving):
    """SRTTA's second-order degradation (Deng et al., NeurIPS 2023), with the formulas of the run's tasks.

    With y = sg mean_j T_j^-1 f0(T_j x): minimise l(f(D(y)), y) + `anchor` l(f(D(x)), sg f0(x)), where l is the run's
    base objective and D a degradation whose parameters are keyed by (image, step). After each step the share `fisher`
    of the moved coordinates with the largest Fisher information is set back to its trained value.

    Departures: images instead of features are compared. No degradation is learnt, so a table of unseen degradations
    whose formulas are among those of the run must say so. The Fisher information is that of the consistency under
    symmetries on training images, where the authors use the images of a test set.
    Cost: 8 forward passes, and 2 forward and backward passes per step, on the crop.
    """

    rate: float = Field(5e-5, ge=0)
    """Learning rate of Adam; 0: nothing moves."""
    steps: int = Field(10, ge=0)
    """Steps per image; 0: nothing moves."""
    degradation: Literal["all", "routed", "given"] = "all"
    """all: the formulas of the run's tasks in turn, in a keyed order; routed: the one that the run's classifier finds,
    and `consistency` where its probability is below .5; given: that of the image's task."""
    anchor: float = Field(1.0, ge=0)
    """Weight of the second term; 0: it is left out."""
    fisher: float = Field(0.5, ge=0, le=1)
    """Share of the moved coordinates that is set back after each step; 0: none."""
    samples: int = Field(32, ge=1)
    """Training images from which the Fisher information is estimated."""

    @property
    def task_given(self) -> bool:  # type: ignore[override]
        """Whether the context names the image's task."""
        return self.degradation == "given"

    def begin(self, network: nn.Module, context: AdaptationContext) -> None:
        if self.still or self.fisher == 0:
            return
        named = self.chosen(network, context)
        squares = [torch.zeros_like(parameter) for _, parameter in named]
        for image in training_images(context, self.samples):
            network.zero_grad()
            spread(network, image, ensemble(network, image, context), context, True)
            for total, (_, parameter) in zip(squares, named, strict=True):
                total += 0 if parameter.grad is None else parameter.grad.square() / self.samples
        network.zero_grad()
        self.state["kept"] = kept_coordinates(squares, self.fisher)

    def adapt(self, network: nn.Module, degraded: Tensor, context: AdaptationContext) -> Tensor:
        if self.still:
            return context.restore(network, degraded)
        image = self.crop(degraded, context)
        formulas = self._formulas(network, image, context)
        if not formulas:
            context.note(
                f"{self.called}: where the classifier is unsure (below {CONFIDENT}), consistency takes its place"
            )
            return Consistency(params=self.params, side=self.side).adapt(network, degraded, context)
        named = self.chosen(network, context)
        self._pull(network, image, formulas, named, context)
        return context.restore(network, degraded)

    def _pull(
        self, network: nn.Module, image: Tensor, formulas: list[Degradation], named: Named, context: AdaptationContext
    ) -> None:
        pseudo = ensemble(network, image, context)
        with torch.no_grad():
            first = context.forward(network, image)
        start = [parameter.detach().clone() for _, parameter in named]

        def loss(step: int) -> float:
            turn, place = divmod(step, len(formulas))
            number = permuted(self.key(context, "turn", turn), torch.tensor([place]), len(formulas))
            degrade = formulas[int(number)]
            total = self._term(network, again(pseudo, degrade, self.key(context, step)), pseudo, 1.0, context)
            if self.anchor > 0:
                total += self._term(
                    network, again(image, degrade, self.key(context, step)), first, self.anchor, context
                )
            return total

        def set_back() -> None:
            for kept, (_, parameter), trained in zip(self.state.get("kept", ()), named, start, strict=False):
                with torch.no_grad():
                    parameter.copy_(torch.where(kept, trained, parameter))

        self.minimise(named, loss, context, set_back)

    @staticmethod
    def _term(network: nn.Module, image: Tensor, target: Tensor, weight: float, context: AdaptationContext) -> float:
        loss = weight * context.loss(context.forward(network, image), target)
        loss.backward()
        return loss.item()

    def _formulas(self, network: nn.Module, image: Tensor, context: AdaptationContext) -> list[Degradation]:
        """Return the degradations to draw from; none where the classifier is unsure."""
        known = {task: formula for task, formula in context.degradations.items() if formula is not None}
        if self.degradation == "all":
            wanted = list(known)
        elif self.degradation == "given":
            if context.task is None:
                raise UserError(f"--adapt {self.called}: degradation given needs the image's task; name it with --task")
            wanted = [context.task]
        else:
            found = context.classify(network, image)
            if found is None:
                raise UserError(
                    f"--adapt {self.called}: degradation routed needs a classifier: a run with the auxiliary objective "
                    "degradation_class, or a grouped run that routes by features; give degradation=all"
                )
            task = max(found, key=found.__getitem__)
            if found[task] < CONFIDENT:
                return []
            wanted = [task]
        if missing := [task for task in wanted if task not in known] or (["its tasks"] if not wanted else []):
            raise UserError(
                f"--adapt {self.called}: the run has no degradation formula for {', '.join(missing)}; "
                "use another adapter, such as consistency"
            )
        return [known[task] for task in wanted]


def again(image: Tensor, degradation: Degradation, key: int) -> Tensor:
    """Return an image [1, 3, h, w] in [0, 1] degraded with parameters and noise of a key, in its own layout."""
    device = image.device
    origin = torch.zeros(1, 2, dtype=torch.int64, device=device)
    size = torch.tensor([image.shape[2:]], device=device)
    with torch.no_grad():
        return degradation(image.contiguous(), torch.tensor([key], device=device), origin, size)


def kept_coordinates(information: list[Tensor], share: float) -> list[Tensor]:
    """Return masks of the coordinates with the largest information, the given share of all tensors' together."""
    flat = torch.cat([one.flatten() for one in information])
    kept = torch.zeros_like(flat, dtype=torch.bool)
    kept[flat.topk(round(share * flat.numel())).indices] = True
    return [
        part.view_as(one) for part, one in zip(kept.split([o.numel() for o in information]), information, strict=True)
    ]
