"""Ways to adapt a trained network to the images at hand, one per file."""
