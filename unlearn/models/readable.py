"""Whether a model can read all rows and probes of a task: asked before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unlearn.data.prompt import Encoded, PromptFormat, encode_passage, encode_spans
from unlearn.data.task import Example, Passage, Question, Row, Task
from unlearn.runtime.errors import UserError
from unlearn.runtime.progress import notify

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Limits:
    """What a model can take in."""

    vocabulary: int
    """Rows of its embedding: token ids are below."""
    positions: int | None
    """Tokens of the longest row that it is made for; None where it does not say."""
    rotary: bool = True
    """Whether it can read on beyond them, though it never learned to."""

    @classmethod
    def of(cls, config: Any) -> Limits:
        """Return those of a transformers config."""
        text = config.get_text_config()
        rotary = any(getattr(text, name, None) for name in ("rope_parameters", "rope_theta", "rope_scaling"))
        return cls(text.vocab_size, getattr(text, "max_position_embeddings", None), rotary)


@dataclass(frozen=True)
class _Line:
    """A row as tokens."""

    place: str
    row: Encoded
    asked: Sequence[int] | None
    """The prompt as it is put to the model; None for a text."""
    answer_tokens: int = 0
    """How many tokens may be generated after the prompt."""


def check_rows(task: Task, tokenizer: PreTrainedTokenizerBase, prompt: PromptFormat, limits: Limits) -> None:
    """UserError where a row or probe of the task, or padding, is nothing that the model can read, or has no answer.

    A line to the user where a token spans the end of a prompt and the beginning of its answer, and where rows are
    longer than those that the model is made for.
    """
    pad = tokenizer.pad_token_id
    if pad is not None and pad >= limits.vocabulary:
        raise UserError(
            f"the padding token {tokenizer.pad_token!r} is number {pad}, but the model has embeddings of "
            f"{limits.vocabulary} tokens: enlarge them (resize_token_embeddings), or use another padding token"
        )
    joined: list[_Line] = []
    longest: _Line | None = None
    for line in _lines(task, tokenizer, prompt):
        _check_size(line, tokenizer, limits)
        if line.asked is not None and [*line.asked] != [*line.row.ids[: line.row.n_prompt]]:
            joined.append(line)
        if limits.positions and len(line.row.ids) > max(limits.positions, len(longest.row.ids) if longest else 0):
            longest = line
    if joined:
        notify(_about(joined[0], len(joined), tokenizer))
    if longest:
        notify(
            f"{longest.place} is {len(longest.row.ids)} tokens long, but the model is made for {limits.positions}: "
            "what it says of longer rows may be nonsense"
        )


def _check_size(line: _Line, tokenizer: PreTrainedTokenizerBase, limits: Limits) -> None:
    ids, most = line.row.ids, limits.positions
    if (highest := max(ids)) >= limits.vocabulary:
        raise UserError(
            f"{line.place} has token {highest} ({tokenizer.convert_ids_to_tokens(highest)!r}), but the model has "
            f"embeddings of {limits.vocabulary} tokens: enlarge them (resize_token_embeddings)"
        )
    if most is None or limits.rotary:
        return
    if len(ids) > most:
        raise UserError(f"{line.place} is {len(ids)} tokens long, but the model reads no more than {most}")
    if line.asked is not None and line.answer_tokens and len(line.asked) + line.answer_tokens > most:
        raise UserError(
            f"{line.place} asks with {len(line.asked)} tokens for an answer of up to {line.answer_tokens}, but the "
            f"model reads no more than {most}: lower the dataset's max_new_tokens"
        )


def _about(line: _Line, count: int, tokenizer: PreTrainedTokenizerBase) -> str:
    token = tokenizer.decode([line.row.ids[line.row.n_prompt]])
    which = f"{line.place} and {count - 1} others" if count > 1 else line.place
    return (
        f"{which}: tokens span the end of the prompt and the beginning of the answer (here {token!r}), so the model is "
        "asked with prompts that no row begins with; a prompt that ends without white space is safer"
    )


def _lines(task: Task, tokenizer: PreTrainedTokenizerBase, prompt: PromptFormat) -> Iterator[_Line]:
    """Yield every row and probe, in all its wordings; of many answers to one question, the longest and new ones."""
    where = f"dataset '{task.name}'"
    for name, rows in _sets(task):
        yield from _encoded(f"{where}: {name} row", list(_pairs(rows)), tokenizer, prompt)
        for i, row in enumerate(rows):
            if isinstance(row, Passage):
                place = f"{where}: {name} row {i}"
                yield _Line(place, _passage(place, name, row, tokenizer, prompt), None)
    for probes in (*task.probes, *task.validation):
        pairs = [pair for i, probe in enumerate(probes.probes) for pair in _asked(i, probe)]
        most = probes.max_new_tokens if probes.generate else 0
        yield from _encoded(f"{where}: probe '{probes.name}'", pairs, tokenizer, probes.prompt or prompt, most)


def _sets(task: Task) -> Iterator[tuple[str, Sequence[Row]]]:
    yield from task.sets.items()
    for number, request in enumerate(task.requests, 1):
        for name, rows in request.sets.items():
            yield f"request {number}, {name}", rows


def _pairs(rows: Sequence[Row]) -> Iterator[tuple[int, str, str]]:
    seen: set[str] = set()
    for i, row in enumerate(rows):
        if isinstance(row, Example):
            longest = max(row.answers, key=len)
            yield from ((i, question, longest) for question in row.questions)
            yield from ((i, row.questions[0], answer) for answer in row.answers if answer not in {*seen, longest})
            seen.update(row.answers)


def _asked(number: int, probe: Question) -> Iterator[tuple[int, str, str]]:
    candidates = [*filter(None, (probe.answer, probe.paraphrased_answer, *probe.perturbed_answers))]
    yield from ((number, probe.question, text) for text in candidates)
    if probe.paraphrased_question:
        yield number, probe.paraphrased_question, max(candidates, key=len)


def _passage(place: str, name: str, row: Passage, tokenizer: PreTrainedTokenizerBase, prompt: PromptFormat) -> Encoded:
    try:
        if name == "fluency":
            return encode_passage(tokenizer, row.text)
        return encode_spans(tokenizer, row.text, row.spans if name.endswith("forget") else (), prompt.max_tokens)
    except UserError as error:
        raise UserError(f"{place}: {error}") from error


def _encoded(
    place: str,
    pairs: Sequence[tuple[int, str, str]],
    tokenizer: PreTrainedTokenizerBase,
    prompt: PromptFormat,
    answer_tokens: int = 0,
) -> Iterator[_Line]:
    texts = [(question, answer) for _, question, answer in pairs]
    try:
        rows = prompt.encode_all(tokenizer, texts)
    except UserError:
        for i, question, answer in pairs:  # which of them
            try:
                prompt.encode(tokenizer, question, answer)
            except UserError as error:
                raise UserError(f"{place} {i}: {error}") from error
        raise
    questions = list(dict.fromkeys(question for question, _ in texts))
    asked = dict(zip(questions, prompt.encode_prompts(tokenizer, questions), strict=True))
    for (i, question, _), row in zip(pairs, rows, strict=True):
        yield _Line(f"{place} {i}", row, asked[question], answer_tokens)
