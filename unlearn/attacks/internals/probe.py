"""Linear probes: whether the truth can be read off the hidden states of a model that no longer says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge

from unlearn.attacks.base import AttackResult, AttackSetting, Inapplicable, Outcome, Threat
from unlearn.runtime.explained import Chart, Explained

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from unlearn.attacks.internals.truth_probes import Statements
    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject

PERMUTATIONS = 5  # of the control, whose mean accuracy is told


@dataclass(frozen=True)
class TruthProbe:
    """Tell a question's true answer from wrong ones of its kind by the state at the statement's last token.

    A linear probe at each layer (on unlearned models Lynch et al. 2024, arXiv 2402.16835) learns from statements about
    the attacker's items in the same model: ridge regression, or the difference of means where there are fewer than 100
    statements. K = (c - 1/m) / (1 - 1/m), with c = 1 if of a held-out item's m statements the true one looks truest.

    The layer is chosen by cross-validation on the attacker's items, item by item. The table `probe` has for each layer
    accuracy (share of right choices among the held-out items), attacker (cross-validated on the attacker's), control
    (accuracy of probes that were trained on random labels; Hewitt and Liang 2019, arXiv 1909.03368: the difference is
    selectivity), untrained (nan where it was not made) and chance.
    """

    wrong: Annotated[int, Ge(1)] = 3
    """Wrong answers an item, at most."""
    untrained: bool = True
    """Also probe random weights of the same architecture, as a control. Made for the unlearned model alone."""

    threat: ClassVar[Threat] = "white"
    family: ClassVar[str] = "activations"
    reference: ClassVar[str] = "arXiv 2402.16835, 1909.03368"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task; without wrong answers the attack is skipped."""

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return an outcome per layer. Inapplicable where no item, or none of the attacker's, has wrong answers."""
        import pandas as pd

        from unlearn.attacks.internals.truth_probes import (
            beyond_chance,
            cross_validated,
            right_choices,
            statements,
            truth_scores,
        )

        own = [item.probe for item in setting.attacker_items if item.probe.perturbed_answers]
        if len(own) < 2 or not any(probe.perturbed_answers for probe in setting.questions):
            raise Inapplicable(f"dataset '{setting.task.name}' has no wrong answers that the true ones are told from")
        own_statements, asked = (statements(subject, probes, self.wrong) for probes in (own, setting.questions))
        states, asked_states = _states(subject, subject.module, own_statements), _states(subject, subject.module, asked)
        right = right_choices(truth_scores(states, own_statements.true, asked_states), asked)  # [L, items]
        known = beyond_chance(right, asked.options).numpy()
        validated = cross_validated(states, own_statements)
        choice = beyond_chance(validated, own_statements.options).mean(-1).tolist()
        several = asked.options > 1

        def accuracy(choices: Tensor) -> np.ndarray:
            return choices[:, several].mean(-1).numpy()

        table = pd.DataFrame(
            {
                "layer": range(len(known)),
                "accuracy": accuracy(right),
                "attacker": validated.mean(-1).numpy(),
                "control": _control(states, own_statements, asked_states, asked, accuracy),
                "untrained": np.nan,
                "chance": float((1 / asked.options[several]).mean()),
            }
        )
        if self.untrained and subject.role == "unlearned":
            table["untrained"] = accuracy(_untrained(subject, own_statements, asked))
        best = {name: float(column.iloc[np.argmax(choice)]) for name, column in table.items()}
        return AttackResult(
            [Outcome(f"layer {layer}", row, self_estimate=choice[layer]) for layer, row in enumerate(known)],
            f"{len(own)} forget items, {len(own_statements.ids)} statements",
            "1 forward a statement",
            "probe accuracy",
            {
                "layer": best["layer"],
                "accuracy": best["accuracy"],
                "selectivity": best["accuracy"] - best["control"],
            },
            {"probe": _explained(table)},
        )


def _control(
    states: Tensor,
    own_statements: Statements,
    asked_states: Tensor,
    asked: Statements,
    accuracy: Callable[[Tensor], np.ndarray],
) -> np.ndarray:
    """Return the mean accuracy [L] of probes that were trained on a random statement of each item as the true one."""
    import torch

    from unlearn.attacks.internals.truth_probes import right_choices, truth_scores

    generator = torch.Generator().manual_seed(0)
    drawn = [own_statements.permuted(generator) for _ in range(PERMUTATIONS)]
    found: np.ndarray = np.mean(
        [accuracy(right_choices(truth_scores(states, true, asked_states), asked)) for true in drawn], axis=0
    )
    return found


def _untrained(subject: Subject, own_statements: Statements, asked: Statements) -> Tensor:
    """Return right choices [L, items] of probes of a model with random weights, which is gone afterwards."""
    from unlearn.attacks.internals.truth_probes import right_choices, truth_scores

    blank = _blank(subject.module)
    states, asked_states = _states(subject, blank, own_statements), _states(subject, blank, asked)
    return right_choices(truth_scores(states, own_statements.true, asked_states), asked)


def _states(subject: Subject, model: nn.Module, asked: Statements) -> Tensor:
    """Return [L, n, d], at each statement's last token."""
    from unlearn.score.residuals import last_residuals

    return last_residuals(model, asked.ids, subject.token_budget)


def _blank(model: PreTrainedModel) -> PreTrainedModel:
    """Return a model of the same architecture and precision with random weights; other random numbers stay."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blank: Any = type(model)._from_config(model.config, dtype=model.dtype)
        found: PreTrainedModel = blank.to(model.device).eval()
        return found


def _explained(table: pd.DataFrame) -> Explained:
    words = (
        "How well a linear probe tells true from false answers at each layer, on items that it was not fitted to. "
        "Where the unlearned model is near the original and above the control model, the knowledge is still inside."
    )
    chart = Chart("line", "layer", ("accuracy",), baseline="control", words={"control": "shuffled labels"})
    return Explained(table, "Linear probes", words, chart)
