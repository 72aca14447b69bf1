"""Names that an experiment file gives: those of the experiment, of its tasks and of blocks of parameters.

They become names of folders, files, metrics, columns and rows, which have a greatest length and names of their own.
"""

from __future__ import annotations

import re

LONGEST, LONGEST_EXPERIMENT = 64, 100
"""Largest number of characters. Names of metrics, such as `conflict.BLOCK/TASK.TASK`, have up to 250 characters, and
names of files up to 255 bytes."""
IN_OUT = frozenset({"store", "mlartifacts", "mlruns"})
"""Folders next to those of the comparisons in an output folder, in lower case."""
COLUMNS = frozenset(
    {
        "strategy", "label", "seed", "seeds", "run", "task", "step", "steps", "stage", "stage_end", "stage_name",
        "own_stage", "image", "variant", "psnr", "ssim", "psnr_input", "ssim_input", "mean", "parameters",
    }
)  # fmt: skip
"""Columns of tables and frames next to those of the tasks."""
ROWS = frozenset({"memory", "distill", "target", "review", "slice", "forget", "retain"})
"""Kinds of rows, as in `memory:rain`. The samples of a kind are counted together."""
ELSEWHERE = frozenset({"data"})
"""Names before a dot in messages, as in `data.test`."""


def experiment(name: str) -> str:
    """Return the name of an experiment. Raise ValueError if no folder or tracking store can have it."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) or ".." in name or name.endswith("."):
        raise ValueError(
            "expected letters, digits, `_`, `-` and single inner dots, with a letter or digit first, found "
            + repr(name)
        )
    _of_length(name, LONGEST_EXPERIMENT)
    if name.lower() in IN_OUT or name.lower().startswith("mlflow.db"):
        raise ValueError(f"the output folder has a {name} of its own; choose another name (--set name=NEW)")
    return name


def task(name: str) -> str:
    """Return the name of a task. Raise ValueError if it has a meaning of its own in results."""
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name) or len(name) > LONGEST:
        raise ValueError(f"task names match [a-z][a-z0-9_]* and have at most {LONGEST} characters; rename {name!r}")
    if name in COLUMNS | ROWS | ELSEWHERE:
        raise ValueError(
            f"{name} has a meaning of its own in tables, rows or messages; rename the task, as in {name}_1"
        )
    return name


def block(name: str) -> str:
    """Return the name of a block of parameters. Raise ValueError if no metric can have it."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", name):
        raise ValueError(
            f"expected letters, digits, `_`, `-` and single inner dots in the name of a block, found {name!r}"
        )
    return _of_length(name)


def _of_length(name: str, longest: int = LONGEST) -> str:
    if len(name) > longest:
        raise ValueError(f"expected at most {longest} characters, found {len(name)}, in {name[:20]}...")
    return name
