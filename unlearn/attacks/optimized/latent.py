"""Latent attack: projected gradient descent on the residual stream, within a small share of its norm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, MinLen

from unlearn.attacks.base import AttackResult, AttackSetting, Outcome, Threat
from unlearn.attacks.optimized.softprompt import check_forced
from unlearn.data.task import Probe, Task
from unlearn.models.base import RunSetting
from unlearn.models.subject import References, Subject
from unlearn.runtime.errors import UserError
from unlearn.runtime.progress import progress

if TYPE_CHECKING:
    from unlearn.attacks.optimized.residual_perturbations import Stream
    from unlearn.models.layout import Site


@dataclass(frozen=True)
class Latent:
    """Add to the residual stream what makes the model give the attacker's answers (as latent adversarial training does,
    Sheshadri et al. 2024, arXiv 2407.15549), then ask it the others.

    kind: "vector", the same everywhere; "map", a map of the stream of rank `rank`; "per_item", a vector for each prompt
    position of each scored item, fitted to its own answer, less what the same does toward a wrong answer (a diagnostic:
    a model can be forced). layers: where, as fractions of depth, all at once. epsilons: ladder of the largest L2 norm
    at a position, as shares of the stream's median norm there; the attacker takes the one that is best on its own
    items. lr: an optimizer step's length as a share of epsilon. batch: items drawn for each step.
    toward, away: weights of the answers' nll and of -log(1 - p) of refusals' tokens.
    """

    kind: Literal["vector", "map", "per_item"] = "vector"
    layers: Annotated[tuple[Annotated[float, Ge(0), Le(1)], ...], MinLen(1)] = (0.0, 0.25, 0.5, 0.75)
    epsilons: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = (0.03, 0.1, 0.3)
    steps: Annotated[int, Gt(0)] = 32
    lr: Annotated[float, Gt(0)] = 0.1
    batch: Annotated[int, Gt(0)] = 8
    rank: Annotated[int, Gt(0)] = 16
    toward: Annotated[float, Gt(0)] = 1.0
    away: Annotated[float, Ge(0)] = 0.0

    threat: ClassVar[Threat] = "white"
    family: ClassVar[str] = "activations"
    reference: ClassVar[str] = "arXiv 2407.15549"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes", "refusal"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """UserError where the task lacks refusals to lead away from, or wrong answers to be forced to."""
        if self.away and "refusal" not in task.sets:
            raise UserError(f"'away' leads away from refusals, but dataset '{task.name}' has none: set it to 0")
        check_forced(task, self.kind == "per_item")

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """An outcome for each seed and epsilon. UserError where the model's layout is not understood."""
        from unlearn.attacks.optimized.fitting import forced_false, judge_under
        from unlearn.attacks.optimized.residual_perturbations import median_norms, stream_sites

        sites = stream_sites(subject, self.layers)
        questions = [item.probe.question for item in setting.attacker_items]
        medians = median_norms(subject, sites, subject.prompt.encode_prompts(subject.processor, questions))
        outcomes: list[Outcome] = []
        with progress("perturbing activations", total=len(setting.seeds) * len(self.epsilons)) as advance:
            for seed in setting.seeds:
                for epsilon in self.epsilons:
                    name = f"epsilon {epsilon:g}"
                    if self.kind == "per_item":

                        def fitted(probe: Probe, epsilon: float = epsilon, seed: int = seed) -> Stream:
                            return self._fitted(subject, setting, [probe], sites, medians, epsilon, seed)

                        outcomes.append(forced_false(subject, setting, name, seed, fitted, epsilon))
                    else:
                        probes = [item.probe for item in setting.attacker_items]
                        stream = self._fitted(subject, setting, probes, sites, medians, epsilon, seed)
                        outcomes.append(judge_under(stream, setting, name, seed, epsilon))
                    advance(1)
        n = len(setting.held_out_items if self.kind == "per_item" else setting.attacker_items)
        return AttackResult(outcomes, f"{n} forget items", f"{self.steps} steps at {len(sites)} layer(s)")

    def _fitted(
        self,
        subject: Subject,
        setting: AttackSetting,
        probes: Sequence[Probe],
        sites: Sequence[Site],
        medians: Sequence[float],
        epsilon: float,
        seed: int,
    ) -> Stream:
        """Shifts of at most epsilon times the median norms, fitted to the probes' answers."""
        import torch

        from unlearn.attacks.optimized.fitting import fit
        from unlearn.attacks.optimized.residual_perturbations import LowRank, Positions, Shift, Stream, Vector

        width, device = subject.module.config.get_text_config().hidden_size, subject.module.device
        length = len(subject.prompt.encode_prompt(subject.processor, probes[0].question))
        generator = torch.Generator().manual_seed(seed)

        def shift(median: float) -> Shift:
            norm = epsilon * median
            if self.kind == "vector":
                return Vector(width, norm, device)
            if self.kind == "map":
                return LowRank(self.rank, width, norm, median, device, generator)
            return Positions(length, width, norm, device)

        stream = Stream(subject, [(site, shift(median)) for site, median in zip(sites, medians, strict=True)])
        refusals = setting.task.answers("refusal") if self.away else ()
        fit(
            stream,
            [(probe.question, probe.answer) for probe in probes],
            self.steps,
            self.lr / width**0.5,
            self.batch,
            seed,
            refusals=[(probe.question, refusal) for probe, refusal in zip(probes, cycle(refusals), strict=False)],
            toward=self.toward,
            away=self.away,
        )
        return stream
