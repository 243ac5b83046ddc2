"""Conversations: questions with earlier turns before them, in the model's own format."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from unlearn.attacks.setting.answer_metric import AnswerScores, ask
from unlearn.attacks.setting.putting import encode_questions
from unlearn.data.posed import longest_answer
from unlearn.data.prompt import PromptFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.attacks.base import AnswerMetric, AttackSetting
    from unlearn.data.task import Question
    from unlearn.models.subject import Subject

History = tuple[tuple[str, str], ...]
"""Earlier turns, (question, answer) each, the oldest first."""

_NEXT = "\x1e"  # between the texts of a conversation; no tokenizer gets to see it
SPOKEN: tuple[AnswerMetric, ...] = ("gen", "match", "verbatim")  # measures that are read off generated answers
_WINDOW = 2048  # of a model whose config does not tell


def conversation(history: History, question: str) -> str:
    """Return a question with its earlier turns, as ConversationFormat reads it."""
    return _NEXT.join([*(text for turn in history for text in turn), question])


@dataclass(frozen=True)
class ConversationFormat(PromptFormat):
    """A prompt format whose questions may be conversations.

    With a chat template they are messages in turn, else one exchange a line, each with the format's tags.
    """

    def tagged(self, question: str) -> str:
        """Return the turns and the question with tags."""
        *earlier, last = question.split(_NEXT)
        between = (self.user_end + self.answer_start, "\n" + self.user_start)
        return super().tagged("".join(text + between[i % 2] for i, text in enumerate(earlier)) + last)

    def messages(self, question: str) -> list[dict[str, str]]:
        """Return the turns and the question as messages."""
        *earlier, last = question.split(_NEXT)
        *system, asked = super().messages(last)
        said = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(earlier)]
        return [*system, *said, asked]


def conversing(subject: Subject) -> Subject:
    """Return the subject with conversations as questions, as long as its context window."""
    config = subject.module.config.get_text_config()
    window = getattr(config, "max_position_embeddings", None) or _WINDOW
    return subject.reformatted(lambda prompt: ConversationFormat(**asdict(prompt) | {"max_tokens": window}))


def ask_after(
    subject: Subject,
    setting: AttackSetting,
    histories: Sequence[History],
    probes: Sequence[Question],
    answer_metric: AnswerMetric | None = None,
    spoken: bool = False,
) -> AnswerScores:
    """Ask each probe after its own earlier turns [n], as `ask` does.

    spoken: generate an answer whatever the measure. Where prompt and answer do not fit into the context window, the
    oldest turns are left out; a question that is too long alone has K nan and no text.
    """
    import numpy as np

    talking = conversing(subject)
    room = [talking.prompt.max_tokens - longest_answer(probe, setting.task) for probe in probes]
    left = [list(history) for history in histories]
    pending, fits = list(range(len(probes))), dict.fromkeys(range(len(probes)), True)
    while pending:
        asked_now = [replace(probes[i], question=conversation(tuple(left[i]), probes[i].question)) for i in pending]
        lengths = map(len, encode_questions(talking, asked_now))
        pending = [i for i, length in zip(pending, lengths, strict=True) if length > room[i]]
        for i in [i for i in pending if not left[i]]:
            fits[i] = False
            pending.remove(i)
        for i in pending:
            del left[i][0]
    asked = [i for i, fit in fits.items() if fit]
    said = [replace(probes[i], question=conversation(tuple(left[i]), probes[i].question)) for i in asked]
    found = ask(talking, setting, said, answer_metric)
    if spoken and (answer_metric or setting.answer_metric) not in SPOKEN:
        found = AnswerScores(found.known, ask(talking, setting, said, "match").texts)
    known, texts = np.full(len(probes), np.nan), [""] * len(probes)
    known[asked] = found.known
    for i, text in zip(asked, found.texts, strict=True):
        texts[i] = text
    return AnswerScores(known, tuple(texts))
