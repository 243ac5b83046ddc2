"""Datasets: one file each, all giving a `Task`."""
