"""Frames of runs, and what is computed from them."""
