"""Localizers that trace how the model computes a fact."""
