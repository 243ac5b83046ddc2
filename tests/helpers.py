"""What several tests share."""

from __future__ import annotations

from unlearn.models.prompt import Encoded


def encode(question: str, answer: str) -> Encoded:
    """One token a character, in a vocabulary of 64, EOS = 1."""
    ids = [ord(c) % 62 + 2 for c in question + answer]
    return Encoded((*ids, 1), len(question))
