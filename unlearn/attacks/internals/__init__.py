"""Attacks that read or steer activations."""
