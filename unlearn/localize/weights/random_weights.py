"""Select as many weights as any weight localizer by chance: their control."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from unlearn.localize.weights.scored import Scored

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn.data.task import Task
    from unlearn.localize.base import Localization
    from unlearn.models.subject import Subject


@dataclass(frozen=True, kw_only=True)
class RandomWeights(Scored):
    """Select by score = a uniform random number for each weight, the same on every machine and device."""

    seed: Annotated[int, Ge(0)] | None = None
    """Of the random numbers; None: the run's."""

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Return the mask of the highest scores."""
        import torch

        seed = seed if self.seed is None else self.seed
        shapes = {name: p.shape for name, p in subject.module.named_parameters()}

        def score(name: str) -> Tensor:
            """Draw anew, and alike, each time it is asked for: nothing is kept."""
            generator = torch.Generator().manual_seed(random.Random(f"{seed}-{name}").getrandbits(63))
            return torch.rand(shapes[name], generator=generator)

        return self.located(self.highest(subject, score))
