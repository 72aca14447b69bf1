"""One look for all figures: colour-blind safe, readable in grey, the same colour for the same strategy everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C00")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)))


def looks(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Label -> line colour and dashes; colour and dashes repeat with different periods, so pairs stay distinct."""
    return {
        label: {"color": OKABE_ITO[i % len(OKABE_ITO)], "linestyle": DASHES[i % len(DASHES)]}
        for i, label in enumerate(labels)
    }


def pyplot() -> Any:
    """matplotlib.pyplot on a canvas that needs no screen."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def save(figure: Any, path: Path) -> list[Path]:
    """Write PATH.png and PATH.pdf without a time stamp, so that equal figures are equal files."""
    files = [path.with_suffix(".png"), path.with_suffix(".pdf")]
    figure.savefig(files[0], dpi=150, bbox_inches="tight", metadata={"Software": None})
    figure.savefig(files[1], bbox_inches="tight", metadata={"CreationDate": None})
    pyplot().close(figure)
    return files
