"""Pruning: zero the weights that hide, or the smallest ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Gt, Le, Lt, MinLen

from unlearn.attacks.base import AttackResult, AttackSetting, Threat
from unlearn.attacks.setting.answer_metric import ask
from unlearn.attacks.weights.benign_rows import benign_rows
from unlearn.attacks.weights.changes import ChangedModel, Visit, evaluate_variants
from unlearn.data.prompt import Encoded, encode_text
from unlearn.data.task import Example, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject

Share = Annotated[float, Gt(0), Le(1)]


@dataclass(frozen=True)
class Prune:
    """Set-difference pruning (Wei et al. 2024, arXiv 2402.05162), as an attack (Łucki et al. 2024, arXiv 2409.18025).

    score = mean over rows of |w dL/dw|, once on forget-like text and once on text of general use. In each linear layer
    the weights in the top p by the forget score that are not in the top q by the other are set to 0: what acts on the
    forgotten alone. Each p is tried with every q <= p, and the attacker takes the pair by its own items.
    """

    top_forget: Annotated[tuple[Share, ...], MinLen(1)]
    """Shares p of each layer, by the forget score. The paper's: .005 .01 .025 .05 .075 .1 .125 .15 .2."""
    top_general: Annotated[tuple[Share, ...], MinLen(1)]
    """Shares q of each layer, by the score on text of general use."""
    samples: Annotated[int, Gt(0)] = 32
    """Rows of each text, at most. The paper's: 512."""
    forget_text: Literal["answers", "generations"] = "answers"
    """answers: of the attacker's items; generations: what the model says to their questions. Where it says nothing, the
    answer is taken."""
    general: Literal["retain", "unrelated"] = "retain"
    """Retain rows, or unrelated: the package's own passages."""

    threat: ClassVar[Threat] = "grey"
    family: ClassVar[str] = "pruning"
    reference: ClassVar[str] = "arXiv 2402.05162, 2409.18025"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes", "retain"})
    randomised: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if min(self.top_general) > max(self.top_forget):
            raise ValueError("no pair to try: each share of top_general must be at most one of top_forget")

    def check(self, task: Task, setting: RunSetting) -> None:
        """UserError where retain rows are wanted and missing. Where all mention an answer, the attack is skipped."""
        if self.general == "retain":
            task.require_examples("retain")

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return an outcome for each seed and pair."""
        outcomes = evaluate_variants(self, subject, setting)
        pairs = len(outcomes) // len(setting.seeds)
        held = f"{min(self.samples, len(setting.attacker_items))} forget items, {self.samples} {self.general} rows"
        return AttackResult(outcomes, held, f"{pairs} pairs of shares")

    def change(self, subject: Subject, setting: AttackSetting, seed: int, visit: Visit) -> None:
        """Visit a variant for each pair."""
        import torch

        p, q = sorted(set(self.top_forget)), sorted(set(self.top_general))
        forget = self._ranks(subject, self._forget_rows(subject, setting), p)
        general = self._ranks(subject, _encoded(subject, benign_rows(setting, self.general, seed)[: self.samples]), q)
        changed = subject.copied()
        weights, sources = dict(changed.module.named_parameters()), dict(subject.module.named_parameters())
        for i, most in enumerate(p):
            for j, spared in enumerate(q):
                if spared > most:
                    continue
                with torch.no_grad():
                    for name in forget:
                        kept = (forget[name] > i) | (general[name] <= j)
                        weights[name].copy_(sources[name]).mul_(kept)
                visit(ChangedModel(f"top {most:.3g} but not top {spared:.3g}", changed, setting.attacker_items))

    def _forget_rows(self, subject: Subject, setting: AttackSetting) -> list[Encoded]:
        probes = [item.probe for item in setting.attacker_items[: self.samples]]
        answers: Sequence[str] = [probe.answer for probe in probes]
        if self.forget_text == "generations":
            said = ask(subject, setting, probes, "gen").texts
            answers = [text or answer for text, answer in zip(said, answers, strict=True)]
        pairs = zip(probes, answers, strict=True)
        return _encoded(subject, [Example((probe.question,), (answer,)) for probe, answer in pairs])

    @staticmethod
    def _ranks(subject: Subject, rows: Sequence[Encoded], shares: Sequence[float]) -> dict[str, Tensor]:
        """Return by parameter which share's top each weight is in: all that is kept of the scores, a byte a weight."""
        from unlearn.attacks.weights.saliency import ranks, weight_scores

        scores = weight_scores(subject.module, rows)
        return {name: ranks(scores.pop(name), shares) for name in tuple(scores)}


@dataclass(frozen=True)
class PruneMagnitude:
    """Set the smallest weights of all linear layers together to 0 (Han et al. 2015, arXiv 1506.02626), without data."""

    shares: Annotated[tuple[Annotated[float, Gt(0), Lt(1)], ...], MinLen(1)] = (0.1, 0.3, 0.5)
    """Shares of the weights to try."""

    threat: ClassVar[Threat] = "grey"
    family: ClassVar[str] = "pruning"
    reference: ClassVar[str] = "arXiv 1506.02626"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes"})
    randomised: ClassVar[bool] = False

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task."""

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return an outcome per share."""
        return AttackResult(evaluate_variants(self, subject, setting), budget=f"{len(self.shares)} shares")

    def change(self, subject: Subject, setting: AttackSetting, seed: int, visit: Visit) -> None:
        """Visit a variant per share; a larger one leaves nothing of what a smaller one left out."""
        import torch

        from unlearn.attacks.weights.saliency import magnitude_cut
        from unlearn.models.linear import linear_weights

        changed = subject.copied()
        weights = [weight for _, weight in linear_weights(changed.module)]
        for share in sorted(set(self.shares)):
            cut = magnitude_cut(weights, share)
            with torch.no_grad():
                for weight in weights:
                    weight.masked_fill_(weight.abs() <= cut, 0.0)
            visit(ChangedModel(f"{share:.0%} smallest", changed))


def _encoded(subject: Subject, rows: Sequence[Example | str]) -> list[Encoded]:
    return [
        encode_text(subject.processor, row, separator="", max_tokens=subject.prompt.max_tokens)
        if isinstance(row, str)
        else subject.prompt.encode(subject.processor, row.questions[0], row.answers[0])
        for row in rows
    ]
