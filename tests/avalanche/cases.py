"""Avalanche's plugins in a setting that a test can afford."""

from __future__ import annotations

from typing import Any

PLUGINS: dict[str, dict[str, Any]] = {
    "EWCPlugin": {"ewc_lambda": 100.0},
    "EWCPlugin-online": {"ewc_lambda": 100.0, "mode": "online", "decay_factor": 0.9},
    "MASPlugin": {"lambda_reg": 1.0},
    "GEMPlugin": {"patterns_per_experience": 4, "memory_strength": 0.5},
    "AGEMPlugin": {"patterns_per_experience": 4, "sample_size": 4},
}
"""Label -> fields; the plugin's name is what stands before a dash."""


def hosted(label: str, **fields: Any) -> dict[str, Any]:
    """One task after the other under a hosted plugin."""
    part = {"name": f"avalanche:{label.partition('-')[0]}", "crops": 6, **PLUGINS.get(label, {}), **fields}
    return {"curriculum": "sequential", "retention": part}
