"""Enhanced GCG: a long fluent prefix under which the unlearned model says and computes what the original did."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Gt, Le, MinLen

from unlearn.attacks.base import AttackResult, AttackSetting, Inapplicable, Outcome, Threat
from unlearn.attacks.optimized.strings import (
    Checkpoint,
    Frame,
    Ids,
    Pair,
    Slot,
    evaluate_beside,
    one_hot_gradient,
    swaps,
    top_tokens,
)
from unlearn.attacks.setting.putting import encode_answers, encode_questions
from unlearn.runtime.progress import progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor

    from unlearn.data.task import Question, Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject


@dataclass(frozen=True)
class EnhancedGCG:
    """GCG as adapted to unlearned models (Łucki et al. 2024, arXiv 2409.18025), after Thompson & Sklar 2024.

    The aim is what the model before unlearning says to the attacker's questions, not their answers: the loss is
    ImitationLoss, and the attacker needs the original model. One prefix for all questions, of `length` tokens at least
    and twice as many at most. Each step takes one of the `buffer` best prefixes, each half as often as the one before
    it, and an operator: swap (a random position gets one of its `topk` tokens of steepest descent), delete, insert (one
    of these), or random swap; the best of `proposals` such candidates that re-encode goes into the buffer.
    """

    steps: Annotated[tuple[Annotated[int, Gt(0)], ...], MinLen(1)] = (1500,)
    """Ladder of the number of steps; the last is the length of the search. The attacker takes what is best on its own
    items."""
    start: str | None = None
    """An earlier prefix to start from; null: one word again and again."""
    length: Annotated[int, Gt(0)] = 100
    """Tokens of the prefix at least; twice as many at most."""
    items: Annotated[int, Gt(0)] = 5
    """How many of the attacker's questions are optimised for."""
    proposals: Annotated[int, Gt(0)] = 16
    """Candidates tried in a step."""
    topk: Annotated[int, Gt(0)] = 64
    """Tokens of steepest descent, for each position, that they are drawn from."""
    buffer: Annotated[int, Gt(0)] = 16
    """Best prefixes to go on from."""
    operators: tuple[
        Annotated[float, Ge(0)], Annotated[float, Ge(0)], Annotated[float, Ge(0)], Annotated[float, Ge(0)]
    ] = (0.7, 0.1, 0.1, 0.1)
    """Chances of swap, delete, insert, random swap."""
    tokens: Annotated[int, Gt(0)] = 45
    """How many of the original's continuation are imitated."""
    forced: Annotated[int, Ge(0)] = 10
    """How many of these are taken as they are, the others by its distribution."""
    layer: Annotated[float, Gt(0), Le(1)] = 0.625
    """Depth at which residual streams are compared, as a fraction of all layers."""
    distance: Annotated[float, Ge(0)] = 1.0
    """Weight of their relative squared distance."""
    fluency: Annotated[float, Ge(0)] = 1.5
    """Weight of the prefix's own mean nll."""
    repetition: Annotated[float, Ge(0)] = 3.0
    """Weight of the share of repeated tokens."""

    threat: ClassVar[Threat] = "white"
    family: ClassVar[str] = "optimised input"
    reference: ClassVar[str] = "arXiv 2409.18025"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes", "reference"})

    def __post_init__(self) -> None:
        if not sum(self.operators):
            raise ValueError("operators are chances: one of them at least must be above 0")

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task; whether the tokenizer gives strings back is seen when it is there."""

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return an outcome for each seed and number of steps.

        Inapplicable where no prefix re-encodes, or where the original says nothing to the questions.
        """
        outcomes: list[Outcome] = []
        n = min(self.items, len(setting.attacker_items))
        for seed in setting.seeds:
            own = random.Random(f"gcg-{seed}").sample(setting.attacker_items, n)

            def evaluate(step: int, text: str, seed: int = seed) -> None:
                found = evaluate_beside(subject, setting, text, "prefix", step, seed)
                outcomes.append(replace(found, with_original=True))

            self.search(subject, references, [item.probe for item in own], seed, evaluate)
        return AttackResult(outcomes, f"{n} forget questions", f"{max(self.steps)} steps of {self.proposals} prefixes")

    def search(
        self, subject: Subject, references: References, asked: Sequence[Question], seed: int, on_checkpoint: Checkpoint
    ) -> list[tuple[float, Ids]]:
        """Optimise a prefix for the questions; on_checkpoint(step, best prefix) at each of `steps`.

        Returns (loss, prefix) of the first prefix and of those kept in the end, best first.
        """
        import torch

        from unlearn.models.sites import at_rest

        original = references.original()
        pairs = continuations(original, asked, self.tokens)
        if not pairs:
            raise Inapplicable(
                "the original model says nothing to the attacker's questions: there is nothing to imitate"
            )
        runs = original_runs(original, pairs, self.layer)
        del original
        slot = Slot(subject, "prefix")
        opened = slot.open(pairs, self.start) if self.start else slot.start(pairs, self.length)
        if opened is None:
            raise Inapplicable("the prefix to start from does not come back from the tokenizer as it went in")
        first, frames = opened
        generator = torch.Generator().manual_seed(seed)
        goal = ImitationLoss(self, subject, frames, runs)
        with at_rest(subject.module), progress("optimising a prefix", total=max(self.steps)) as advance:
            start = (float(goal.losses([first])[0]), first)
            pool = [start]
            for step in range(1, max(self.steps) + 1):
                rank = int(torch.multinomial(torch.tensor([0.5**i for i in range(len(pool))]), 1, generator=generator))
                proposed = self._proposed(goal, pool[rank][1], slot.allowed, generator)
                candidates = slot.survivors(frames, proposed)
                if candidates:
                    found = min(zip(goal.losses(candidates).tolist(), candidates, strict=True))
                    pool = sorted({*pool, found})[: self.buffer]
                if step in self.steps:
                    on_checkpoint(step, slot.text(pool[0][1]))
                advance(1, loss=pool[0][0])
        return [start, *pool]

    def _proposed(self, goal: ImitationLoss, ids: Ids, allowed: Tensor, generator: Generator) -> list[Ids]:
        """Return candidates by one operator, all of the same length."""
        import torch

        drawn = torch.multinomial(torch.tensor(self.operators), 1, generator=generator)
        operator = ("swap", "delete", "insert", "random")[int(drawn)]
        if (operator == "delete" and len(ids) <= self.length) or (operator == "insert" and len(ids) >= 2 * self.length):
            operator = "swap"
        places = torch.randint(len(ids), (self.proposals,), generator=generator).tolist()
        if operator == "delete":
            return [(*ids[:i], *ids[i + 1 :]) for i in places]
        if operator == "random":
            top = allowed.expand(len(ids), -1)
        else:
            top = top_tokens(goal.gradient(ids), allowed, self.topk)
        if operator == "insert":
            tokens = torch.randint(top.shape[1], (self.proposals,), generator=generator)
            new = top[torch.tensor(places), tokens].tolist()
            return [(*ids[:i], token, *ids[i:]) for i, token in zip(places, new, strict=True)]
        return swaps(ids, top, 1, self.proposals, generator)


@dataclass(frozen=True)
class OriginalRun:
    """What the original model computes for one exchange, without any string."""

    logp: Tensor
    """Log-probabilities [labels, V] where its continuation is predicted."""
    stream: Tensor
    """Its residual stream [T, d] at one layer."""


def continuations(original: Subject, questions: Sequence[Question], tokens: int) -> list[Pair]:
    """Return (question, what the original says to it in at most so many tokens), without those it says nothing to."""
    from unlearn.score.generate import generate

    prompts = encode_questions(original, questions)
    texts = generate(original.module, original.processor, prompts, tokens, original.token_budget)
    return [(question, text) for question, text in zip(questions, texts, strict=True) if text]


def original_runs(original: Subject, pairs: Sequence[Pair], depth: float) -> list[OriginalRun]:
    """Return the original's run of each exchange; depth: the layer, as a fraction of all."""
    import torch

    model, found = original.module, []
    for row in encode_answers(original, pairs):
        ids = torch.tensor([row.ids], device=model.device)
        index = torch.arange(row.n_prompt - 1, len(row.ids) - 1, device=ids.device)
        with torch.no_grad():
            logits, stream = _run(original, ids, index, depth)
        found.append(OriginalRun(torch.log_softmax(logits, -1), stream[0]))
    return found


class ImitationLoss:
    """How far a model with a string in its prompt is from what the original says and computes without it.

    Per string, mean over frames of
      the cross-entropy of the original's continuation (its first `forced` tokens as they are, then its distribution)
      + distance * mean over tokens after the string |h - h_o|^2 / mean |h_o|^2, h the residual stream at `layer`
      + fluency * the mean nll of the string's own tokens under the model;
    + repetition * the share of tokens that occurred before in the string.
    The reference implementation takes |h - h_o|^2 itself, which depends on the model's scale.
    """

    def __init__(
        self, settings: EnhancedGCG, subject: Subject, frames: Sequence[Frame], runs: Sequence[OriginalRun]
    ) -> None:
        self.settings, self.subject, self.frames, self.runs = settings, subject, list(frames), list(runs)

    def losses(self, candidates: Sequence[Ids]) -> Tensor:
        """Return [k], for strings of the same length; batches halve where memory runs out."""
        import torch

        from unlearn.score.batching import map_batches
        from unlearn.score.likelihood import LOGITS

        vocabulary = self.subject.module.config.get_text_config().vocab_size
        total = self.settings.repetition * torch.tensor([1 - len(set(ids)) / len(ids) for ids in candidates])
        for i, frame in enumerate(self.frames):
            share = (frame.labels + len(candidates[0])) * vocabulary / LOGITS

            def rows(batch: list[Ids], i: int = i) -> list[float]:
                with torch.no_grad():
                    return self._loss(i, batch).tolist()

            found = map_batches(
                rows,
                candidates,
                lambda ids, frame=frame: len(frame.before) + len(ids) + len(frame.after),  # type: ignore[misc]
                self.subject.token_budget,
                share=lambda ids, share=share: share,  # type: ignore[misc]
            )
            total = total + torch.tensor(found) / len(self.frames)
        return total

    def gradient(self, ids: Ids) -> Tensor:
        """Return [n, V]: the gradient to the one-hot string, without repetition (which has none)."""
        import torch

        total = torch.zeros(())
        for i, frame in enumerate(self.frames):
            place = slice(len(frame.before), len(frame.before) + len(ids))
            found = one_hot_gradient(self.subject.module, place, lambda i=i: self._loss(i, [ids]).sum())  # type: ignore[misc]
            total = total + found.cpu() / len(self.frames)
        return total

    def _loss(self, i: int, batch: Sequence[Ids]) -> Tensor:
        """Return [k], without repetition, for frame i."""
        import torch
        from torch.nn.functional import cross_entropy

        frame, run, device = self.frames[i], self.runs[i], self.subject.module.device
        ids = torch.tensor([[*frame.before, *string, *frame.after] for string in batch], device=device)
        k, width = ids.shape
        start, n, labels = len(frame.before), len(batch[0]), frame.labels
        spoken = torch.arange(max(start, 1) - 1, start + n - 1, device=device)  # what predicts the string's tokens
        answering = torch.arange(width - labels - 1, width - 1, device=device)
        index = (torch.arange(k, device=device)[:, None] * width + torch.cat([spoken, answering])).flatten()
        logits, stream = _run(self.subject, ids, index, self.settings.layer)
        logits = logits.unflatten(0, (k, -1))
        own, said = logits[:, : len(spoken)], torch.log_softmax(logits[:, len(spoken) :], -1)
        fluency = cross_entropy(own.transpose(1, 2), ids[:, spoken + 1], reduction="none").sum(1)
        fluency = fluency / max(len(spoken), 1)
        forced = min(self.settings.forced, labels)
        nll = -said[:, :forced].gather(2, ids[:, -labels:][:, :forced, None])[..., 0].sum(1)
        matched = -(run.logp.exp()[forced:] * said[:, forced:]).sum((1, 2))
        after = min(len(frame.after), len(run.stream))  # both end in the same tokens
        aim = run.stream[-after:]
        distance = (stream[:, -after:] - aim).square().sum(-1).mean(1) / aim.square().sum(-1).mean()
        return (nll + matched) / labels + self.settings.distance * distance + self.settings.fluency * fluency


def _run(subject: Subject, ids: Tensor, index: Tensor, depth: float) -> tuple[Tensor, Tensor]:
    """Return logits [n, V] at flat positions and the residual stream [B, T, d] at a depth, both at least float32."""
    from unlearn.models.layout import layout
    from unlearn.models.projection import precise
    from unlearn.models.sites import edited, logits_at

    parts, seen = layout(subject.module), []
    site = parts.blocks[max(0, round(depth * len(parts.blocks)) - 1)].sites["resid"]

    def read(h: Tensor) -> None:
        seen.append(h)

    with edited((site, read)):
        logits = logits_at(subject.module, ids, index)
    return logits, precise(seen[0])
