"""Strings that are optimised token by token: their place in exchanges, their gradient, candidates, evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from unlearn.attacks.base import AttackSetting, Inapplicable, Outcome
from unlearn.attacks.setting.putting import encode_answers
from unlearn.attacks.setting.self_estimate import evaluate_with_estimate
from unlearn.data.task import Question
from unlearn.models.subject import Subject

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from unlearn.attacks.items import Item

Where = Literal["suffix", "prefix"]
Ids = tuple[int, ...]
Pair = tuple[Question, str]  # a question and the answer that is wanted
Checkpoint = Callable[[int, str], object]  # what is done with the steps so far and the best string of them

_CHUNK = 1 << 14  # rows of the embedding table that meet a gradient at once


def insert(question: str, text: str, where: Where) -> str:
    """Return the question with an adversarial string after or before it."""
    return f"{question} {text}" if where == "suffix" else f"{text} {question}"


def placed(pair: Pair, text: str, where: Where) -> Pair:
    """Return the pair with an adversarial string beside its question."""
    question, answer = pair
    return replace(question, question=insert(question.question, text, where)), answer


@dataclass(frozen=True)
class Frame:
    """An exchange around a string."""

    pair: Pair
    """Its question, without the string, and its answer."""
    before: Ids
    """The tokens before the string."""
    after: Ids
    """The tokens after it."""
    labels: int
    """How many of these, the last ones, are the answer."""


@dataclass(frozen=True)
class Slot:
    """The place of a string in exchanges with a model.

    A string is a row of tokens that its own text, put into every exchange, encodes to again: nothing else could be sent
    to the model.
    """

    subject: Subject
    """The model."""
    where: Where
    """The side of the question on which the string stands."""

    @cached_property
    def allowed(self) -> Tensor:
        """[n] ids that may be drawn: their text is printable ASCII and not blank; special tokens are left out."""
        import torch

        tokenizer, special = self.subject.processor, set(self.subject.processor.all_special_ids)
        size = min(len(tokenizer), self.subject.module.config.get_text_config().vocab_size)
        texts = tokenizer.batch_decode([[i] for i in range(size)])
        good = [i for i, t in enumerate(texts) if t.isascii() and t.isprintable() and t.strip() and i not in special]
        return torch.tensor(good)

    def text(self, ids: Sequence[int]) -> str:
        """Return the string that these tokens are."""
        return self.subject.processor.batch_decode([list(ids)])[0].strip()

    def start(self, pairs: Sequence[Pair], length: int) -> tuple[Ids, list[Frame]]:
        """Return `length` times the same word ("x" where that is one token), and the exchanges around it.

        Raises Inapplicable where the tokenizer gives no such string back.
        """
        tokenizer = self.subject.processor
        for word in dict.fromkeys(("x", "!", *(self.text([i]) for i in self.allowed.tolist()))):
            text = " ".join([word] * length)
            alone = len(tokenizer(text, add_special_tokens=False)["input_ids"])
            if abs(alone - length) <= 1 and (found := self.open(pairs, text, length)):
                return found
        raise Inapplicable(f"no string of {length} tokens comes back from the tokenizer as it went in")

    def open(self, pairs: Sequence[Pair], text: str, length: int | None = None) -> tuple[Ids, list[Frame]] | None:
        """Return the tokens of a text and the exchanges around them; None where they do not come back alike in all.

        length: how many tokens are wanted, where it is given.
        """
        (row,) = encode_answers(self.subject, [placed(pairs[0], text, self.where)])
        ids = self._find(row.ids[: row.n_prompt], text, length)
        if ids is None:
            return None
        frames = [self._frame(pair, ids) for pair in pairs]
        return (ids, [frame for frame in frames if frame]) if all(frames) else None

    def survivors(self, frames: Sequence[Frame], candidates: Sequence[Ids]) -> list[Ids]:
        """Return those candidates that their text encodes to again in every exchange, each once, in order."""
        left = list(dict.fromkeys(candidates))
        subject = self.subject
        for frame in frames:
            if not left:
                break
            texts = [text.strip() for text in subject.processor.batch_decode([list(ids) for ids in left])]
            rows = encode_answers(subject, [placed(frame.pair, text, self.where) for text in texts])
            left = [ids for ids, row in zip(left, rows, strict=True) if row.ids == (*frame.before, *ids, *frame.after)]
        return left

    def _find(self, prompt: Ids, text: str, length: int | None) -> Ids | None:
        """Return the shortest run of the prompt's tokens that decodes to `text`."""
        for width in range(1, len(prompt) + 1) if length is None else (length,):
            runs = [prompt[i : i + width] for i in range(len(prompt) - width + 1)]
            texts = self.subject.processor.batch_decode([list(run) for run in runs])
            found = [run for run, decoded in zip(runs, texts, strict=True) if decoded.strip() == text]
            if found:
                return found[-1 if self.where == "suffix" else 0]
        return None

    def _frame(self, pair: Pair, ids: Ids) -> Frame | None:
        (row,) = encode_answers(self.subject, [placed(pair, self.text(ids), self.where)])
        n = len(ids)
        places = [i for i in range(row.n_prompt - n + 1) if row.ids[i : i + n] == ids]
        if not places:
            return None
        at = places[-1 if self.where == "suffix" else 0]
        return Frame(pair, row.ids[:at], row.ids[at + n :], len(row.ids) - row.n_prompt)


def one_hot_gradient(model: nn.Module, place: slice, loss: Callable[[], Tensor]) -> Tensor:
    """Return d loss / d one-hot of the tokens at `place` of a single row: [n, V] float32.

    The embeddings e = one_hot E are linear, so it is (d loss / d e) E^T, with E what the embedding module gives for
    every token (scaled, where it scales). loss: runs the model once, on that row.
    """
    import torch

    embeddings, leaves = model.get_input_embeddings(), []  # type: ignore[operator]

    def cut(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    handle = embeddings.register_forward_hook(cut)
    try:
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(loss(), leaves)
    finally:
        handle.remove()
    gradient = gradient[0, place].float()
    with torch.no_grad():
        tokens = torch.arange(embeddings.weight.shape[0], device=gradient.device)
        return torch.cat([gradient @ embeddings(chunk).float().T for chunk in tokens.split(_CHUNK)], dim=1)


def top_tokens(gradient: Tensor, allowed: Tensor, k: int) -> Tensor:
    """Return [n, k]: the allowed tokens whose gradient [n, V] is most negative, position by position, on the CPU."""
    among = gradient.cpu()[:, allowed]
    return allowed[among.topk(min(k, len(allowed)), largest=False).indices]


def swaps(ids: Ids, top: Tensor, n_replace: int, width: int, generator: Generator) -> list[Ids]:
    """Return `width` candidates, each with `n_replace` random positions changed to one of their tokens top [n, k]."""
    import torch

    n = len(ids)
    positions = torch.rand(width, n, generator=generator).argsort(dim=1)[:, : min(n_replace, n)]
    drawn = torch.randint(top.shape[1], positions.shape, generator=generator)
    candidates = torch.tensor(ids).repeat(width, 1).scatter(1, positions, top[positions, drawn])
    return [tuple(row) for row in candidates.tolist()]


def evaluate_beside(subject: Subject, setting: AttackSetting, text: str, where: Where, step: int, seed: int) -> Outcome:
    """Ask all questions with a string beside them; the attacker's own estimate is from its own items, asked so too."""

    def beside(probe: Question) -> Question:
        return replace(probe, question=insert(probe.question, text, where))

    def all_beside(items: Sequence[Item]) -> tuple[Item, ...]:
        return tuple(replace(item, probe=beside(item.probe)) for item in items)

    asked = replace(
        setting,
        attacker_items=all_beside(setting.attacker_items),
        held_out_items=all_beside(setting.held_out_items),
        retain=tuple(map(beside, setting.retain)),
    )
    return evaluate_with_estimate(subject, asked, f"{step} steps", seed=seed, budget=float(step))
