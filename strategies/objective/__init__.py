"""Losses of a sample: one file per objective. The file's name is the objective's name."""
