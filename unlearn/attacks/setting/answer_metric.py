"""How much of an answer a model shows: K in [0, 1] for each probe, by the one scoring that the whole program uses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from unlearn.attacks.base import AnswerMetric, AttackSetting, Outcome
from unlearn.attacks.setting.putting import encode_questions, map_lengths
from unlearn.data.task import ProbeSet, Question, Task
from unlearn.data.words import contains, without_end
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from unlearn.models.subject import Subject


@dataclass(frozen=True)
class AnswerScores:
    """What a model answers to some probes, and how much that shows."""

    known: np.ndarray
    """K of each probe [n]; nan where it cannot be asked so."""
    texts: tuple[str, ...]
    """The generated answers [n]; "" where there is none."""


def choose_answer_metric(task: Task, wanted: AnswerMetric | None) -> AnswerMetric:
    """Return the measure for a task's report.

    It is the wanted one, else `match` where every forget probe has a bare value, else `gen`. UserError where the
    task's probes cannot be asked so.
    """
    probes = [probe for probe_set in task.probes if probe_set.aim == "forget" for probe in probe_set.probes]
    if wanted == "mcq" and not all(probe.perturbed_answers for probe in probes):
        raise UserError(f"'leak.answer_metric' is mcq, but probes of dataset '{task.name}' have no wrong answers")
    return wanted or ("match" if all(probe.value for probe in probes) else "gen")


def ask(
    subject: Subject, setting: AttackSetting, probes: Sequence[Question], answer_metric: AnswerMetric | None = None
) -> AnswerScores:
    """Ask a model, attacked or not, those probes. answer_metric: None takes the report's.

    gen: ROUGE-L recall of the answer, greedy or as `subject.sampling` draws it. match: 1 if it contains the bare value
    (else the answer) as whole words. verbatim: ROUGE-L F1. prob: exp(mean log-probability of the answer's tokens).
    mcq: (c - 1/m) / (1 - 1/m), with c = 1 if the answer is the likeliest of its m options.
    """
    answer_metric = answer_metric or setting.answer_metric
    if not probes:
        return AnswerScores(np.empty(0), ())
    if answer_metric in ("gen", "match", "verbatim"):
        texts = _answers(subject, setting.task, probes)
        return AnswerScores(read(probes, texts, answer_metric), texts)
    return AnswerScores(_likelihood(subject, setting.task, probes, answer_metric), ("",) * len(probes))


def read(probes: Sequence[Question], texts: Sequence[str], answer_metric: AnswerMetric) -> np.ndarray:
    """Return K of one given answer to each probe, [n], by what it says: gen, match or verbatim."""
    from unlearn.metrics.rouge import rouge

    if answer_metric == "match":
        return np.array([contains(text, _bare(probe)) for text, probe in zip(texts, probes, strict=True)], dtype=float)
    return rouge([probe.answer for probe in probes], texts, "rougeL", "recall" if answer_metric == "gen" else "f1")


def evaluate_attacked(
    subject: Subject,
    setting: AttackSetting,
    variant: str,
    with_attacker_items: bool = False,
    utility: bool = True,
    **about: object,
) -> Outcome:
    """Return the outcome of an attack that changed the model: held-out items asked as they are, and its utility.

    with_attacker_items: also ask the attacker's own items. about: further fields of the outcome.
    """
    n, own = len(setting.held_out_items), [item.probe for item in setting.attacker_items] if with_attacker_items else []
    found = ask(subject, setting, [*setting.questions, *own, *(setting.retain if utility else ())])
    known, mine, kept = np.split(found.known, [n, n + len(own)])
    return Outcome(
        variant,
        known,
        found.texts[:n],
        on_attacker_items=float(np.nanmean(mine)) if len(mine) else None,
        utility=float(np.nanmean(kept)) if len(kept) else None,
        **about,  # type: ignore[arg-type]
    )


def _answers(subject: Subject, task: Task, probes: Sequence[Question]) -> tuple[str, ...]:
    """Return the model's answers, greedy ones as scoring has them, without the likelihoods."""
    from unlearn.score.generate import Decoding, generate

    def answers(limit: int, rows: list[tuple[Question, Sequence[int]]]) -> list[str]:
        prompts, drawn = [ids for _, ids in rows], Decoding(sampling=subject.sampling)
        return generate(subject.module, subject.processor, prompts, limit, subject.token_budget, drawn)

    prompts = encode_questions(subject, probes)
    return tuple(map_lengths(answers, task, list(zip(probes, prompts, strict=True))))


def _likelihood(subject: Subject, task: Task, probes: Sequence[Question], answer_metric: AnswerMetric) -> np.ndarray:
    from unlearn.metrics.columns import row_means
    from unlearn.score.tokens import tokens_of

    asked = tuple(
        replace(probe, answer=options_of(probe)[0]) if answer_metric == "mcq" else replace(probe, perturbed_answers=())
        for probe in probes
    )
    asked = tuple(replace(probe, paraphrased_answer=None) for probe in asked)
    tokens = tokens_of(subject, replace(task, probes=(ProbeSet("asked", "forget", asked),)))
    if answer_metric == "prob":
        found: np.ndarray = np.exp(row_means(tokens["logp"]))
        return found
    summed = tokens.assign(logp=[logp.sum() for logp in tokens["logp"]])
    return np.array([_chosen(rows) for _, rows in summed.groupby("item", sort=True)])


def _chosen(options: pd.DataFrame) -> float:
    """Return whether the answer is the likeliest of its options, corrected for chance; nan where it is the only one."""
    m = len(options)
    winners = options[options["logp"] == options["logp"].max()]["kind"]
    return float(((winners == "answer").mean() - 1 / m) / (1 - 1 / m)) if m > 1 else np.nan


def options_of(probe: Question) -> tuple[str, ...]:
    """Return the options in one wording, the right one first: wrong answers are variants of the paraphrase, if any."""
    return (probe.paraphrased_answer or probe.answer, *probe.perturbed_answers)


def _bare(probe: Question) -> str:
    """Return the bare value, else the answer without the punctuation at its end."""
    return probe.value or without_end(probe.answer.strip())
