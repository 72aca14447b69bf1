"""Significance of differences between strategies: paired Wilcoxon tests over images with Holm's correction.

The unit is the image. Its score is the mean over seeds and over the variants of the degradation (noise levels),
because these are not independent images. All comparisons of one table are corrected together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cmtl_ir.measures import seeds
from cmtl_ir.measures.scale import PSNR, Scale
from cmtl_ir.measures.statistics import Comparison, Interval, compare_images, holm, image_interval

from ..tables.formats import Style
from .fairness import competitors
from .frames import Frames

if TYPE_CHECKING:
    import pandas as pd

MEAN = "mean"
"""The column of the mean over tasks. It is tested if all tasks have the same test images."""


@dataclass(frozen=True)
class Verdict:
    """Comparison of one strategy with the baseline on one task."""

    test: Comparison
    difference: Interval
    """Mean over images of strategy - baseline, with a BCa bootstrap interval where there are 20 images or more."""
    scale: Scale = PSNR
    """The metric, whose direction decides which strategy is better."""

    @property
    def style(self) -> Style:
        """`better` or `worse` if the difference is significant, or else empty."""
        if not self.test.significant:
            return ""
        return "better" if self.scale.sign * self.difference.estimate > 0 else "worse"


def why_untested(verdicts: Iterable[Verdict]) -> str:
    """Return the reason why the comparison with the most images was not tested.

    Other comparisons, such as of runs with equal scores, have fewer images to test.
    """
    return max((one.test for one in verdicts if one.test.reason), key=lambda test: test.n).reason


def default_baseline(frames: Frames) -> str:
    """Return `joint` if it competes, or else the first strategy."""
    return seeds.default_baseline(competitors(frames))


def per_image(frames: Frames, scale: Scale = PSNR) -> pd.DataFrame:
    """Return a frame of label, seed, task, image and score, the mean over variants.

    Images without a score are left out.
    """
    by_image = frames.images.groupby(["label", "seed", "task", "image"], sort=False)
    return by_image[scale.name].mean().dropna().reset_index()


def verdicts(frames: Frames, baseline: str, scale: Scale = PSNR) -> dict[tuple[str, str], Verdict]:
    """Return (strategy, task) -> verdict against the baseline, over the seeds that both finished."""
    table = per_image(frames, scale)
    pairs = {
        (label, task): pair
        for label in competitors(frames)
        if label != baseline
        for task, pair in paired(table, label, baseline).items()
    }
    return decided(pairs, scale)


def decided(pairs: Mapping[tuple[str, str], pd.DataFrame], scale: Scale = PSNR) -> dict[tuple[str, str], Verdict]:
    """The verdicts on frames of columns `ours` and `theirs`, one row an image; all are one family of tests."""
    total = len(pairs)
    tests = {key: compare_images(pair["theirs"], {"": pair["ours"]}, total)[""] for key, pair in pairs.items()}
    corrected = holm([test.p for test in tests.values()])
    return {
        key: Verdict(replace(test, p_holm=float(p)), image_interval(pairs[key]["ours"] - pairs[key]["theirs"]), scale)
        for (key, test), p in zip(tests.items(), corrected, strict=True)
    }


def paired(table: pd.DataFrame, label: str, baseline: str) -> dict[str, pd.DataFrame]:
    """Return task -> frame of columns ours and theirs, one row per image.

    The mean over tasks is included if all tasks have the same images.
    """
    import pandas as pd

    sides = {name: table[table["label"] == which] for name, which in (("ours", label), ("theirs", baseline))}
    common = set(sides["ours"]["seed"]) & set(sides["theirs"]["seed"])
    column = table.columns[-1]
    means = [
        side[side["seed"].isin(common)].groupby(["task", "image"], sort=False)[column].mean().rename(name)
        for name, side in sides.items()
    ]
    both = pd.concat(means, axis=1, join="inner")
    found = {str(task): pair.droplevel("task") for task, pair in both.groupby("task", sort=False)}
    if len(found) > 1 and len({frozenset(pair.index) for pair in found.values()}) == 1:
        found[MEAN] = both.groupby("image", sort=False).mean()
    return found
