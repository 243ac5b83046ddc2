"""Items are put with the prompt and the answer length of the probe set that they come from."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import prompted
import pytest
from beside import NO_REFERENCES
from birthdays import FORGET, PROMPT, original, subject, tokenizer
from birthdays import setting as all_alike

from unlearn.attacks.items import forget_items
from unlearn.attacks.optimized.softprompt import InputVectors
from unlearn.attacks.optimized.strings import Slot
from unlearn.attacks.prompts.ask import ask_variants
from unlearn.attacks.prompts.conversation import ask_after
from unlearn.attacks.prompts.extract import Extract
from unlearn.attacks.prompts.sample import Sample
from unlearn.attacks.setting.answer_metric import ask
from unlearn.attacks.setting.putting import encode_answers, encode_questions
from unlearn.data.posed import Posed, longest_answer, posed
from unlearn.data.prompt import PromptFormat
from unlearn.data.task import ProbeSet, Question
from unlearn.score import generate as generation
from unlearn.score.generations import Generations
from unlearn.score.tokens import Tokens

if TYPE_CHECKING:
    from unlearn.attacks.base import Attack, AttackSetting

TWICE = PromptFormat(chat_template=False, user_start="born born ", answer_start=" ", eos=False)
N = 6


def two_sets() -> AttackSetting:
    """Six people asked as the run asks, with answers of one token, and six in another format, of at most three."""
    whole = all_alike()
    probes = (
        ProbeSet("forget", "forget", FORGET[:N], max_new_tokens=1),
        ProbeSet("turned", "forget", FORGET[N : 2 * N], prompt=TWICE, max_new_tokens=3),
    )
    task = replace(whole.task, probes=probes)
    items = forget_items(task)
    return replace(whole, task=task, attacker_items=items[:2], held_out_items=items[2:], retain=())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What is generated from: the prompt's text and the longest answer."""
    seen: list[tuple[str, int]] = []
    real = generation.generate

    def seeing(model: Any, tokens: Any, prompts: Any, limit: int, *args: Any, **options: Any) -> list[str]:
        seen.extend((tokens.decode(list(ids)), limit) for ids in prompts)
        return real(model, tokens, prompts, limit, *args, **options)

    monkeypatch.setattr(generation, "generate", seeing)
    return seen


def wanted(before: str = "") -> list[tuple[str, int]]:
    """The held-out questions as their sets put them."""
    return [(f"born {before}n{i}", 1) for i in range(2, N)] + [(f"born born {before}n{i}", 3) for i in range(N, 2 * N)]


def test_a_question_keeps_how_its_set_is_put_also_in_other_words() -> None:
    setting = two_sets()
    first, last = setting.attacker_items[0].probe, setting.held_out_items[-1].probe
    assert isinstance(last, Posed)
    assert (last.prompt, last.max_new_tokens) == (TWICE, 3)
    again = replace(last, question="n1", value=None)
    assert isinstance(again, Posed)
    assert again.prompt == TWICE
    assert longest_answer(again, setting.task) == 3
    assert longest_answer(first, setting.task) == 1
    assert longest_answer(Question("n1", "1999"), setting.task) == 3


def test_where_all_are_put_alike_the_questions_are_the_dataset_s_own() -> None:
    task = all_alike().task
    assert all(mine is its for mine, its in zip(posed(task, "forget"), FORGET, strict=True))


def test_ids_are_those_of_scoring() -> None:
    setting, model = two_sets(), subject(original())
    probes = [item.probe for item in (*setting.attacker_items, *setting.held_out_items)]
    asked = encode_questions(model, probes)
    assert asked[:N] == PROMPT.encode_prompts(tokenizer(), [p.question for p in probes[:N]])
    assert asked[N:] == TWICE.encode_prompts(tokenizer(), [p.question for p in probes[N:]])
    rows = encode_answers(model, [(probe, probe.answer) for probe in probes])
    assert rows[0] == PROMPT.encode(tokenizer(), "n0", FORGET[0].answer)
    assert rows[N] == TWICE.encode(tokenizer(), f"n{N}", FORGET[N].answer)


def test_answers_and_likelihoods_are_those_of_scoring(asked: list[tuple[str, int]]) -> None:
    setting, model = two_sets(), subject(original())
    said = ask(model, setting, setting.questions, "gen").texts
    assert sorted(asked) == sorted(wanted())
    scored = Generations().score(model, setting.task, NO_REFERENCES)["generations"].frame
    assert list(said) == list(scored["generation"])[2:]
    likely = ask(model, setting, setting.questions, "prob").known
    tokens = Tokens().score(model, setting.task, NO_REFERENCES)["tokens"].frame
    means = [math.exp(logp.mean()) for logp in tokens["logp"]]
    assert likely.tolist() == pytest.approx(means[2:], rel=1e-5)
    assert [len(logp) for logp in tokens["logp"]] == [2] * N + [1] * N  # without EOS in the other format


def test_a_form_of_prompts_is_one_of_all_sets(asked: list[tuple[str, int]]) -> None:
    setting, model = two_sets(), subject(original())
    ask_variants(model, setting, {"plain": setting.questions}, "gen")
    assert sorted(asked) == sorted(wanted())
    asked.clear()
    ask_after(model, setting, [(("n30", "n31"),)] * 10, setting.questions, "gen")
    assert sorted(asked) == sorted(
        [(f"born n30 n31 born n{i}", 1) for i in range(2, N)]
        + [(f"born born n30 n31 born born n{i}", 3) for i in range(N, 2 * N)]
    )


@pytest.mark.parametrize(
    ("attack", "limits"),
    [(Extract((0.5,)), {1, 3}), (Sample(2, ks=(1,)), {1, 3}), (Sample(1, ks=(1,), max_new_tokens=2), {1, 2})],
)
def test_attacks_generate_from_each_set_in_its_way(
    attack: Attack, limits: set[int], asked: list[tuple[str, int]]
) -> None:
    setting = two_sets()
    attack.attack(subject(original()), setting, NO_REFERENCES)
    assert {limit for _, limit in asked} == limits
    assert {text.startswith("born born") for text, limit in asked if limit == 1} == {False}
    assert {text.startswith("born born") for text, limit in asked if limit > 1} == {True}


def test_what_is_optimised_is_put_as_it_is_asked() -> None:
    model = prompted.subject_of()
    other = replace(model.prompt, user_start="the home ")
    own, turned = Question("Where is Ada?", "Rome."), Posed("Where is Ada?", "Rome.", prompt=other)
    pairs = [(own, "Rome."), (turned, "Rome.")]
    plain, held = encode_answers(model, pairs), encode_answers(InputVectors(model, 2, 1.0, 0).subject, pairs)
    assert [row.n_prompt for row in held] == [row.n_prompt + 2 for row in plain]
    slot = Slot(model, "suffix")
    ids, frames = slot.start(pairs, 2)
    texts = [str(model.processor.decode([*frame.before, *ids])) for frame in frames]
    assert texts[1] == f"the home {texts[0]}"
    assert texts[0].startswith("Where is Ada?")
