"""Losses of a sample. A file per objective; its name is the file's."""
