"""Localizers that score every single weight."""
