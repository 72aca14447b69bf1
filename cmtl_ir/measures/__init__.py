"""Image metrics, scores of test sets, continual-learning measures, gradient conflict, and statistics."""
