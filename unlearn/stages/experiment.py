"""A whole experiment as one validated value: the root of the configuration (conf/config.yaml)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Protocol

from annotated_types import Ge, Lt, MinLen
from pydantic import StringConstraints

from unlearn.attacks.base import Attack
from unlearn.data.task import Ask, Task
from unlearn.leak.settings import LeakSettings
from unlearn.localize.base import Localizer
from unlearn.localize.no_localization import NoLocalization
from unlearn.methods.base import Method
from unlearn.metrics.base import Metric
from unlearn.models.base import ModelFamily, Threads
from unlearn.models.lora import Lora
from unlearn.recipe import Recipe
from unlearn.report.tracking import Tracking
from unlearn.score.probes import Scoring

Stage = Literal["prepare", "localize", "unlearn", "score", "attack", "report"]
STAGES: tuple[Stage, ...] = ("prepare", "localize", "unlearn", "score", "attack", "report")


class Dataset(Protocol):
    """A dataset: a small frozen dataclass in conf/dataset."""

    def load(self, seed: int, ask: Ask | None = None) -> Task:
        """Its forget and retain examples and its probes. ask: what the model knows before the run."""
        ...


@dataclass(frozen=True)
class Experiment:
    """What `unlearn run` runs.

    metric: what to report, by name. attack: what is tried to draw the forgotten out, by name; leak: how that is judged;
    relearn: how attacks that train do so. seed: of the data (where it is generated), the weights and the order of rows.
    stages: which to run, always in the pipeline's order; what an earlier one would have made must be there already.
    output: the run folder (None: named after the choices and the configuration, under outputs/). run: with
    stages=[attack], the earlier run, or the model or adapter folder, to attack. cache: where target and control models
    and their scores are kept for all runs. lora: adapters to unlearn with, None for all weights. control_model: "auto"
    takes the published one or trains one; "none" does without, and without forget quality. device: "auto", "cpu", or a
    name such as "cuda:1". threads: CPU threads (None: what the model asks for).
    """

    model: ModelFamily
    dataset: Dataset
    localize: Localizer
    method: Method
    train: Recipe
    evaluate: Scoring
    metric: dict[str, Metric]
    attack: dict[str, Attack]
    leak: LeakSettings
    relearn: Recipe
    tracker: Tracking
    seed: Annotated[int, Ge(0), Lt(2**32)] = 0
    stages: Annotated[tuple[Stage, ...], MinLen(1)] = STAGES
    output: Annotated[str, MinLen(1)] | None = None
    run: Annotated[str, MinLen(1)] | None = None
    cache: Annotated[str, MinLen(1)] = "outputs/.cache"
    lora: Lora | None = None
    control_model: Literal["auto", "none"] = "auto"
    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|mps|(cuda|xpu)(:\d+)?)$")] = "auto"
    threads: Threads | None = None

    def __post_init__(self) -> None:
        if self.model.finetune.evaluate_at or self.model.finetune.evaluate_every:
            raise ValueError("model.finetune has no curve to evaluate: set train.evaluate_at or train.evaluate_every")

    @property
    def localizes(self) -> bool:
        """Whether a localizer chooses which weights may change."""
        return not isinstance(self.localize, NoLocalization)

    @property
    def attacks(self) -> bool:
        """Whether anything is attacked."""
        return "attack" in self.stages and bool(self.attack)

    @property
    def only_localizes(self) -> bool:
        """Whether a mask is all that is made: there is nothing to compare with."""
        stages = set(self.stages)
        return self.localizes and "localize" in stages and stages <= {"prepare", "localize", "report"}

    def with_prompt_of(self, task: Task) -> Experiment:
        """The experiment with the task's own prompt format, where it has one, in the place of the model's."""
        model: Any = self.model
        return self if task.prompt is None else replace(self, model=replace(model, prompt=task.prompt))

    def for_device(self, device: str) -> Experiment:
        """The experiment with the precision of its trainings settled for a device type ("cpu", "cuda")."""
        model: Any = self.model
        model = replace(model, finetune=model.finetune.for_device(device))
        return replace(self, model=model, train=self.train.for_device(device))
