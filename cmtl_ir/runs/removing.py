"""Removal of runs and comparisons, with their records in the tracking store."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from filelock import Timeout

from cmtl_ir.base.errors import UserError
from cmtl_ir.base.files import flush_folder
from cmtl_ir.store.folder import lock_of
from cmtl_ir.store.holdings import Held
from cmtl_ir.tracking import forgetting

log = logging.getLogger("cmtl_ir")


def check_removable(held: Held) -> None:
    """Raise UserError, with the way out, if a comparison lists the run or another run needs it."""
    if held.listed:
        raise UserError(
            f"{held.folder.name}: {', '.join(held.listed)} lists it; remove the comparison first "
            f"(`cmtl-ir runs rm {held.listed[0].partition('/')[0]}`)"
        )
    if held.used_by:
        raise UserError(f"{held.folder.name}: the runs {', '.join(held.used_by)} need it; remove those first")


def remove_run(held: Held, tracking_uri: str | None = None) -> None:
    """Remove a run's folder, and its record and artifacts in the tracking store.

    `tracking_uri` is the store; `None` takes the one that the folder names. Raises UserError if the run is needed or
    being trained, and TrackingError if the store cannot be used; then nothing is removed.
    """
    check_removable(held)
    try:
        with lock_of(held.folder):
            if held.state != "set aside":  # the record of its hash belongs to the run that replaced it
                forgetting.forget_run(held.folder, tracking_uri)
            gone = held.folder.rename(held.folder.with_name(f".removing-{held.folder.name}"))
    except Timeout:
        raise UserError(f"{held.folder} is being trained; stop it first") from None
    _remove(gone)


def remove_comparison(folder: Path, tracking_uri: str | None = None) -> None:
    """Remove a comparison: its list, tables, figures and reports, and its record in the tracking store.

    Its runs stay in the store. Nothing lists them any more, unless another comparison does.
    """
    forgetting.forget_comparison(folder, tracking_uri)
    _remove(folder.rename(folder.with_name(f".removing-{folder.name}")))


def _remove(folder: Path) -> None:
    """Delete a renamed folder. A kill in between leaves a hidden folder that no command reads."""
    flush_folder(folder.parent)
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise UserError(f"{folder} could not be deleted: {error.strerror or error}; delete it by hand") from error
