"""What a parameter is, read off its name: the decoder layer it belongs to, and the type of its module."""

from __future__ import annotations

import re

ATTENTION = ("q", "k", "v", "qkv", "o")
MLP = ("gate", "up", "gate_up", "down", "expert")
TYPES = ("embed", *ATTENTION, *MLP, "norm", "head", "other")  # the order in which they are shown

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_PATTERNS = tuple(
    (kind, re.compile(rf"(?:^|\.)(?:{names})\.(?:weight|bias)$"))
    for kind, names in (
        ("norm", r"[^.]*norm[^.]*|ln_\w+"),
        ("embed", r"embed_tokens|embed_in|wte|wpe|embed_positions|embeddings"),
        ("head", r"lm_head|embed_out"),
        ("qkv", r"(?:self_attn|attention|attn)\.(?:qkv_proj|query_key_value|c_attn)"),
        ("q", r"(?:self_attn|attention|attn)\.q_proj"),
        ("k", r"(?:self_attn|attention|attn)\.k_proj"),
        ("v", r"(?:self_attn|attention|attn)\.v_proj"),
        ("o", r"(?:self_attn|attention|attn)\.(?:o_proj|out_proj|dense|c_proj)"),
        ("gate_up", r"gate_up_proj"),
        ("gate", r"gate_proj"),
        ("up", r"up_proj|fc1|dense_h_to_4h|c_fc"),
        ("down", r"down_proj|fc2|dense_4h_to_h|mlp\.c_proj"),
    )
)


def layer_of(name: str) -> int | None:
    """Return the decoder layer's number ("model.layers.3.mlp.up_proj.weight": 3); None outside the layers."""
    found = _LAYER.search(name)
    return int(found[1]) if found else None


def module_type(name: str) -> str:
    """One of TYPES, in the Llama, Gemma, Qwen, Phi, GPT-NeoX, GPT-2 and OPT families; "other" where it is unknown."""
    if "experts." in name:
        return "expert"
    return next((kind for kind, pattern in _PATTERNS if pattern.search(name)), "other")
