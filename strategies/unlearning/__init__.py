"""Making a trained model forget a task."""
