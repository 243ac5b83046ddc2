"""Attacks that ask in another way, and read what comes."""
