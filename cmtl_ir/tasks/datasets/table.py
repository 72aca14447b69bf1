"""Every data set that is known by name. Adding one is adding a row; `cmtl-ir data list` shows the table.

Counts are the authors' own. A count that is not certain is left out: nothing is compared against a guess.
"""

from __future__ import annotations

from cmtl_ir.base.errors import UnknownName, suggestion
from cmtl_ir.tasks.datasets.camera import CAMERA
from cmtl_ir.tasks.datasets.clean import CLEAN
from cmtl_ir.tasks.datasets.rain import RAIN
from cmtl_ir.tasks.datasets.record import Layout
from cmtl_ir.tasks.datasets.weather import WEATHER

LAYOUTS: dict[str, Layout] = {row.name: row for row in (*CLEAN, *RAIN, *WEATHER, *CAMERA)}


def find_layout(name: str) -> Layout:
    """The row of that name. Raises UnknownName with near names."""
    if name not in LAYOUTS:
        raise UnknownName(f"no data set is called {name!r}; {suggestion(name, list(LAYOUTS))}")
    return LAYOUTS[name]
