"""What a localizer is: from a model and a task to a mask, with the numbers and tables that explain it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Protocol

from annotated_types import Gt, Le

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.mask import Mask
    from unlearn.models.subject import Subject
    from unlearn.runtime.explained import Explained

Fraction = Annotated[float, Gt(0), Le(1)]
NUMBERS = {  # what the numbers that several localizers give say
    "fraction": "Share of all weights that this mask selects.",
    "scored": "Weights that got a score.",
    "selected": "Weights that were selected.",
    "asked": "Share of the scored weights that was to be selected.",
    "threshold": "Score of the last weight that was selected.",
    "zero_scores": "Weights of score 0: the data say nothing about them.",
    "zero_selected": "Selected weights of score 0: taken by their position alone.",
    "budget": "Weights that the selected blocks were to have.",
    "budget_ratio": "Weights that they have, over that.",
    "parameters": "Weights that were selected.",
    "blocks": "Attention and MLP blocks that were selected.",
    "layers": "Layers that hold selected weights.",
    "parts": "Parts (MLPs or matrices) that were selected.",
    "facts": "Prompts that the scores rest on.",
    "metric_gap": "How far the answer's logit falls against wrong answers' with another subject.",
    "gap": "How far the answer's logit falls against wrong answers' with another subject.",
}


@dataclass(frozen=True)
class Localization:
    """Hold a mask and what explains it."""

    mask: Mask
    """The weights that may change."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Numbers that are logged with the run, by name ("gamma", "snip_iou")."""
    tables: Mapping[str, Explained] = field(default_factory=dict)
    """Tables that are saved beside the mask and shown in the report as they say, by name."""
    masks: Mapping[str, Mask] = field(default_factory=dict)
    """Further masks, by name: of other sizes from the same scores, or those that the mask was made of."""
    words: Mapping[str, str] = field(default_factory=dict)
    """What the numbers say, by name; those of NUMBERS need no words of their own."""

    def says(self, number: str) -> str:
        """Return what a number says, "" where that is not told; a part's ("first.scored") as the part's own would."""
        return self.words.get(number) or NUMBERS.get(number.rpartition(".")[2], "")


class Localizer(Protocol):
    """A localizer: a small frozen dataclass; its YAML in conf/localize holds exactly its fields."""

    modality: ClassVar[str]
    """What kind of models it looks into: "text", "image", or "any"."""
    version: ClassVar[int]
    """Raised when results change."""

    @property
    def reads(self) -> frozenset[str]:
        """Return what it is handed of the task, and what its result is kept by: names of sets, or "facts"."""
        ...

    def check(self, task: Task, setting: RunSetting) -> None:
        """Raise a UserError where the task lacks what the localizer reads; asked before any model is loaded."""
        ...

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Return the mask of the original model's weights that may change for the task.

        seed: the run's; whatever is drawn is drawn from it. The model is given back as it was: weights, mode,
        requires_grad, no gradients, no hooks.
        """
        ...
