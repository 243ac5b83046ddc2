"""Fact lookup: the rules that choose layers, what they read, and the errors; parity has the numbers."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch
from helpers import RUN
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from unlearn.localize.mechanisms import fact_lookup
from unlearn.localize.mechanisms.fact_lookup import PRESETS, FactLookup, lookup_range, receiver_layer
from unlearn.localize.mechanisms.facts import corrupt_facts, encode_facts
from unlearn.localize.mechanisms.patching import contrast
from unlearn.localize.mechanisms.path_patching import direct_effects, enrichment
from unlearn.models.layout import layout
from unlearn.models.prompts import collate
from unlearn.models.sites import capture, edited, logits_at
from unlearn.runtime.errors import UserError
from unlearn.score import residuals

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.localize.base import Localization
    from unlearn.models.subject import Subject


def layers(located: Localization) -> list[int]:
    """Layers whose MLP is selected; asserts that nothing else is, and that each is whole."""
    names = [name for name, count in located.mask.counts.items() if count]
    assert all(".mlp." in name and located.mask.tensors[name] is True for name in names)
    return sorted({int(name.split(".")[2]) for name in names})


# Accuracies that the paper's code gave on 500 athletes, by layer from 0 on, of three classes; all rise to 1 in the end.
CURVES = {
    "gemma-7b": (".44 .48 .63 .85 .97 .97 1", ".37 .45 .43 .40 .57 .65 .97 1", range(2, 7)),
    "gemma-2-9b": (".50 .57 .73 .97 .99 1", ".39 .41 .43 .45 .96 .96 1", range(2, 7)),
    "llama-3-8b": (".42 .63 .92 1", ".36 .36 .41 .75 .96 .98 1", range(1, 6)),
}


@pytest.mark.parametrize("model", CURVES)
def test_the_rule_on_published_curves(model: str) -> None:
    name, full, expected = CURVES[model]
    found = lookup_range(list(map(float, name.split())), list(map(float, full.split())), 1 / 3, 0.4, 0.97)
    assert found == expected
    assert len(set(found) ^ set(PRESETS[f"sports/{model}"])) <= 1  # near what the authors chose by eye


def test_the_rule_by_hand() -> None:
    name = [0.5, 0.61, 0.62, 0.8, 0.7]  # chance 0.5, maximum 0.8: risen at 0.62
    assert lookup_range(name, [0.1, 0.2, 0.3, 0.96, 1.0], 0.5, 0.4, 0.96) == range(2, 4)
    assert lookup_range(name, [0.9, 1.0, 1.0, 1.0, 1.0], 0.5, 0.4, 0.96) == range(2, 3)  # never empty


def test_the_receiver_is_the_earliest_layer_of_the_strongest_heads() -> None:
    scores = [[9.0, 9.0], [0.1, 0.1], [0.0, -0.5], [0.4, 0.1], [0.6, 0.0], *[[0.0, 0.0]] * 15]  # 40 heads: 4 count
    assert receiver_layer(scores, 1) == 4
    assert receiver_layer(scores, 2) == receiver_layer(scores, 3) == 2
    assert receiver_layer([*scores[:2], [0.0, 0.05], *scores[3:]], 10) == 1
    with pytest.raises(UserError, match="two layers"):
        receiver_layer([[1.0, 2.0]], 10)


def test_layers_that_probes_read_become_the_mask(subject: Subject, monkeypatch: pytest.MonkeyPatch, task: Task) -> None:
    """A class is made readable from the name at layer 1 and from the prompt at layer 2, in a model of 3 layers."""
    sports, n = ("football", "tennis", "golf"), 90
    fact = task.facts[0]
    facts = tuple(dataclasses.replace(fact, label=sports[i % 3]) for i in range(n))
    facts = tuple(
        dataclasses.replace(f, entity=f"Ann{'x' * i}", prompt=f"Ann{'x' * i} plays") for i, f in enumerate(facts)
    )
    signal = 9 * torch.eye(3)[torch.arange(n) % 3]
    asked = []

    def read(model: object, prompts: list[tuple[int, ...]], *ignored: object) -> Tensor:
        asked.append(prompts)
        features = torch.randn(3, n, 6, generator=torch.Generator().manual_seed(len(asked)))
        features[3 - len(asked) :, :, :3] += signal  # the full prompts are read first
        return features

    monkeypatch.setattr(residuals, "last_residuals", read)
    task = dataclasses.replace(task, facts=(*facts, fact.__class__("No label", "label", " x")))
    located = FactLookup(probe_facts=n + 1).localize(subject, task, 0)
    assert layers(located) == [1, 2]
    full, name = asked
    texts = [str(subject.processor.decode(list(ids))).rstrip() for ids in (full[2], name[2])]
    assert texts == [f"Q: {facts[2].prompt} A:", "Annxx"]

    table = located.tables["probes"].frame
    assert table.shape == (6, 5)
    assert set(table["prompt"]) == {"full", "name"}
    assert located.numbers["chance"] == pytest.approx(1 / 3)
    accuracy = table.set_index(["prompt", "layer"])["accuracy"]
    assert accuracy["name", 1] == accuracy["full", 2] == 1
    assert accuracy["name", 0] < 0.7
    assert (table["control"] < 0.7).all()


def test_no_subject_is_both_taught_and_tested(subject: Subject, monkeypatch: pytest.MonkeyPatch, task: Task) -> None:
    """Every subject has its own random features and a random label: facts seen before would be known by heart."""
    n, generator = 40, torch.Generator().manual_seed(0)
    labels = ["ab"[int(i)] for i in torch.randint(2, (n,), generator=generator)]
    fact = task.facts[0]
    facts = tuple(
        dataclasses.replace(fact, entity="x" * (i + 1), prompt="x" * (i + 1), label=labels[i]) for i in range(n)
    )
    features = torch.randn(3, n, 200, generator=generator).repeat(1, 4, 1)
    monkeypatch.setattr(residuals, "last_residuals", lambda *ignored: features)
    task = dataclasses.replace(task, facts=facts * 4)
    table = FactLookup().localize(subject, task, 0).tables["probes"].frame
    assert (table["accuracy"] < 0.9).all()


def pairs_of(subject: Subject, task: Task) -> list:
    facts = encode_facts(subject, task)
    return list(zip(facts, corrupt_facts(facts, subject.processor, 3), strict=True))


def test_direct_effects_are_those_of_a_small_step(subject: Subject, task: Task) -> None:
    """All heads' outputs are held at their corrupt values but one, which goes 1% towards its clean one, and 1% away."""
    model, step = subject.module.double(), 0.01
    parts, pairs = layout(model), pairs_of(subject, task)
    direct = direct_effects(model, parts, pairs, 1000)
    facts, keys = [fact for fact, _ in pairs], [(layer, "z") for layer in range(3)]
    clean, corrupt = (collate([fact.ids for fact in side], "cpu") for side in zip(*pairs, strict=True))
    wanted, held = capture(model, parts, keys, clean)[1], capture(model, parts, keys, corrupt)[1]
    for layer, head in ((0, 0), (1, 3), (2, 1)):
        metrics = []
        for sign in (1, -1):
            moved = {key: value.clone() for key, value in held.items()}
            change = wanted[layer, "z"] - held[layer, "z"]
            moved[layer, "z"][:, :, head] += sign * step * change[:, :, head]
            edits = [(parts.site(*key), lambda old, new=moved[key]: new.flatten(-2)) for key in keys]
            with torch.no_grad(), edited(*edits):
                metrics.append(contrast(logits_at(model, corrupt.ids, corrupt.index), facts))
        effect = (metrics[0] - metrics[1]) / (2 * step)
        assert effect.abs().max() > 0.01
        torch.testing.assert_close(direct.patched[:, layer, head] - direct.corrupt, effect, rtol=1e-3, atol=1e-4)


def test_effects_do_not_depend_on_how_facts_are_batched(subject: Subject, task: Task) -> None:
    parts, pairs = layout(subject.module), pairs_of(subject, task)
    for effects in (direct_effects, partial(enrichment, receiver=2)):
        one, all_ = (effects(subject.module, parts, pairs, token_budget=budget) for budget in (1, 10_000))
        torch.testing.assert_close(one.patched, all_.patched, rtol=1e-4, atol=1e-5)


FAMILIES: dict[str, dict[str, object]] = {
    "gpt2": {"n_layer": 4, "n_head": 2, "n_embd": 16, "n_positions": 64},
    "gpt_neox": {},
    "gemma2": {"num_key_value_heads": 1, "head_dim": 8, "sliding_window": 4},
    "phi": {},
    "opt": {"ffn_dim": 24, "max_position_embeddings": 64, "word_embed_proj_dim": 16},
    "qwen3": {"num_key_value_heads": 1, "head_dim": 8},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_enrichment_in_other_families(subject: Subject, family: str, task: Task) -> None:
    """Beginning at the receiver gives what a whole corrupt run gives with the change added there by a hook."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 24}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1, "vocab_size": len(subject.processor)}
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **(special | FAMILIES[family] | ({} if family == "gpt2" else sizes)))
    model = AutoModelForCausalLM.from_config(config).eval()
    parts, pairs = layout(model), pairs_of(subject, task)[-2:]
    found = enrichment(model, parts, pairs, 3, 1000)
    for i, (fact, broken) in enumerate(pairs):
        clean, corrupt = collate([fact.ids], "cpu"), collate([broken.ids], "cpu")
        for layer in range(3):
            key = (layer, "mlp_out")
            change = capture(model, parts, [key], clean)[1][key] - capture(model, parts, [key], corrupt)[1][key]
            with torch.no_grad(), edited((parts.site(2, "resid"), partial(torch.add, change.squeeze(-2)))):
                metric = contrast(logits_at(model, corrupt.ids, corrupt.index), [fact])
            torch.testing.assert_close(found.patched[i, layer], metric[0], rtol=1e-4, atol=1e-6)


def known(task: Task, swap: bool) -> Task:
    """One fact, which the model's random weights speak for, or (swapped) against."""
    (fact,) = task.facts[:1]
    answers = (fact.answer, fact.foils[0]) if not swap else (fact.foils[0], fact.answer)
    fact = dataclasses.replace(fact, answer=answers[0], foils=answers[1:], label="")
    return dataclasses.replace(task, facts=(fact,))


def test_paths_become_the_mask(subject: Subject, task: Task) -> None:
    either = [known(task, swap) for swap in (False, True)]
    gaps = [direct_effects(subject.module, layout(subject.module), pairs_of(subject, one), 1000).gap for one in either]
    assert gaps[0] == pytest.approx(-gaps[1], rel=1e-4)
    seed3 = FactLookup(seed=3, threshold=0, receiver=2)
    with pytest.raises(UserError, match="does not know the facts"):
        seed3.localize(subject, either[gaps[0] > 0], 0)
    before = {name: p.detach().clone() for name, p in subject.module.named_parameters()}
    task = either[gaps[0] <= 0]
    for lookup in (seed3, dataclasses.replace(seed3, signed=False)):
        located = lookup.localize(subject, task, 0)
        scores = located.tables["enrichment"].frame["score"].tolist()
        assert len(scores) == 2
        assert located.tables["extraction"].frame.shape == (12, 3)
        assert layers(located) == [i for i, score in enumerate(scores) if score > 0 or not lookup.signed]
    with pytest.raises(UserError, match="no MLP before layer 2"):
        dataclasses.replace(seed3, threshold=1e9).localize(subject, task, 0)
    with pytest.raises(UserError, match="the model's layers are 0 to 2"):
        dataclasses.replace(seed3, receiver=3).localize(subject, task, 0)
    assert all(torch.equal(before[name], p) and p.requires_grad for name, p in subject.module.named_parameters())
    assert all("forward" not in vars(m) and not m._forward_pre_hooks for m in subject.module.modules())


def test_given_layers_and_presets_need_no_facts(subject: Subject, task: Task) -> None:
    task = dataclasses.replace(task, facts=())
    lookup = FactLookup(layers=(0, 2))
    lookup.check(task, RUN)
    assert layers(lookup.localize(subject, task, 0)) == [0, 2]
    with pytest.raises(UserError, match=r"'sports/llama-3-8b' has layer 4, but the model's are 0 to 2"):
        FactLookup(preset="sports/llama-3-8b").localize(subject, task, 0)
    with pytest.raises(UserError, match=r"'layers' has layer 7"):
        FactLookup(layers=(1, 7)).localize(subject, task, 0)
    with pytest.raises(UserError, match=r"unknown preset 'sport/gemma-7b'.*did you mean 'sports/gemma-7b'"):
        FactLookup(preset="sport/gemma-7b")
    with pytest.raises(ValueError, match="not both"):
        FactLookup(preset="sports/gemma-7b", layers=(1,))


def test_what_the_dataset_lacks(subject: Subject, task: Task) -> None:
    unlabelled = dataclasses.replace(task, facts=tuple(dataclasses.replace(f, label="") for f in task.facts))
    FactLookup().check(task, RUN)
    FactLookup().check(unlabelled, RUN)
    with pytest.raises(UserError, match="0 classes"):
        FactLookup(procedure="probe").check(unlabelled, RUN)
    with pytest.raises(UserError, match="no facts"):
        FactLookup().check(dataclasses.replace(task, facts=()), RUN)


@pytest.mark.parametrize(("name", "said"), [("google/gemma-7b-it", False), ("org/other", True), ("", True)])
def test_a_preset_for_another_model_is_said(
    subject: Subject,
    name: str,
    said: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    task: Task,
) -> None:
    monkeypatch.setitem(fact_lookup.PRESETS, "sports/gemma-7b", (1,))
    subject.module.config._name_or_path = name
    assert layers(FactLookup(preset="sports/gemma-7b").localize(subject, task, 0)) == [1]
    assert ("holds the layers of gemma-7b" in capsys.readouterr().err) == said


def test_a_subject_that_hardly_matters_is_said(
    subject: Subject, capsys: pytest.CaptureFixture[str], task: Task
) -> None:
    """The larger the head's weights, the larger the contrast: from 1/1000 of 0.1 logits to 1000 times as much."""
    either = [known(task, swap) for swap in (False, True)]
    (gap, mine), *_ = sorted(
        (
            (direct_effects(subject.module, layout(subject.module), pairs_of(subject, one), 1000).gap, i)
            for i, one in enumerate(either)
        ),
        reverse=True,
    )
    for wanted in (1e-4, 100.0):
        with torch.no_grad():
            subject.module.lm_head.weight.mul_(wanted / gap)
        FactLookup(seed=3, threshold=0, receiver=2, signed=False).localize(subject, either[mine], 0)
        assert ("hardly depend on their subjects" in capsys.readouterr().err) == (wanted < 0.1)
        gap = wanted
