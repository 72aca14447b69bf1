"""Print constraints that pin each dependency to the lowest version that pyproject.toml declares.

    python -m tests.lowest [KEPT ...] > lowest.txt

Packages named as arguments keep the version of constraints.txt. What depends on them is left to pip.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def lowest(requirements: list[str]) -> dict[str, str]:
    """Name -> lower bound of each requirement that has one."""
    found = {}
    for requirement in requirements:
        if matched := re.match(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?.*?>=\s*([0-9][0-9a-z.]*)", requirement):
            found[matched[1].lower()] = matched[2]
    return found


def main(kept: list[str]) -> None:
    """Print one `name==version` per line."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = lowest([*project["dependencies"], *project["optional-dependencies"]["test"]])
    tested = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    for name, version in pins.items():
        print(f"{name}=={tested[name] if name in kept else version}")


if __name__ == "__main__":
    main(sys.argv[1:])
