"""The version of the package: told in every run folder, part of no key."""

__version__ = "0.5.0"
