"""Hold a whole experiment as one validated value: the root of the configuration (conf/config.yaml)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from annotated_types import Ge, Gt, Lt, MinLen
from pydantic import StringConstraints

from unlearn.attacks.base import Attack
from unlearn.families.base import ModelFamily
from unlearn.leak.settings import LeakSettings
from unlearn.localize.base import Localizer
from unlearn.localize.no_localization import NoLocalization
from unlearn.methods.base import Method
from unlearn.metrics.base import Metric
from unlearn.models.base import Threads
from unlearn.models.lora import Lora
from unlearn.recipe import Recipe
from unlearn.report.tracking import Tracking
from unlearn.score.base import Scorer
from unlearn.training.objective import RETAIN
from unlearn.training.update import Update

if TYPE_CHECKING:
    from unlearn.data.task import Ask, Task

Stage = Literal["prepare", "localize", "unlearn", "score", "attack", "report"]
STAGES: tuple[Stage, ...] = ("prepare", "localize", "unlearn", "score", "attack", "report")


class Dataset(Protocol):
    """A dataset: a small frozen dataclass in conf/dataset."""

    def load(self, seed: int, ask: Ask | None = None) -> Task:
        """Return its forget and retain examples and its probes.

        ask: what the model knows before the run.
        """
        ...


@dataclass(frozen=True)
class Experiment:
    """Say all that `unlearn run` runs."""

    model: ModelFamily
    """What is trained, unlearned and attacked."""
    dataset: Dataset
    """What is to be forgotten and kept, and what is asked afterwards."""
    localize: Localizer
    """Which weights may change."""
    method: Method
    """How it is unlearned."""
    train: Recipe
    """How the method trains."""
    update: Update
    """How gradients change weights as the method trains."""
    finetune_update: Update
    """The same where original and control models are trained."""
    evaluate: dict[str, Scorer]
    """What models are asked, by name: each scorer gives tables, from which metrics are computed."""
    metric: dict[str, Metric]
    """What to report, by name."""
    attack: dict[str, Attack]
    """What is tried to draw the forgotten out, by name."""
    leak: LeakSettings
    """How attacks are scored."""
    relearn: Recipe
    """How attacks that train do so."""
    tracker: Tracking
    """Where the numbers are sent to."""
    seed: Annotated[int, Ge(0), Lt(2**32)] = 0
    """Of the weights, the order of rows, and the data where it is generated."""
    stages: Annotated[tuple[Stage, ...], MinLen(1)] = STAGES
    """Which to run, always in this order. What an earlier one would have made must be there already."""
    run: Annotated[str, MinLen(1)] | None = None
    """With stages=[attack]: the earlier run's folder, or any model or adapter folder, to attack."""
    output: Annotated[str, MinLen(1)] | None = None
    """The run folder; None: named after the choices and the configuration, under outputs/."""
    token_budget: Annotated[int, Gt(0)] = 16384
    """Most padded tokens of a batch of questions; a batch that does not fit in memory is cut in half."""
    probe_limit: Annotated[int, Gt(0)] | None = None
    """Score only the first so many probes of each set; None: all."""
    cache: Annotated[str, MinLen(1)] = "outputs/.cache"
    """Original and control models and their scores, shared by all runs."""
    lora: Lora | None = None
    """Adapters to unlearn with; None: all weights."""
    overlap: Literal["refuse", "allow"] = "refuse"
    """What is done about a row that is both to forget and to retain, but for spaces and how characters are composed."""
    control_model: Literal["auto", "none"] = "auto"
    """auto: the published one, else trained here; none: do without (and without forget quality)."""
    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|mps|(cuda|xpu)(:\d+)?)$")] = "auto"
    """auto, cpu, or a name such as cuda:1."""
    threads: Threads | None = None
    """CPU threads; None: what the model asks for."""

    def __post_init__(self) -> None:
        if self.model.finetune.evaluate_at or self.model.finetune.evaluate_every:
            raise ValueError("model.finetune has no curve to evaluate: set train.evaluate_at or train.evaluate_every")
        if wanting := sorted(self.finetune_update.sides - RETAIN):
            raise ValueError(
                f"finetune_update ({type(self.finetune_update).__name__}) works on the {wanting[0]} side of a loss, "
                "which the training of original and control has not: choose another finetune_update="
            )
        makers: dict[str, str] = {}
        for name, scorer in self.evaluate.items():
            for table in scorer.tables:
                if (other := makers.setdefault(table, name)) != name:
                    raise ValueError(f"evaluate.{other} and evaluate.{name} both give the table '{table}': choose one")

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
        """Return the experiment with the task's own prompt format, where it has one, in the place of the model's."""
        model: Any = self.model
        return self if task.prompt is None else replace(self, model=replace(model, prompt=task.prompt))

    def for_device(self, device: str) -> Experiment:
        """Return the experiment with the precision of its trainings settled for a device type ("cpu", "cuda")."""
        model: Any = self.model
        model = replace(model, finetune=model.finetune.for_device(device))
        return replace(self, model=model, train=self.train.for_device(device))
