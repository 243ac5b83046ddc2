"""Representation misdirection: the forget rows' hidden states become noise, the retain rows' stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt

from unlearn.methods.gradient import NO_STATE, GradientMethod, Reference, Scores, State
from unlearn.runtime.errors import UserError
from unlearn.training.objective import FORGET, SIDES, Loss, Side, Term

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from torch import Tensor, nn

    from unlearn.models.batches import Batch
    from unlearn.models.mask import Mask
    from unlearn.models.policy import Policy, TokenScores

Kind = Literal["q", "k", "v", "qkv", "o", "gate", "up", "gate_up", "down"]


@dataclass(frozen=True, kw_only=True)
class RMU(GradientMethod):
    """loss = forget_weight * MSE(h(F), length * u) + retain_weight * MSE(h(R), h_ref(R)).

    h is the output of one decoder layer, u a random direction with positive entries, drawn once. Li et al. 2024, The
    WMDP Benchmark (arXiv 2403.03218). Nothing above the layer is run, and only some matrices at and below it change.
    """

    forget_weight: Annotated[float, Gt(0)] = 1.0
    """How much forgetting counts."""
    retain_weight: Annotated[float, Ge(0)] = 10.0
    """How much keeping the rest counts; 0: retain rows are not read. The paper has 1200 for Zephyr-7B, whose states are
    small; OpenUnlearning has 1."""
    layer: Annotated[int, Ge(0)] | None = None
    """The layer whose output is changed, from 0; None: 7 of 32, or as deep as that. Layer 7 is the paper's for
    Zephyr-7B."""
    train_layers: Annotated[int, Ge(1)] = 3
    """How many layers are trained: this one and those below it."""
    train: tuple[Kind, ...] | None = ("down",)
    """Which of their matrices; None: every weight of the model. See unlearn/models/parameters.py for their kinds."""
    coefficient: Annotated[float, Gt(0)] = 2.0
    """How long the forget rows' states become. The paper has 6.5 for Zephyr-7B, OpenUnlearning 2, Adaptive RMU 5."""
    adaptive: bool = True
    """Whether that is in multiples of their mean length before the first step. It spares a search over models and
    layers (Dang et al. 2025, Adaptive RMU, arXiv 2408.06223); the paper has False."""
    positions: Literal["answers", "attended"] = "answers"
    """Where: "answers" (their own tokens), or "attended" (the prompt too). OpenUnlearning has the first, the paper the
    second."""
    reduction: Literal["rows", "reference_broadcast"] = "rows"
    """Over positions: "rows", or "reference_broadcast" (a slip of OpenUnlearning's code). "rows" is the mean over rows
    of each row's mean. The slip multiplies the mean of the rows' sums by the mean of 1 / their lengths, so that it
    depends on how a step is split; each micro-batch counts by its share of the rows."""

    @property
    def segments(self) -> tuple[str, ...]:
        """Forget rows, and retain rows unless they weigh nothing."""
        return ("forget", "retain") if self.retain_weight else ("forget",)

    @property
    def sides(self) -> frozenset[Side]:
        """Forget, and retain unless it weighs nothing."""
        return SIDES if self.retain_weight else FORGET

    @property
    def reference(self) -> frozenset[Reference]:
        """The reference model, for the retain rows' states."""
        return frozenset({"model"} if self.retain_weight else ())

    def places(self, module: nn.Module) -> Mask | None:
        """Return the chosen matrices of the layers that are trained; UserError where the model has none such."""
        from unlearn.models.mask import Mask
        from unlearn.models.parameters import layer_of, module_type

        if self.train is None:
            return None
        top, kinds = self.layer_in(module), self.train
        layers = range(top - self.train_layers + 1, top + 1)
        mask = Mask.where(module, lambda name: layer_of(name) in layers and module_type(name) in kinds)
        if not mask.selected:
            raise UserError(f"'method.train' is {list(kinds)}: the model has no such matrices")
        return mask

    def layer_in(self, module: nn.Module) -> int:
        """Return the number of the layer in this model; UserError where it has not so many."""
        from unlearn.models.layout import decoder_stack

        decoder, name = decoder_stack(module)
        count = len(getattr(decoder, name))
        if self.layer is None:
            return round(7 / 32 * count)
        if self.layer >= count:
            raise UserError(f"'method.layer' is {self.layer}, but the model's {count} layers are 0 to {count - 1}")
        return self.layer

    def begin(self, policy: Policy, batches: Sequence[Batch], seed: int) -> State:
        """Draw the direction, and measure how long the forget rows' states are where that counts."""
        import torch

        config: Any = policy.model.config
        uniform = torch.rand(config.hidden_size, generator=torch.Generator().manual_seed(seed))
        length = self.coefficient * (self._mean_length(policy, batches) if self.adaptive else 1.0)
        return {"direction": uniform / uniform.norm(), "length": torch.tensor(length)}

    def loss(
        self,
        policy: Policy,
        batch: Batch,
        reference: Policy | None = None,
        state: State = NO_STATE,
        only: Collection[Side] = SIDES,
    ) -> Loss:
        """Return the mean squared errors per hidden unit, from one pass up to the layer."""
        import torch

        from unlearn.models.projection import precise

        sides: dict[str, Side] = {"forget": "forget", "retain": "retain"}
        segments = [name for name in self.segments if sides[name] in only]
        if not segments:
            return Loss({})
        layer, batch = self.layer_in(policy.model), batch.part(*segments)
        theirs: Scores = {}
        if "retain" in segments:
            assert reference is not None, "the method asks for the reference model"
            with torch.no_grad():
                theirs = reference(batch.part("retain"), hidden={"retain": [layer]})
        scores = policy(batch, hidden={name: [layer] for name in segments})
        terms = {}
        for name in segments:
            mine = precise(scores[name].hidden[layer])
            if name == "forget":
                target = (state["length"] * state["direction"]).to(mine)
            else:
                target = precise(theirs["retain"].hidden[layer])
            weight = self.forget_weight if name == "forget" else self.retain_weight
            error = self._mean(batch, scores[name], (mine - target).square().mean(-1))
            terms[name] = Term(weight, error, sides[name])
        return Loss(terms)

    def _mean(self, batch: Batch, scores: TokenScores, values: Tensor) -> Tensor:
        """Return this micro-batch's part of the step's mean of `values` [rows, T]."""
        from torch.nn.functional import pad

        segment = scores.segment
        where = batch.attention_mask[segment.rows].bool() if self.positions == "attended" else pad(scores.mask, (1, 0))
        sums, counts = (values * where).sum(1), where.sum(1)
        if self.reduction == "rows":
            return scores.row_mean(sums / counts)
        return sums.sum() * (1 / counts).sum() / max(len(sums), 1) / segment.total_rows

    def _mean_length(self, policy: Policy, batches: Sequence[Batch]) -> float:
        """Return the mean over the step's forget rows of the mean length of their states, over all processes."""
        import torch

        from unlearn.models.projection import precise
        from unlearn.training.parallel import sum_losses

        layer = self.layer_in(policy.model)
        device = next(policy.parameters()).device
        total = torch.zeros((), device=device)
        with torch.no_grad():
            for batch in batches:
                forget = batch.part("forget").to(device)
                scores = policy(forget, hidden={"forget": [layer]})["forget"]
                total = total + self._mean(forget, scores, precise(scores.hidden[layer]).norm(dim=-1))
        return sum_losses({"length": total})["length"]
