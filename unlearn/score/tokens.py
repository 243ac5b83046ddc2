"""Likelihoods of every candidate answer, one forward each: the table that most metrics read."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from unlearn.models.subject import References, Subject
from unlearn.runtime.explained import Explained
from unlearn.score.base import Progress, Wording, ask_all, encode_answers, evaluating, frame
from unlearn.score.table import TOKENS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting


@dataclass(frozen=True)
class Tokens:
    """Table `tokens`: a row per candidate answer of every probe, with the log-probability of each of its tokens.

    probe, aim, normalise, item (index in its probe set), cluster; kind: "answer", "paraphrase" or "perturbed"; choice:
    index among the perturbed answers (0 otherwise); text: the candidate; eos: whether its last labelled token is EOS;
    logp: float32 array [n] of the labelled tokens' log-probabilities (nats), EOS included; hit: bool array [n], whether
    the token was the most probable one; mean, var: float32 arrays [n], mean and variance of log p under the model's own
    next-token distribution; zlib: bytes of the compressed candidate.
    """

    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    tables: ClassVar[tuple[str, ...]] = ("tokens",)
    reads: ClassVar[frozenset[str]] = frozenset({"probes"})
    along: ClassVar[bool] = True

    share_prefix: bool = True
    """True: run a prompt once for all its candidate answers; the numbers are the same."""
    mask_pad: bool = False
    """True: hide tokens equal to the pad token inside the text, to reproduce OpenUnlearning's numbers."""
    question: Wording = "canonical"
    """canonical, or paraphrased: ask the other wording."""

    def cache_key(self) -> dict[str, Any]:
        """Return the fields that decide the table."""
        return {"mask_pad": self.mask_pad, "question": self.question}

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task."""

    def score(
        self, subject: Subject, task: Task, references: References, progress: Progress | None = None
    ) -> Mapping[str, Explained]:
        """Return the table; UserError where a candidate has no token to score."""
        from unlearn.score.generate import pad_id
        from unlearn.score.likelihood import likelihoods

        tokenizer, asked = subject.processor, ask_all(task, self.question)
        encoded = encode_answers(subject, [(a, text) for a in asked for _, _, text in a.candidates])
        labelled = [str(tokenizer.decode(list(row.ids[row.n_prompt :]), skip_special_tokens=True)) for row in encoded]
        rest = iter(encoded)
        groups = [[next(rest) for _ in a.candidates] for a in asked]
        shared, pad = self.share_prefix, pad_id(tokenizer)
        with evaluating(subject.module):
            stats = likelihoods(subject.module, groups, pad, subject.token_budget, shared, self.mask_pad, progress)
        rows: list[dict[str, Any]] = [
            {**a.place, "normalise": a.set.normalise, "kind": kind, "choice": choice, "text": text, **vars(candidate)}
            for a, group in zip(asked, stats, strict=True)
            for (kind, choice, text), candidate in zip(a.candidates, group, strict=True)
        ]
        for row, text, ids in zip(rows, labelled, (candidate.ids for candidate in encoded), strict=True):
            row["zlib"] = len(zlib.compress(text.encode()))
            row["eos"] = ids[-1] == tokenizer.eos_token_id
        words = "How likely the model finds every candidate answer, token by token."
        return {"tokens": Explained(frame(rows, TOKENS), "Likelihoods of answers", words)}


def tokens_of(subject: Subject, task: Task) -> pd.DataFrame:
    """Return the table of the task's probes alone, as they are."""
    return Tokens().score(subject, task, References(lambda: subject, lambda: None))["tokens"].frame
