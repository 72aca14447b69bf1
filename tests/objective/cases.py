"""A small network, every objective with fields that fit it, and one step with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cmtl_ir.config.reading import validate
from cmtl_ir.gradients.rows import RowGradients
from cmtl_ir.strategy import registry
from cmtl_ir.strategy.data import Row, Stage, StepContext
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import context_of
from cmtl_ir.training.samples import Samples, draw
from cmtl_ir.training.step import Stepper
from tests import tiny

OWN = Path(__file__).with_name("own.py")

OF_FILE = ("Bank", "Latent", "Others")
BASE_ONLY = ("adversary", "diffusion", "masked_answers")
AUXILIARY = [name for name in registry.names("objective") if name not in BASE_ONLY]
CASES: dict[str, dict[str, Any]] = {name: {"name": name} for name in AUXILIARY}
CASES["ms_ssim"] = {"name": "ms_ssim", "scales": 2}
CASES["snapshot_contrast"] = {"name": "snapshot_contrast", "weight": 0.1, "renew": [2, 3]}
CASES["curricular_cr"] = {"name": "curricular_cr", "features": "backbone", "renew": [2, 3], "every": 2, "probes": 3}
CASES["quality_contrast"] = {**CASES["curricular_cr"], "name": "quality_contrast"}
CASES["degradation_contrast"] = {"name": "degradation_contrast", "bank": 5, "momentum": 0.5}
CASES["cr_unrelated"] = {"name": "cr", "negative": "unrelated", "features": "backbone"}
CASES |= {name: {"name": f"{OWN}:{name}"} for name in OF_FILE}
CASES["twice"] = {"name": f"{OWN}:Bank", "size": 3}
TASKS = ("noise", "rain", "haze")


def small(auxiliary: Any = None, **overrides: Any) -> Learner:
    """A learner of the small network, with patches that two scales of SSIM fit into."""
    strategy = {} if auxiliary is None else {"auxiliary": auxiliary}
    strategy |= overrides.pop("strategy", {})
    network = "Prompted" if isinstance(auxiliary, dict) and auxiliary["name"] == "prompt_contrast" else "Small"
    backbone = {"backbone": {"name": f"{OWN}:{network}"}}
    raw = {key: value for key, value in tiny.RAW.items() if key != "backbone"} | backbone
    data = {**raw["data"], "patch": 24}
    made = validate(tiny.merged({**raw, "data": data, "strategies": {"one": strategy}}, overrides), "small")
    device = torch.device("cpu")
    tasks = tiny.build_tasks(made.tasks, made.data, 0, device)
    learner = Learner(made, made.strategies["one"], tasks, 0, device)
    learner.teachers = lambda task: learner.fresh_network(learner.tasks.index(task)).requires_grad_(False)
    return learner


def stepper(
    learner: Learner, engine: str = "stream", counts: tuple[int, ...] = (2, 2, 2)
) -> tuple[Stepper, Samples, StepContext]:
    """A stepper in the first step of a stage of all tasks, and that step's samples."""
    rows = [Row(task, task, 1 / 3) for task in TASKS]
    if learner.stage is None:
        learner.start_stage(Stage("all", dict.fromkeys(TASKS, 1 / 3), 4))
        for part in learner.parts().values():
            part.enter_stage(learner.stage, learner)
    micro = 1 if engine == "micro" else None
    made = RowGradients(learner.model, len(rows), "grouped" if engine == "grouped" else "stream", micro)
    drawn = draw(learner, rows, list(counts))
    one = Stepper(learner, rows, made)
    return one, drawn, context_of(learner, learner.stage, drawn, one.auxiliaries)


def with_a_full_bank(learner: Learner) -> Learner:
    """One step, so that banks have keys."""
    one, drawn, context = stepper(learner)
    one.update(drawn, context)
    one.auxiliaries.after_step()
    learner.optimizer.zero_grad(set_to_none=True)
    return learner
