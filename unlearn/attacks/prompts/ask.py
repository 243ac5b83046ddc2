"""Asking the same items in many ways at once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from unlearn.attacks.base import Brief, Knowledge, Suspect
from unlearn.attacks.setting.knowledge import Known, ask
from unlearn.data.task import Probe

_TOKENS = 4096  # of a prompt with an attack around it, where the model reads so many
Name = TypeVar("Name", bound=Hashable)


def ask_variants(
    suspect: Suspect,
    brief: Brief,
    variants: Mapping[Name, Sequence[Probe | None]],
    knowledge: Knowledge | None = None,
) -> dict[Name, Known]:
    """K and answers of each variant, whose probes are given for the scored items in order; nan and "" for None.

    A probe that several variants share is asked once.
    """
    probes = list(dict.fromkeys(probe for asked in variants.values() for probe in asked if probe))
    found = ask(_roomy(suspect), brief, probes, knowledge)
    known = dict(zip(probes, zip(found.known, found.texts, strict=True), strict=True))
    answers = {name: [known[p] if p else (np.nan, "") for p in asked] for name, asked in variants.items()}
    return {name: Known(np.array([k for k, _ in of]), tuple(text for _, text in of)) for name, of in answers.items()}


def _roomy(suspect: Suspect) -> Suspect:
    """Prompts as long as the model reads: cut where the dataset's own end, they would lose the question itself."""
    reads = getattr(suspect.model.config.get_text_config(), "max_position_embeddings", None) or _TOKENS
    most = max(suspect.prompt.max_tokens, min(_TOKENS, reads - 64))
    return replace(suspect, prompt=replace(suspect.prompt, max_tokens=most))
