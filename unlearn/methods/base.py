"""What a gradient method is: a loss over one micro-batch, and a list of what it needs to compute it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn.data.task import Task
    from unlearn.models.batches import Batch
    from unlearn.models.policy import Policy


class Need(Enum):
    """What the training loop has to provide for a method."""

    FORGET = auto()  # a segment "forget": the rows to unlearn
    RETAIN = auto()  # a segment "retain": rows to keep
    ALTERNATE = auto()  # a segment "alternate": the forget questions with refusals as answers
    INJECTED = auto()  # a segment "injected": the forget questions with the answers that editing puts in their place
    FLUENCY = auto()  # a segment "fluency": passages of plain text
    REFERENCE_LOGPS = auto()  # Segment.reference_nll of forget (and alternate) rows, from the cached table
    REFERENCE_MODEL = auto()  # the frozen original model itself, for losses over whole distributions (KL)


SEGMENTS = {
    Need.FORGET: "forget",
    Need.ALTERNATE: "alternate",
    Need.INJECTED: "injected",
    Need.RETAIN: "retain",
    Need.FLUENCY: "fluency",
}


@dataclass(frozen=True)
class Loss:
    """`total` is what is minimised; `parts` are its unweighted terms by name, for the log (still in the graph)."""

    total: Tensor
    parts: dict[str, Tensor]


class Method(Protocol):
    """A gradient method: a small frozen dataclass; its YAML in conf/method holds exactly its fields."""

    @property
    def needs(self) -> frozenset[Need]:
        """What the loop must provide; may depend on the fields."""
        ...

    def loss(self, policy: Policy, batch: Batch, reference: Policy | None) -> Loss:
        """The loss of one micro-batch, normalised by the whole step's counts (see Segment).

        Summed over the micro-batches of a step, in whatever way the step is split, it is the loss of the step.
        """
        ...


def check_needs(method: Method, task: Task) -> None:
    """UserError where the task has none of the data that the method trains on."""
    for need, name, what in (
        (Need.FORGET, "forget", "forget rows"),
        (Need.RETAIN, "retain", "retain rows"),
        (Need.ALTERNATE, "refusal", "refusals"),
        (Need.INJECTED, "injected", "injected answers"),
        (Need.FLUENCY, "fluency", "fluency text"),
    ):
        if need in method.needs and name not in task.sets:
            raise UserError(f"the method trains on {what}, but dataset '{task.name}' has none")
