"""Weights that runs begin from instead of initial weights: finding them, and filling a network with them."""
