"""GCG: a string beside the question, optimised token by token, that makes the model answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, MinLen

from unlearn.attacks.base import AttackResult, AttackSetting, Outcome, Threat
from unlearn.attacks.items import Item
from unlearn.attacks.setting.self_estimate import evaluate_with_choice
from unlearn.data.task import Probe, Task
from unlearn.models.base import RunSetting
from unlearn.models.subject import References, Subject
from unlearn.runtime.progress import progress

if TYPE_CHECKING:
    from unlearn.attacks.optimized.coordinate_search import CoordinateSearch

Look = Callable[[int, str], object]


@dataclass(frozen=True)
class GCG:
    """Greedy coordinate gradient (Zou et al. 2023, arXiv 2307.15043), one string for all questions.

    A string of `length` tokens is put after (or before) the attacker's questions, and changed so that the mean loss of
    their answers falls: each step takes the gradient to the one-hot string, draws `width` candidates with `n_replace`
    random positions changed to one of the `topk` tokens of most negative gradient there, drops those that do not
    re-encode from their text, and goes on from the best. The best string of all is then put to the held-out questions:
    what a string does that was optimised for one answer says only that a model can be forced (arXiv 2502.15836).

    where: suffix or prefix. steps: ladder of the number of steps; the last is the length of the search; the attacker
    takes the one that is best on its own items. items: how many of these are optimised for; progressive: one, and the
    next as soon as all so far are solved (every answer token is the first choice). n_replace: positions changed at
    once, over equal parts of the search: [1] is GCG, [4, 2, 1] the schedule of ACG (Haize Labs 2024). buffer: see Hunt.
    mellowmax, prefix_cache: see AnswerLoss. draft: a smaller model (hub id or folder) for probe sampling (arXiv
    2403.01251). early_stop: stop when all items are solved. Defaults are nanoGCG's.
    """

    files: ClassVar[tuple[str, ...]] = ("draft",)

    where: Literal["suffix", "prefix"] = "suffix"
    steps: Annotated[tuple[Annotated[int, Gt(0)], ...], MinLen(1)] = (250,)
    length: Annotated[int, Gt(0)] = 20
    width: Annotated[int, Gt(0)] = 512
    topk: Annotated[int, Gt(0)] = 256
    n_replace: Annotated[tuple[Annotated[int, Gt(0)], ...], MinLen(1)] = (1,)
    items: Annotated[int, Gt(0)] = 8
    progressive: bool = True
    buffer: Annotated[int, Ge(0)] = 0
    mellowmax: Annotated[float, Gt(0)] | None = None
    prefix_cache: bool = True
    draft: str | None = None
    early_stop: bool = False

    threat: ClassVar[Threat] = "white"
    family: ClassVar[str] = "optimised input"
    reference: ClassVar[str] = "arXiv 2307.15043"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """Any task will do; whether the tokenizer gives strings back is seen when it is there."""
        from unlearn.models.pretrained import check_local

        check_local("draft", self.draft)

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """An outcome for each seed and number of steps. Raises Inapplicable where no string re-encodes."""
        outcomes: list[Outcome] = []
        n = min(self.items, len(setting.attacker_items))
        for seed in setting.seeds:
            own = random.Random(f"gcg-{seed}").sample(setting.attacker_items, n)

            def look(step: int, text: str, seed: int = seed) -> None:
                outcomes.append(judge_beside(subject, setting, text, self.where, step, seed))

            self.search(subject, [(item.probe.question, item.probe.answer) for item in own], seed, look)
        return AttackResult(outcomes, f"{n} forget items", f"{max(self.steps)} steps of {self.width} strings")

    def search(self, subject: Subject, pairs: Sequence[tuple[str, str]], seed: int, look: Look) -> CoordinateSearch:
        """Optimise a string for (question, answer) pairs; look(step, best string) at each of `steps`."""
        import torch

        from unlearn.attacks.optimized.coordinate_search import CoordinateSearch
        from unlearn.attacks.optimized.tokens import AnswerLoss, Slot, allowed_tokens
        from unlearn.models.sites import at_rest

        slot, allowed, last = Slot(subject, self.where), allowed_tokens(subject), max(self.steps)
        start, frames = slot.start(pairs, self.length, allowed)
        generator = torch.Generator().manual_seed(seed)
        draft = self._drafted(subject)
        with at_rest(subject.module), progress("optimising a string", total=last) as advance:
            goal = AnswerLoss(subject, frames, self.mellowmax, self.prefix_cache)
            first = 1 if self.progressive else len(frames)
            hunt = CoordinateSearch(slot, frames, start, goal, allowed, generator, first, self.buffer, draft)
            done = False
            for step in range(1, last + 1):
                if not done:
                    hunt.step(self.n_replace[(step - 1) * len(self.n_replace) // last], self.width, self.topk)
                    while hunt.active < len(frames) and hunt.solved():
                        hunt.widen()
                    done = self.early_stop and hunt.active == len(frames) and hunt.solved()
                if step in self.steps:
                    look(step, slot.text(hunt.best[1]))
                advance(1, loss=hunt.best[0])
        return hunt

    def _drafted(self, subject: Subject) -> Subject | None:
        """The draft model, asked as the suspect is, in its own tokens."""
        if self.draft is None:
            return None
        from unlearn.models.loading import load_on, load_tokenizer

        model = load_on(self.draft, subject.module.device)
        return replace(subject, module=model, processor=load_tokenizer(self.draft))


def judge_beside(
    subject: Subject, setting: AttackSetting, text: str, where: Literal["suffix", "prefix"], step: int, seed: int
) -> Outcome:
    """All questions asked with a string beside them; the attacker's success is that on its own items."""
    from unlearn.attacks.optimized.tokens import insert

    def beside(probe: Probe) -> Probe:
        return replace(probe, question=insert(probe.question, text, where))

    def all_beside(items: Sequence[Item]) -> tuple[Item, ...]:
        return tuple(replace(item, probe=beside(item.probe)) for item in items)

    asked = replace(
        setting,
        attacker_items=all_beside(setting.attacker_items),
        held_out_items=all_beside(setting.held_out_items),
        retain=tuple(map(beside, setting.retain)),
    )
    return evaluate_with_choice(subject, asked, f"{step} steps", seed=seed, budget=float(step))
