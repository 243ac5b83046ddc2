"""What a run's components refuse: asked before anything is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from omegaconf import OmegaConf

from unlearn.data.checks import LackingError
from unlearn.runtime.components import build, conf_dir
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from unlearn.data.task import Modality, Task
    from unlearn.models.base import RunSetting
    from unlearn.stages.experiment import Experiment

_ARTICLES: dict[Modality, str] = {"text": "a", "image": "an"}


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
            f"'model' ({type(family).__name__}) is for {family.modality} tasks, but dataset '{task.name}' is "
            f"{_ARTICLES[task.modality]} {task.modality} task"
        )


def check_choices(experiment: Experiment) -> None:
    """UserError where choices do not go together, whatever the task: asked before the task, which may ask a model."""
    method, update, modality = experiment.method, experiment.update, experiment.model.modality
    for given, part, key in ((experiment.localizes, "mask", "localize"), (experiment.lora, "lora", "lora")):
        if given and part not in method.reads:
            raise UserError(f"'method' ({type(method).__name__}) knows nothing of {key}=: choose {key}=none")
    if "update" in method.reads and (lacking := sorted(update.sides - method.sides)):
        raise UserError(
            f"'update' ({type(update).__name__}) works on the {lacking[0]} side of a loss, which 'method' "
            f"({type(method).__name__}) has not: choose another update="
        )
    chosen: dict[str, Checked] = {"method": method, "localize": experiment.localize}
    chosen |= {f"evaluate.{name}": scorer for name, scorer in experiment.evaluate.items()}
    if experiment.attacks:
        chosen |= {f"attack.{name}": one for name, one in experiment.attack.items()}
    for place, component in chosen.items():
        if component.modality not in ("any", modality):
            raise UserError(
                f"'{place}' ({type(component).__name__}) is for {component.modality} tasks, but 'model' "
                f"({type(experiment.model).__name__}) is for {modality} tasks"
            )


def check_component(place: str, component: Checked, task: Task, setting: RunSetting) -> None:
    """UserError where the component is for another kind of models, or itself refuses the task or the run.

    place: its key in the configuration ("localize"). The component sees of the task what it declares to read.
    """
    if component.modality not in ("any", setting.modality):
        raise UserError(
            f"'{place}' ({type(component).__name__}) is for {component.modality} tasks, but dataset '{task.name}' is "
            f"{_ARTICLES[setting.modality]} {setting.modality} task"
        )
    try:
        component.check(task.only(component.reads), setting)
    except LackingError as error:
        raise UserError(f"'{place}' ({type(component).__name__}) {error}") from error


def check_scorers(experiment: Experiment, task: Task, setting: RunSetting) -> None:
    """UserError where a scorer that the run asks cannot work with the task or the run."""
    if set(experiment.stages) - {"attack", "report"} and not experiment.only_localizes:
        for name, scorer in experiment.evaluate.items():
            check_component(f"evaluate.{name}", scorer, task, setting)


def check_metrics(experiment: Experiment) -> None:
    """UserError where a metric reads a table that no scorer of the run gives: it would be undefined for every model."""
    given = {table for scorer in experiment.evaluate.values() for table in scorer.tables}
    for name, metric in experiment.metric.items():
        for table in sorted(metric.reads - given) if "score" in experiment.stages else ():
            whole = [f"evaluate=[{','.join([*experiment.evaluate, choice])}]" for choice in _giving(table)]
            hint = f" (choose {' or '.join(whole)})" if whole else ""
            raise UserError(f"metric '{name}' reads the table '{table}', which no scorer in evaluate= gives{hint}")


def _giving(table: str) -> list[str]:
    """Return the choices of evaluate= in this package that are a scorer which gives that table."""
    files = sorted((conf_dir() / "evaluate").glob("*.yaml"))
    scorers = {path.stem: build(OmegaConf.load(path), "evaluate").get(path.stem) for path in files}
    return [name for name, scorer in scorers.items() if table in getattr(scorer, "tables", ())]
