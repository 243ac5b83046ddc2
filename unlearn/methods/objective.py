"""A gradient method as what the loop trains on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from unlearn.training.planned import Planned

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from torch import Tensor

    from unlearn.models.batches import Batch
    from unlearn.models.policy import Policy
    from unlearn.training.objective import Loss, Losses, Side
    from unlearn.training.plan import Plan


class Stepwise(Protocol):
    """What is asked of a method on the way (see GradientMethod)."""

    def begin(self, policy: Policy, batches: Sequence[Batch], seed: int) -> dict[str, Tensor]:
        """Return the state before the first step."""
        ...

    def before_step(self, policy: Policy, batches: Sequence[Batch], state: dict[str, Tensor]) -> None:
        """Prepare a step."""
        ...

    def loss(
        self,
        policy: Policy,
        batch: Batch,
        reference: Policy | None,
        state: dict[str, Tensor],
        only: Collection[Side],
    ) -> Loss:
        """Return the terms of these sides of one micro-batch."""
        ...

    def numbers(self, state: dict[str, Tensor]) -> dict[str, float]:
        """Return what is logged beside the losses."""
        ...

    def after_step(self, losses: Losses, state: dict[str, Tensor]) -> None:
        """Change the state by the losses of a step."""
        ...


class MethodObjective(Planned):
    """The method's loss along a plan."""

    def __init__(
        self,
        method: Stepwise,
        plan: Plan,
        seed: int = 0,
        reference_nll: Mapping[int, float] | None = None,
        reference: Policy | None = None,
    ) -> None:
        super().__init__(plan, reference_nll)
        self.method, self.seed, self.reference = method, seed, reference

    def before_step(self, policy: Any, batches: Sequence[Batch]) -> None:
        """Begin, before the first step, and prepare."""
        if self.state is None:
            self.state = self.method.begin(policy, batches, self.seed)
        self.method.before_step(policy, batches, self.state)

    def loss(self, policy: Any, batch: Batch, only: Collection[Side]) -> Loss:
        """Return the method's loss."""
        return self.method.loss(policy, batch, self.reference, self._begun, only)

    def numbers(self) -> Losses:
        """Return the method's own."""
        return {f"method/{name}": value for name, value in self.method.numbers(self._begun).items()}

    def after_step(self, losses: Losses) -> None:
        """Hand the losses on."""
        self.method.after_step(losses, self._begun)

    @property
    def _begun(self) -> dict[str, Tensor]:
        assert self.state is not None, "before_step comes first"
        return self.state
