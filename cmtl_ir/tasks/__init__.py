"""What is learnt: tasks, their degradations and their images."""
