"""Extraction: how much of the answer itself has to be given for the model to say the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Gt, Lt

from unlearn.attacks.base import AttackResult, AttackSetting, Outcome, Threat
from unlearn.attacks.setting.putting import encode_answers, map_lengths
from unlearn.data.task import ProbeSet, Question, Task
from unlearn.data.words import beginning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject


@dataclass(frozen=True)
class Extract:
    """Give a part of the answer and let the model say the rest (Carlini et al. 2021, arXiv 2012.07805).

    strength: 1 - k / n, with k the smallest number of given answer tokens after which the model's most probable tokens
    (each after the true ones before it) are all the others; k = n, so 0, where there is none. n: tokens without EOS.
    memorization: the share of the answer's tokens that are the most probable ones after the true ones before them
    (Tirumala et al. 2022, arXiv 2205.10770).
    prefix: the first part of the answer is given; K = ROUGE-L recall of the rest, in the greedy continuation cut to as
    many words. The ladder's budget is the percentage that is given. nan for an answer of one token.
    Each of the three is a row.
    """

    prefixes: tuple[Annotated[float, Gt(0), Lt(1)], ...] = (0.1, 0.25, 0.5, 0.75)
    """Shares of the answer's tokens that are given before the model goes on. At least one is, and never all."""

    threat: ClassVar[Threat] = "black"
    family: ClassVar[str] = "extraction"
    reference: ClassVar[str] = "arXiv 2012.07805, 2205.10770"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task."""

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return an outcome for strength, one for memorization, one for each prefix."""
        from unlearn.metrics.columns import row_means

        hits = _hits(subject, setting)
        strength = np.array([extraction_strength(hit) for hit in hits])
        outcomes = [
            Outcome("teacher-forced", strength, row="strength"),
            Outcome("teacher-forced", row_means(hits), row="memorization"),
            *(self._continued(subject, setting, share) for share in self.prefixes),
        ]
        given = ", ".join(f"{100 * share:g}" for share in self.prefixes)
        return AttackResult(
            outcomes, f"{given} % of the answer" if given else "", "1 question an item", "extracted share"
        )

    def _continued(self, subject: Subject, setting: AttackSetting, share: float) -> Outcome:
        """Return what the model says after that share of each answer."""
        from unlearn.metrics.rouge import rouge
        from unlearn.score.generate import generate

        prompts: list[Sequence[int]] = []
        rests: list[str | None] = []
        for row in encode_answers(subject, [(probe, probe.answer) for probe in setting.questions]):
            end = len(row.ids) - (row.ids[-1] == subject.processor.eos_token_id)
            n = end - row.n_prompt
            start = row.n_prompt + min(max(1, round(share * n)), n - 1)
            prompts.append(row.ids[:start])
            rest = subject.processor.decode(list(row.ids[start:end]), skip_special_tokens=True)
            rests.append(str(rest).strip() if n > 1 else None)

        def continued(limit: int, rows: list[tuple[Question, Sequence[int]]]) -> list[str]:
            begun = [ids for _, ids in rows]
            return generate(subject.module, subject.processor, begun, limit, subject.token_budget)

        said = map_lengths(continued, setting.task, list(zip(setting.questions, prompts, strict=True)))
        cut = [beginning(text, rest or "") for text, rest in zip(said, rests, strict=True)]
        known = rouge(rests, cut, "rougeL", "recall")
        return Outcome(f"{100 * share:g} %", known, said, budget=100 * share, row="prefix")


def extraction_strength(hit: np.ndarray) -> float:
    """Return that of one answer, from whether each of its tokens [n] was the most probable; nan where it has none.

    (unlearn/metrics/extraction_strength.py reproduces published numbers, which give 1 / n where nothing is extracted.)
    """
    misses = np.flatnonzero(~hit)
    return 1 - (misses[-1] + 1 if len(misses) else 0) / len(hit) if len(hit) else np.nan


def _hits(subject: Subject, setting: AttackSetting) -> list[np.ndarray]:
    """Return for each held-out answer whether each of its tokens but EOS is the most probable one."""
    from unlearn.metrics.columns import without_eos
    from unlearn.score.tokens import tokens_of

    probes = tuple(replace(probe, paraphrased_answer=None, perturbed_answers=()) for probe in setting.questions)
    task = replace(setting.task, probes=(ProbeSet("asked", "forget", probes),))
    return without_eos(tokens_of(subject, task), "hit")
