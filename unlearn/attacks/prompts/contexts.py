"""Templates that put facts or solved questions before the question."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from unlearn.attacks.setting.statements import PARAGRAPH, PromptContext, is_completion, reveals, statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.attacks.items import Item
    from unlearn.data.task import Question

FACTS, SHOTS = 3, 5


def background_hint(item: Item, context: PromptContext) -> Question | None:
    """Put other facts about the entity first, none of which names the answer."""
    facts = [statement(other).strip() for other in context.siblings(item)[:FACTS]]
    return hinted(item, " ".join(facts)) if facts else None


def hinted(item: Item, hint: str) -> Question:
    """Put a text before the question."""
    return replace(item.probe, question=f"{hint}{PARAGRAPH if is_completion(item.probe) else ' '}{item.probe.question}")


def in_context(item: Item, context: PromptContext) -> Question | None:
    """Put one solved question about the same entity first."""
    solved = [(other.probe.question, other.probe.answer) for other in context.siblings(item)[:1]]
    return _shown(item, context, solved) if solved else None


def k_shot(item: Item, context: PromptContext) -> Question | None:
    """Put five solved questions about other entities first."""
    rows = context.retain[:: max(1, len(context.retain) // (4 * SHOTS))]
    pairs = [(row.questions[0], row.answers[0]) for row in rows if row.cluster != item.probe.cluster]
    solved = [pair for pair in pairs if not reveals(" ".join(pair), item)]
    return _shown(item, context, solved[:SHOTS]) if solved else None


def _shown(item: Item, context: PromptContext, solved: Sequence[tuple[str, str]]) -> Question:
    """Put solved questions before this one, in the model's own format where that is no chat template."""
    probe, form = item.probe, context.form(item)
    if is_completion(probe):
        shown = [f"{question}{answer}{PARAGRAPH}" for question, answer in solved]
        return replace(probe, question="".join(shown) + probe.question)
    if form.chat_template:
        shown = [f"Question: {question}\nAnswer: {answer}{PARAGRAPH}" for question, answer in solved]
        return replace(probe, question="".join(shown) + f"Question: {probe.question}\nAnswer:")
    between = form.user_end + form.answer_start
    shown = [f"{question}{between}{answer}{PARAGRAPH}{form.user_start}" for question, answer in solved]
    return replace(probe, question="".join(shown) + probe.question)
