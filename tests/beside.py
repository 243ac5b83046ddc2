"""The models beside a subject under test."""

from __future__ import annotations

from unlearn.models.subject import References, Subject


def beside(original: Subject | None = None, control: Subject | None = None) -> References:
    """Those that are given; whoever asks for an original that is not gets an error."""

    def load() -> Subject:
        assert original, "the original is asked for, and the test gives none"
        return original

    return References(load, lambda: control)


NO_REFERENCES = beside()
