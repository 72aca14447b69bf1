"""Computation of one gradient per row of a step, at the cost of about one joint pass."""
