"""Outside models on the command line: --weights FILE [--backbone NAME] --file EXPERIMENT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmtl_ir.config.experiment import Experiment
    from cmtl_ir.runs.begin.outside import OutsideModel


def outside_models(
    files: Sequence[Path], backbone: str, file: str, set_: Sequence[str]
) -> tuple[Experiment, list[OutsideModel]]:
    """Return the experiment, and the models of files of weights.

    Without `backbone`, the network is that of the experiment. `set_` holds overrides of the experiment, and of the
    backbone as backbone.FIELD=VALUE. Raises UserError for weights that do not fit.
    """
    from cmtl_ir.base.errors import UserError
    from cmtl_ir.cli.display import say
    from cmtl_ir.inference.published import Published, outside_model

    if not file:
        raise UserError(f"--weights {files[0]}: name the experiment with its tasks and data as --file EXPERIMENT")
    experiment = with_backbone(backbone, file, set_)
    checkpoints = [Published(one.expanduser(), experiment.backbone) for one in files]
    return experiment, [outside_model(one, say) for one in checkpoints]


def begun_from(weights: Path, backbone: str, file: str, set_: Sequence[str]) -> Experiment:
    """Return the experiment of a file, beginning from a file of weights."""
    from cmtl_ir.config.start import StartConfig

    start = StartConfig.model_validate(str(weights.expanduser()))
    return with_backbone(backbone, file, set_).model_copy(update={"start": start})


def with_backbone(backbone: str, file: str, set_: Sequence[str]) -> Experiment:
    """Return the experiment of a file with another backbone; empty: its own. `set_` as for `outside_models`."""
    from cmtl_ir.config import reading
    from cmtl_ir.inference.published import backbone_of

    fields = [one for one in set_ if backbone and one.startswith("backbone.")]
    experiment = reading.load(file, [one for one in set_ if one not in fields])
    return experiment.model_copy(update={"backbone": backbone_of(backbone, fields)}) if backbone else experiment
