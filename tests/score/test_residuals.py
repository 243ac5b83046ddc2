"""What is read at the last token, against the model's own hidden states."""

from __future__ import annotations

import pytest
import torch
from families import family

from unlearn.score.residuals import last_residuals, last_values

PROMPTS = [(5, 6, 7), (8, 9), (3, 4, 5, 6, 7, 8)]


def test_residuals_are_hidden_states_at_the_last_token() -> None:
    model = family("llama")
    read = last_residuals(model, PROMPTS, 8)
    assert read.shape == (3, 3, 16)
    for i, ids in enumerate(PROMPTS):
        with torch.no_grad():
            hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
            torch.testing.assert_close(read[:2, i], torch.stack([h[0, -1] for h in hidden[1:3]]))
            torch.testing.assert_close(model.model.norm(read[2, i]), hidden[3][0, -1])


@pytest.mark.parametrize("name", ["llama", "gpt2", "phi", "gemma2"])
def test_several_sites_come_from_one_forward(name: str) -> None:
    """Resid = attn_in + attn_out + mlp_out, also where attention and MLP share a norm or have a norm after them."""
    model = family(name)
    before, attention, mlp, after = last_values(model, PROMPTS, 8, ("attn_in", "attn_out", "mlp_out", "resid"))
    torch.testing.assert_close(before + attention + mlp, after)
    torch.testing.assert_close(after, last_residuals(model, PROMPTS, 1000))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
