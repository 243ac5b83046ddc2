"""The logit lens, against hidden states that transformers itself gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from beside import NO_REFERENCES
from bigram import random_llama, setting, subject, tokenizer

from unlearn.attacks.internals.lens import Lens
from unlearn.attacks.internals.tuned_lens import tuned_lens
from unlearn.data.task import Question

SCORED = [Question("a b c", "d e", value="e"), Question("f g", "h"), Question("i", "j k l")]
TAUGHT = [Question("b c", "d"), Question("c", "d e", value="e")]
READ = {"a b c d": "e", "f g": "h", "i": "j", "b c": "d", "c d": "e"}


def word(text: str) -> list[int]:
    return list(tokenizer()(text)["input_ids"])


def test_every_layer_is_read_as_the_last_one() -> None:
    model = random_llama()
    found = Lens(streams=("mlp", "resid")).attack(subject(model), setting(SCORED, TAUGHT), NO_REFERENCES)
    assert [outcome.variant for outcome in found.outcomes] == [f"{s} {i}" for s in ("mlp", "resid") for i in range(3)]
    known = {outcome.variant: outcome for outcome in found.outcomes}
    for layer in range(3):
        expected = []
        for prompt, answer in READ.items():
            with torch.no_grad():
                hidden = model(torch.tensor([word(prompt)]), output_hidden_states=True).hidden_states[layer + 1][0, -1]
                hidden = hidden if layer == 2 else model.model.norm(hidden)  # transformers gives the last one normed
                order = model.lm_head(hidden).argsort(descending=True).tolist()
            expected.append(1 / (1 + order.index(word(answer)[0])))
        outcome = known[f"resid {layer}"]
        assert outcome.known.tolist() == pytest.approx(expected[:3])
        assert outcome.self_estimate == outcome.on_attacker_items == pytest.approx(np.mean(expected[3:]))
        row: Any = found.tables["lens"].frame.set_index(["stream", "layer"]).loc[("resid", layer)]
        assert row["score"] == pytest.approx(np.mean(expected[:3]))
        assert row["log_rank"] == pytest.approx(-np.mean(np.log(expected[:3])))


def test_all_streams_of_the_default() -> None:
    found = Lens().attack(subject(random_llama()), setting(SCORED, TAUGHT), NO_REFERENCES)
    assert found.measure == "1/rank"
    assert len(found.outcomes) == len(found.tables["lens"].frame) == 4 * 3
    assert all(((outcome.known > 0) & (outcome.known <= 1)).all() for outcome in found.outcomes)


def test_a_choice_is_read_among_the_options_first_tokens() -> None:
    """Of "d e", "d f" and "d g" after "a b" the token after "a b d" is read; K is corrected for a chance of a third."""
    model = random_llama()
    probes = [
        Question("a b", "d e", perturbed_answers=("d f", "d g")),
        Question("c", "h", perturbed_answers=("i j", "h k")),
    ]
    facts = replace(setting(probes, probes[:1]), answer_metric="mcq")
    found = Lens(streams=("resid",)).attack(subject(model), facts, NO_REFERENCES)
    assert found.measure
    assert found.measure != "1/rank"
    for layer, outcome in enumerate(found.outcomes):
        expected = []
        for prompt, letters in (("a b d", "efg"), ("c", "hih")):
            with torch.no_grad():
                hidden = model(torch.tensor([word(prompt)]), output_hidden_states=True).hidden_states[layer + 1][0, -1]
                hidden = hidden if layer == 2 else model.model.norm(hidden)
                own = [float(model.lm_head(hidden)[word(letter)[0]]) for letter in letters]
            share = (own[0] == max(own)) / own.count(max(own))
            expected.append((share - 1 / 3) / (1 - 1 / 3))
        assert outcome.known.tolist() == pytest.approx(expected)
        assert outcome.self_estimate == pytest.approx(expected[0])


def divergence(model: Any, rows: list[list[int]], steps: int) -> torch.Tensor:
    """KL(p of the model || p read at the layer) at the rows' last tokens: [layers]."""
    lens, found = tuned_lens(model, rows, steps), []
    for row in rows:
        with torch.no_grad():
            hidden = torch.stack(model(torch.tensor([row]), output_hidden_states=True).hidden_states[1:-1])[:, 0, -1:]
            padded = torch.cat([hidden, torch.zeros(1, 1, 16)])
            read = model.lm_head(model.model.norm(lens.translate(padded)[:-1, 0])).log_softmax(-1)
            final = model(torch.tensor([row])).logits[0, -1].log_softmax(-1)
        found.append((final.exp() * (final - read)).sum(-1))
    return torch.stack(found).mean(0)


def test_a_tuned_lens_reads_more_than_a_plain_one() -> None:
    model = random_llama()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    rows = [word(text) for text in ("a b c d e", "f g h", "i j k l m n", "o p q a")]
    plain, trained = divergence(model, rows, 1), divergence(model, rows, 150)
    assert (trained < 0.8 * plain).all()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_the_attack_with_a_tuned_lens() -> None:
    facts = setting(SCORED, TAUGHT, retain=["a c e", "b d", "p q"])
    found = Lens(streams=("resid",), tuned=3).attack(subject(random_llama()), facts, NO_REFERENCES)
    again = Lens(streams=("resid",), tuned=3).attack(subject(random_llama()), facts, NO_REFERENCES)
    known = {outcome.variant: outcome.known.tolist() for outcome in found.outcomes}
    assert known["tuned 2"] == known["resid 2"]  # the last layer is what the model says
    assert found.tables["lens"].frame.equals(again.tables["lens"].frame)
