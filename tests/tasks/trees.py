"""Small trees of files laid out as a data set's row says, for tests."""

from __future__ import annotations

import re
from pathlib import Path

from cmtl_ir.tasks.datasets.record import Form
from tests.tasks.files import pattern, write


def filled(place: str, number: int) -> str:
    """A path of that place: `{word}` becomes word and number (so that both sides agree), `*` any text."""
    return re.sub(r"\{([a-z]+)\}", rf"\g<1>{number}", place).replace("*", "0.8")


def tree(root: Path, form: Form, count: int = 2, height: int = 20, width: int = 24) -> Path:
    """A folder with `count` images, or pairs, in that form; the degraded image is the clean one, darker."""
    for number in range(count):
        image = pattern(height, width, number)
        write(root / f"{filled(form.clean, number)}.png", image)
        if form.degraded is not None:
            write(root / f"{filled(form.degraded, number)}.png", image // 2)
    return root
