"""Insight: what happens inside a network."""
