"""Attacks that change the weights, and ask again."""
