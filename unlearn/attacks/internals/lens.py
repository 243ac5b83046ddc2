"""Logit lens: what the layers inside already say, or still say, when the last one does not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, MinLen

from unlearn.attacks.base import AttackResult, AttackSetting, Outcome, Threat
from unlearn.attacks.setting.putting import map_prompts
from unlearn.runtime.explained import Chart, Explained

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from torch import Tensor

    from unlearn.attacks.setting.answer_tokens import AnswerToken
    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject

Stream = Literal["resid", "mid", "mlp", "attention"]
TUNED = "tuned"


@dataclass(frozen=True)
class Lens:
    """Read the answer off the layers inside (nostalgebraist 2020).

    Each layer's state, where the fact is about to be said, goes through the final norm and the vocabulary projection
    (against unlearning Patil et al. 2024, arXiv 2309.17410). K = 1 / rank of the fact's first token; where the report's
    answer metric is mcq, the choice among the options' first tokens, corrected for chance, in the state where the
    options part ways.

    Layer and stream are chosen by the attacker's items. The table `lens` has a row per layer and stream: score (mean K)
    and log_rank (mean natural logarithm of the rank) of the held-out items, attacker (mean K of the attacker's).
    """

    streams: Annotated[tuple[Stream, ...], MinLen(1)] = ("resid", "mid", "mlp", "attention")
    """What blocks give, the residual in their middle, what MLP and attention add."""
    tuned: Annotated[int, Ge(0)] = 0
    """Steps of training a tuned lens on retain rows as well (250 is usual). It reads the blocks' output through an
    affine map of each layer's own (Belrose et al. 2023, arXiv 2303.08112); 0: none."""

    threat: ClassVar[Threat] = "white"
    family: ClassVar[str] = "activations"
    reference: ClassVar[str] = "arXiv 2309.17410, 2303.08112"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes", "retain"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """UserError where a tuned lens is to be trained and there are no retain rows."""
        if self.tuned:
            task.require_examples("retain")

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return an outcome per stream and layer."""
        import pandas as pd
        import torch

        from unlearn.attacks.internals.readout import picks, ranks, unembed
        from unlearn.attacks.setting.answer_tokens import answer_tokens
        from unlearn.attacks.setting.option_tokens import option_tokens

        probes, n = (
            [item.probe for item in (*setting.attacker_items, *setting.held_out_items)],
            len(setting.attacker_items),
        )
        tokenizer, mcq = subject.processor, setting.answer_metric == "mcq"
        choices = map_prompts(partial(option_tokens, tokenizer), subject, probes) if mcq else []
        answers: Sequence[AnswerToken] = choices
        if not mcq:
            answers = map_prompts(partial(answer_tokens, tokenizer), subject, probes)
        options, chance = (
            [choice.options for choice in choices],
            np.array([1 / len(choice.options) for choice in choices]),
        )
        tokens, logits = torch.tensor([answer.token for answer in answers]), unembed(subject.module)
        outcomes, rows = [], []
        for stream, layers in self._states(subject, setting, [answer.ids for answer in answers]).items():
            for layer, states in enumerate(layers):
                rank = ranks(logits, states, tokens).numpy()
                score = (picks(logits, states, options).numpy() - chance) / (1 - chance) if choices else 1 / rank
                known, own = score[n:], float(score[:n].mean())
                outcomes.append(Outcome(f"{stream} {layer}", known, on_attacker_items=own, self_estimate=own))
                means = {"score": known.mean(), "log_rank": np.log(rank[n:]).mean(), "attacker": own}
                rows.append({"layer": layer, "stream": stream, **means})
        return AttackResult(
            outcomes,
            f"{n} forget items",
            "1 forward an item",
            "choice of first tokens" if choices else "1/rank",
            tables={"lens": _explained(pd.DataFrame(rows))},
        )

    def _states(self, subject: Subject, setting: AttackSetting, prompts: list[tuple[int, ...]]) -> Mapping[str, Tensor]:
        """Return [layers, prompts, d] of each stream."""
        from unlearn.score.residuals import last_values

        sites = ("attn_in", "attn_out", "mlp_out", "resid")
        before, attention, mlp, resid = last_values(subject.module, prompts, subject.token_budget, sites)
        states: dict[str, Tensor] = {"resid": resid, "mid": before + attention, "mlp": mlp, "attention": attention}
        found: dict[str, Tensor] = {name: states[name] for name in self.streams}
        if self.tuned:
            from unlearn.attacks.internals.tuned_lens import tuned_lens

            rows = [(example.questions[0], example.answers[0]) for example in setting.task.examples("retain")]
            encoded = [row.ids for row in subject.prompt.encode_all(subject.processor, rows)]
            found[TUNED] = tuned_lens(subject.module, encoded, self.tuned).translate(resid)
        return found


def _explained(table: pd.DataFrame) -> Explained:
    words = (
        "How early in the model, and in which stream, the answer can be read through the output vocabulary. Where the "
        "unlearned model keeps the original's colours, the answer is formed inside and suppressed later."
    )
    return Explained(table, "Logit lens", words, Chart("heatmap", "layer", ("stream",), "score"))
