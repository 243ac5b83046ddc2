"""What a run's components refuse: asked before anything is loaded."""

from __future__ import annotations

from typing import ClassVar, Protocol

from unlearn.data.task import Task
from unlearn.models.base import RunSetting
from unlearn.runtime.errors import UserError
from unlearn.stages.experiment import Experiment


class Checked(Protocol):
    """A component that can refuse a task or a run."""

    modality: ClassVar[str]
    """What kind of models it works on: "text", "image", or "any"."""

    @property
    def reads(self) -> frozenset[str]:
        """Return what it is handed of the task."""
        ...

    def check(self, task: Task, setting: RunSetting) -> None:
        """UserError where the task, or the run, lacks what it needs."""
        ...


def check_family(experiment: Experiment, task: Task) -> None:
    """UserError where the model is for another kind of tasks."""
    family = experiment.model
    if family.modality != task.modality:
        raise UserError(
            f"'model' ({type(family).__name__}) is for {family.modality} tasks, but dataset '{task.name}' is an "
            f"{task.modality} task"
        )


def check_component(place: str, component: Checked, task: Task, setting: RunSetting) -> None:
    """UserError where the component is for another kind of models, or itself refuses the task or the run.

    place: its key in the configuration ("localize"). The component sees of the task what it declares to read.
    """
    if component.modality not in ("any", setting.modality):
        raise UserError(
            f"'{place}' ({type(component).__name__}) is for {component.modality} tasks, but dataset '{task.name}' is "
            f"an {setting.modality} task"
        )
    component.check(task.only(component.reads), setting)
