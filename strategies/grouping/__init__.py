"""Which tasks share a model."""
