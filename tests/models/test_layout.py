"""The parts of every architecture: what the sites hold, against how a decoder is defined."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from families import FAMILIES, SIZES, family
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Olmo2Config, OPTConfig

from unlearn.models.layout import layout, matrix
from unlearn.models.prompts import collate
from unlearn.models.sites import Key, capture, edited
from unlearn.runtime.errors import UserError

IDS = [[7, 3, 60, 21, 5], [9, 9, 1, 33, 2]]
SITES = ("attn_in", "q", "k", "v", "z", "attn_out", "mlp_in", "mlp_out", "resid")


@pytest.fixture(params=list(FAMILIES))
def model(request: pytest.FixtureRequest) -> nn.Module:
    return family(request.param)


def values(model: nn.Module) -> dict[Key, Tensor]:
    parts = layout(model)
    keys = [(layer, site) for layer in range(len(parts.blocks)) for site in SITES]
    return capture(model, parts, [*keys, (0, "embed"), (0, "final")], collate(IDS, "cpu"))[1]


def test_the_residual_is_the_sum_of_what_is_written(model: Any) -> None:
    """Resid = attn_in + attn_out + mlp_out; the MLP reads before or after attention has written."""
    parts, found = layout(model), values(model)
    assert len(parts.blocks) == 3
    for layer, block in enumerate(parts.blocks):
        before, written = found[layer, "attn_in"], found[layer, "attn_out"]
        torch.testing.assert_close(found[layer, "resid"], before + written + found[layer, "mlp_out"])
        torch.testing.assert_close(found[layer, "mlp_in"], before if block.parallel else before + written)
        torch.testing.assert_close(found[layer, "resid"], found.get((layer + 1, "attn_in"), found[0, "final"]))
    vocabulary = model(input_ids=torch.tensor(IDS)).logits
    torch.testing.assert_close(model.get_output_embeddings()(parts.final_norm(found[0, "final"][:, :, 0])), vocabulary)


def test_attention_out_is_the_sum_over_heads(model: nn.Module) -> None:
    found = values(model)
    for layer, block in enumerate(layout(model).blocks):
        z = found[layer, "z"]
        assert z.shape == (2, 5, block.heads, block.head_width) == (2, 5, 4, z.shape[-1])
        weight = matrix(block.output).view(-1, block.heads, block.head_width)
        written = torch.einsum("bthw,dhw->btd", z, weight)
        if (bias := getattr(block.output, "bias", None)) is not None:
            written = written + bias
        if block.linear:
            torch.testing.assert_close(written, found[layer, "attn_out"].squeeze(2))
        else:  # a norm follows
            torch.testing.assert_close(block.sites["attn_out"].module(written), found[layer, "attn_out"].squeeze(2))


@pytest.mark.parametrize("part", ["q", "k", "v"])
def test_a_head_reads_its_own_projections(model: nn.Module, part: str) -> None:
    """Changing one head of q, k or v changes the output of the heads that use it and of no other."""
    parts, clean = layout(model), values(model)
    block = parts.blocks[0]
    heads = block.heads if part == "q" else block.kv_heads
    assert clean[0, part].shape == (2, 5, heads, block.head_width)
    site = block.sites[part]

    def change(head: int, tensor: Tensor) -> Tensor:
        new = tensor.clone()
        site.view(new, len(IDS))[:, :, head] *= -1.5
        return new

    for head in range(heads):
        with edited((site, partial(change, head))):
            changed = (values(model)[0, "z"] - clean[0, "z"]).abs().amax((0, 1, 3)) > 1e-5
        users = [h for h in range(block.heads) if h * heads // block.heads == head]
        assert changed.nonzero().squeeze(1).tolist() == users


def test_every_weight_of_a_block_is_in_one_part(model: nn.Module) -> None:
    """Besides the two parts there are norms alone."""
    for block in layout(model).blocks:
        named = {id(p): name for name, p in block.module.named_parameters()}
        mine = [id(p) for modules in block.weights.values() for module in modules for p in module.parameters()]
        assert len(set(mine)) == len(mine)
        assert all("norm" in name or "ln_" in name for p, name in named.items() if p not in mine)
        assert not any("norm" in named[p] or "ln_" in named[p] for p in mine)


def test_an_edit_of_the_mlp_branch_leaves_attention_alone(model: nn.Module) -> None:
    parts, clean = layout(model), values(model)
    with edited((parts.blocks[1].sites["mlp_in"], lambda tensor: 2 * tensor + 1)):
        changed = values(model)
    for site in ("attn_in", "q", "z", "attn_out"):
        torch.testing.assert_close(changed[1, site], clean[1, site])
    assert not torch.allclose(changed[1, "mlp_out"], clean[1, "mlp_out"])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_what_is_not_understood_is_refused() -> None:
    after = AutoModelForCausalLM.from_config(Olmo2Config(**SIZES, num_attention_heads=4))
    with pytest.raises(UserError, match=r"block 0 of Olmo2ForCausalLM is not understood.*order of norms"):
        layout(after)
    small = OPTConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, do_layer_norm_before=False
    )
    with pytest.raises(UserError, match="OPTForCausalLM"):
        layout(AutoModelForCausalLM.from_config(small))
    with pytest.raises(UserError, match=r"Linear is not understood.*list of decoder blocks"):
        layout(nn.Linear(2, 2))
