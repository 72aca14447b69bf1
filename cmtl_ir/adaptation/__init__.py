"""Adaptation at test time: adapters applied to images one by one, in keyed streams, or in two passes over a folder."""
