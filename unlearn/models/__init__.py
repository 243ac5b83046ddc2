"""Causal language models: by name from the hub or a folder, or tiny and from scratch."""
