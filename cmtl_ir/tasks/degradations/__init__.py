"""Degradations: one formula per file, by the name that experiments give it."""
