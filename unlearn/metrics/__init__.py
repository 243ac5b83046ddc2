"""Metrics: one file each, pure functions of score tables."""
