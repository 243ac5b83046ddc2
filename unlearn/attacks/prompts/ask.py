"""Asking the same items in many ways at once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from unlearn.attacks.setting.answer_metric import AnswerScores, ask

if TYPE_CHECKING:
    from unlearn.attacks.base import AnswerMetric, AttackSetting
    from unlearn.data.task import Question
    from unlearn.models.subject import Subject

_TOKENS = 4096  # of a prompt with an attack around it, where the model reads so many
Name = TypeVar("Name", bound=Hashable)


def ask_variants(
    subject: Subject,
    setting: AttackSetting,
    variants: Mapping[Name, Sequence[Question | None]],
    answer_metric: AnswerMetric | None = None,
) -> dict[Name, AnswerScores]:
    """Return K and answers of each variant; nan and "" where a probe is None.

    variants: by name, the probes for the held-out items in order. A probe that several variants share is asked once.
    """
    probes = list(dict.fromkeys(probe for asked in variants.values() for probe in asked if probe))
    found = ask(_with_long_prompts(subject), setting, probes, answer_metric)
    known = dict(zip(probes, zip(found.known, found.texts, strict=True), strict=True))
    answers = {name: [known[p] if p else (np.nan, "") for p in asked] for name, asked in variants.items()}
    return {
        name: AnswerScores(np.array([k for k, _ in of]), tuple(text for _, text in of)) for name, of in answers.items()
    }


def _with_long_prompts(subject: Subject) -> Subject:
    """Return the subject with prompts as long as it reads: cut as the dataset's are, they lose the question."""
    reads = getattr(subject.module.config.get_text_config(), "max_position_embeddings", None) or _TOKENS
    most = min(_TOKENS, reads - 64)
    return subject.reformatted(lambda prompt: replace(prompt, max_tokens=max(prompt.max_tokens, most)))
