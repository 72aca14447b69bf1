"""Decode, pack, cache, pair and crop images."""
