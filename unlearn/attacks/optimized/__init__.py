"""Attacks that search for an input: tokens, soft prompts, perturbations."""
