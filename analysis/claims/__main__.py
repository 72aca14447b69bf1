"""Print the page of claims, or store the results of a comparison for it.

python -m cmtl_ir.analysis.claims > docs/claims.md
python -m cmtl_ir.analysis.claims collect multitask --out runs
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cmtl_ir.base.errors import UserError

from .collecting import rows_of
from .page import page_of
from .results import write


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Return 2 after printing a UserError."""
    parser = argparse.ArgumentParser(
        prog="python -m cmtl_ir.analysis.claims", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("docs/claims"), help="folder of claims.yaml and the CSV files"
    )
    collect = parser.add_subparsers(dest="action").add_parser("collect", help="store the results of a comparison")
    collect.add_argument(
        "comparison",
        nargs="+",
        help="name of a finished comparison or unlearning request in OUT; several are one study",
    )
    collect.add_argument("--out", type=Path, default=Path("runs"), help="folder of the runs")
    collect.add_argument("--study", help="name of the CSV file; default: that of the first comparison")
    given = parser.parse_args(arguments)
    try:
        if given.action == "collect":
            file = given.folder / f"{given.study or given.comparison[0]}.csv"
            rows = [row for name in given.comparison for row in rows_of(given.out / name)]
            print(f"{len(rows)} numbers of {len({row.run for row in rows})} runs in {write(file, rows)}")
        else:
            print(page_of(given.folder), end="")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
