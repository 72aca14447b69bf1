"""Learning strategies: one folder per part, one file per method. The file's name is the method's name."""
