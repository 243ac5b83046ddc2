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
    """Optimisation settings of one training, whatever the update (see unlearn/training/update.py)."""

    version: ClassVar[int] = 1

    lr: Annotated[float, Gt(0)]
    """Peak learning rate, of AdamW where it is one of two optimizers."""
    batch_size: Annotated[int, Gt(0), Le(10**6)] = 32
    """Rows of the main part (forget rows when unlearning) in an optimizer step. Over all processes and micro-
    batches."""
    retain_batch_size: Annotated[int, Gt(0), Le(10**6)] | None = None
    """Rows of any other set beside them; None: as many."""
    steps: Annotated[int, Gt(0), Le(10**9)] | None = None
    """The length in optimizer steps; give exactly one of steps and epochs."""
    epochs: Annotated[float, Gt(0), Le(10**6)] | None = None
    """The length in passes over the main part."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """Of matrices; vectors (norms, biases) have none."""
    warmup: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of the steps in which the rate rises linearly to lr."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How it goes from there to lr * final_lr."""
    final_lr: Annotated[float, Ge(0), Le(1)] = 0.0
    """Share of lr that is left at the end."""
    clip: Annotated[float, Gt(0)] | None = 1.0
    """Largest gradient norm, over all trainable weights; None: no clipping."""
    clip_order: Literal["mask_first", "clip_first"] = "mask_first"
    """Under a mask: clip the masked gradient ("mask_first"), or the whole one ("clip_first"). The second is that of the
    code released with WAGLE."""
    weights: Literal["float32", "bfloat16"] = "float32"
    """Of what is trained: "float32", or "bfloat16" to reproduce pure-bf16 runs. In these small updates are lost,
    though AdamW's moments are in float32."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the arithmetic; "bf16" is autocast, "auto" means bf16 on a GPU and fp32 on a CPU."""
    gradient_checkpointing: bool = False
    """Whether activations are computed again for the backward pass: less memory, more time."""
    bucket: bool = True
    """Whether rows of like length are drawn into one step, which saves padding."""
    micro_tokens: Annotated[int, Gt(0)] = 8192
    """Most padded tokens in one forward. Larger steps are accumulated from several, with exactly the same gradient."""
    evaluate_at: tuple[Annotated[float, Gt(0), Le(1)], ...] = ()
    """Fractions of the training after which the trade-off curve gets a point."""
    evaluate_every: Annotated[int, Gt(0)] | None = None
    """The same by number of steps."""
    checkpoint_seconds: Annotated[float, Ge(0)] = 60.0
    """How often the state is saved. A killed run goes on from there."""

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
