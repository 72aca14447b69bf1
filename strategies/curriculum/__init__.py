"""Curricula: which tasks are trained, when and in which shares."""
