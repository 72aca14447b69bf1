"""Data frames of runs, and the measures computed from them."""
