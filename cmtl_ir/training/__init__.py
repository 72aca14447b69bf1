"""The training loop: samples, shares of the batch, one step, the optimizer, the state of a run."""
