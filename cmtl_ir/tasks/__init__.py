"""Tasks, their degradations and their images."""
