"""Which tasks are trained, when, in which shares."""
