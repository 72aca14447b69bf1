"""Sentences on what strategies do beyond their training range."""

from __future__ import annotations

from cmtl_ir.suites.blocks import BEYOND
from cmtl_ir.suites.severity import NAME

from .data.study import Study
from .data.suites import of_strategies
from .verdicts import MOST


def sentences(study: Study) -> list[str]:
    """Return one sentence per strategy on the images that it makes worse at severities beyond its training range."""
    made = []
    for label, own in of_strategies(study).items():
        counts: dict[str, tuple[float, int]] = {}
        for one in own:
            if (one.suite, one.block, one.answer) == (NAME, BEYOND, "none"):
                worse, images = counts.get(one.task, (0.0, 0))
                counts[one.task] = worse + one.harm * one.images, images + one.images
        shares = {task: worse / images for task, (worse, images) in counts.items()}
        if shares:
            order = sorted(shares, key=lambda task: -shares[task])
            listed = ", ".join(f"{shares[task]:.0%} of {task}" for task in order)
            made.append(f"Images that {label} makes worse at severities beyond its training range: {listed}.")
    return made[:MOST]
