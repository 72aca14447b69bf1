"""What a model still knows, compared with the retrained model.

The measures are the distance of outputs, membership inference and the relearning time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cmtl_ir.base.errors import UserError
from cmtl_ir.base.files import or_nan, write_json
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.config.reading import neutral
from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.measures.statistics import Interval
from cmtl_ir.store import checkpoint
from cmtl_ir.store.layout import WEIGHTS
from cmtl_ir.training.learner import Learner
from cmtl_ir.unlearning.attack import membership
from cmtl_ir.unlearning.origin import Origin
from cmtl_ir.unlearning.probe import probe_psnr
from cmtl_ir.unlearning.relearn import TOLERANCE_DB, Relearning, relearning

VERSION = 2
"""Version of the measures. Increment it when one changes: audits of earlier versions are then repeated."""
KEPT_PIXELS = 8_000_000
"""Outputs of the retrained model are kept up to this many pixels. Beyond, they are computed again per model."""


@dataclass(frozen=True)
class Audit:
    """The measurements of one model with one seed."""

    distance: dict[str, float] | None
    """Task -> mean |output - output of the retrained model| over its test images. `None` if there is no reference."""
    attack: Interval
    """AUC of membership inference on the forgotten tasks."""
    relearning: Relearning | None
    """`None` if it was not requested."""

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Audit:
        """Return the audit whose `asdict` is `plain`."""
        found = plain["relearning"]
        back = Relearning([(int(a), or_nan(b)) for a, b in found["curve"]], or_nan(found["target"])) if found else None
        distance = plain["distance"]
        known = {task: or_nan(one) for task, one in distance.items()} if distance is not None else None
        attack = plain["attack"] | {end: or_nan(plain["attack"][end]) for end in ("estimate", "low", "high")}
        return cls(known, Interval(**attack), back)


class Auditor:
    """Measure the models of one seed. Every model gets the same test images, draws and relearning budget."""

    def __init__(self, origin: Origin, forget: Sequence[str], reference: Path | None, budget: int, home: Path) -> None:
        self.origin, self.forget, self.reference = origin, tuple(forget), reference
        self.budget, self.home = budget, home
        self.tasks, self.device = origin.tasks, origin.device
        evaluation = origin.experiment.evaluation
        self.evaluator = Evaluator(self.tasks, evaluation.protocol, evaluation.tile, self.device)
        self._kept: list[Tensor] | None = None

    def audit(self, folder: Path) -> Audit:
        """Return the audit of a finished run. An earlier audit with the same settings is read from its file."""
        if (before := self.known(folder)) is not None:
            return before
        made, file = self._measured(folder), self._file(folder)
        self.home.mkdir(parents=True, exist_ok=True)
        write_json(file, {"terms": self._terms, "audit": asdict(made)})
        return made

    def known(self, folder: Path) -> Audit | None:
        """Return the stored audit of a run. `None` if there is none with the same settings, or if it is damaged."""
        try:
            before = json.loads(self._file(folder).read_text())
            return Audit.of(before["audit"]) if before["terms"] == self._terms else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _file(self, folder: Path) -> Path:
        return self.home / f"{folder.name}.json"

    @property
    def _terms(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "forget": list(self.forget),
            "origin": self.origin.hash,
            "reference": self.reference.name if self.reference else None,
            "budget": self.budget,
        }

    def _measured(self, folder: Path) -> Audit:
        learner, experiment = self._loaded(folder)
        back = None
        if self.budget > 0:
            back = relearning(
                experiment, self.tasks, learner.model.state_dict(), self.origin.seed, self.device, self.forget,
                self._original_psnr - TOLERANCE_DB, self.budget,
            )  # fmt: skip
        attack = membership(learner, self._drawn, self.forget)
        return Audit(self._distance(learner) if self.reference else None, attack, back)

    def _loaded(self, folder: Path) -> tuple[Learner, Experiment]:
        """Return a learner with the weights of a finished run, and its experiment."""
        weights, header = checkpoint.load_weights(folder / WEIGHTS)
        experiment = self.origin.experiment.model_copy(update={"backbone": json.loads(header["backbone"])})
        learner = Learner(experiment, neutral(), self.tasks, self.origin.seed, self.device)
        learner.model.load_state_dict(weights)
        return learner, experiment

    @cached_property
    def _original_psnr(self) -> float:
        """PSNR in dB on the probe of the run that is to forget."""
        return probe_psnr(self._loaded(self.origin.folder)[0], self.forget)

    @cached_property
    def _drawn(self) -> dict[str, int]:
        """Task -> number of draws that the ordinary run at the start of the chain was trained on. Empty if unknown."""
        try:
            return self.origin.stage_end().tree["data"]["counters"]
        except UserError:
            return {}

    # ------------------------------------------------------------------------------------------- distance

    def _distance(self, learner: Learner) -> dict[str, float]:
        sums: dict[str, list[float]] = {}
        for task, own, other in zip(self._names(), self._answers(learner), self._retrained(), strict=True):
            sums.setdefault(task, []).append(float((own - other).abs().mean()))
        return {task: sum(listed) / len(listed) for task, listed in sums.items()}

    def _names(self) -> Iterator[str]:
        return (name for name, _, _ in self.evaluator.samples())

    @torch.no_grad()
    def _answers(self, learner: Learner) -> Iterator[Tensor]:
        """Yield the output [1, 3, H, W] for every test image."""
        learner.model.eval()
        for name, sample, _ in self.evaluator.samples():
            yield self.evaluator.restored(learner.model, name, sample)

    def _retrained(self) -> Iterator[Tensor]:
        """Return the outputs of the reference for every test image."""
        assert self.reference is not None
        if self._kept is not None:
            return iter(self._kept)
        answers = self._answers(self._loaded(self.reference)[0])
        pixels = sum(sample.clean[0, 0].numel() for _, sample, _ in self.evaluator.samples())
        if pixels > KEPT_PIXELS:
            return answers
        self._kept = list(answers)
        return iter(self._kept)
