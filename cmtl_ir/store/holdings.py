"""What a folder of results holds: every run with its size, who uses it, and what nothing uses any more."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cmtl_ir.base.errors import UserError
from cmtl_ir.store import checkpoint
from cmtl_ir.store.folder import has_config, is_finished
from cmtl_ir.store.layout import CHECKPOINTS, CONFIG, GROUPS, RUNS, STORE, USES
from cmtl_ir.store.listing import comparisons, stale_runs

State = Literal["finished", "stopped", "started", "set aside"]
_HASH = re.compile(r"\b[0-9a-f]{16}\b")


@dataclass(frozen=True)
class Held:
    """A run's folder in the store."""

    folder: Path
    state: State
    """`stopped` has a checkpoint, `started` has none, and `set aside` was replaced with --fresh."""
    size: int
    """Bytes of its files."""
    listed: tuple[str, ...]
    """COMPARISON/LABEL/SEED of each comparison that lists it."""
    stale: tuple[str, ...]
    """The same of comparisons in which its strategy has another definition by now. They do not count it."""
    used_by: tuple[str, ...]
    """Hashes of the other runs that need it: grouped runs, and results of unlearning that were made from it."""

    @property
    def referenced(self) -> bool:
        """Whether a comparison or another run needs it."""
        return bool(self.listed or self.used_by)


def holdings(out: str | Path) -> list[Held]:
    """Return every run in the store of a folder of results, largest first."""
    store = Path(out) / STORE
    folders = [one for one in sorted(store.glob("*")) if one.is_dir() and not one.name.startswith(".")]
    listed, stale = _listed(Path(out), old=False), _listed(Path(out), old=True)
    users = _users([one for one in folders if "." not in one.name])
    found = [
        Held(
            one, _state(one), size_of(one), tuple(listed.get(one.name, ())), tuple(stale.get(one.name, ())),
            tuple(sorted(users.get(one.name, ()))),
        )
        for one in folders
    ]  # fmt: skip
    return sorted(found, key=lambda held: -held.size)


def held_run(name: str, out: str | Path) -> Held:
    """Return the run of a hash (or its beginning), a name of its folder, or COMPARISON/LABEL[/SEED].

    Raises UserError, with near names, if none or several match.
    """
    known = holdings(out)
    named = [one for one in known if any(name in (at, at.rpartition("/")[0]) for at in (*one.listed, *one.stale))]
    found = named or [one for one in known if one.folder.name == name]
    found = found or [one for one in known if name and one.folder.name.startswith(name)]
    if len(found) == 1:
        return found[0]
    choice = found or known
    words = ", ".join(one.folder.name + (f" ({one.listed[0]})" if one.listed else "") for one in choice[:10])
    raise UserError(f"{name!r}: {'several runs match' if found else f'no such run in {out}'}; {words or 'none yet'}")


def comparison_folder(name: str, out: str | Path) -> Path | None:
    """Return the folder of the comparison of that name. `None` if there is none."""
    folder = Path(out) / name
    return folder if "/" not in name and (folder / RUNS).is_file() else None


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder. Links are not followed."""
    return sum(one.lstat().st_size for one in folder.rglob("*") if one.is_file() and not one.is_symlink())


def _state(run: Path) -> State:
    if "." in run.name:
        return "set aside"
    if has_config(run) and is_finished(run):
        return "finished"
    return "stopped" if checkpoint.newest_step(run / CHECKPOINTS) is not None else "started"


def _listed(out: Path, old: bool) -> dict[str, list[str]]:
    """Hash -> COMPARISON/LABEL/SEED, of the rows that count or (`old`) of those that do not."""
    found: dict[str, list[str]] = {}
    for folder, rows in comparisons(out):
        for row in stale_runs(folder) if old else rows:
            found.setdefault(row["hash"], []).append(f"{folder.name}/{row['label']}/{row['seed']}")
    return found


def _users(runs: Iterable[Path]) -> dict[str, set[str]]:
    """Hash -> the runs whose configuration or groups name it."""
    folders = {one.name: one for one in runs}
    users: dict[str, set[str]] = {}
    for name, folder in folders.items():
        texts = [(folder / file).read_text() for file in (CONFIG, USES, GROUPS) if (folder / file).is_file()]
        for other in {word for text in texts for word in _HASH.findall(text)} & (folders.keys() - {name}):
            users.setdefault(other, set()).add(name)
    return users
