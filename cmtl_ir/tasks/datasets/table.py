"""The table of named data sets. A new set is a new row. `cmtl-ir data list` shows the table.

Counts are those of the authors. A count that is not certain is left out, so that nothing is compared with a guess.
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
    """Return the row of a data set by its name. Raise UnknownName with similar names."""
    if name not in LAYOUTS:
        raise UnknownName(f"no data set is called {name!r}; {suggestion(name, list(LAYOUTS))}")
    return LAYOUTS[name]
