"""Protection of tasks learnt earlier."""
