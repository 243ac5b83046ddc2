"""GCG: a string beside the question, optimised token by token, that makes the model answer."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Gt, MinLen

from unlearn.attacks.base import AttackResult, AttackSetting, Outcome, Threat
from unlearn.attacks.optimized.strings import Checkpoint, Pair, Slot, Where, evaluate_beside
from unlearn.runtime.progress import progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.attacks.optimized.coordinate_search import CoordinateSearch
    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject


@dataclass(frozen=True)
class GCG:
    """Greedy coordinate gradient (Zou et al. 2023, arXiv 2307.15043), one string for all questions.

    A string of `length` tokens is put after (or before) the attacker's questions, and changed so that the mean loss of
    their answers falls: each step takes the gradient to the one-hot string, draws `width` candidates with `n_replace`
    random positions changed to one of the `topk` tokens of most negative gradient there, drops those that do not
    re-encode from their text, and goes on from the best. The best string of all is then put to the held-out questions:
    what a string does that was optimised for one answer says only that a model can be forced (arXiv 2502.15836).
    Defaults are nanoGCG's.
    """

    files: ClassVar[tuple[str, ...]] = ("draft",)

    where: Where = "suffix"
    """Side of the question on which the string stands: suffix or prefix."""
    steps: Annotated[tuple[Annotated[int, Gt(0)], ...], MinLen(1)] = (250,)
    """Ladder of the number of steps; the last is the length of the search. The attacker takes what is best on its own
    items."""
    length: Annotated[int, Gt(0)] = 20
    """Tokens of the string."""
    width: Annotated[int, Gt(0)] = 512
    """Candidates tried in a step."""
    topk: Annotated[int, Gt(0)] = 256
    """Tokens of steepest descent, for each position, that they are drawn from."""
    n_replace: Annotated[tuple[Annotated[int, Gt(0)], ...], MinLen(1)] = (1,)
    """Positions changed at once, over equal parts of the search; [4, 2, 1]: as ACG. That is the schedule of Haize
    Labs (2024)."""
    items: Annotated[int, Gt(0)] = 8
    """How many of the attacker's items are optimised for."""
    progressive: bool = True
    """One item, and the next when those so far are solved; false: all from the start. An item is solved when every
    token of its answer is the model's first choice."""
    buffer: Annotated[int, Ge(0)] = 0
    """Best strings to go on from; 0: the step's best, though it be worse."""
    mellowmax: Annotated[float, Gt(0)] | None = None
    """The loss is a mellow maximum over answer tokens with this sharpness; null: cross-entropy."""
    prefix_cache: bool = True
    """Run what comes before the string once."""
    draft: str | None = None
    """A smaller model that scores candidates first (probe sampling). A hub id or a folder; arXiv 2403.01251."""
    early_stop: bool = False
    """Stop when all items are solved."""

    threat: ClassVar[Threat] = "white"
    family: ClassVar[str] = "optimised input"
    reference: ClassVar[str] = "arXiv 2307.15043"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """Raise UserError where the draft model's folder is not there; any task will do."""
        from unlearn.models.base import check_local

        check_local("draft", self.draft)

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return an outcome for each seed and number of steps. Inapplicable where no string re-encodes."""
        outcomes: list[Outcome] = []
        n = min(self.items, len(setting.attacker_items))
        for seed in setting.seeds:
            own = random.Random(f"gcg-{seed}").sample(setting.attacker_items, n)

            def evaluate(step: int, text: str, seed: int = seed) -> None:
                outcomes.append(evaluate_beside(subject, setting, text, self.where, step, seed))

            self.search(subject, [(item.probe, item.probe.answer) for item in own], seed, evaluate)
        return AttackResult(outcomes, f"{n} forget items", f"{max(self.steps)} steps of {self.width} strings")

    def search(self, subject: Subject, pairs: Sequence[Pair], seed: int, on_checkpoint: Checkpoint) -> CoordinateSearch:
        """Optimise a string for (question, answer) pairs; on_checkpoint(step, best string) at each of `steps`."""
        import torch

        from unlearn.attacks.optimized.coordinate_search import AnswerLoss, CoordinateSearch
        from unlearn.models.sites import at_rest

        slot, last = Slot(subject, self.where), max(self.steps)
        start, frames = slot.start(pairs, self.length)
        generator = torch.Generator().manual_seed(seed)
        draft = self._drafted(subject)
        with at_rest(subject.module), progress("optimising a string", total=last) as advance:
            goal = AnswerLoss(subject, frames, self.mellowmax, self.prefix_cache)
            first = 1 if self.progressive else len(frames)
            search = CoordinateSearch(slot, start, goal, generator, first, self.buffer, draft)
            done = False
            for step in range(1, last + 1):
                if not done:
                    search.step(self.n_replace[(step - 1) * len(self.n_replace) // last], self.width, self.topk)
                    while search.active < len(frames) and search.solved():
                        search.widen()
                    done = self.early_stop and search.active == len(frames) and search.solved()
                if step in self.steps:
                    on_checkpoint(step, slot.text(search.best[1]))
                advance(1, loss=search.best[0])
        return search

    def _drafted(self, subject: Subject) -> Subject | None:
        """Return the draft model, asked as the attacked one is, in its own tokens."""
        if self.draft is None:
            return None
        from unlearn.models.loading import load_on, load_tokenizer

        model = load_on(self.draft, subject.module.device)
        return replace(subject, module=model, processor=load_tokenizer(self.draft))
