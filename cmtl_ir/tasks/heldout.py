"""Which images are held out for test or validation when the experiment names none."""

from __future__ import annotations

from cmtl_ir.base import keyed
from cmtl_ir.tasks.extras import is_extra
from cmtl_ir.tasks.images.decode import DataError
from cmtl_ir.tasks.task import Store

HELD_OUT = 0.1
"""Share of the images that are held out for test if no test images are given."""
HELD_OUT_EMBEDDED = 0.25
"""The same for the embedded photographs under `data.holdout: rotate`: two of seven, as many as are fixed otherwise."""


def hold_out(store: Store, share: float, turn: int = 0) -> tuple[Store, Store]:
    """Split a store into (the remaining images, a held-out share of at least one image).

    Whole images are chosen by a hash of their names. Images with the same pixels stay together, and so do pairs whose
    clean images have the same pixels, whether they are one file, links to it or copies under several names. Images
    that `data.textures` or `data.dead_leaves` added are never held out.

    `turn` moves the choice on by as many images as are held out, so that consecutive turns hold out every image once
    before any image is held out again. Raise DataError if no image would remain.
    """
    extra = {group for group, name in zip(store.groups, store.clean_names, strict=True) if is_extra(name)}
    groups = sorted(set(store.groups) - extra, key=lambda name: keyed.name_key("held out", name))
    count = max(1, round(share * len(groups)))
    if count >= len(groups):
        raise DataError(
            f"cannot hold out {count} of {len(groups)} distinct image(s), {groups[0]}: name test images with data.test"
        )
    held = {groups[(turn * count + place) % len(groups)] for place in range(count)}
    sides = [[i for i, group in enumerate(store.groups) if (group in held) is side] for side in (False, True)]
    return store.choose(sides[0]), store.choose(sides[1])


def label(store: Store, share: float) -> tuple[Store, Store | None]:
    """Split a store into (labelled images, the others). `None` if all are labelled.

    An image is labelled if the hash of its name, as a fraction of 2^64, is below `share`, so that a larger share only
    adds images. The image with the smallest hash always is. Images with the same pixels stay together.
    """
    fraction = {group: keyed.name_key("labelled", group) / 2**64 + 0.5 for group in set(store.groups)}
    limit = max(share, min(fraction.values()) * (1 + 1e-12))
    sides = [[i for i, group in enumerate(store.groups) if (fraction[group] < limit) is side] for side in (True, False)]
    return store.choose(sides[0]), store.choose(sides[1]) if sides[1] else None
