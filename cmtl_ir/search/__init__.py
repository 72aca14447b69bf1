"""Hyperparameter search: a space over any path of an experiment, trials as ordinary runs, an Optuna study."""
