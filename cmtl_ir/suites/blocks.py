"""Names of the blocks of a suite: where its lines lie relative to what a run was trained on."""

from __future__ import annotations

INSIDE, BELOW, BEYOND = "inside", "below", "beyond"
"""Blocks of levels of a trained degradation: in the training range, milder, harsher."""
UNTRAINED, COMPOSITE, ZERO_SHOT, MIXED, OWN = "not trained", "trained on composites", "zero-shot", "mixed", "given"
"""The other blocks. Blocks are never averaged together."""
REGIMES = (COMPOSITE, ZERO_SHOT)
"""Blocks that say how a run was trained, not what is tested."""
BLOCKS = (BELOW, INSIDE, BEYOND, UNTRAINED, COMPOSITE, ZERO_SHOT, MIXED, OWN)
"""All blocks, in the order of tables."""
