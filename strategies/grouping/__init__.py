"""Groupings: which tasks share a model."""
