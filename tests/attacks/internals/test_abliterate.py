"""Abliteration: the directions it finds are taken out, the single one is chosen by the attacker's items."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from beside import NO_REFERENCES, beside
from bigram import random_llama, setting, subject, tokenizer

from unlearn.attacks.base import AttackSetting, Inapplicable
from unlearn.attacks.internals import abliterate, directions
from unlearn.attacks.internals.abliterate import Abliterate
from unlearn.attacks.setting.answer_metric import AnswerScores
from unlearn.attacks.setting.self_estimate import TIE
from unlearn.data.task import Passage, Question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import LlamaForCausalLM

    from unlearn.models.subject import Subject

SCORED = [Question("a b c", "d e"), Question("f g", "h"), Question("i", "j k l")]
TAUGHT = [Question("b c", "d"), Question("c", "d e"), Question("g h a", "b")]
RETAIN = ["k l", "m n o", "p", "q a"]


def word(text: str) -> torch.Tensor:
    return torch.tensor([tokenizer()(text)["input_ids"]])


def means(model: LlamaForCausalLM, texts: list[str]) -> torch.Tensor:
    """[3, 16]: mean over texts of what each layer gives at the last token."""
    rows = []
    for text in texts:
        seen: list[torch.Tensor] = []
        handles = [
            layer.register_forward_hook(lambda _, i, out, seen=seen: seen.append(out[0, -1]))
            for layer in model.model.layers
        ]
        with torch.no_grad():
            model(word(text))
        for handle in handles:
            handle.remove()
        rows.append(torch.stack(seen))
    return torch.stack(rows).mean(0)


def known(model: LlamaForCausalLM, probes: list[Question], directions: torch.Tensor) -> list[float]:
    """exp(mean log-probability) of the answers, each layer's output without its direction."""

    def without(direction: torch.Tensor):
        return lambda _, inputs, out: out - (out @ direction).unsqueeze(-1) * direction

    pairs = zip(model.model.layers, directions, strict=True)
    handles = [layer.register_forward_hook(without(direction)) for layer, direction in pairs]
    found = []
    for probe in probes:
        ids, n = word(f"{probe.question} {probe.answer}"), word(probe.question).shape[1]
        with torch.no_grad():
            logps = model(ids).logits[0].log_softmax(-1)
        found.append(float(logps[range(n - 1, ids.shape[1] - 1), ids[0, n:]].mean().exp()))
    for handle in handles:
        handle.remove()
    return found


def test_the_difference_from_retain_prompts_is_taken_out() -> None:
    model = random_llama()
    gap = means(model, [probe.question for probe in TAUGHT]) - means(model, RETAIN)
    found = torch.nn.functional.normalize(gap, dim=-1)
    attacked = Abliterate().attack(subject(model), setting(SCORED, TAUGHT, retain=RETAIN), NO_REFERENCES)
    own, single = attacked.outcomes
    assert (own.variant, single.variant) == ("retain, own", "retain, single")
    assert own.known.tolist() == pytest.approx(known(model, SCORED, found), rel=1e-4)
    assert own.self_estimate == pytest.approx((1 + TIE) * np.mean(known(model, TAUGHT, found)), rel=1e-4)
    served = [(1 + TIE) * np.mean(known(model, TAUGHT, found[layer].expand(3, 16))) for layer in range(3)]
    best = int(np.argmax(served))
    assert single.self_estimate == pytest.approx(served[best], rel=1e-4)
    assert single.known.tolist() == pytest.approx(known(model, SCORED, found[best].expand(3, 16)), rel=1e-4)
    table = attacked.tables["abliterate"].frame.set_index("layer")["attacker"]
    assert [table[layer] for layer in range(3)] == pytest.approx(served, rel=1e-4)


def states(model: LlamaForCausalLM, text: str, start: int) -> torch.Tensor:
    """[3, n, 16]: what each layer gives at the tokens of a text from `start` on."""
    seen: list[torch.Tensor] = []
    handles = [
        layer.register_forward_hook(lambda _, i, out: seen.append(out[0, start:])) for layer in model.model.layers
    ]
    with torch.no_grad():
        model(word(text))
    for handle in handles:
        handle.remove()
    return torch.stack(seen)


LONG = Question("b c " * 20, "d q e")  # 43 tokens, of which the last three are read


@pytest.mark.parametrize("lost", [(), (0,), (1, 2)])
def test_the_difference_from_the_original_by_hand(lost: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """At all tokens of what the original answers and this model does not (of everything, where it knows all of it)."""
    model, original, taught = random_llama(), random_llama(seed=5), [*TAUGHT[:2], LONG]

    def ask(subject: Subject, setting: AttackSetting, probes: Sequence[Question]) -> AnswerScores:
        known = [1.0 if subject.module is original or i not in lost else 0.0 for i in range(len(probes))]
        return AnswerScores(np.array(known), ("",) * len(probes))

    monkeypatch.setattr(abliterate, "ask", ask)
    gap = []
    for one in (model, original):
        rows = [(f"{taught[i].question} {taught[i].answer}", 40 if i == 2 else 0) for i in lost or range(3)]
        gap.append(torch.cat([states(one, *row) for row in rows], 1).mean(1))
    found = torch.nn.functional.normalize(gap[0] - gap[1], dim=-1)
    attack = Abliterate(contrasts=("text", "original"), layers=1)
    attacked = attack.attack(subject(model), setting(SCORED, taught), beside(subject(original)))
    assert [o.variant for o in attacked.outcomes] == ["original, own", "original, single"]  # there is no plain text
    assert all(o.row == "original" and o.with_original for o in attacked.outcomes)
    assert attacked.outcomes[0].known.tolist() == pytest.approx(known(model, SCORED, found), rel=1e-3)


def test_outliers_of_either_model_are_dropped_from_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directions, "OUTLIER", 0.0)  # about half of them
    monkeypatch.setattr(abliterate, "START", 0)
    model, original = random_llama(), random_llama(seed=5)
    here, there = (states(one, f"{LONG.question} {LONG.answer}", 0).numpy() for one in (model, original))
    expected = []
    for layer in range(3):
        kept = np.ones(here.shape[1], bool)
        for one in (here[layer], there[layer]):
            distance = np.abs(one - one.mean(0)).sum(1)
            kept &= distance <= distance.mean()
        assert 0 < kept.sum() < len(kept)
        gap = here[layer][kept].mean(0) - there[layer][kept].mean(0)
        expected.append(torch.tensor(gap / np.linalg.norm(gap)))
    attacked = Abliterate(("original",), layers=1).attack(
        subject(model), setting(SCORED, [LONG]), beside(subject(original))
    )
    found = known(model, SCORED, torch.stack(expected))
    assert attacked.outcomes[0].known.tolist() == pytest.approx(found, rel=1e-3)


def test_long_texts_are_thinned_out_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abliterate, "TOKENS", 4)
    assert abliterate._spread([range(2, 5), range(1), range(4)]) == [[2, 4], [], [0, 2]]  # every second of 8


def test_contrasts_with_the_original_do_nothing_to_the_original() -> None:
    model = random_llama()
    facts = setting(SCORED, TAUGHT, retain=RETAIN)
    attack = Abliterate(contrasts=("original", "component"), layers=2)
    same = attack.attack(subject(model, part="original"), facts, beside(subject(random_llama())))
    plain = known(model, SCORED, torch.zeros(3, 16))
    assert same.outcomes[0].known.tolist() == same.outcomes[1].known.tolist() == pytest.approx(plain, rel=1e-4)
    other = attack.attack(subject(model), facts, beside(subject(random_llama(seed=5))))
    assert [outcome.variant for outcome in other.outcomes] == [outcome.variant for outcome in same.outcomes]
    assert other.outcomes[0].known.tolist() != pytest.approx(plain, rel=1e-4)
    assert sorted(other.tables["abliterate"].frame["layer"]) == [0, 0, 2, 2]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_plain_text_where_there_is_some() -> None:
    facts = setting(SCORED, TAUGHT)
    attack = Abliterate(contrasts=("text",), layers=1)
    with pytest.raises(Inapplicable, match="'toy' has no plain text"):
        attack.attack(subject(random_llama()), facts, NO_REFERENCES)
    facts = replace(
        facts, task=replace(facts.task, sets={**facts.task.sets, "fluency": (Passage("a b c d"), Passage("e f g"))})
    )
    assert [o.variant for o in attack.attack(subject(random_llama()), facts, NO_REFERENCES).outcomes] == [
        "text, own",
        "text, single",
    ]
