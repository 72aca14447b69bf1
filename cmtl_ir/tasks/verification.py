"""Verify that the images of an experiment are present, readable and paired. Each file is read once, none is stored."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from cmtl_ir.tasks.config import DataConfig, SplitConfig, TaskConfig
from cmtl_ir.tasks.datasets.named import Role, has_test, pairs_of, split_of
from cmtl_ir.tasks.datasets.table import find_layout
from cmtl_ir.tasks.images.decode import DataError, ImageError, image_files, read
from cmtl_ir.tasks.images.likeness import tag_misleads, thumbnail, turn_between
from cmtl_ir.tasks.images.pairs import MISLED, UNTAG, Matching, match
from cmtl_ir.tasks.sources import DatasetSource, PairsConfig, Source
from cmtl_ir.tasks.suite import check_test_crop, source_files

Wanted = PairsConfig | str | DatasetSource
READERS = min(8, os.cpu_count() or 1)


@dataclass
class Finding:
    """Result for one split of one task, or for images that tasks share."""

    where: str
    """`rain.train`, `data.clean` ..."""
    what: str
    """The data set or the folders."""
    found: int = 0
    """Number of images or pairs that can be used."""
    published: int | None = None
    """Published number of images or pairs. `None`: not known."""
    problems: list[str] = field(default_factory=list)
    """Faults, each with the name of the file; empty if there are none."""
    notes: list[str] = field(default_factory=list)
    """Harmless oddities, such as files that match no pattern."""


def verify(tasks: Mapping[str, TaskConfig], data: DataConfig, smallest: int = 1) -> Iterator[Finding]:
    """Yield one finding per split, in the order of the experiment file. A DataError becomes a finding.

    `smallest` is the shortest side in pixels of an image that the metric protocol of the experiment can score.
    """
    yield from _of_settings(tasks, data, smallest)
    for where, wanted, role in _wanted(tasks, data):
        finding = Finding(where, _described(wanted))
        try:
            _look(finding, wanted, role, data, smallest)
        except DataError as error:
            finding.problems.append(str(error))
        yield finding


def _of_settings(tasks: Mapping[str, TaskConfig], data: DataConfig, smallest: int) -> Iterator[Finding]:
    """Yield findings that need not an image: the test crop, and files that the fields of a degradation name."""
    try:
        check_test_crop(data, smallest)
    except DataError as error:
        yield Finding("data.test_crop", str(data.test_crop), problems=[str(error)])
    for name, task in tasks.items():
        try:
            if task.degradation is not None:
                task.degradation.prepare()
        except DataError as error:
            yield Finding(
                f"{name}.degradation", str(task.degradation and task.degradation.called), problems=[str(error)]
            )


# ------------------------------------------------------------------------------------------- what there should be


def _wanted(tasks: Mapping[str, TaskConfig], data: DataConfig) -> Iterator[tuple[str, Wanted, Role]]:
    """Yield (where, what, role) of everything that a run would open, each once, shared images first."""
    named = [one for name, task in tasks.items() for one in _of_task(name, task, data)]
    once = {(where, str(wanted), role): (where, wanted, role) for where, wanted, role in named}
    yield from sorted(once.values(), key=lambda one: not one[0].startswith("data."))


def _of_task(name: str, task: TaskConfig, data: DataConfig) -> Iterator[tuple[str, Wanted, Role]]:
    if not task.paired:
        yield from _of_degradation(name, task, data)
    else:
        yield from _pairs(f"{name}.train", task, "train")
        if task.dataset is not None and task.test is None and has_test(task.dataset, task.split):
            yield from _pairs(f"{name}.test", task, "test")
    splits: tuple[tuple[Role, SplitConfig | None], ...] = (("val", task.val), ("test", task.test))
    for role, split in splits:
        if split is not None:
            where = f"{name}.{role}"
            yield from _pairs(where, split, role) if split.clean is None else _clean(where, split.clean, role)


def _of_degradation(name: str, task: TaskConfig, data: DataConfig) -> Iterator[tuple[str, Wanted, Role]]:
    base, where = (data.clean, "data.clean") if task.clean is None else (task.clean, f"{name}.train")
    train = data.train if task.clean is None else None
    yield from _clean(where, base, "train") if train is None else _clean("data.train", train, "train")
    if task.val is None and data.val is not None and not isinstance(data.val, float):
        yield from _clean("data.val", data.val, "val")
    if task.test is not None:
        return
    if data.test is not None:
        yield from _clean("data.test", data.test, "test")
    elif isinstance(base, DatasetSource) and has_test(base.dataset, base.split):
        yield from _clean(where.replace("train", "test"), base, "test")
    elif train is not None:
        yield from _clean(where, base, "train")  # a part of it is held out for test


def _pairs(where: str, config: PairsConfig, role: Role) -> Iterator[tuple[str, Wanted, Role]]:
    yield where, PairsConfig(**{name: getattr(config, name) for name in PairsConfig.model_fields}), role


def _clean(where: str, source: Source, role: Role) -> Iterator[tuple[str, Wanted, Role]]:
    for entry in source if isinstance(source, list) else [source]:
        yield where, entry, role


def _described(wanted: Wanted) -> str:
    if isinstance(wanted, str):
        return wanted
    return (
        f"{wanted.input} and {wanted.target}"
        if isinstance(wanted, PairsConfig) and wanted.input
        else str(wanted.dataset)
    )


# ------------------------------------------------------------------------------------------------- what there is


class _Seen(NamedTuple):
    """What is remembered of one image."""

    size: tuple[int, int]
    """Height and width."""
    orientation: int
    small: Tensor
    """Thumbnail, [256]."""


class _Needed(NamedTuple):
    """The shortest side that images of one role may have, and its reason."""

    side: int
    words: str
    limit: int | None = None
    """Number of images that are checked, the first by name. `None`: all."""


def _look(finding: Finding, wanted: Wanted, role: Role, data: DataConfig, smallest: int) -> None:
    if not isinstance(wanted, str) and wanted.dataset is not None:
        layout = find_layout(wanted.dataset)
        finding.published = layout.splits[split_of(layout, role, wanted.split)].count
    needed = _Needed(smallest, f"the {smallest}x{smallest} that the metric protocol needs")
    if role == "train":
        needed = _Needed(data.patch, f"a crop of {data.patch}x{data.patch}")
    elif role == "test":
        needed = needed._replace(limit=data.test_limit)
    if isinstance(wanted, PairsConfig):
        config = pairs_of(wanted, role, data.root)
        _look_at_pairs(finding, config, match(config), needed, data.bits)
    else:
        files = source_files(wanted, role, data.root)[1]
        finding.found = len(_read(files, finding, needed, data.bits))
    if finding.published is not None and finding.found != finding.published:
        finding.problems.append(f"{finding.found} usable where {finding.published} were published")


def _look_at_pairs(
    finding: Finding, config: PairsConfig, matching: Matching, needed: _Needed, bits: int | None
) -> None:
    assert config.input is not None and config.target is not None
    finding.problems += [f"no clean partner: {matching.inputs[name]}" for name in matching.without_target]
    if not config.spare_targets:
        finding.problems += [f"no degraded partner: {matching.targets[name]}" for name in matching.without_input]
    for name, several in matching.ambiguous.items():
        finding.problems.append(f"several clean partners: {matching.inputs[name]} matches {' and '.join(several)}")
    inputs = _read(matching.inputs, finding, needed, bits)
    targets = _read(matching.targets, finding, None, bits)
    for name, partners in matching.partners.items():
        if len(partners) != 1 or name not in inputs or partners[0] not in targets:
            continue
        problem = _of_pair(inputs[name], targets[partners[0]], config.sizes == "equal")
        if problem is None:
            finding.found += 1
        else:
            finding.problems.append(f"{problem[0]}: {matching.inputs[name]}{problem[1]}")
    finding.notes += _strays({config.input, config.target}, {*matching.inputs.values(), *matching.targets.values()})


def _of_pair(degraded: _Seen, clean: _Seen, equal_sizes: bool) -> tuple[str, str] | None:
    """Return the fault of a pair and its remedy, or `None` if it has no fault."""
    tags = degraded.orientation, clean.orientation
    if tag_misleads(degraded.small, clean.small, tags):
        return f"{MISLED} (orientations {tags[0]} and {tags[1]})", f"; {UNTAG}"
    if equal_sizes and degraded.size != clean.size:
        shown = " and ".join(f"{width}x{height}" for height, width in (degraded.size, clean.size))
        return f"unequal sizes, {shown}", ""
    turn = turn_between(degraded.small, clean.small)
    if turn is not None:
        return "turned or mirrored against its clean partner", f"; it fits when turned as by EXIF orientation {turn}"
    return None


def _strays(folders: Iterable[str], known: set[Path]) -> list[str]:
    """Return notes on images that match no pattern and on visible files that are not images."""
    images = {path for folder in folders for path in image_files(folder).values()}
    files = {path for folder in folders for path in Path(os.path.expanduser(folder)).rglob("[!.]*") if path.is_file()}
    odd = [f"matches no pattern: {path}" for path in sorted(images - known)]
    return odd + [f"not an image: {path}" for path in sorted(files - images - known)]


def _read(files: Mapping[str, Path], finding: Finding, needed: _Needed | None, bits: int | None) -> dict[str, _Seen]:
    """Read files: name -> what is remembered of readable images that are large enough. Other files become problems."""
    kept = {}
    with ThreadPoolExecutor(READERS) as readers:
        seen = readers.map(partial(_seen, bits), files.values())
        for number, (name, one) in enumerate(zip(files, seen, strict=True)):
            if isinstance(one, ImageError):
                finding.problems.append(f"unreadable: {_as_problem(one)}")
            elif needed is not None and min(one.size) < needed.side and (needed.limit is None or number < needed.limit):
                finding.problems.append(f"smaller than {needed.words}: {files[name]}")
            else:
                kept[name] = one
    return kept


def _as_problem(error: ImageError) -> str:
    """Describe an unreadable file, with the remedy unless it is to repair or remove the file."""
    return f"{error.path}: {error.reason}" + ("" if error.remedy == ImageError.REPAIR else f"; {error.remedy}")


def _seen(bits: int | None, path: Path) -> _Seen | ImageError:
    try:
        pixels, orientation = read(path, bits)
    except ImageError as error:
        return error
    height, width, _ = pixels.shape
    return _Seen((height, width), orientation, thumbnail(pixels))
