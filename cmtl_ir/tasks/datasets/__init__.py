"""The data sets of the field by name, in the layouts that are found on disk."""
