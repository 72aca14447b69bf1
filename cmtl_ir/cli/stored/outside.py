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
    from cmtl_ir.config import reading
    from cmtl_ir.inference.published import Published, outside_model, published

    if not file:
        raise UserError(f"--weights {files[0]}: name the experiment with its tasks and data as --file EXPERIMENT")
    fields = [one for one in set_ if backbone and one.startswith("backbone.")]
    experiment = reading.load(file, [one for one in set_ if one not in fields])
    if backbone:
        checkpoints = [published(one, backbone, fields) for one in files]
    else:
        checkpoints = [Published(one.expanduser(), experiment.backbone) for one in files]
    return experiment, [outside_model(one, say) for one in checkpoints]
