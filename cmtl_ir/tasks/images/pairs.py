"""Match degraded files with clean files by name, with a pattern on each side.

A pattern describes the path below the folder without its extension. `{word}` captures text that both sides must share,
and `*` stands for any text. Rain100L: `{name}` on both sides. SOTS: `{name}_*` and `{name}`. PolyU: `{name}_real`
and `{name}_mean` in one folder. GoPro: `{scene}/blur/{frame}` and `{scene}/sharp/{frame}`.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmtl_ir.tasks.images.decode import DataError, image_files
from cmtl_ir.tasks.images.likeness import tag_misleads, thumbnail
from cmtl_ir.tasks.images.pack import OnError
from cmtl_ir.tasks.images.store import ImageStore, PairStore
from cmtl_ir.tasks.sources import PairsConfig, pattern_expression

log = logging.getLogger("cmtl_ir")
Captures = tuple[tuple[str, str], ...]
SHOWN = 5
MISLED = "EXIF turns one image of a pair, though their pixels agree as they are stored"
UNTAG = "delete the tag (`exiftool -Orientation= FILE`) or turn its partner alike"


@dataclass(frozen=True)
class Matching:
    """The files of two folders, matched by name without decoding them."""

    inputs: dict[str, Path]
    """Name -> file of the degraded images that match their pattern."""
    targets: dict[str, Path]
    """Name -> file of the clean images that match their pattern."""
    partners: dict[str, list[str]]
    """Input name -> names of its targets: exactly one in a complete data set."""

    @property
    def ambiguous(self) -> dict[str, list[str]]:
        """Inputs with more than one target, and the names of these targets."""
        return {name: found for name, found in self.partners.items() if len(found) > 1}

    @property
    def without_target(self) -> list[str]:
        """Inputs without a target."""
        return [name for name, found in self.partners.items() if not found]

    @property
    def without_input(self) -> list[str]:
        """Targets without an input."""
        used = {name for found in self.partners.values() for name in found}
        return [name for name in self.targets if name not in used]


def match(config: PairsConfig) -> Matching:
    """Match the files of two folders by name. Raise DataError if no image of a folder matches its pattern."""
    assert config.input is not None and config.target is not None
    sides, captured = [], []
    for folder, pattern in ((config.input, config.input_name), (config.target, config.target_name)):
        files = image_files(folder)
        captured.append(captures(files, pattern, config.without))
        if not captured[-1]:
            raise DataError(
                f"{folder}: none of its images, such as {next(iter(files))}, matches {pattern!r}; correct "
                "input_name, target_name or the folder"
            )
        sides.append({name: files[name] for name in captured[-1]})
    return Matching(sides[0], sides[1], partners_of(captured[0], captured[1]))


def open_pairs(
    config: PairsConfig, cache: Path | None = None, on_error: OnError = "stop", bits: int | None = None
) -> PairStore:
    """Open the pairs of two folders, sorted by the name of the degraded image.

    Raise DataError for files without a partner, for names that match several files, for pairs of which EXIF turns one
    image alone and for pairs of unequal size (unless `sizes` is centre). If `on_error` is skip, these files are left
    out and logged instead, except for names that match several files.
    """
    assert config.input is not None and config.target is not None
    matching = match(config)
    partner = _one_each(matching, config, on_error)
    keys = [_key(*side, config) for side in ((config.input, config.input_name), (config.target, config.target_name))]
    degraded = ImageStore.of_files(keys[0], matching.inputs, cache, on_error, bits)
    clean = ImageStore.of_files(keys[1], matching.targets, cache, on_error, bits)
    place = {name: number for number, name in enumerate(clean.names)}
    degraded = degraded.choose([number for number, name in enumerate(degraded.names) if partner.get(name) in place])
    clean = clean.choose([place[partner[name]] for name in degraded.names])
    upright = _upright(degraded, clean, config, on_error)
    return _aligned(degraded.choose(upright), clean.choose(upright), config, on_error)


def captures(files: Iterable[str], pattern: str, without: Sequence[str] = ()) -> dict[str, Captures]:
    """Return name -> captured texts of the names that match the pattern and none of `without`."""
    expression, others = pattern_expression(pattern), [pattern_expression(one) for one in without]
    found = {}
    for name in files:
        bare = name.rpartition(".")[0]
        fits = expression.fullmatch(bare)
        if fits and not any(other.fullmatch(bare) for other in others):
            found[name] = tuple(sorted(fits.groupdict().items()))
    return found


def partners_of(inputs: Mapping[str, Captures], targets: Mapping[str, Captures]) -> dict[str, list[str]]:
    """Return input name -> names of the targets with the same captures.

    Targets that agree in letter case are preferred; letter case is ignored if there are none.
    """
    exact, loose = defaultdict(list), defaultdict(list)
    for name, captures in targets.items():
        exact[captures].append(name)
        loose[_folded(captures)].append(name)
    return {name: exact.get(captures) or loose.get(_folded(captures), []) for name, captures in inputs.items()}


def _folded(captures: Captures) -> Captures:
    return tuple((word, text.casefold()) for word, text in captures)


def _one_each(matching: Matching, config: PairsConfig, on_error: OnError) -> dict[str, str]:
    """Return input name -> its one target. Raise DataError with the names that have no target or several."""
    several = [f"{name} -> {' and '.join(names)}" for name, names in matching.ambiguous.items()]
    if several:
        raise DataError(
            f"{config.target}: several images match one of {config.input}: {_some(several)}; see "
            "input_name and target_name"
        )
    alone, unused = matching.without_target, [] if config.spare_targets else matching.without_input
    problems = [f"no clean partner in {config.target} for {_some(alone)}"] if alone else []
    problems += [f"no degraded partner in {config.input} for {_some(unused)}"] if unused else []
    if problems:
        _stop_or_skip(f"{config.input}: {'; '.join(problems)}; see input_name and target_name", on_error)
    partner = {name: names[0] for name, names in matching.partners.items() if names}
    if not partner:
        raise DataError(f"{config.input}: no image has a partner in {config.target}; see input_name and target_name")
    return partner


def _upright(degraded: ImageStore, clean: ImageStore, config: PairsConfig, on_error: OnError) -> list[int]:
    """Return the numbers of the pairs without a misleading EXIF orientation on one side."""
    wrong = {}
    for i, tags in enumerate(zip(degraded.orientations, clean.orientations, strict=True)):
        if tags[0] != tags[1] and tag_misleads(thumbnail(degraded.image(i)), thumbnail(clean.image(i)), tags):
            wrong[i] = f"{degraded.names[i]} (orientation {tags[0]}) and {clean.names[i]} (orientation {tags[1]})"
    if wrong:
        on_error = on_error if len(wrong) < len(degraded) else "stop"
        _stop_or_skip(f"{config.input}: {MISLED}: {_some(list(wrong.values()))}; {UNTAG}", on_error)
    return [i for i in range(len(degraded)) if i not in wrong]


def _aligned(degraded: ImageStore, clean: ImageStore, config: PairsConfig, on_error: OnError) -> PairStore:
    sizes = np.minimum(degraded.sizes, clean.sizes)
    pairs = PairStore(degraded, clean, sizes)
    if config.sizes == "centre":
        return pairs
    equal = (degraded.sizes == clean.sizes).all(axis=1)
    wrong = [
        f"{degraded.names[i]} {_size(degraded, i)} and {clean.names[i]} {_size(clean, i)}"
        for i in np.flatnonzero(~equal).tolist()
    ]
    if wrong:
        on_error = on_error if equal.any() else "stop"
        _stop_or_skip(f"{config.input}: unequal sizes: {_some(wrong)}; `sizes: centre` cuts the larger one", on_error)
    return pairs.choose(np.flatnonzero(equal).tolist())


def _size(store: ImageStore, number: int) -> str:
    height, width = store.sizes[number].tolist()
    return f"{width}x{height}"


def _stop_or_skip(message: str, on_error: OnError) -> None:
    if on_error == "stop":
        raise DataError(f"{message}; or set `data.on_error: skip`")
    log.warning("skipped: %s", message)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _key(folder: str, pattern: str, config: PairsConfig) -> str:
    return "\0".join([os.path.abspath(os.path.expanduser(folder)), pattern, *config.without])
