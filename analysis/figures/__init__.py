"""Figures drawn from the data frames of a comparison."""
