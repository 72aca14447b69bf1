"""Common style of all figures: safe for colour-blind readers, readable in grey, one look per strategy everywhere."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cmtl_ir.base.escaping import one_line
from cmtl_ir.base.files import write_whole

from .fonts import make_readable

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C00")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
TASK_GREYS = ("#000000", "#777777", "#b0720b", "#5b3a8c", "#2f7f86", "#a8324a")
"""Colours of tasks if lines are tasks. Except for black, no strategy has one of these colours."""

RC = {
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10, "axes.labelsize": 9,
    "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 9,
    "svg.hashsalt": "cmtl-ir", "figure.max_open_warning": 0, "text.parse_math": False, "font.family": "DejaVu Sans",
    "figure.autolayout": False, "figure.constrained_layout.use": False,
}  # fmt: skip

DPI = 150
"""Dots per inch of PNG files."""
MARKS = 5
"""Number of markers on a line of many points."""
LETTERS = 11.5
"""Letters of a title that fit into an inch."""
LEGEND_LETTERS, LEGEND_LINE, LEGEND_LINES = 11, 0.2, 6
"""Letters of a legend that fit into an inch, the height of a line in inches, and the maximum number of lines below the
panels. A longer legend is drawn to the right of them."""
BANDS = 6
"""Maximum number of strategies with bands in one panel. With more strategies, only lines are drawn."""


def looks(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return label -> colour, dashes and marker, as keyword arguments of `axis.plot`.

    Each of the three repeats with its own period. Of up to 35 strategies, no two share two of the three, so a lone
    point (colour and marker) and a line in grey (dashes and marker) still belong to one strategy only.
    Pass all labels of a comparison in its order, so that a strategy looks the same in every figure.
    """
    return {
        label: {
            "color": OKABE_ITO[i % len(OKABE_ITO)],
            "linestyle": DASHES[i % len(DASHES)],
            "marker": MARKERS[i % len(MARKERS)],
        }
        for i, label in enumerate(labels)
    }


def points(look: Mapping[str, Any]) -> dict[str, Any]:
    """Return the look of a strategy for points without a line."""
    return {**look, "linestyle": "none"}


def sparse(count: int, place: int) -> tuple[int, int]:
    """Return `markevery` for a line of `count` points: about `MARKS` markers, shifted by the strategy's place."""
    every = max(1, count // MARKS)
    return place % every, every


def pyplot() -> Any:
    """Return matplotlib.pyplot with a backend that needs no screen."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


@contextmanager
def house() -> Iterator[Any]:
    """Yield matplotlib.pyplot under the common settings, and restore the caller's settings afterwards."""
    plots = pyplot()
    with plots.rc_context(RC):
        yield plots


def panels(plots: Any, count: int, width: float = 3.4, height: float = 2.9, columns: int = 4) -> tuple[Any, list[Any]]:
    """Return a figure and its `count` axes, at most `columns` side by side. Spare axes are hidden.

    `width` and `height` are those of one panel in inches.
    """
    down = -(-count // columns)
    across = -(-count // down)  # 5 panels are 3 and 2, not 4 and 1
    figure, axes = plots.subplots(
        down, across, figsize=(width * across, height * down), squeeze=False, layout="constrained"
    )
    flat = list(axes.flat)
    for spare in flat[count:]:
        spare.set_visible(False)
    return figure, flat[:count]


def leftmost(axes: Sequence[Any]) -> list[Any]:
    """Return the first of the axes in each row of a grid, which bears the label of the y axis for its row."""
    return list({axis.get_subplotspec().rowspan.start: axis for axis in reversed(axes)}.values())


def lowest(axes: Sequence[Any]) -> list[Any]:
    """Return the last of the axes in each column of a grid, which bears the label of the x axis for its column."""
    return list({axis.get_subplotspec().colspan.start: axis for axis in axes}.values())


def legend_name(label: str) -> str:
    """Return the name of a label in a legend. Matplotlib leaves out names that begin with an underscore."""
    name = one_line(label)
    return f" {name}" if name.startswith("_") else name


def not_measured(column: int, row: int) -> Any:
    """Return the hatched square of a cell of a heat-map that was not measured."""
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, hatch="/////", edgecolor="0.6", linewidth=0)


def title(text: str, inches: float, lines: int = 2) -> str:
    """Return a title that fits above a panel: wrapped, and shortened if it is longer than `lines` lines."""
    across = max(6, int(inches * LETTERS))
    broken = textwrap.wrap(one_line(text), across, max_lines=lines, placeholder="…") or [""]
    return "\n".join(broken)


def legend_below(figure: Any, axis: Any, last: str = "") -> None:
    """Draw one legend for all panels, and enlarge the figure by it. `last`: name that is listed after all others."""
    found = sorted(zip(*axis.get_legend_handles_labels(), strict=True), key=lambda pair: pair[1] == last)
    handles, names = [handle for handle, _ in found], [name for _, name in found]
    longest = max((len(name) for name in names), default=1)
    width, height = figure.get_size_inches()
    column = (longest + 6) / LEGEND_LETTERS
    across = min(max(1, int(width / column)), len(names))
    lines = -(-len(names) // across)
    if lines <= LEGEND_LINES:
        figure.set_size_inches(width, height + LEGEND_LINE * lines)
        figure.legend(handles, names, loc="outside lower center", ncols=across, frameon=False)
    else:
        across = math.ceil(LEGEND_LINE * len(names) / height)
        figure.set_size_inches(width + column * across, height)
        figure.legend(handles, names, loc="outside right center", ncols=across, frameon=False)


def save(figure: Any, path: Path) -> list[Path]:
    """Write PATH.png, .pdf and .svg without a time stamp, so that equal figures are equal files."""
    make_readable(figure)
    _lay_out(figure)
    stamps = {"png": "Software", "pdf": "CreationDate", "svg": "Date"}
    files = []
    for kind, stamp in stamps.items():
        content = io.BytesIO()
        figure.savefig(content, format=kind, metadata={stamp: None}, **({"dpi": DPI} if kind == "png" else {}))
        files.append(write_whole(path.with_suffix(f".{kind}"), content.getvalue()))
    pyplot().close(figure)
    return files


def _lay_out(figure: Any) -> None:
    """Place the panels of a figure for good. With a layout engine, each format would be drawn twice."""
    if (engine := figure.get_layout_engine()) is None:
        return
    dpi = figure.dpi
    figure.set_dpi(DPI)
    engine.execute(figure)
    figure.set_dpi(dpi)
    figure.set_layout_engine(None)
