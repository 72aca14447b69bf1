"""Keep training images on the GPU within a budget, so that their crops need no copy from the host.

The crops have the same bytes either way. A pack that is used by several tasks, or by the same tasks under another seed,
is copied once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from cmtl_ir.tasks.images.pack import Pack
from cmtl_ir.tasks.images.store import ImageStore, PairStore, content_digest

ALIVE: WeakValueDictionary[tuple[str, str], Tensor] = WeakValueDictionary()
"""(device, content) -> bytes on that device, while a store holds them."""


@dataclass
class Residents:
    """The packs that the tasks of one experiment keep on a device."""

    device: torch.device
    left: float
    """Number of bytes that may still be used."""
    copies: dict[str, Tensor] = field(default_factory=dict)
    """Content of a pack -> its bytes on the device."""

    def kept(self, store: ImageStore | PairStore) -> ImageStore | PairStore:
        """Return the store with its pixels on the device, or unchanged if the budget is too small.

        Both sides of pairs are kept, or neither.
        """
        sides = (store,) if isinstance(store, ImageStore) else (store.degraded, store.clean)
        packs = {_content(one.pack): one.pack for one in sides}
        missing = {key: pack for key, pack in packs.items() if key not in self.copies}
        needed = sum(pack.flat.nbytes for pack in missing.values())
        if needed > self.left:
            return store
        self.left -= needed
        self.copies |= {key: self._copied(key, pack) for key, pack in missing.items()}
        here = [replace(one, copy=self.copies[_content(one.pack)]) for one in sides]
        return here[0] if isinstance(store, ImageStore) else replace(store, degraded=here[0], clean=here[1])

    def _copied(self, key: str, pack: Pack) -> Tensor:
        place = (str(self.device), key)
        found = ALIVE.get(place)
        if found is None:
            found = ALIVE[place] = pack.flat.to(self.device, copy=True)
        return found


def _content(pack: Pack) -> str:
    return content_digest(*pack.digests)
