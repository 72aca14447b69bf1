"""The training loop: samples, shares of the batch, single steps, the optimizer, and the state of a run."""
