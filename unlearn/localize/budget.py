"""From scores of attention and MLP blocks to a mask: whole blocks, best first, until a budget of weights is reached."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Gt

from unlearn.errors import UserError
from unlearn.localize.base import Fraction, Located, Subject

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import nn

    from unlearn.models.layout import Layout

Kind = Literal["attention", "mlp"]
Block = tuple[Kind, int]  # its kind and its layer
Pooling = Literal["sum", "mean_abs", "rms", "per_parameter"]


@dataclass(frozen=True)
class BlockBudget:
    """How block scores become a mask; the localizers that score sites have these fields.

    The attention block of a layer is its q, k, v and output projections, the MLP block its gate, up and down (biases
    go with them). parts: which blocks compete. A block's sites are pooled by
    sum: their signed sum (as Mechanistic Unlearning does), mean_abs: mean |score|, rms: root of the mean squared score,
    per_parameter: sum of |scores| / the block's weights.
    Blocks are added in descending order of the absolute value until the budget is reached. It is select, a
    share of all the model's weights; parameters, a number of them, or count, a number of blocks, take its place.
    overshoot: whether the last block may pass the budget; forbid skips what would, and fills up with smaller blocks.

    Mechanistic Unlearning (Guo et al., 2024), https://arxiv.org/abs/2410.12949
    """

    parts: Literal["blocks", "mlps"] = "blocks"
    select: Fraction = 0.1
    parameters: Annotated[int, Gt(0)] | None = None
    count: Annotated[int, Gt(0)] | None = None
    pooling: Pooling = "sum"
    overshoot: Literal["allow", "forbid"] = "allow"

    def __post_init__(self) -> None:
        if self.parameters and self.count:
            raise ValueError("parameters and count are both set: there can be one budget")

    def pooled(self, scores: np.ndarray, parameters: int) -> float:
        """One number, to rank a block by, from the scores of its sites [n] and its weights."""
        import numpy as np

        if self.pooling == "sum":
            return float(scores.sum())
        if self.pooling == "mean_abs":
            return float(np.abs(scores).mean())
        if self.pooling == "rms":
            return float(np.sqrt(np.square(scores).mean()))
        return float(np.abs(scores).sum()) / parameters

    def chosen(self, scores: Mapping[Block, float], parameters: Mapping[Block, int], total: int) -> list[Block]:
        """The blocks that are selected, best first; ties go to the lower layer, attention first.

        UserError where none fits into the budget, or there are fewer than `count`.
        """
        order = sorted(scores, key=lambda block: (-abs(scores[block]), block[1], block[0]))
        if self.count is not None:
            if self.count > len(order):
                raise UserError(f"localize.count={self.count}: the model has {len(order)} such blocks")
            return order[: self.count]
        budget, used, taken = self._budget(total), 0, []
        for block in order:
            if used >= budget:
                break
            if self.overshoot == "allow" or used + parameters[block] <= budget:
                taken.append(block)
                used += parameters[block]
        if not taken:
            least = min(parameters[block] for block in order)
            raise UserError(
                f"no block fits into the budget of {budget} weights without overshoot: the smallest has {least} "
                f"({least / total:.3g} of all)"
            )
        return taken

    def located(
        self,
        subject: Subject,
        layout: Layout,
        scores: Mapping[Block, np.ndarray],
        numbers: Mapping[str, float],
        tables: Mapping[str, pd.DataFrame],
    ) -> Located:
        """The mask of the chosen blocks' weights; scores: of each block's sites."""
        import pandas as pd

        from unlearn.localize.mask import Mask

        model = subject.model
        names = block_weights(layout, model)
        total = sum(p.numel() for p in model.parameters())
        sizes = {block: sum(names[block].values()) for block in scores}
        ranked: dict[Block, float] = {
            block: self.pooled(values, sizes[block])
            for block, values in scores.items()
            if self.parts == "blocks" or block[0] == "mlp"
        }
        chosen = self.chosen(ranked, sizes, total)
        selected = {name: True for block in chosen for name in names[block]}
        used = sum(sizes[block] for block in chosen)
        budget = self._budget(total) if self.count is None else used
        rows = [
            {
                "kind": kind,
                "layer": layer,
                "score": score,
                "parameters": sizes[kind, layer],
                "selected": (kind, layer) in chosen,
            }
            for (kind, layer), score in ranked.items()
        ]
        return Located(
            Mask.of(model, selected),
            {**numbers, "budget": budget, "budget_ratio": used / budget, "blocks": len(chosen)},
            {**tables, "blocks": pd.DataFrame(rows)},
        )

    def _budget(self, total: int) -> int:
        return self.parameters or math.ceil(self.select * total)


def block_weights(layout: Layout, model: nn.Module) -> dict[Block, dict[str, int]]:
    """Names and sizes of the weights of every block, attention and MLP, layer by layer."""
    names = {id(p): name for name, p in model.named_parameters()}
    found: dict[Block, dict[str, int]] = {}
    for layer, block in enumerate(layout.blocks):
        for kind in ("attention", "mlp"):
            weights = [p for module in block.weights[kind] for p in module.parameters()]
            found[kind, layer] = {names[id(p)]: p.numel() for p in weights}
    return found
