"""What everything stands on: errors, keyed random numbers, trees of tensors, YAML, records, ranks.

Imports nothing of ours.
"""
