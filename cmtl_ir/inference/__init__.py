"""Trained networks at work: images restored, runs scored again, weights of others loaded, backbones profiled."""
