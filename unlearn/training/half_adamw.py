"""AdamW of weights in bfloat16, with moments in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.optim.adamw import adamw

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class HalfAdamW(torch.optim.Optimizer):
    """The steps of torch's AdamW, in float32; only the weights themselves are rounded, after each step.

    torch keeps moments in the weights' own format, where (1 - beta2) g^2 is lost beside a running mean of it. As
    bitsandbytes' 32-bit AdamW, with which pure-bfloat16 runs are usually trained.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": 1e-8, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take a step, one tensor at a time: no float32 copy of the weights stays."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["step"] = torch.zeros((), dtype=torch.float32, device=weight.device)
                    for moment in ("exp_avg", "exp_avg_sq"):
                        state[moment] = torch.zeros_like(weight, dtype=torch.float32)
                exact = weight.float()
                adamw(
                    [exact],
                    [weight.grad.float()],
                    [state["exp_avg"]],
                    [state["exp_avg_sq"]],
                    [],
                    [state["step"]],
                    fused=True,
                    amsgrad=False,
                    beta1=beta1,
                    beta2=beta2,
                    lr=group["lr"],
                    weight_decay=group["weight_decay"],
                    eps=group["eps"],
                    maximize=False,
                )
                weight.copy_(exact)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Put a state back in float32: torch would turn it into the weights' format."""
        super().load_state_dict({**state_dict, "state": {}})
        weights = [weight for group in self.param_groups for weight in group["params"]]
        for number, state in state_dict["state"].items():
            weight = weights[number]
            self.state[weight] = {name: value.to(weight.device, copy=True) for name, value in state.items()}
