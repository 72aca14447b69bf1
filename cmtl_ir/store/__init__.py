"""Runs on disk. The only room that knows the names of files in a folder of results."""
