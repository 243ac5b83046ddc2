"""The gradient of an optimizer step: all of its micro-batches, summed over processes, masked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unlearn.training.objective import SIDES, Losses, Objective, Side
from unlearn.training.parallel import shard, sum_gradients, sum_losses

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from unlearn.recipe import Recipe
    from unlearn.training.update import Gradient
    from unlearn.training.weights import Weights


class StepGradients:
    """Gradients of an objective with respect to some weights, step by step."""

    def __init__(self, policy: nn.Module, objective: Objective, weights: Weights, recipe: Recipe, seed: int) -> None:
        self.policy, self.objective, self.weights, self.recipe, self.seed = policy, objective, weights, recipe, seed
        self.device: torch.device = next(iter(weights.trainable.values())).device
        self.bf16 = recipe.for_device("cpu" if self.device.type == "cpu" else "cuda").precision == "bf16"

    def of(self, step: int) -> Gradient:
        """Return the gradient of a step, which the objective is prepared for."""
        batches = self.objective.batches(step, shard(), self.recipe.micro_tokens)
        seed = self.seed * 1_000_003 + step  # dropout, where there is any, resumes with the step
        torch.manual_seed(seed)
        self.objective.before_step(self.policy, batches)

        def gradient(only: Collection[Side] = SIDES) -> Losses:
            torch.manual_seed(seed)
            return self._accumulate(batches, only)

        return gradient

    def _accumulate(self, batches: Sequence[Any], only: Collection[Side]) -> Losses:
        self.weights.drop_gradients()
        sums: dict[str, Tensor] = {"loss": torch.zeros((), device=self.device)}
        for batch in batches:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                loss = self.objective.loss(self.policy, batch.to(self.device), only)
            if not loss.terms:  # none of these sides, for all batches alike
                continue
            total = loss.total
            total.backward()
            for name, value in {"loss": total, **{n: term.value for n, term in loss.terms.items()}}.items():
                sums[name] = sums.get(name, torch.zeros((), device=value.device)) + value.detach().float()
        sum_gradients(self.weights.trainable.values())
        if self.recipe.clip_order == "mask_first":
            self.weights.mask_gradients()
        return sum_losses(sums)
