"""Watchers of a run during training: logs, scores, checkpoints and cost, each in its own file."""
