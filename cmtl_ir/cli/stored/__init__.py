"""Commands on what is stored: files of weights, networks to take away, runs and decoded images."""
