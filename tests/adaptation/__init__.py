"""Tests of adaptation at test time."""
