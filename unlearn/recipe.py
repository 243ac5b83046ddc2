"""How to train: every number that the training loop needs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt

LOOP = 1
"""Version of the training loop, its gradients and updates: raised when trained weights change."""
PLAN = 1
"""Version of the plans: which rows a step sees."""
POLICY = 1
"""Version of how a training runs the model."""


@dataclass(frozen=True)
class Recipe:
    """Optimisation settings of one training.

    batch_size: rows of the main part (forget rows when unlearning) in one optimizer step, over all processes and
        micro-batches; retain_batch_size: retain rows beside them (None: as many).
    steps, epochs: the length; give exactly one. An epoch is one pass over the main part.
    lr: peak learning rate, of AdamW and of what Muon does not train. optimizer "muon": Muon (Jordan et al. 2024) with
        `muon_lr` and momentum 0.95 for the matrices inside decoder layers, AdamW for the rest.
    warmup: share of the steps in which the rate rises linearly to lr; then `schedule` takes it down to lr * final_lr.
    clip: largest global gradient norm, over trainable parameters (None: no clipping). clip_order: under a mask, whether
        the norm is that of the selected weights' gradient ("mask_first") or of the whole one ("clip_first", as in the
        code released with WAGLE).
    weights: "float32" keeps master weights in float32; "bfloat16" is the opt-in to reproduce old pure-bf16 runs, in
        which small updates are lost. precision: of the arithmetic; "bf16" is autocast, "auto" means bf16 on a GPU and
        fp32 on a CPU.
    bucket: draw rows of like length into one step, which saves padding. micro_tokens: most padded tokens in one
        forward; larger steps are accumulated from several, with exactly the same gradient.
    evaluate_at: fractions of the training after which the trade-off curve gets a point; evaluate_every: the same by
        number of steps.
    checkpoint_seconds: how often the state is saved, so that a killed run goes on from there.
    """

    version: ClassVar[int] = 1

    lr: Annotated[float, Gt(0)]
    batch_size: Annotated[int, Gt(0)] = 32
    retain_batch_size: Annotated[int, Gt(0)] | None = None
    steps: Annotated[int, Gt(0)] | None = None
    epochs: Annotated[float, Gt(0)] | None = None
    optimizer: Literal["adamw", "muon"] = "adamw"
    muon_lr: Annotated[float, Gt(0)] = 0.02
    betas: tuple[Annotated[float, Ge(0), Le(1)], Annotated[float, Ge(0), Le(1)]] = (0.9, 0.999)
    weight_decay: Annotated[float, Ge(0)] = 0.0
    warmup: Annotated[float, Ge(0), Lt(1)] = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    final_lr: Annotated[float, Ge(0), Le(1)] = 0.0
    clip: Annotated[float, Gt(0)] | None = 1.0
    clip_order: Literal["mask_first", "clip_first"] = "mask_first"
    weights: Literal["float32", "bfloat16"] = "float32"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    gradient_checkpointing: bool = False
    bucket: bool = True
    micro_tokens: Annotated[int, Gt(0)] = 8192
    evaluate_at: tuple[Annotated[float, Gt(0), Le(1)], ...] = ()
    evaluate_every: Annotated[int, Gt(0)] | None = None
    checkpoint_seconds: Annotated[float, Ge(0)] = 60.0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(f"give exactly one of steps and epochs, not steps={self.steps} and epochs={self.epochs}")

    def evaluation_steps(self, steps: int) -> frozenset[int]:
        """After which of `steps` steps a point of the trade-off curve is due (never the last: that is the result)."""
        due = {round(fraction * steps) for fraction in self.evaluate_at}
        if self.evaluate_every:
            due.update(range(self.evaluate_every, steps, self.evaluate_every))
        return frozenset(step for step in due if 0 < step < steps)

    def lr_factor(self, step: int, steps: int) -> float:
        """Return the learning rate of optimizer step `step` (from 0) as a share of its peak."""
        import math

        rising = round(self.warmup * steps)
        if step < rising:
            return (step + 1) / rising
        done = (step - rising) / (steps - rising)
        if self.schedule == "constant":
            return 1.0
        falling = 1 - done if self.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
        return self.final_lr + (1 - self.final_lr) * falling

    def for_device(self, device: str) -> Recipe:
        """Return the recipe with its precision settled for a device type ("cpu", "cuda")."""
        if self.precision != "auto":
            return self
        return replace(self, precision="fp32" if device == "cpu" else "bf16")

    def cache_key(self) -> dict[str, object]:
        """Return what decides the resulting weights: these fields, and the versions of what carries a recipe out."""
        logistics = {"evaluate_at", "evaluate_every", "checkpoint_seconds"}
        mine = {name: value for name, value in asdict(self).items() if name not in logistics}
        return {**mine, "versions": [LOOP, PLAN, POLICY]}
