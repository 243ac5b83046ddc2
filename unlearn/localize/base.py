"""What a localizer is: from a model and a task to a mask, with the numbers and tables that explain it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Protocol

from annotated_types import Gt, Le

from unlearn.data.task import Task
from unlearn.models.base import RunSetting
from unlearn.models.subject import Subject

if TYPE_CHECKING:
    import pandas as pd

    from unlearn.models.mask import Mask

Fraction = Annotated[float, Gt(0), Le(1)]


@dataclass(frozen=True)
class Localization:
    """A mask and what explains it.

    numbers: logged with the run ("gamma", "snip_iou"). tables: saved beside the mask and drawn in the report, by name
    (see unlearn/report/localization.py for those that are drawn). masks: further masks from the same scores, by name.
    """

    mask: Mask
    numbers: Mapping[str, float] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    masks: Mapping[str, Mask] = field(default_factory=dict)


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
        """UserError where the task lacks what the localizer reads; asked before any model is loaded."""
        ...

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Return the mask of the original model's weights that may change for the task.

        seed: the run's; whatever is drawn is drawn from it. The model is given back as it was: weights, mode,
        requires_grad, no gradients, no hooks.
        """
        ...
