from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from three_rows import make_batch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    OPTConfig,
    PhiConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

from unlearn.models.batches import IGNORE, Batch, Segment
from unlearn.models.layout import decoder_stack
from unlearn.models.policy import Policy, Positions, TokenScores
from unlearn.models.projection import projection_at

SHAPE: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SMALL_GPT2: dict[str, Any] = {
    "vocab_size": 40,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SHAPE),
    "gpt2": GPT2Config(**SMALL_GPT2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0),
    "gpt_neox": GPTNeoXConfig(**SHAPE),
    "phi": PhiConfig(**SHAPE),  # its vocabulary projection has a bias
    "qwen2": Qwen2Config(**SHAPE, tie_word_embeddings=True),
    "gemma2": Gemma2Config(**SHAPE, head_dim=8, final_logit_softcapping=0.1),  # tight enough to matter
    "cohere": CohereConfig(**SHAPE, logit_scale=0.25),
    "granite": GraniteConfig(**SHAPE, logits_scaling=3.0),
    "opt": OPTConfig(
        vocab_size=40, hidden_size=16, word_embed_proj_dim=8, ffn_dim=16, num_hidden_layers=2, num_attention_heads=2
    ),
}


def build(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    return model


def own_logits(model: nn.Module, batch: Batch) -> Tensor:
    """The whole [B, T, V], as the model gives it."""
    logits: Tensor = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    return logits


def own_nll(logits: Tensor, batch: Batch) -> Tensor:
    """-log softmax at the next token where there is a label, else 0, one position at a time."""
    nll = torch.zeros(batch.labels[:, 1:].shape)
    for b, t in (batch.labels[:, 1:] != IGNORE).nonzero().tolist():
        nll[b, t] = logits[b, t].float().logsumexp(-1) - logits[b, t, batch.labels[b, t + 1]].float()
    return nll


def check_against_own_logits(model: nn.Module) -> None:
    batch = make_batch()
    whole = own_logits(model, batch)
    nll = own_nll(whole, batch)
    is_target = batch.labels[:, 1:] != IGNORE
    scores = Policy(model)(batch)
    for name, rows in (("forget", slice(0, 2)), ("retain", slice(2, 3))):
        torch.testing.assert_close(scores[name].nll, nll[rows], rtol=1e-4, atol=1e-5)
        assert torch.equal(scores[name].mask, is_target[rows])
        assert scores[name].logits is None
    places: list[Positions] = ["labels", "attended", "all"]
    for where in places:
        other = Policy(model)(batch, {"forget": where, "retain": "labels"})
        wanted = {"labels": is_target, "attended": batch.attention_mask.bool(), "all": torch.ones(3, 9).bool()}[where]
        wanted = nn.functional.pad(wanted, (0, 9 - wanted.shape[1]))
        assert other["forget"].positions is not None
        assert other["forget"].logits is not None
        assert torch.equal(other["forget"].positions, wanted[:2])
        torch.testing.assert_close(other["forget"].logits, whole[:2][wanted[:2]], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(other["retain"].logits, whole[2, :3], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(other["forget"].nll, nll[:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_scores_are_those_of_the_models_own_logits(name: str) -> None:
    check_against_own_logits(build(name))


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "lm_head"]], ids=["layers", "with projection"])
def test_scores_under_lora_adapters(targets) -> None:
    adapters = LoraConfig(r=2, target_modules=targets, task_type="CAUSAL_LM", init_lora_weights=False)
    check_against_own_logits(get_peft_model(build("llama"), adapters).eval())


def test_sums_counts_and_means() -> None:
    scores = Policy(build("llama"))(make_batch())
    assert scores["forget"].counts.tolist() == [3, 7]
    torch.testing.assert_close(scores["forget"].sums, scores["forget"].nll.sum(1))
    torch.testing.assert_close(scores["forget"].token_mean(), scores["forget"].sums.sum() / 10)
    assert scores["forget"].row_mean(torch.tensor([1.0, 4.0])) == 2.5


def test_position_mean_is_a_mean_of_row_means() -> None:
    positions = torch.tensor([[True, False, True], [False, True, False], [False, False, False]])
    scores = TokenScores(torch.zeros(3, 2), positions[:, 1:], Segment(0, 3, 5, 9), torch.zeros(3, 4), positions)
    assert scores.position_mean(torch.tensor([1.0, 2.0, 10.0])).item() == pytest.approx((1.5 + 10 + 0) / 5)


def test_wider_padding_changes_nothing() -> None:
    policy, batch = Policy(build("llama")), make_batch()
    pad = nn.functional.pad
    wide = Batch(
        pad(batch.input_ids, (0, 5), value=7),
        pad(batch.attention_mask, (0, 5)),
        pad(batch.labels, (0, 5), value=IGNORE),
        batch.segments,
    )
    for name, scores in policy(wide).items():
        torch.testing.assert_close(scores.sums, policy(batch)[name].sums)


def test_a_batch_without_rows_gives_zero_gradients_to_every_weight() -> None:
    model, batch = build("gpt2"), make_batch()
    segments = {"forget": Segment(0, 0, 2, 10), "retain": Segment(0, 0, 1, 3)}
    empty = Batch(batch.input_ids[:0], batch.attention_mask[:0], batch.labels[:0], segments)
    scores = Policy(model)(empty, {"retain": "all"})
    assert scores["forget"].sums.shape == (0,)
    assert scores["retain"].logits is not None
    assert scores["retain"].logits.shape == (0, 40)
    scores["forget"].token_mean().backward()
    assert all(weight.grad is not None and not weight.grad.any() for weight in model.parameters())


def test_bfloat16_models_are_scored_in_float32() -> None:
    model, batch = build("llama").bfloat16(), make_batch()
    scores = Policy(model)(batch)["forget"]
    assert scores.nll.dtype == torch.float32
    torch.testing.assert_close(scores.nll, own_nll(own_logits(model, batch), batch)[:2], rtol=0.02, atol=0.02)


def test_the_vocabulary_projection_sees_labelled_positions_alone() -> None:
    model, seen = build("llama"), []
    model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-2]))
    Policy(model)(make_batch())
    assert seen == [3 + 7 + 3]


def test_projection_at_leaves_the_model_as_it_was() -> None:
    model, batch = build("llama"), make_batch()
    before = own_logits(model, batch)
    with projection_at(model, torch.tensor([2, 11])):
        two = model(input_ids=batch.input_ids).logits
    torch.testing.assert_close(two, before.flatten(0, 1)[[2, 11]][None])
    torch.testing.assert_close(own_logits(model, batch), before)


def test_layers_below_the_lowest_trainable_one_keep_nothing_for_backward() -> None:
    def kept(frozen: tuple[str, ...]) -> int:
        model, sizes = build("llama"), []
        for name, weight in model.named_parameters():
            weight.requires_grad_(not name.startswith(frozen))
        weights = {weight.data_ptr() for weight in model.parameters()}

        def pack(tensor: Tensor) -> Tensor:
            sizes.append(0 if tensor.data_ptr() in weights else tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            Policy(model)(make_batch())["forget"].token_mean()
        return sum(sizes)

    nothing, lower, all_layers = kept(()), kept(("model.embed_tokens", "model.layers.0")), kept(("model.",))
    assert all_layers < 0.3 * nothing
    assert lower < 0.65 * nothing


def test_part_of_a_batch_keeps_rows_totals_and_reference() -> None:
    batch = make_batch()
    segments = {"forget": Segment(0, 2, 8, 40, torch.tensor([1.0, 2.0])), "retain": Segment(2, 3, 6, 30)}
    batch = Batch(batch.input_ids, batch.attention_mask, batch.labels, segments)
    assert batch.part("retain", "forget") is batch
    retain = batch.part("retain")
    assert retain.segments == {"retain": Segment(0, 1, 6, 30)}
    assert torch.equal(retain.input_ids, batch.input_ids[2:])
    assert torch.equal(retain.labels, batch.labels[2:])
    assert batch.part("forget").segments["forget"] is not None
    with pytest.raises(KeyError):
        batch.part("refusal")


@pytest.mark.parametrize("name", CONFIGS)
def test_hidden_states_are_what_the_layers_give(name: str) -> None:
    model, batch = build(name), make_batch()
    seen: list[Tensor] = []
    blocks = getattr(*decoder_stack(model))
    handle = blocks[0].register_forward_hook(
        lambda module, inputs, value: seen.append(value[0] if isinstance(value, tuple) else value)
    )
    model(input_ids=batch.input_ids)
    handle.remove()
    alone = Policy(model)(batch, hidden={"forget": [0], "retain": [0]})
    beside = Policy(model)(batch, {"forget": "labels"}, {"forget": [0, 1]})
    torch.testing.assert_close(alone["forget"].hidden[0], seen[0][:2])
    torch.testing.assert_close(alone["retain"].hidden[0], seen[0][2:])
    torch.testing.assert_close(beside["forget"].hidden[0], seen[0][:2])
    assert not beside["retain"].hidden
    for segment, scores in Policy(model)(batch).items():
        torch.testing.assert_close(beside[segment].nll, scores.nll)
        assert alone[segment].nll.isnan().all()


def test_where_hidden_states_alone_are_asked_for_nothing_above_is_run() -> None:
    model, ran = build("llama"), []
    for key, module in model.named_modules():
        if key in ("model.layers.0", "model.layers.1", "lm_head"):
            module.register_forward_hook(lambda module, inputs, value, key=key: ran.append(key))
    policy, batch = Policy(model), make_batch()
    scores = policy(batch, hidden={"forget": [0], "retain": [0]})
    assert ran == ["model.layers.0"]
    scores["forget"].hidden[0].sum().backward()
    touched = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert touched
    assert all("layers.1" not in name and name.partition(".")[2] != "norm.weight" for name in touched)
    ran.clear()
    policy(batch)
    assert ran == ["model.layers.0", "model.layers.1", "lm_head"]


def test_token_scores_and_hidden_states_of_different_segments_in_one_pass() -> None:
    model, seen = build("llama"), []
    model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-2]))
    batch = make_batch()
    scores = Policy(model)(batch, hidden={"forget": [1]})
    assert seen == [3]  # the retain row's labels
    assert scores["forget"].nll.isnan().all()
    torch.testing.assert_close(scores["retain"].nll, Policy(model)(batch)["retain"].nll)


def test_hidden_states_of_no_row_depend_on_every_weight_that_was_used() -> None:
    model = build("llama")
    empty = Policy(model)(make_batch().empty(), hidden={"forget": [0], "retain": [0]})
    assert empty["forget"].hidden[0].shape == (0, 1, 16)
    empty["forget"].hidden[0].sum().backward()
    used = [weight for key, weight in model.named_parameters() if ".layers.0." in key]
    assert used
    assert all(weight.grad is not None and not weight.grad.any() for weight in used)


def test_what_a_batch_does_not_have_is_refused() -> None:
    policy = Policy(build("llama"))
    with pytest.raises(ValueError, match="no segment 'refusal'"):
        policy(make_batch(), {"refusal": "labels"})
    with pytest.raises(ValueError, match="no such layers"):
        policy(make_batch(), hidden={"forget": [2]})


def test_an_edit_lasts_as_long_as_its_context() -> None:
    policy, batch = Policy(build("llama")), make_batch()
    before = policy(batch)["forget"].nll
    with policy.edited({(0, "mlp_out"): lambda tensor: tensor + 1.0}):
        changed = policy(batch, hidden={"forget": [0], "retain": [0]})["forget"].hidden[0]
        assert not torch.allclose(policy(batch)["forget"].nll, before)
    torch.testing.assert_close(policy(batch)["forget"].nll, before)
    plain = policy(batch, hidden={"forget": [0], "retain": [0]})["forget"].hidden[0]
    torch.testing.assert_close(changed, plain + 1.0)
