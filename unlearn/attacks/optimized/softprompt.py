"""Soft prompts: learned vectors before the question, or read by an extra attention head, that make the model answer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, MinLen

from unlearn.attacks.base import AttackResult, AttackSetting, Outcome, Threat
from unlearn.data.task import Probe, Task
from unlearn.models.base import RunSetting
from unlearn.models.subject import References, Subject
from unlearn.runtime.errors import UserError
from unlearn.runtime.progress import progress

if TYPE_CHECKING:
    from unlearn.attacks.optimized.fitting import Perturbation

SHUFFLED = "shuffled"


@dataclass(frozen=True)
class SoftPrompt:
    """A continuous prompt fitted on the attacker's items (Schwinn et al. 2024, arXiv 2402.09063), put to the others.

    form: "vectors", m of them in front of the question; "key_value", m keys and values at the embeddings' output, read
    by one more attention head with a learned query projection (Guo et al. 2024, arXiv 2410.12949). Each is at most
    epsilon times the mean embedding long (L2). Trained by AdamW on batches of `batch` items, at each of `rates`, as one
    alone gives a false sense of robustness; steps: ladder; the attacker takes what is best on its own items.

    control: fit another one to the same questions with each other's answers (row `shuffled`, a diagnostic): where its
    leak is as high, the prompt is not about the answers. per_item: also, with so many steps at the first rate, one for
    each scored item toward its answer and one toward a wrong answer (row `per_item`, a diagnostic): K is the
    difference, as a few vectors can make a model say anything (arXiv 2502.15836).
    """

    form: Literal["vectors", "key_value"] = "vectors"
    vectors: Annotated[int, Gt(0)] = 15
    steps: Annotated[tuple[Annotated[int, Gt(0)], ...], MinLen(1)] = (100,)
    rates: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = (1e-3, 1e-2)
    batch: Annotated[int, Gt(0)] = 8
    epsilon: Annotated[float, Gt(0)] = 1.0
    control: bool = True
    per_item: Annotated[int, Ge(0)] = 0

    threat: ClassVar[Threat] = "white"
    family: ClassVar[str] = "optimised input"
    reference: ClassVar[str] = "arXiv 2402.09063, 2502.15836"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """UserError where items are to be forced one by one, but have no wrong answers."""
        check_forced(task, self.per_item)

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """An outcome for each seed and number of steps, for the true answers and for the shuffled ones."""
        from unlearn.attacks.optimized.fitting import forced_false

        pairs = [(item.probe.question, item.probe.answer) for item in setting.attacker_items]
        outcomes: list[Outcome] = []
        for seed in setting.seeds:
            outcomes += self._universal(subject, setting, pairs, seed)
            if self.control and len(pairs) > 1:
                outcomes += self._universal(subject, setting, shuffled(pairs, seed), seed, SHUFFLED)
            if self.per_item:

                def single(probe: Probe, seed: int = seed) -> Perturbation:
                    return self._single(subject, probe, seed)

                steps = self.per_item
                outcomes.append(forced_false(subject, setting, f"{steps} steps", seed, single, float(steps)))
        return AttackResult(
            outcomes, f"{len(pairs)} forget items", f"{max(self.steps)} steps at {len(self.rates)} rate(s)"
        )

    def start(self, subject: Subject, seed: int) -> Perturbation:
        """The prompt before it has learned anything."""
        from unlearn.attacks.optimized.soft_prompts import ExtraHead, InputVectors

        kind = InputVectors if self.form == "vectors" else ExtraHead
        return kind(subject, self.vectors, self.epsilon, seed)

    def _universal(
        self, subject: Subject, setting: AttackSetting, pairs: Sequence[tuple[str, str]], seed: int, row: str = ""
    ) -> list[Outcome]:
        from unlearn.attacks.optimized.fitting import fit, judge_under

        found: list[Outcome] = []
        fits = f"fitting soft prompts{f' ({row})' if row else ''}"
        with progress(fits, total=len(self.rates) * max(self.steps)) as advance:
            for rate in self.rates:
                prompt = self.start(subject, seed)

                def look(step: int, rate: float = rate, prompt: Perturbation = prompt) -> None:
                    if step in self.steps:
                        name = f"rate {rate:g}, {step} steps"
                        found.append(judge_under(prompt, setting, name, seed, float(step), row, counts=not row))
                    advance(1)

                fit(prompt, pairs, max(self.steps), rate, self.batch, seed, look)
        return found

    def _single(self, subject: Subject, probe: Probe, seed: int) -> Perturbation:
        from unlearn.attacks.optimized.fitting import fit

        prompt = self.start(subject, seed)
        fit(prompt, [(probe.question, probe.answer)], self.per_item, self.rates[0], 1, seed)
        return prompt


def check_forced(task: Task, steps: int) -> None:
    """UserError where forget probes without wrong answers are to be forced one by one."""
    probes = [probe for probe_set in task.probes if probe_set.aim == "forget" for probe in probe_set.probes]
    if steps and not all(probe.perturbed_answers for probe in probes):
        raise UserError(f"forcing single items wants wrong answers, which probes of dataset '{task.name}' do not have")


def shuffled(pairs: Sequence[tuple[str, str]], seed: int) -> list[tuple[str, str]]:
    """The same questions, each with the answer of another."""
    order = random.Random(f"shuffled-{seed}").sample(range(len(pairs)), len(pairs))
    other = dict(zip(order, order[1:] + order[:1], strict=True))
    return [(question, pairs[other[i]][1]) for i, (question, _) in enumerate(pairs)]
