"""Find the parts of a decoder-only language model by structure, and the tensors in it that can be replaced."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from unlearn.runtime.errors import UserError

_ATTENTION = re.compile("self_attn|attn|attention|self_attention")
_OUTPUT = re.compile("o_proj|out_proj|dense|c_proj")
_MLP = re.compile("mlp|feed_forward|ffn|block_sparse_moe|fc[12]")
_NORM = re.compile(r".*norm\w*|ln_\w+")

# Before attention, after attention, before the MLP, after the MLP: a block's norms are exactly those of one row.
_NORMS: tuple[tuple[str, str | None, str, str | None], ...] = (
    ("input_layernorm", None, "post_attention_layernorm", None),  # Llama, Qwen, Mistral, Gemma, Phi-3, GPT-NeoX
    ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"),
    ("input_layernorm", None, "input_layernorm", None),  # Phi-1.5: attention and MLP share it
    ("ln_1", None, "ln_2", None),  # GPT-2
    ("ln_1", None, "ln_1", None),  # GPT-J
    ("self_attn_layer_norm", None, "final_layer_norm", None),  # OPT
)


@dataclass(frozen=True, eq=False)
class Site:
    """A tensor in the network: what a module takes (its first input) or gives, seen as [B, T, heads, width]."""

    name: str
    """Its name; see `Block.sites`."""
    module: nn.Module
    """The module that takes or gives it."""
    takes: bool
    """Whether the module takes it; else it gives it."""
    heads: int
    """How many heads it is made of; 1 where it is not made of heads."""
    split: Callable[[Tensor], Tensor]
    """Gives [B, T, heads, width] from [B, T, n], sharing memory."""
    norm: nn.Module | None = None
    """For an MLP that shares its norm with attention: the site is this norm's input, but for the MLP alone."""

    def view(self, tensor: Tensor, rows: int) -> Tensor:
        """Return the module's tensor as [rows, T, heads, width]; the same memory where that is contiguous."""
        return self.split(tensor.reshape(rows, -1, tensor.shape[-1]))


@dataclass(frozen=True, eq=False)
class Block:
    """One decoder block."""

    module: nn.Module
    """The block itself."""
    sites: Mapping[str, Site]
    """Its sites by name: attn_in (residual as attention's norm takes it; the MLP's as well where they share it), q [..,
    heads, head_width], k and v [.., kv_heads, head_width] (before rotary), z (what the output projection takes, [..,
    heads, head_width]), attn_out, mlp_in (residual as the MLP's norm takes it), mlp_out, resid (what the block gives).
    attn_out and mlp_out are what is added to the residual: after the post-norm where there is one."""
    weights: Mapping[str, tuple[nn.Module, ...]]
    """The modules of "attention" (q, k, v and output projections) and of "mlp"."""
    output: nn.Module
    """The output projection of attention."""
    heads: int
    """Number of attention heads."""
    kv_heads: int
    """Number of heads of keys and values."""
    head_width: int
    """Features of a head."""
    linear: bool
    """Whether attn_out is linear in z (there is no post-norm), so that it is a sum over heads."""
    parallel: bool
    """Whether attention and MLP read the same residual."""


@dataclass(frozen=True, eq=False)
class Layout:
    """The parts of a model, in the order in which it runs them."""

    embed: Site
    """The token embeddings; the site is what they give."""
    blocks: tuple[Block, ...]
    """The decoder blocks in order."""
    final: Site
    """The norm after them; the site is what it takes."""

    @property
    def embeddings(self) -> nn.Module:
        """Return the token embeddings."""
        return self.embed.module

    def site(self, layer: int, name: str) -> Site:
        """Return a block's site; the embeddings' or the final norm's by their own name, whatever the layer."""
        return next((s for s in (self.embed, self.final) if s.name == name), None) or self.blocks[layer].sites[name]

    @property
    def final_norm(self) -> nn.Module:
        """Return the norm between the last block and the vocabulary projection."""
        return self.final.module


def layout(model: Any) -> Layout:
    """Return the parts of a transformers causal LM.

    Llama, Gemma, Qwen, Mistral, Phi, GPT-NeoX, GPT-2, OPT and their like. The blocks are the longest list of modules of
    one class. UserError names the model class and what was not found.
    """
    what = type(model).__name__
    parent, name = decoder_stack(model)
    norms = [child for label, child in parent.named_children() if re.fullmatch(r"(final_?)?(layer_?)?norm|ln_f", label)]
    if len(norms) != 1:
        raise _missing(what, "norm after the last block")
    blocks = tuple(_block(block, f"block {i} of {what}") for i, block in enumerate(getattr(parent, name)))
    return Layout(_whole("embed", model.get_input_embeddings()), blocks, _whole("final", norms[0], takes=True))


def decoder_stack(model: nn.Module) -> tuple[Any, str]:
    """Return the module that runs the decoder blocks, and the name of their list in it.

    The module takes token ids and has no vocabulary projection; the list is the longest one of modules of one class.
    UserError where there is none.
    """
    stacks = [(m, name) for m in model.modules() for name, child in m.named_children() if _is_stack(child)]
    if not stacks:
        raise _missing(type(model).__name__, "list of decoder blocks")
    return max(stacks, key=lambda found: len(getattr(found[0], found[1])))


def matrix(module: nn.Module) -> Tensor:
    """Return the weight of a linear map as [outputs, inputs]; the Conv1D of GPT-2 stores it the other way round."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    return weight.T if type(module).__name__ == "Conv1D" else weight


def split_heads(heads: int, first: int, last: int, tensor: Tensor) -> Tensor:
    """Return features first to last of [B, T, n] as [B, T, heads, width]."""
    found: Tensor = tensor[..., first:last].unflatten(-1, (heads, -1))
    return found


def split_interleaved(heads: int, part: int, tensor: Tensor) -> Tensor:
    """Return part 0, 1 or 2 (q, k, v) of [B, T, heads x 3 x width], as GPT-NeoX lays them out."""
    found: Tensor = tensor.unflatten(-1, (heads, 3, -1))[..., part, :]
    return found


def _block(block: nn.Module, what: str) -> Block:
    children = dict(block.named_children())
    attention = _only(children, _ATTENTION, what, "attention module")
    output = _only(dict(attention.named_children()), _OUTPUT, what, "output projection of attention")
    mlp = tuple(child for name, child in children.items() if _MLP.fullmatch(name))
    if not mlp:
        raise _missing(what, "MLP")
    found = {name for name in children if _NORM.fullmatch(name)}
    row = next((row for row in _NORMS if found == set(row) - {None}), None)
    if row is None or not getattr(block, "do_layer_norm_before", True):
        raise _missing(what, f"known order of norms (its norms: {', '.join(sorted(found)) or 'none'})")
    before_attention, after_attention, before_mlp, after_mlp = (children[name] if name else None for name in row)
    assert before_attention
    assert before_mlp

    width = getattr(attention, "head_dim", None) or getattr(attention, "head_size", 0)
    if not width or _features(output)[0] % width:
        raise _missing(what, "width of an attention head")
    heads = _features(output)[0] // width
    (q, k, v), projections = _projections(attention, heads, width, what)
    shared = before_attention is before_mlp
    sites = (
        _whole("attn_in", before_attention, takes=True),
        q,
        k,
        v,
        Site("z", output, True, heads, partial(split_heads, heads, 0, heads * width)),
        _whole("attn_out", after_attention or output),
        _whole("mlp_in", mlp[0], takes=True, norm=before_mlp) if shared else _whole("mlp_in", before_mlp, takes=True),
        _whole("mlp_out", after_mlp or mlp[-1]),
        _whole("resid", block),
    )
    return Block(
        module=block,
        sites={site.name: site for site in sites},
        weights={"attention": (*projections, output), "mlp": mlp},
        output=output,
        heads=heads,
        kv_heads=k.heads,
        head_width=width,
        linear=after_attention is None,
        parallel=shared or bool(getattr(block, "use_parallel_residual", False)),
    )


def _projections(
    attention: nn.Module, heads: int, width: int, what: str
) -> tuple[tuple[Site, Site, Site], tuple[nn.Module, ...]]:
    """Return q, k and v as sites, and the module or modules that give them."""
    children = dict(attention.named_children())
    if all(f"{part}_proj" in children for part in "qkv"):
        modules = tuple(children[f"{part}_proj"] for part in "qkv")
        sizes = [_features(module)[1] for module in modules]
        if sizes[0] == heads * width and sizes[1] == sizes[2] and sizes[1] % width == 0:
            parts = [
                Site(part, module, False, size // width, partial(split_heads, size // width, 0, size))
                for part, module, size in zip("qkv", modules, sizes, strict=True)
            ]
            return (parts[0], parts[1], parts[2]), modules
    for name in ("qkv_proj", "c_attn", "query_key_value"):
        if (module := children.get(name)) is None:
            continue
        total = _features(module)[1] // width
        kv = (total - heads) // 2
        if heads + 2 * kv != total or kv < 1 or (name == "query_key_value" and kv != heads):
            continue
        if name == "query_key_value":
            parts = [
                Site(part, module, False, heads, partial(split_interleaved, heads, i)) for i, part in enumerate("qkv")
            ]
        else:
            ends = ((heads, 0, heads), (kv, heads, heads + kv), (kv, heads + kv, total))
            parts = [
                Site(part, module, False, n, partial(split_heads, n, first * width, last * width))
                for part, (n, first, last) in zip("qkv", ends, strict=True)
            ]
        return (parts[0], parts[1], parts[2]), (module,)
    raise _missing(what, "set of query, key and value projections")


def _whole(name: str, module: nn.Module, takes: bool = False, norm: nn.Module | None = None) -> Site:
    return Site(name, module, takes, 1, _one_head, norm)


def _one_head(tensor: Tensor) -> Tensor:
    return tensor.unsqueeze(-2)


def _features(module: nn.Module) -> tuple[int, int]:
    """Return input and output features of a linear map."""
    outputs, inputs = matrix(module).shape
    return inputs, outputs


def _is_stack(module: nn.Module) -> bool:
    """Return whether it is a list of modules of one class that hold an attention module (experts do not)."""
    if not isinstance(module, nn.ModuleList) or len({type(child) for child in module}) != 1:
        return False
    return any(_ATTENTION.fullmatch(name) for name, _ in module[0].named_children())


def _only(children: Mapping[str, nn.Module], pattern: re.Pattern[str], what: str, wanted: str) -> nn.Module:
    found = [child for name, child in children.items() if pattern.fullmatch(name)]
    if len(found) != 1:
        raise _missing(what, wanted)
    return found[0]


def _missing(what: str, wanted: str) -> UserError:
    return UserError(
        f"the layout of {what} is not understood: there is not exactly one {wanted} (understood: decoder-only models "
        "laid out as Llama, Gemma, Qwen, Mistral, Phi, GPT-NeoX, GPT-2 or OPT)"
    )
