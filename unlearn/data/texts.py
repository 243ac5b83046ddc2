"""All that is written in a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unlearn.data.task import Task


def all_texts(task: Task) -> Iterable[str]:
    """Yield every text of the task once, in order: the corpus of a tokenizer trained from scratch.

    Of the sets it has those that the original and control models are trained on, and refusals. Injected answers and
    fluency text are not in it: a byte-level tokenizer can write them, and what one method reads should not change every
    method's model.
    """
    seen: set[str] = set()
    trained = [name for t in (task.history.original, task.history.control) if t for name in t.sets]
    texts = [text for name in dict.fromkeys(trained) for row in task.rows(name) for text in row.texts]
    for probe_set in task.probes:
        for p in probe_set.probes:
            texts += [
                p.question,
                p.answer,
                p.paraphrased_answer or "",
                p.paraphrased_question or "",
                *p.perturbed_answers,
            ]
    for text in [*texts, *task.answers("refusal"), *task.corpus]:
        if text and text not in seen:
            seen.add(text)
            yield text
