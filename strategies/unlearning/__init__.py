"""Unlearning: making a trained model forget tasks."""
