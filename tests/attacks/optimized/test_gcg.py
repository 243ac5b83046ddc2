"""GCG: the search never ends worse than it began, and its strings are ones that could be sent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from beside import NO_REFERENCES
from prompted import PAIRS, POSED, hooks_of, setting_of, subject_of

from unlearn.attacks.optimized.gcg import GCG
from unlearn.attacks.optimized.strings import insert
from unlearn.data.task import Question

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

SMALL = GCG(steps=(3, 8), length=5, width=12, topk=20, items=2, progressive=False)


def weights(model: PreTrainedModel) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize(
    "attack",
    [
        SMALL,
        replace(SMALL, where="prefix"),
        replace(SMALL, progressive=True, buffer=3),
        replace(SMALL, n_replace=(4, 2, 1), mellowmax=1.0),
        replace(SMALL, prefix_cache=False, early_stop=True),
    ],
)
def test_the_best_loss_is_never_above_the_first_and_falls(attack: GCG) -> None:
    subject, said = subject_of(), {}
    search = attack.search(subject, POSED, 0, lambda step, text: said.update({step: text}))
    assert list(said) == [3, 8]
    assert search.best[0] < search.loss(search.start)
    assert search.best[0] == pytest.approx(search.loss(search.best[1]), rel=1e-4)
    ids = search.best[1]
    assert len(ids) == 5
    for question, answer in PAIRS:
        row = subject.prompt.encode(subject.processor, insert(question, said[8], attack.where), answer)
        assert any(row.ids[i : i + 5] == ids for i in range(len(row.ids)))


def test_the_loss_is_the_mean_over_items_of_what_the_model_says_to_the_text() -> None:
    subject, said = subject_of(), []
    search = SMALL.search(subject, POSED, 0, lambda step, text: said.append(text))
    losses = []
    for question, answer in PAIRS:
        row = subject.prompt.encode(subject.processor, f"{question} {said[-1]}", answer)
        with torch.no_grad():
            logits = subject.module(input_ids=torch.tensor([row.ids])).logits[0]
        wanted = torch.tensor(row.ids[row.n_prompt :])
        losses.append(torch.nn.functional.cross_entropy(logits[row.n_prompt - 1 : -1], wanted).item())
    assert search.best[0] == pytest.approx(sum(losses) / 2, rel=1e-4)


def test_items_come_in_one_by_one_as_they_are_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    from unlearn.attacks.optimized.coordinate_search import CoordinateSearch

    monkeypatch.setattr(CoordinateSearch, "solved", lambda self: self.active < 2)
    search = replace(SMALL, progressive=True, items=3).search(
        subject_of(), [*POSED, (Question("Who?", "Me."), "Me.")], 0, lambda step, text: None
    )
    assert search.active == 2
    assert search.best[0] <= search.loss(search.start)


def test_a_solved_search_stops_early_and_still_fills_its_ladder(monkeypatch: pytest.MonkeyPatch) -> None:
    from unlearn.attacks.optimized.coordinate_search import CoordinateSearch

    monkeypatch.setattr(CoordinateSearch, "solved", lambda self: True)
    said: list[str] = []
    replace(SMALL, early_stop=True).search(subject_of(), POSED, 0, lambda step, text: said.append(text))
    assert len(said) == 2
    assert said[0] == said[1]


def test_probe_sampling_asks_the_model_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unlearn.attacks.optimized.coordinate_search import AnswerLoss

    subject, asked = subject_of(), []
    subject.module.save_pretrained(tmp_path)
    subject.processor.save_pretrained(tmp_path)
    original = AnswerLoss.losses

    def counted(self: AnswerLoss, candidates: list, frames: int | None = None) -> torch.Tensor:
        asked.append(len(candidates))
        return original(self, candidates, frames)

    monkeypatch.setattr(AnswerLoss, "losses", counted)
    attack = replace(SMALL, draft=str(tmp_path), width=64, steps=(2,))
    search = attack.search(subject, POSED, 0, lambda step, text: None)
    assert search.best[0] < search.loss(search.start)
    assert sum(asked) < 2 * 20  # of 2 * 64: the draft is the model itself, so they agree


def test_the_outcomes_are_those_of_every_model_and_the_model_is_left_alone() -> None:
    subject, setting = subject_of(), setting_of(seeds=(0, 1))
    before = weights(subject.module)
    first, again = (SMALL.attack(subject, setting, NO_REFERENCES).outcomes for _ in range(2))
    assert [(o.variant, o.seed, o.budget) for o in first] == [
        ("3 steps", 0, 3.0),
        ("8 steps", 0, 8.0),
        ("3 steps", 1, 3.0),
        ("8 steps", 1, 8.0),
    ]
    assert [o.texts for o in first] == [o.texts for o in again]
    assert all(len(o.known) == 3 and o.self_estimate is not None for o in first)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(subject.module), strict=True))
    assert all(parameter.requires_grad for parameter in subject.module.parameters())
    assert hooks_of(subject) == 0


def test_it_asks_with_the_string_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from unlearn.data.prompt import PromptFormat

    subject, setting, seen = subject_of(), setting_of(), set()
    original = PromptFormat.encode_prompts

    def note(self: PromptFormat, tokenizer: object, questions: list[str]) -> list[list[int]]:
        seen.update(questions)
        return original(self, tokenizer, questions)  # type: ignore[arg-type]

    said: list[str] = []
    replace(SMALL, steps=(2,)).search(
        subject,
        [(i.probe, i.probe.answer) for i in setting.attacker_items[:2]],
        0,
        lambda s, t: said.append(t),
    )
    monkeypatch.setattr(PromptFormat, "encode_prompts", note)
    from unlearn.attacks.optimized.strings import evaluate_beside

    evaluate_beside(subject, setting, said[0], "suffix", 2, 0)
    assert {f"{item.probe.question} {said[0]}" for item in (*setting.attacker_items, *setting.held_out_items)} <= seen
    assert not {item.probe.question for item in setting.held_out_items} & seen


def test_an_unlucky_step_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from unlearn.attacks.optimized.strings import Slot

    monkeypatch.setattr(Slot, "survivors", lambda self, frames, candidates: [])
    search = SMALL.search(subject_of(), POSED, 0, lambda step, text: None)
    assert search.best[1] == search.start
