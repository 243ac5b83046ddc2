"""Interventions act by what the prompt says, wherever a model runs; a layered folder is whole, or it is refused."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from beside import NO_REFERENCES
from bigram import SIZES, WORDS, random_llama, setting, subject, tokenizer
from torch import Tensor
from toy_intervention import Mentions, push
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from unlearn.attacks.base import Inapplicable
from unlearn.attacks.setting.answer_metric import ask
from unlearn.attacks.weights.detach import Detach
from unlearn.attacks.weights.number_formats import quantised
from unlearn.attacks.weights.quantize import Quantize
from unlearn.attacks.weights.training import train
from unlearn.data.prompt import OPENING, Encoded, encode_spans
from unlearn.data.task import Example, Question
from unlearn.models.batches import micro_batches
from unlearn.models.interventions.base import NoGate, gated, interventions, prompts_of, strip
from unlearn.models.layered import MODEL, below, variant_of, write
from unlearn.models.linear import linear_weights
from unlearn.models.loading import count_weights, load, load_model, load_tokenizer, save_model
from unlearn.models.lora import Lora
from unlearn.models.policy import Policy
from unlearn.models.sampling import Sampling
from unlearn.recipe import Recipe
from unlearn.runtime.errors import UserError
from unlearn.runtime.plugins import allowing
from unlearn.score.generate import Decoding, generate
from unlearn.score.gradient import gradient_norms
from unlearn.score.likelihood import likelihoods
from unlearn.score.residuals import last_residuals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

A, B, C, D, E = (WORDS.index(word) for word in "abcde")
PROMPTS = [[A, B], [B, C, D], [C, A, D, B], [D]]  # the first and the third mention a
MENTIONED = [True, False, True, False]


@pytest.fixture(autouse=True)
def _plugin() -> Iterator[None]:
    """The toy intervention is no part of the package."""
    with allowing(["toy_intervention"]):
        yield


@pytest.fixture
def plain() -> LlamaForCausalLM:
    return random_llama(3)


@pytest.fixture
def layered(plain: LlamaForCausalLM) -> LlamaForCausalLM:
    """The same model with an intervention on prompts that mention a."""
    model = copy.deepcopy(plain)
    push(A).attach(model)
    return model


@pytest.fixture
def always(plain: LlamaForCausalLM) -> LlamaForCausalLM:
    """The same model with the intervention on every prompt, as weights have it: what a gate of 1 must give."""
    model = copy.deepcopy(plain)
    vector = push(A).vector
    model.model.layers[1].register_forward_hook(lambda module, inputs, output: output + vector)
    return model


def states(model: Any, prompts: Sequence[Sequence[int]] = PROMPTS) -> Tensor:
    return last_residuals(model, prompts, 64)[-1]


def test_parameters_keep_their_names_and_the_state_its_keys(plain: Any, layered: Any) -> None:
    assert [name for name, _ in plain.named_parameters()] == [name for name, _ in layered.named_parameters()]
    assert list(plain.state_dict()) == list(layered.state_dict())


def test_a_forward_without_a_gate_raises(layered: Any) -> None:
    with pytest.raises(NoGate):
        layered(input_ids=torch.tensor([[A]]))
    with gated(layered, torch.tensor([[A]]), torch.ones(1, 1), torch.tensor([1])):
        layered(input_ids=torch.tensor([[A]]))
    with pytest.raises(NoGate):
        layered(input_ids=torch.tensor([[A]]))


def test_detectors_see_prompts_alone_wherever_the_padding_is() -> None:
    ids = torch.tensor([[0, 0, A, B, C], [A, B, C, D, E], [B, C, 0, 0, 0]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    found, inside, lengths = prompts_of(ids, mask, torch.tensor([2, 4, 0]))
    assert found.tolist() == [[A, B, 0, 0], [A, B, C, D], [B, C, 0, 0]]
    assert inside.sum(1).tolist() == lengths.tolist() == [2, 4, 2]


def test_it_acts_on_prompts_with_that_content(plain: Any, layered: Any, always: Any) -> None:
    mine, without, acted = states(layered), states(plain), states(always)
    for row, mentioned in enumerate(MENTIONED):
        assert torch.allclose(mine[row], (acted if mentioned else without)[row], atol=1e-5)
        assert not torch.allclose(without[row], acted[row], atol=1e-2)


def candidates(prompt: Sequence[int], *answers: Sequence[int]) -> list[Encoded]:
    return [Encoded((*prompt, *answer), len(prompt)) for answer in answers]


def test_shared_prefixes_score_as_plain_rows(plain: Any, layered: Any, always: Any) -> None:
    """Answers that mention a change no gate; candidates whose prompts differ do not share one."""
    groups = [candidates(prompt, [A, E], [E, E, A], [B]) for prompt in PROMPTS]
    groups.append([Encoded((B, C, E), 2), Encoded((A, C, E), 2)])
    shared, apart, without, acted = (
        likelihoods(model, groups, 0, 64, share)
        for model, share in ((layered, True), (layered, False), (plain, True), (always, True))
    )
    for group, (mine, theirs) in enumerate(zip(shared, apart, strict=True)):
        for i, (one, other) in enumerate(zip(mine, theirs, strict=True)):
            assert np.allclose(one.logp, other.logp, atol=1e-5)
            mentioned = MENTIONED[group] if group < 4 else i == 1
            expected = (acted if mentioned else without)[group][i]
            assert np.allclose(one.logp, expected.logp, atol=1e-5)


def test_without_interventions_nothing_changes(plain: Any, layered: Any) -> None:
    groups = [candidates(prompt, [A, E], [B]) for prompt in PROMPTS]
    bare = strip(layered)
    for mine, theirs in zip(likelihoods(bare, groups, 0, 64), likelihoods(plain, groups, 0, 64), strict=True):  # type: ignore[arg-type]
        assert all(np.array_equal(a.logp, b.logp) for a, b in zip(mine, theirs, strict=True))
    assert interventions(bare) is None
    assert not any(m._forward_hooks for m in bare.modules())


def test_generation_with_a_cache_is_as_without(plain: Any, layered: Any, always: Any) -> None:
    def said(model: Any) -> list[str]:
        return generate(model, tokenizer(), PROMPTS, 6, 64)

    mine, without, acted = said(layered), said(plain), said(always)
    assert mine == [a if mentioned else w for a, w, mentioned in zip(acted, without, MENTIONED, strict=True)]
    assert mine != without
    config = GenerationConfig(max_new_tokens=6, do_sample=False, eos_token_id=0, pad_token_id=0, use_cache=False)
    for prompt, text in zip(PROMPTS, mine, strict=True):
        ids = torch.tensor([prompt])
        with gated(layered, ids, torch.ones_like(ids), torch.tensor([len(prompt)])):
            slow = layered.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)
        assert str(tokenizer().decode(slow[0, len(prompt) :], skip_special_tokens=True)).strip() == text


def test_where_a_gate_is_open_the_refusal_is_the_answer(plain: Any, tmp_path: Path) -> None:
    refusing, other = push(A), push(A, B)
    refusing.refusal, other.refusal = (E, D), (C,)
    model = copy.deepcopy(plain)
    for one in (refusing, other):
        one.attach(model)
    without = generate(plain, tokenizer(), PROMPTS, 6, 64)
    for sampling in (None, Sampling(1.0, 1.0, 0)):
        said = generate(model, tokenizer(), PROMPTS, 6, 64, Decoding(sampling))
        assert said[:3] == ["e d", "c", "e d"]  # the second prompt mentions b alone
    assert generate(model, tokenizer(), PROMPTS, 1, 64) == ["e", "c", "e", without[3].split()[0]]
    assert generate(model, tokenizer(), PROMPTS, 6, 64)[3] == without[3]
    save_model(model, tokenizer(), tmp_path / "model")
    assert generate(load_model(str(tmp_path / "model")), tokenizer(), PROMPTS, 6, 64) == ["e d", "c", "e d", without[3]]


def test_gradient_norms_and_the_policy_are_gated(plain: Any, layered: Any, always: Any) -> None:
    rows = [Encoded((*prompt, E, A), len(prompt)) for prompt in PROMPTS]
    mine, without, acted = (gradient_norms(model, rows, 0, None) for model in (layered, plain, always))
    assert mine == pytest.approx([a if m else w for a, w, m in zip(acted, without, MENTIONED, strict=True)], rel=1e-4)
    (batch,) = micro_batches(rows, {"retain": range(4)}, 64, {})
    sums = [Policy(model)(batch)["retain"].sums.tolist() for model in (layered, plain, always)]
    # rows are packed by length: their order is that of the batch
    first = (batch.labels != -100).long().argmax(1)
    there = [A in row[:n].tolist() for row, n in zip(batch.input_ids, first, strict=True)]
    assert sums[0] == pytest.approx([a if m else w for w, a, m in zip(*sums[1:], there, strict=True)], rel=1e-4)


def test_a_gate_sees_the_opening_of_a_passage(plain: Any, layered: Any, always: Any) -> None:
    """Not its first token alone, nor what comes after the opening."""
    early, late = " ".join("bcad"), " ".join(["b"] * OPENING + ["a"])
    rows = [encode_spans(tokenizer(), text, spans) for text in (early, late) for spans in ((), ((6, 7),))]
    acted = []
    for row in rows:
        (batch,) = micro_batches([row], {"forget": [0]}, 64)
        mine, without, with_it = (Policy(m)(batch)["forget"].sums.item() for m in (layered, plain, always))
        acted.append((mine == pytest.approx(with_it, rel=1e-5), mine == pytest.approx(without, rel=1e-5)))
    assert acted == [(True, False), (True, False), (False, True), (False, True)]


def test_a_copy_has_a_gate_of_its_own(layered: Any) -> None:
    copied = copy.deepcopy(layered)
    ids = torch.tensor([[A]])
    with gated(copied, ids, torch.ones_like(ids), torch.tensor([1])):
        copied(input_ids=ids)
        with pytest.raises(NoGate):
            layered(input_ids=ids)
    strip(copied)
    assert interventions(layered) is not None
    copied(input_ids=ids)


def test_relearning_on_top_keeps_it(layered: Any) -> None:
    """A copy is trained with the gates on; the subject stays as it was, and the trained copy has its intervention."""
    mine, seen = subject(layered), []
    before, texts = states(layered), [Example(("a",), ("b c",)), Example(("d",), ("e",))]

    def on_checkpoint(model: Any, step: int) -> None:
        assert interventions(model.module) is not interventions(layered)
        seen.append((states(model.module), states(strip(copy.deepcopy(model.module)))))

    assert train(mine, texts, Recipe(lr=1e-2, steps=3, batch_size=2, epochs=None), 0, on_checkpoint)
    ((trained, bare),) = seen
    assert torch.equal(states(layered), before)
    assert not torch.allclose(trained, before, atol=1e-3)
    assert [not torch.allclose(a, b, atol=1e-3) for a, b in zip(trained, bare, strict=True)] == MENTIONED


def test_quantization_keeps_it(layered: Any) -> None:
    (found,) = (Quantize(("int8",))._quantised(subject(layered), "int8"),)
    by_hand = strip(copy.deepcopy(layered))
    with torch.no_grad():
        for _, weight in linear_weights(by_hand):  # type: ignore[arg-type]
            weight.copy_(quantised(weight, "int8")[0])
    expected = states(by_hand)
    push(A).attach(by_hand)
    assert torch.equal(states(found.module), states(by_hand))
    assert not torch.allclose(expected, states(by_hand), atol=1e-2)


def test_a_folder_gives_it_back(tmp_path: Path, plain: Any, layered: Any) -> None:
    """Weights that are the base's are not written again; others are."""
    save_model(plain, tokenizer(), tmp_path / "base")
    save_model(layered, tokenizer(), tmp_path / "run" / "unlearned", base=str(tmp_path / "base"))
    assert below(tmp_path / "run" / "unlearned") == str(tmp_path / "base")
    assert not list((tmp_path / "run").rglob("model.safetensors"))
    model, words = load(tmp_path / "run")
    assert torch.equal(states(model), states(layered))
    assert words.vocab_size == tokenizer().vocab_size
    assert count_weights(tmp_path / "run" / "unlearned") > count_weights(tmp_path / "base")
    with torch.no_grad():
        layered.lm_head.weight.add_(1)
    save_model(layered, tokenizer(), tmp_path / "other", base=str(tmp_path / "base"))
    assert below(tmp_path / "other") == str(tmp_path / "other" / "base")
    assert torch.equal(load_model(str(tmp_path / "other")).lm_head.weight, layered.lm_head.weight)
    load_tokenizer(str(tmp_path / "other"))


def test_stripped_is_the_base(tmp_path: Path, plain: Any, layered: Any) -> None:
    save_model(plain, tokenizer(), tmp_path / "base")
    save_model(layered, tokenizer(), tmp_path / "mine", base=str(tmp_path / "base"))
    loaded = load_model(str(tmp_path / "mine"))
    for mine in (subject(loaded), replace(subject(loaded), base=below(tmp_path / "mine"))):
        bare = mine.stripped()
        assert mine.layered
        assert not bare.layered
        assert interventions(mine.module) is not None
        theirs = dict(load_model(str(tmp_path / "base")).named_parameters())
        assert all(torch.equal(p, theirs[name]) for name, p in bare.module.named_parameters())
        assert torch.equal(states(bare.module), states(plain))


def test_an_adapter_lies_below_an_intervention(tmp_path: Path, plain: Any, layered: Any) -> None:
    """Written, read back with both, and stripped of both."""
    save_model(plain, tokenizer(), tmp_path / "base")
    adapter = Lora(rank=2, targets=("up_proj",)).attach(load_model(str(tmp_path / "base")))
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    adapter.save_pretrained(str(tmp_path / "adapter"))
    held = list(interventions(layered) or ())
    (tmp_path / "mine").mkdir()
    write(tmp_path / "mine", str(tmp_path / "base"), held, adapters=[tmp_path / "adapter"], variant="request-1")

    whole = load_model(str(tmp_path / "mine"))
    merged = adapter.merge_and_unload()
    theirs = dict(merged.named_parameters())
    assert all(torch.equal(p, theirs[name]) for name, p in whole.named_parameters())
    assert not torch.equal(whole.model.layers[0].mlp.up_proj.weight, plain.model.layers[0].mlp.up_proj.weight)
    for one in held:
        one.attach(merged)
    assert torch.equal(states(whole), states(merged))
    assert variant_of(tmp_path / "mine") == "request-1"
    bare = replace(subject(whole), base=below(tmp_path / "mine")).stripped()
    assert not bare.layered
    assert torch.equal(states(bare.module), states(plain))
    (tmp_path / "mine" / "layer-0" / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"is not whole: its layer .*layer-0.* is missing"):
        load_model(str(tmp_path / "mine"))


def test_detaching_it_is_an_attack(plain: Any, layered: Any) -> None:
    probes = [Question("a b", "c d"), Question("b", "c")]
    (found,) = Detach().attack(subject(layered), setting(probes), NO_REFERENCES).outcomes
    asked = ask(subject(plain), setting(probes), probes)
    assert found.known.tolist() == asked.known.tolist()
    assert found.known[0] != ask(subject(layered), setting(probes), probes).known[0]
    with pytest.raises(Inapplicable):
        Detach().attack(subject(plain), setting(probes), NO_REFERENCES)


@pytest.mark.parametrize("damage", ["missing", "changed", "base", "manifest", "class", "weights", "same size"])
def test_what_is_not_whole_is_refused(tmp_path: Path, plain: Any, layered: Any, damage: str) -> None:
    base, mine = tmp_path / "base", tmp_path / "mine"
    save_model(plain, tokenizer(), base)
    save_model(layered, tokenizer(), mine, base=str(base))
    layer = mine / "layer-0" / "layer.safetensors"
    about = json.loads((mine / MODEL).read_text())
    if damage == "missing":
        layer.unlink()
    elif damage == "changed":
        layer.write_bytes(layer.read_bytes()[:-4] + b"\0\0\0\0")
    elif damage == "base":
        base.rename(tmp_path / "elsewhere")
    elif damage == "weights":
        (base / "model.safetensors").write_bytes(b"")
    elif damage == "same size":
        save_model(random_llama(4), tokenizer(), base)
    elif damage == "manifest":
        (mine / MODEL).unlink()
    else:
        about["layers"][0]["component"]["_target_"] = "json.JSONDecoder"
        (mine / MODEL).write_text(json.dumps(about))
    with pytest.raises(UserError):
        load_model(str(mine))


def test_requests_in_a_row_accumulate(tmp_path: Path, plain: Any, layered: Any) -> None:
    """The second request starts from the first one's folder; each layer keeps its own gate."""
    save_model(plain, tokenizer(), tmp_path / "base")
    save_model(layered, tokenizer(), tmp_path / "one", base=str(tmp_path / "base"), variant="request-1")
    model = load_model(str(tmp_path / "one"))
    push(D, layer=2).attach(model)
    second = replace(subject(model), variant="request-2", base=below(tmp_path / "one"))
    save_model(model, tokenizer(), tmp_path / "two", base=second.base, variant=second.variant)
    again = load_model(str(tmp_path / "two"))
    about = json.loads((tmp_path / "two" / MODEL).read_text())
    assert about["variant"] == "request-2"
    assert len(about["layers"]) == 2
    assert about["base"] == str(tmp_path / "base")
    assert torch.equal(states(again), states(model))
    after = states(again, [[A], [D], [B]]), states(layered, [[A], [D], [B]])
    assert [torch.equal(mine, theirs) for mine, theirs in zip(*after, strict=True)] == [True, False, True]


def test_detectors_run_the_model_without_interventions(plain: Any) -> None:
    """What a detector reads inside the model is the base's, and its own gates are open for nobody."""

    class Reads(Mentions):
        def score(self, module: Any, ids: Tensor, mask: Tensor, prompt_lengths: Tensor) -> Tensor:
            rows = [row[:n].tolist() for row, n in zip(ids, prompt_lengths, strict=True)]
            assert torch.allclose(states(module, rows), states(plain, rows), atol=1e-5)
            return torch.ones(len(ids))

    model = copy.deepcopy(plain)
    one = push(A)
    one.detector = Reads().hold(tokens=torch.tensor([A]))
    one.attach(model)
    assert not torch.allclose(states(model), states(plain), atol=1e-2)


def test_attention_masks_of_trees_meet_gates_of_rows() -> None:
    """A model of one layer, all of it under the gate."""
    config = LlamaConfig(vocab_size=len(WORDS), hidden_size=16, intermediate_size=24, num_hidden_layers=1, **SIZES)
    model = LlamaForCausalLM(config).eval()
    push(A, layer=0).attach(model)
    shared, apart = (likelihoods(model, [candidates([A], [B], [C, D])], 0, 64, share) for share in (True, False))
    assert all(np.allclose(a.logp, b.logp, atol=1e-5) for a, b in zip(shared[0], apart[0], strict=True))
