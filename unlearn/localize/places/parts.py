"""The MLPs and the matrices of a model's layers, by the names of their parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unlearn.localize.budget import block_weights
from unlearn.models.layout import layout
from unlearn.models.mask import Mask

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

Names = tuple[str, ...]


def mlps(model: nn.Module) -> list[Names]:
    """Return the parameters of each layer's MLP: gate, up and down, with their biases."""
    weights = block_weights(layout(model), model)
    return [tuple(names) for (kind, _), names in weights.items() if kind == "mlp"]


def matrices(model: nn.Module) -> list[Names]:
    """Return each matrix of attention and MLPs (q, k, v, o, gate, up, down; fused ones count once), with its bias."""
    tops = [module for block in layout(model).blocks for part in block.weights.values() for module in part]
    owned = [{id(p) for p in m.parameters(recurse=False)} for top in tops for m in top.modules()]
    names = [tuple(name for name, p in model.named_parameters() if id(p) in ids) for ids in owned if ids]
    return list(dict.fromkeys(names))


def union(model: nn.Module, parts: Iterable[Names]) -> Mask:
    """Return the mask of all of these parts, whole."""
    return Mask.of(model, {name: True for part in parts for name in part})
