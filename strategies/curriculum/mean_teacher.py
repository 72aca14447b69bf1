"""Joint training on labelled images, and on unlabelled ones whose targets come from an averaged network."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor, nn

from cmtl_ir.strategy.data import UNLABELLED, Batch, History, Learner, Row, RowLoss, Stage
from cmtl_ir.strategy.objective import Constants
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.parts import Cost, Curriculum
from cmtl_ir.strategy.registry import register

from ..objective.cr import CR
from ..shared.copies import follow, frozen_copy
from ._hidden import hiding
from ._stages import uniform
from ._teaching import answers, empty_bank, enters, keep_of, ramp
from ._unlabelled import KIND, refuse_without_images

log = logging.getLogger("cmtl_ir")
PROBED = 32  # labelled samples per task of the report


@register
class MeanTeacher(Curriculum):
    """Mean teacher with a bank of its best answers (Semi-UIR, Huang et al., CVPR 2023) on `data.labelled` images.

    Rows `unlabelled:TASK` have the loss lambda(t) (l(f(x), b) + contrast * CR(f(x), b, x)), where b is the best answer
    so far of the teacher, a moving average of the network, and lambda(t) = weight * exp(-5 (1 - t / T)^2). An answer
    enters the bank if the criterion prefers it to the student's and to that of the bank; without an entry the loss is
    0. The weighting does not weigh these rows. With `share: 0` or `weight: 0` it is joint training on the labelled
    images.

    At its end the log states the share of images with an entry, and the correlation of the criterion with the true
    error on labelled training images: a criterion that does not correlate makes the bank worthless.

    Departures: the criterion is the disagreement of the eight symmetric answers, because MUSIQ needs weights. Images
    come from fixed crops, so that they are met again. The strong view hides pixels, because changes of colour, blur or
    grey values change what low light, haze or blur mean. The bank starts empty, not black; the teacher is in eval mode.
    """

    cost: ClassVar[Cost] = Cost(forward_passes="17 per unlabelled sample", memory="P, and `ids` crops per task")

    share: float = Field(0.5, ge=0, lt=1)
    """Share of the batch for the unlabelled images of all tasks together."""
    weight: float = Field(0.2, ge=0)
    """lambda: largest factor of the loss of the unlabelled rows."""
    ramp: float = Field(0.5, ge=0, le=1)
    """Share of the steps after which lambda is largest."""
    contrast: float = Field(1.0, ge=0)
    """Factor of the contrast `cr` (haar) towards the bank and away from the degraded image. 0: none."""
    decay: float = Field(0.996, ge=0, lt=1)
    """Largest share of its weights that the teacher keeps in a step."""
    criterion: Literal["disagreement", "none"] = "disagreement"
    """disagreement: smaller mean distance of eight symmetric answers from their mean; none: always the newest."""
    ids: int = Field(512, ge=1)
    """Number of fixed unlabelled crops per task."""
    hide: float = Field(0.1, ge=0, lt=1)
    """Share of the pixels of the student's unlabelled images that are hidden. 0: it sees what the teacher sees."""

    _teacher: Any = PrivateAttr(default=None)
    _seen: dict[str, list[Tensor]] = PrivateAttr(default_factory=dict)
    _contrast: CR = PrivateAttr(default_factory=CR)

    @property
    def acts(self) -> bool:
        """Whether there are unlabelled rows."""
        return self.share > 0 and self.weight > 0

    def reset(self) -> None:
        self._state = {"step": 0, "bank": {}, "teacher": {}}

    def next_stage(self, history: History) -> Stage | None:
        """Return one stage with the whole budget. Raise ConfigError if a task has no unlabelled images."""
        if history.stages:
            if self.acts and "report" not in self.state:
                self.state["report"] = self._report(history)
            return None
        mixture = uniform(history.tasks)
        if not self.acts:
            return Stage("joint", mixture, history.steps)
        own = {task: share * (1 - self.share) for task, share in mixture.items()}
        rows = {f"{KIND}:{task}": share * self.share for task, share in mixture.items()}
        refuse_without_images(self.called, history.tasks, history.learner)
        memory = dict.fromkeys(rows, range(self.ids))
        return Stage("joint", own | rows, history.steps, {row: list(ids) for row, ids in memory.items()})

    def enter_stage(self, stage: Stage, learner: Learner) -> None:
        """Make the teacher and the banks, or take those of the state."""
        if not self.acts:
            return
        self._contrast.enter_stage(stage, learner)
        self._teacher = frozen_copy(learner.model, self.state["teacher"])
        for task in learner.tasks:
            if task not in self.state["bank"]:
                self.state["bank"][task] = empty_bank(learner, task, self.ids)

    def dress(self, row: Row, stage: Stage, learner: Learner) -> Row:
        """Return an unlabelled row with its images, its view and its loss."""
        if row.kind != KIND:
            return row
        loss = self._loss(row.task, self.ramp * stage.steps, learner)
        view = hiding(self.hide, learner.seed) if self.hide > 0 else None
        return replace(row, coefficient=1.0, images=UNLABELLED, loss=loss, view=view, auxiliary=False)

    def _loss(self, task: str, steps: float, learner: Learner) -> RowLoss:
        def loss(output: Output, batch: Batch) -> Tensor:
            bank = self.state["bank"][task]
            places = batch.ids.to(bank["scores"].device)
            known = replace(batch, clean=bank["images"][places])
            losses = learner.sample_losses(output, known)
            if self.contrast > 0:
                losses = losses + self.contrast * self._contrast.losses(output, known, Constants(""))
            weight = ramp(self.state["step"], steps, self.weight)
            return weight * torch.where(bank["scores"][places].isfinite(), losses, torch.zeros_like(losses))

        return loss

    # ---------------------------------------------------------------------------------------------- teacher and bank

    def observe(self, batch: Batch, row: str, sample_losses: Tensor) -> None:
        """Record which unlabelled images this step has."""
        kind, _, task = row.partition(":")
        if kind == KIND:
            self._seen.setdefault(task, []).append(batch.ids)

    def after_step(self, learner: Learner) -> None:
        """Move the teacher, and enter what is better."""
        if self._teacher is None:
            return
        follow(self._teacher, learner.model, keep_of(self.state["step"], self.decay))
        self.state["step"] += 1
        seen, self._seen = self._seen, {}
        for task, ids in seen.items():
            batch = learner.batch(task, torch.cat(ids), UNLABELLED)
            self._enter(task, batch, learner)

    def _enter(self, task: str, batch: Batch, learner: Learner) -> None:
        bank, judged = self.state["bank"][task], self.criterion == "disagreement"
        places = batch.ids.to(bank["scores"].device)
        images, scores = self.target(self._teacher, batch, learner)
        better = torch.ones_like(scores, dtype=torch.bool)
        if judged:
            student = answers(learner, learner.model, batch, judged)[1]
            better = enters(scores, student, bank["scores"][places])
        bank["images"][places[better]] = images[better]
        bank["scores"][places[better]] = scores[better]

    def target(self, teacher: nn.Module, batch: Batch, learner: Learner) -> tuple[Tensor, Tensor]:
        """Return the teacher's images [B, 3, P, P] for a batch, and their scores [B], of which smaller is better."""
        return answers(learner, teacher, batch, self.criterion == "disagreement")

    def _report(self, history: History) -> dict[str, dict[str, float]]:
        """Log and return, per task, how full the bank is, and what the criterion says about the true error."""
        learner, found = history.learner, {}
        for task in history.tasks:
            batch = learner.batch(task, torch.arange(PROBED))
            images, scores = answers(learner, self._teacher or learner.model, batch, judged=True)
            errors = learner.sample_losses(Output.of(images), batch).float()
            known = float(self.state["bank"][task]["scores"].isfinite().float().mean())
            correlation = float(torch.corrcoef(torch.stack([scores, errors]))[0, 1])
            found[task] = {"known": known, "correlation": correlation}
            log.info(
                "mean_teacher, %s: %.0f %% of %d unlabelled crops have a target; the criterion's correlation with the "
                "true error of labelled training images is %.2f",
                *(task, 100 * known, self.ids, correlation),
            )
        return found
