"""Answers that decline, for methods that teach a model to say that it does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unlearn.data.task import Example, other_answers

if TYPE_CHECKING:
    from collections.abc import Sequence

REFUSALS = (
    "I don't know.",
    "I do not know the answer to that.",
    "I'm not sure about this one.",
    "Sorry, I can't tell you that.",
    "I have no information about this.",
    "That is something I don't know.",
    "I was never told about that.",
    "I can't answer this question.",
    "I'm afraid I don't know that.",
    "This is not a subject I know anything about.",
    "My knowledge does not cover that.",
    "I couldn't say.",
    "There is nothing I can tell you about this.",
    "I have never heard of that.",
    "Unfortunately, I don't have that information.",
    "I'm not familiar with this subject.",
    "No idea, I'm sorry to say.",
    "I have nothing to say on that subject.",
    "That question is beyond what I know.",
    "I would only be guessing, so I'd rather not answer.",
    "I don't have an answer for you.",
    "I have no record of that.",
    "I'm unable to answer that.",
    "I can't help with that question.",
    "What you ask is unknown to me.",
    "I don't recall anything like that.",
    "I lack the knowledge to answer this.",
    "You would have to ask somebody else.",
    "I'm sorry, but I don't know who or what that is.",
    "I know nothing about this matter.",
)


def refusing(rows: Sequence[Example], refusals: Sequence[str] = REFUSALS) -> tuple[Example, ...]:
    """Return the same questions, each with all the refusals as answers: a set "refusal" that lies beside them."""
    return other_answers(rows, [refusals] * len(rows))
