"""Restored samples side by side: the whole input, and a zoomed crop of the output of each strategy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cmtl_ir.store.layout import RESTORED

from ..data.sources import Member
from ..data.study import Study
from .style import house, save, title

CROP = 64
"""Side of the zoomed crop in pixels. For small images it is at most half of their shorter side."""
MOST = 8
"""Maximum number of strategies side by side."""
SIZE = 1.65
Pixels = NDArray[np.uint8]


def restored_strips(study: Study, path: Path) -> list[Path]:
    """Draw one row per task: its first test image, and crops of input | strategies | clean with the whole image's PSNR.

    The crop is where the strategies differ most on a textured region, see `most_telling`.
    The seed is the first one that every shown strategy finished.
    """
    members = shown_members(study)
    tasks = [task for task in study.frames.tasks if all(_image(one, task, "restored") is not None for one in members)]
    if not members or not tasks:
        return []
    columns = ["whole input", "input", *(member.label for member in members), "clean"]
    with house() as plots:
        figure, axes = plots.subplots(
            len(tasks), len(columns), figsize=(SIZE * len(columns) + 0.3, (SIZE + 0.2) * len(tasks)),
            squeeze=False, layout="constrained",
        )  # fmt: skip
        for line, task in zip(axes, tasks, strict=True):
            _row(line, study, task, members)
        for axis, column in zip(axes[0], columns, strict=True):
            axis.set_title(title(column, SIZE), fontsize=9)
        return save(figure, path)


def shown_members(study: Study) -> list[Member]:
    """Return one run per strategy, all of the same seed if there is one that all strategies finished.

    If there is none and the test images rotate with the seed, only strategies that finished one seed are returned.
    """
    runs = {(one.label, one.seed): one for one in study.frames.finished}
    labels = shown_labels(study)
    common = [seed for seed in sorted({seed for _, seed in runs}) if all((label, seed) in runs for label in labels)]
    if common:
        return [runs[label, common[0]] for label in labels]
    if study.frames.experiment.get("data", {}).get("holdout") == "rotate":
        seeds = [seed for label, seed in runs if label in labels]
        shown = max(seeds, key=seeds.count)
        return [runs[label, shown] for label in labels if (label, shown) in runs]
    return [next(one for one in study.frames.finished if one.label == label) for label in labels]


def shown_labels(study: Study) -> list[str]:
    """Return all strategies, or the baseline, the best and the last if there are more than `MOST`.

    They are in the order of the experiment. If the runs may not be ranked, the first strategies are returned.
    """
    if len(study.labels) <= MOST or not study.ranking:
        return study.labels[:MOST]
    others = [label for label in study.ranking if label != study.baseline]
    chosen = {study.baseline, *others[: MOST - 2], *others[-1:]}
    return [label for label in study.labels if label in chosen]


def _image(member: Member, task: str, kind: str) -> Path | None:
    return member.file(f"{RESTORED}/{task}.{kind}.png")


def _row(line: Any, study: Study, task: str, members: list[Member]) -> None:
    from matplotlib.patches import Rectangle

    known = {kind: _pixels(members[0], task, kind) for kind in ("input", "clean")}
    restored = [_pixels(member, task, "restored") for member in members]
    top, left, side = most_telling(restored, known["clean"])
    crop = (slice(top, top + side), slice(left, left + side))
    scores = _scores(study, task, members)
    line[0].imshow(known["input"])
    line[0].add_patch(Rectangle((left, top), side, side, fill=False, edgecolor="white", linewidth=2.2))
    line[0].add_patch(Rectangle((left, top), side, side, fill=False, edgecolor="black", linewidth=0.9))
    line[0].set_ylabel(task, fontsize=9)
    for axis, image in zip(line[1:], [known["input"], *restored, known["clean"]], strict=True):
        axis.imshow(image[crop], interpolation="nearest")
    for axis, score in zip(line[1:-1], scores, strict=True):
        axis.set_xlabel(f"{score:.2f} dB", fontsize=8, labelpad=2)
    for axis in line:
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set_visible(False)


def _pixels(member: Member, task: str, kind: str) -> Pixels:
    file = _image(member, task, kind)
    assert file is not None
    return np.asarray(Image.open(file).convert("RGB"))


def _scores(study: Study, task: str, members: list[Member]) -> list[float]:
    """Return the recorded PSNR in dB of the input and of each restored image, for the task's first test image."""
    frame = study.frames.images
    first = {member.label: frame[(frame["run"] == member.run) & (frame["task"] == task)].iloc[0] for member in members}
    return [first[members[0].label]["psnr_input"], *(first[member.label]["psnr"] for member in members)]


def most_telling(images: list[Pixels], clean: Pixels) -> tuple[int, int, int]:
    """Return (top, left, side) of the crop in which the images differ most on a textured region.

    It maximises the product of two sums: how much the images differ from their mean, and how much the clean image
    changes from pixel to pixel. The second factor avoids flat regions such as sky.
    """
    height, width = clean.shape[:2]
    side = min(CROP, max(1, min(height, width) // 2))
    spread = np.stack([image.astype(np.float64) for image in images]).var(axis=0).sum(axis=-1)  # [H, W]
    grey = clean.astype(np.float64).mean(axis=-1)
    texture = np.hypot(*np.gradient(grey)) if min(height, width) > 1 else np.zeros_like(grey)
    worth = (_box_sums(spread, side) + 1e-9) * (_box_sums(texture, side) + 1e-9)
    top, left = np.unravel_index(int(worth.argmax()), worth.shape)
    return int(top), int(left), side


def _box_sums(values: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Return the sums over all squares of this side, indexed by their top left corners."""
    sums = np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    return sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]


def caption(study: Study) -> str:
    """Return the caption of the strip: seeds shown, and strategies left out."""
    members = shown_members(study)
    seeds = sorted({member.seed for member in members})
    left_out = [label for label in study.labels if label not in shown_labels(study)]
    which = "baseline, best and last are shown; left" if study.ranking else "left"
    more = f" For room {which} out: {', '.join(left_out)}." if left_out else ""
    return f"seed {', '.join(map(str, seeds))}.{more}"
