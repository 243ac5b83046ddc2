"""What a method is: from a model to a model, with what the run lends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from unlearn.data.prompt import Encoded
    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.lora import Lora
    from unlearn.models.mask import Mask
    from unlearn.models.subject import References, Subject
    from unlearn.recipe import Recipe
    from unlearn.training.checkpoint import Log
    from unlearn.training.objective import Losses, Objective, Side


class Work(Protocol):
    """What a method is handed beside the model and the task. All ranks call its functions alike."""

    @property
    def folder(self) -> Path:
        """Where the method may keep files of its own; they stay in the result."""
        ...

    @property
    def seed(self) -> int:
        """What is drawn is drawn from it."""
        ...

    @property
    def recipe(self) -> Recipe:
        """How the run trains (`train=`)."""
        ...

    @property
    def mask(self) -> Mask | None:
        """Which weights may change; None: all. The result is checked against it."""
        ...

    @property
    def lora(self) -> Lora | None:
        """The adapters that `train` trains in the place of the weights; None: none."""
        ...

    @property
    def references(self) -> References:
        """The model as it was given (original, or what came of the request before), and the control model if any."""
        ...

    def log(self, line: str) -> None:
        """Tell the user something."""
        ...

    def train(self, subject: Subject, objective: Objective, name: str = "", places: Mask | None = None) -> Log:
        """Train the subject's weights in place, under the run's recipe, update, mask and adapters.

        name: which of a method's trainings it is; the one without a name is the one whose trade-off curve is taken.
        places: a further mask, the method's own. Killed, it goes on where its last checkpoint was.
        """
        ...

    def gradient(self, policy: nn.Module, objective: Objective, step: int) -> Losses:
        """Leave the gradient of an objective's step in `.grad` (all micro-batches, summed over ranks)."""
        ...

    def step(self, name: str, build: Callable[[Path], None]) -> Path:
        """Return a folder that `build` filled, now or before the run was killed.

        What takes long and is finished is not done again. Only rank 0 may write into it. It is removed with the
        end of the method.
        """
        ...

    def cached(self, name: str, key: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """Return a folder that `build` filled, in this run or another with the same key. Only rank 0 builds."""
        ...

    def reference_nll(self, rows: Sequence[Encoded], used: Sequence[int]) -> Mapping[int, float]:
        """Return the summed answer nll (nats) of these rows, by number, under the subject as it was given."""
        ...

    def reference_policy(self) -> Any:
        """Return a policy of the subject as it was given, frozen."""
        ...


class Method(Protocol):
    """A method: a small frozen dataclass; its YAML in conf/method holds exactly its fields."""

    modality: ClassVar[str]
    """What it unlearns: "text" or "image"."""
    version: ClassVar[int]
    """Raised when results change."""

    @property
    def reads(self) -> frozenset[str]:
        """Return what it is handed.

        Names of the task's sets, "facts", and, of what `Work` lends, "mask", "recipe", "lora", "update", "reference"
        and "control"; `Work.train` takes "recipe" and "update".
        """
        ...

    @property
    def sides(self) -> frozenset[Side]:
        """Return the sides that its loss has terms of: what updates need to know. Of several trainings, the first's."""
        ...

    def check(self, task: Task, setting: RunSetting) -> None:
        """Refuse what it cannot work with (UserError), before any model is loaded."""
        ...

    def unlearn(self, subject: Subject, task: Task, work: Work) -> Subject:
        """Return the unlearned model, maybe the given one changed in place. It is called on every rank."""
        ...
