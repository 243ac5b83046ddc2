"""What a run's components cannot work with is refused before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import pytest
from hydra import compose, initialize_config_dir

from unlearn.attacks.setting.no_attack import NoAttack
from unlearn.data.history import History, Training
from unlearn.data.narrowing import UndeclaredReadError
from unlearn.data.task import Example, ImageExample, Passage, Role, Task
from unlearn.localize.combine import Complement, Union
from unlearn.localize.no_localization import NoLocalization
from unlearn.localize.places.ffn import FFN
from unlearn.localize.weights.gradient import Gradient
from unlearn.localize.weights.interaction import Interaction
from unlearn.localize.weights.magnitude import Magnitude
from unlearn.localize.weights.snip import Snip
from unlearn.localize.weights.wagle import Wagle
from unlearn.localize.weights.wanda import Wanda
from unlearn.localize.weights.weight_mask import WeightMask
from unlearn.metrics.base import Reading, Result
from unlearn.models.base import RunSetting
from unlearn.runtime.components import build, conf_dir
from unlearn.runtime.errors import UserError
from unlearn.stages.attack import check_attacks
from unlearn.stages.check import check_choices, check_component, check_family, check_metrics, check_scorers
from unlearn.stages.pipeline import run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from unlearn.data.task import Ask
    from unlearn.localize.base import Localizer
    from unlearn.score.table import Tables
    from unlearn.stages.experiment import Experiment

RUN = RunSetting("text", None, control=True, masked=True, lora=False)
QUESTIONS = (Example(("q",), ("a",)),)
FORGET_ALONE = History(Training(("forget",)), None)
WITHOUT_RETAIN = Task("lone", "all", {"forget": QUESTIONS}, history=FORGET_ALONE)
PASSAGES = Task("texts", "all", {"forget": (Passage("A text."),), "retain": (Passage("Another."),)})
PICTURES = Task(
    "pictures", "all", {"forget": (ImageExample("a dog", "dog.png", "0"),)}, history=FORGET_ALONE, modality="image"
)


BY_ANSWERS: tuple[Localizer, ...] = (Gradient(), Snip(), Wagle(), Interaction(), Wanda(), WeightMask())
QUESTIONS_ONLY = "needs questions and answers, but 'forget' of dataset 'texts' has others"


@pytest.mark.parametrize(
    ("localizer", "task", "words"),
    [
        (Interaction(), WITHOUT_RETAIN, r"'localize' \(Interaction\) needs retain rows, but dataset 'lone' has none"),
        (WeightMask(), WITHOUT_RETAIN, r"'localize' \(WeightMask\) needs retain rows"),
        (Union(FFN(), Interaction()), WITHOUT_RETAIN, r"'localize' \(Union\) needs retain rows"),
        (Complement(Interaction()), WITHOUT_RETAIN, r"'localize' \(Complement\) needs retain rows"),
        (Gradient(forget_loss="refusal"), WITHOUT_RETAIN, "dataset 'lone' has no refusals"),
        *((one, PASSAGES, rf"^'localize' \({type(one).__name__}\) {QUESTIONS_ONLY}") for one in BY_ANSWERS),
        (FFN(), PICTURES, r"'localize' \(FFN\) is for text tasks, but dataset 'pictures' is an image task"),
    ],
)
def test_what_a_localizer_cannot_work_with_is_refused(localizer: Localizer, task: Task, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_component("localize", localizer, task, replace(RUN, modality=task.modality))


def test_what_needs_nothing_takes_any_task() -> None:
    for task in (WITHOUT_RETAIN, PASSAGES, PICTURES):
        check_component("localize", NoLocalization(), task, replace(RUN, modality=task.modality))
    check_component("localize", Gradient(), WITHOUT_RETAIN, RUN)
    check_component("localize", Magnitude(), PASSAGES, RUN)


def experiment_with(*overrides: str) -> Experiment:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        experiment: Experiment = build(compose("config", overrides=list(overrides)))
    return experiment


def test_a_language_model_is_for_text() -> None:
    experiment = experiment_with()
    check_family(experiment, PASSAGES)
    with pytest.raises(UserError, match=r"'model' \(TinyLM\) is for text tasks, but dataset 'pictures' is an image"):
        check_family(experiment, PICTURES)


@dataclass(frozen=True)
class Careless:
    """It looks at what it does not declare."""

    modality: ClassVar[str] = "text"
    reads: ClassVar[frozenset[str]] = frozenset({"forget"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """Look."""
        task.rows("retain")


def test_a_component_is_checked_on_what_it_declares() -> None:
    with pytest.raises(UndeclaredReadError, match="'retain'"):
        check_component("localize", Careless(), PASSAGES, RUN)


def test_scorers_are_checked_where_they_are_asked() -> None:
    pictures = replace(RUN, modality="image")
    experiment = experiment_with()
    check_scorers(experiment, PASSAGES, RUN)
    with pytest.raises(UserError, match=r"'evaluate.tokens' \(Tokens\) is for text tasks, but dataset 'pictures'"):
        check_scorers(experiment, PICTURES, pictures)
    check_scorers(experiment_with("stages=[attack]"), PICTURES, pictures)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["metric=[recall,probability]", "evaluate=[tokens]"],
            r"metric 'recall' reads the table 'generations', which no scorer in evaluate= gives "
            r"\(choose evaluate=\[tokens,generations\]\)$",
        ),
        (
            ["metric=[mia_gradnorm]", "evaluate=default"],
            r"metric 'mia_gradnorm' reads .*'gradients'.* \(choose evaluate=\[tokens,generations,gradients\]\)$",
        ),
    ],
)
def test_a_metric_without_its_table_is_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_metrics(experiment_with(*overrides))
    check_metrics(experiment_with(*overrides, "stages=[prepare,unlearn]"))


def test_metrics_that_can_be_computed() -> None:
    check_metrics(experiment_with("metric=[probability,forget_quality]", "evaluate=[tokens]"))
    check_metrics(experiment_with("evaluate=full"))


@dataclass(frozen=True)
class Unheard:
    """It reads a table that nobody gives."""

    reads: ClassVar[frozenset[str]] = frozenset({"echoes"})
    reading: ClassVar[tuple[Reading, ...]] = ()

    def __call__(self, tables: Tables, references: Mapping[Role, Tables]) -> list[Result]:
        return []


def test_a_table_that_nobody_gives() -> None:
    experiment = replace(experiment_with(), metric={"unheard": Unheard()})
    with pytest.raises(UserError, match=r"metric 'unheard' reads the table 'echoes', which no scorer .* gives$"):
        check_metrics(experiment)


@pytest.mark.parametrize(
    ("method", "update", "lacks"),
    [
        ("finetune", "gradient_surgery", "forget"),
        ("finetune", "sam", "forget"),
        ("grad_ascent", "gradient_surgery", "retain"),
        ("task_vector", "gradient_surgery", "retain"),
        ("grad_diff", "gradient_surgery", ""),
        ("task_vector", "sam", ""),
        ("rmu", "gradient_surgery", ""),
        ("inject", "sam", ""),
        ("finetune", "muon", ""),
    ],
)
def test_an_update_needs_the_sides_that_it_works_on(method: str, update: str, lacks: str) -> None:
    mine = experiment_with(f"method={method}", f"update={update}")
    if not lacks:
        check_choices(mine)
        return
    words = rf"'update' \(.*\) works on the {lacks} side of a loss, which 'method' \(.*\) has not"
    with pytest.raises(UserError, match=words):
        check_choices(mine)


@dataclass(frozen=True)
class Asking:
    """A dataset that asks the model."""

    def load(self, seed: int, ask: Ask | None = None) -> Task:
        """Ask, which would load it."""
        raise AssertionError("choices are checked first")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["method=finetune", "update=sam"], "works on the forget side"),
        (["+attack.mine._target_=unlearn.attacks.setting.no_attack.NoAttack"], "'attack.mine'"),
    ],
)
def test_choices_are_checked_before_the_dataset_asks_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], words: str
) -> None:
    monkeypatch.setattr(NoAttack, "modality", "image")
    mine = replace(experiment_with(*overrides, f"output={tmp_path / 'run'}"), dataset=Asking())
    with pytest.raises(UserError, match=words):
        run(mine, {}, {})
    assert not (tmp_path / "run").exists()


def test_what_weighs_nothing_is_no_side() -> None:
    for weight, update, lacks in (("retain_weight", "gradient_surgery", "retain"), ("forget_weight", "sam", "forget")):
        mine = experiment_with("method=grad_diff", f"method.{weight}=0", f"update={update}")
        with pytest.raises(UserError, match=f"works on the {lacks} side"):
            check_choices(mine)


def test_original_and_control_are_trained_without_a_forget_side() -> None:
    with pytest.raises(UserError, match=r"finetune_update \(SAM\) works on the forget side"):
        experiment_with("model=smollm2-135m", "update@finetune_update=sam")


@pytest.mark.parametrize("name", ["relearn_benign", "mine"])
def test_an_attack_is_named_as_it_is_configured(name: str) -> None:
    (relearn,) = experiment_with("attack=[relearn_benign]").attack.values()
    mine = replace(experiment_with(), attack={name: relearn})
    with pytest.raises(UserError, match=rf"'attack.{name}' \(Relearn\) needs retain rows, but dataset 'lone' has none"):
        check_attacks(mine, WITHOUT_RETAIN)


def test_a_text_task_is_no_image_task() -> None:
    with pytest.raises(UserError, match="but dataset 'texts' is a text task"):
        check_component("localize", ForPictures(), PASSAGES, RUN)


@dataclass(frozen=True)
class ForPictures(Careless):
    """It works on pictures."""

    modality: ClassVar[str] = "image"
