"""Evaluation beyond the training range: test sets by severity, unseen, composite and mixed degradations."""
