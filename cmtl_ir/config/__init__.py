"""Experiment files as validated records, and the catalogue of what they may name."""
