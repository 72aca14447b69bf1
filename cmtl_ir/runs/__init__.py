"""Runs from plan to results: identity, execution, recording, comparison."""
