"""Shipped experiments: YAML files that `cmtl-ir run NAME` finds by name."""
