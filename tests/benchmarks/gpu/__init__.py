"""The costs of training and evaluation on a GPU, in one table: `python -m tests.benchmarks.gpu`."""
