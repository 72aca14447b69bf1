"""Learning strategies: a folder a part, a file a method; the file's name is the method's name."""
