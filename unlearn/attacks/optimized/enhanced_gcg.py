"""Enhanced GCG: a long fluent prefix under which the unlearned model says and computes what the original did."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, MinLen

from unlearn.attacks.base import AttackResult, AttackSetting, Inapplicable, Outcome, Threat
from unlearn.attacks.optimized.gcg import Look, judge_beside
from unlearn.data.task import Task
from unlearn.models.base import RunSetting
from unlearn.models.subject import References, Subject
from unlearn.runtime.progress import progress

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from unlearn.attacks.optimized.imitation import ImitationLoss
    from unlearn.attacks.optimized.tokens import Ids

Operator = Literal["swap", "delete", "insert", "random"]


@dataclass(frozen=True)
class EnhancedGCG:
    """GCG as adapted to unlearned models (Lucki et al. 2024, arXiv 2409.18025), after Thompson & Sklar 2024.

    The aim is what the model before unlearning says to the attacker's questions, not their answers: the loss is
    ImitationLoss, and the attacker needs the original model. One prefix for all questions, of `length` tokens at least
    and twice as many at most. Each step takes one of the `buffer` best prefixes, each half as often as the one before
    it, and an operator: swap (a random position gets one of its `topk` tokens of steepest descent), delete, insert (one
    of these), or random swap; the best of `proposals` such candidates that re-encode goes into the buffer.

    steps: ladder; the attacker takes what is best on its own items. start: the text of an earlier prefix; null: one
    word again and again. items: how many questions it is optimised for. tokens: how long the original's continuation
    is; forced: how many of these are taken as they are, the others by its distribution. layer: where residual streams
    are compared, as a fraction of depth. operators: chances of swap, delete, insert, random swap.
    """

    steps: Annotated[tuple[Annotated[int, Gt(0)], ...], MinLen(1)] = (1500,)
    start: str | None = None
    length: Annotated[int, Gt(0)] = 100
    items: Annotated[int, Gt(0)] = 5
    proposals: Annotated[int, Gt(0)] = 16
    topk: Annotated[int, Gt(0)] = 64
    buffer: Annotated[int, Gt(0)] = 16
    operators: tuple[
        Annotated[float, Ge(0)], Annotated[float, Ge(0)], Annotated[float, Ge(0)], Annotated[float, Ge(0)]
    ] = (0.7, 0.1, 0.1, 0.1)
    tokens: Annotated[int, Gt(0)] = 45
    forced: Annotated[int, Ge(0)] = 10
    layer: Annotated[float, Gt(0), Le(1)] = 0.625
    distance: Annotated[float, Ge(0)] = 1.0
    fluency: Annotated[float, Ge(0)] = 1.5
    repetition: Annotated[float, Ge(0)] = 3.0

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
        """Any task will do; whether the tokenizer gives strings back is seen when it is there."""

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """An outcome for each seed and number of steps. Raises Inapplicable where no prefix re-encodes, or where the
        original has nothing to say to the questions."""
        outcomes: list[Outcome] = []
        n = min(self.items, len(setting.attacker_items))
        for seed in setting.seeds:
            own = random.Random(f"gcg-{seed}").sample(setting.attacker_items, n)

            def look(step: int, text: str, seed: int = seed) -> None:
                outcomes.append(replace(judge_beside(subject, setting, text, "prefix", step, seed), with_original=True))

            self.search(subject, references, [item.probe.question for item in own], seed, look)
        return AttackResult(
            outcomes,
            f"{n} forget questions",
            f"{max(self.steps)} steps of {self.proposals} prefixes",
        )

    def search(
        self, subject: Subject, references: References, questions: Sequence[str], seed: int, look: Look
    ) -> list[tuple[float, Ids]]:
        """Optimise a prefix for the questions; look(step, best prefix) at each of `steps`. Gives (loss, prefix) of the
        first prefix and of those kept in the end, best first."""
        import torch

        from unlearn.attacks.optimized.imitation import ImitationLoss, Weights, continuations, shown
        from unlearn.attacks.optimized.tokens import Slot, allowed_tokens
        from unlearn.models.sites import at_rest

        original = references.original()
        pairs = continuations(original, questions, self.tokens)
        if not pairs:
            raise Inapplicable(
                "the original model says nothing to the attacker's questions: there is nothing to imitate"
            )
        teacher = shown(original, pairs, self.layer)
        del original
        slot, allowed = Slot(subject, "prefix"), allowed_tokens(subject)
        opened = slot.open(pairs, self.start) if self.start else slot.start(pairs, self.length, allowed)
        if opened is None:
            raise Inapplicable("the prefix to start from does not come back from the tokenizer as it went in")
        first, frames = opened
        generator = torch.Generator().manual_seed(seed)
        weights = Weights(self.forced, self.distance, self.fluency, self.repetition)
        goal = ImitationLoss(subject, frames, teacher, self.layer, weights)
        with at_rest(subject.module), progress("optimising a prefix", total=max(self.steps)) as advance:
            start = (float(goal.losses([first])[0]), first)
            pool = [start]
            for step in range(1, max(self.steps) + 1):
                rank = int(torch.multinomial(torch.tensor([0.5**i for i in range(len(pool))]), 1, generator=generator))
                parent = pool[rank][1]
                candidates = slot.survivors(frames, self._proposed(goal, parent, allowed, generator))
                if candidates:
                    found = min(zip(goal.losses(candidates).tolist(), candidates, strict=True))
                    pool = sorted({*pool, found})[: self.buffer]
                if step in self.steps:
                    look(step, slot.text(pool[0][1]))
                advance(1, loss=pool[0][0])
        return [start, *pool]

    def _proposed(self, goal: ImitationLoss, ids: Ids, allowed: Tensor, generator: Generator) -> list[Ids]:
        """Candidates by one operator, all of the same length."""
        import torch

        from unlearn.attacks.optimized.tokens import swaps, top_tokens

        names: tuple[Operator, ...] = ("swap", "delete", "insert", "random")
        drawn = torch.multinomial(torch.tensor(self.operators), 1, generator=generator)
        operator = names[int(drawn)]
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
