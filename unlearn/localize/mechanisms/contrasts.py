"""Hold what the localizers share that compare a prompt with the same prompt about a random subject."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt

from unlearn.localize.budget import BlockBudget

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.localize.mechanisms.attribution import Pair
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import Subject


@dataclass(frozen=True)
class Contrasts(BlockBudget):
    """Score blocks by what exchanging values between a clean and a corrupt run does."""

    direction: Literal["noising", "denoising"] = "noising"
    """Noising: corrupt values in the clean run; denoising: clean values in the corrupt run. The run that they are put
    into is the base."""
    max_facts: Annotated[int, Gt(0)] = 32
    """How many facts are read."""
    seed: Annotated[int, Ge(0)] | None = None
    """Of the corrupt prompts; None: the run's."""

    @property
    def reads(self) -> frozenset[str]:
        """Return that it traces facts, and what `match` reads."""
        return super().reads | {"facts"}

    def check(self, task: Task, setting: RunSetting) -> None:
        """Refuse a task without facts that have subjects and foils."""
        from unlearn.localize.mechanisms.facts import check_facts

        super().check(task, setting)
        check_facts(task, foils=True)

    def pairs(self, subject: Subject, task: Task, seed: int) -> list[Pair]:
        """Return the facts as (base, other) prompts; UserError where no foil begins otherwise than its answer does."""
        from unlearn.localize.mechanisms.attribution import pair_facts

        seed = seed if self.seed is None else self.seed
        return pair_facts(subject, task, self.max_facts, self.direction, seed)
