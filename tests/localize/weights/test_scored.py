"""What the localizers by score have in common."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers import RUN

from unlearn.localize.weights.gradient import Gradient
from unlearn.localize.weights.interaction import Interaction
from unlearn.localize.weights.magnitude import Magnitude
from unlearn.localize.weights.random_weights import RandomWeights
from unlearn.localize.weights.snip import Snip
from unlearn.localize.weights.wagle import Wagle
from unlearn.localize.weights.wanda import Wanda
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.subject import Subject

ALL = [Wagle, Interaction, Snip, Gradient, Magnitude, RandomWeights]


@pytest.mark.parametrize("localizer", ALL)
def test_further_fractions_are_what_they_would_be_alone(subject: Subject, localizer: Any, task: Task) -> None:
    located = localizer(select=0.3, also=(0.05, 0.9)).localize(subject, task, 0)
    assert list(located.masks) == ["0.05", "0.9"]
    for fraction, mask in [(0.3, located.mask), (0.05, located.masks["0.05"]), (0.9, located.masks["0.9"])]:
        alone = localizer(select=fraction).localize(subject, task, 0)
        assert mask.digest == alone.mask.digest
        assert not alone.masks
        assert mask.selected == int(mask.total * fraction) == alone.numbers["selected"]
    assert located.numbers["scored"] == sum(p.numel() for p in subject.module.parameters())


@pytest.mark.parametrize("localizer", ALL)
def test_fractions_are_of_what_is_in_scope(subject: Subject, localizer: Any, task: Task) -> None:
    located = localizer(select=0.5, scope=r"layers\.1\.mlp|norm").localize(subject, task, 0)
    scope = [name for name in located.mask.shapes if "layers.1.mlp" in name or "norm" in name]
    weights = sum(p.numel() for name, p in subject.module.named_parameters() if name in scope)
    assert located.numbers["scored"] == weights
    assert located.mask.selected == weights // 2
    assert {name for name, count in located.mask.counts.items() if count} <= set(scope)


@pytest.mark.parametrize("localizer", ALL)
def test_the_model_is_given_back_as_it_was(subject: Subject, localizer: Any, task: Task) -> None:
    before = {name: p.detach().clone() for name, p in subject.module.named_parameters()}
    localizer().localize(subject, task, 0)
    assert not subject.module.training
    for name, parameter in subject.module.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.requires_grad
        assert parameter.grad is None


@pytest.mark.parametrize("localizer", [Wagle, Interaction, Snip, Gradient])
def test_passes_change_memory_alone(subject: Subject, localizer: Any, task: Task) -> None:
    one, three = (localizer(passes=passes).localize(subject, task, 0) for passes in (1, 3))
    assert one.mask.digest == three.mask.digest
    assert one.numbers == pytest.approx(three.numbers)


def test_everything(subject: Subject, task: Task) -> None:
    located = Magnitude(select=1.0).localize(subject, task, 0)
    assert all(whole is True for whole in located.mask.tensors.values())
    assert set(located.numbers) == {"scored", "selected"}  # no score was looked at


@pytest.mark.parametrize("fractions", [{"select": 1e-5}, {"also": (0.3, 1e-5)}])
@pytest.mark.parametrize("localizer", ALL)
def test_less_than_one_weight_is_refused_before_any_gradient(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, localizer: Any, fractions: Any, task: Task
) -> None:
    def computed(*arguments: Any) -> None:
        raise AssertionError("gradients were taken")

    monkeypatch.setattr("unlearn.localize.weights.gradients.mean_gradients", computed)
    weights = sum(p.numel() for p in subject.module.parameters())
    with pytest.raises(UserError, match=f"1e-05 to select is less than one weight: {weights:,} weights"):
        localizer(**fractions).localize(subject, task, 0)


@pytest.mark.parametrize("localizer", [*ALL, Wanda])
def test_no_fraction_is_lost(subject: Subject, localizer: Any, task: Task) -> None:
    """Fractions that agree in six digits have their own masks; the same one twice is refused."""
    located = localizer(select=0.5, also=(0.3000001, 0.3000002, 1.0)).localize(subject, task, 0)
    assert list(located.masks) == ["0.3000001", "0.3000002", "1.0"]
    for also in ((0.3, 0.3), (0.1, 0.5)):
        with pytest.raises(ValueError, match=f"also has {also[1]}, which is asked for already"):
            localizer(select=0.5, also=also)


def test_a_scope_that_fits_nothing(subject: Subject, task: Task) -> None:
    with pytest.raises(UserError, match=r"localize\.scope 'nowhere'"):
        Magnitude(scope="nowhere").localize(subject, task, 0)
    with pytest.raises(ValueError, match="no regular expression"):
        Magnitude(scope="(")


def test_each_forget_example_is_one_row(subject: Subject, task: Task) -> None:
    """With one of its wordings, drawn by the seed."""

    def texts(seed: int | None, **fields: Any) -> list[str]:
        rows = Gradient(seed=seed, **fields).forget_rows(subject, task, 0)
        return [str(subject.processor.decode(list(row.ids[:-1]))) for row in rows]

    asked: set[str] = set()
    for seed in range(8):
        first, second, third = texts(seed)
        assert second in ("Q: When was Ada born? A:In May.", "Q: When was Ada born? A:It was May.")
        assert third == "Q: Who is Bob? A:A poet of the old town."
        asked.add(first)
    assert asked == {"Q: Where is Ada? A:In Rome.", "Q: What is home to Ada? A:In Rome."}
    assert texts(0) == texts(0) == texts(None)  # the run's seed is 0
    answers = {text.split("A:")[1] for seed in range(8) for text in texts(seed, forget_loss="refusal")}
    assert answers == {"No idea.", "I do not know."}


@pytest.mark.parametrize(("samples", "count"), [(None, 3), (1, 1), (4, 4), (50, 4)])
def test_retain_examples_are_drawn_once_each(subject: Subject, samples: int | None, count: int, task: Task) -> None:
    drawn = set()
    for seed in range(5):
        rows = Interaction(retain_samples=samples, seed=seed).retain_rows(subject, task, 0)
        questions = {str(subject.processor.decode(list(row.ids[: row.n_prompt]))) for row in rows}
        assert len(rows) == len(questions) == count
        drawn.add(tuple(row.ids for row in rows))
    assert len(drawn) > 1


def test_tasks_that_lack_something(task: Task) -> None:
    sets = {name: rows for name, rows in task.sets.items() if name != "refusal"}
    mute: Any = replace(task, sets=sets, beside={})
    for localizer in (Gradient, Snip, Interaction, Wagle):
        localizer().check(mute, RUN)
        with pytest.raises(UserError, match="no refusals"):
            localizer(forget_loss="refusal").check(mute, RUN)


def test_weights_without_a_score_are_told_of(subject: Subject, capsys: pytest.CaptureFixture[str], task: Task) -> None:
    """Embeddings of characters that occur in no row have no gradient."""
    Gradient(select=0.3).localize(subject, task, 0)
    assert "score 0" not in capsys.readouterr().err
    located = Gradient(select=0.99).localize(subject, task, 0)
    numbers = located.numbers
    assert numbers["zero_scores"] >= 16
    assert numbers["threshold"] == 0
    assert numbers["zero_selected"] == numbers["selected"] - (numbers["scored"] - numbers["zero_scores"]) > 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"{numbers['zero_selected']} of the {numbers['selected']} selected weights have score 0" in said


def test_gradients_that_overflow(subject: Subject, task: Task) -> None:
    with torch.no_grad():
        subject.module.model.norm.weight.fill_(torch.inf)
    with pytest.raises(UserError, match="not finite"):
        Gradient().localize(subject, task, 0)
