"""Turn scores of attention and MLP blocks into a mask: whole blocks, best first, until a budget is reached."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from annotated_types import Gt

from unlearn.localize.base import Fraction, Localization, Localizer
from unlearn.runtime.errors import UserError
from unlearn.runtime.explained import Chart, Explained

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import pandas as pd
    from torch import nn

    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.layout import Layout
    from unlearn.models.mask import Mask
    from unlearn.models.subject import Subject

Kind = Literal["attention", "mlp"]
Block = tuple[Kind, int]  # its kind and its layer
Pooling = Literal["sum", "mean_abs", "rms", "per_parameter"]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Select whole parts of a model, one by one, until a budget is reached.

    Raises ValueError where more than one of parameters, count and match is set.
    """

    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1

    select: Fraction = 0.1
    """Budget: this share of all the model's weights (rounded up), unless one of the next three is set."""
    parameters: Annotated[int, Gt(0)] | None = None
    """Budget: a number of weights."""
    count: Annotated[int, Gt(0)] | None = None
    """Budget: a number of parts."""
    match: Localizer | None = None
    """Budget: as many weights as another localizer selects: localize@localize.match=flu."""

    def __post_init__(self) -> None:
        given = [name for name in ("match", "parameters", "count") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are both set: there can be one budget")

    @property
    def reads(self) -> frozenset[str]:
        """Return what `match` reads."""
        return self.match.reads if self.match else frozenset()

    def check(self, task: Task, setting: RunSetting) -> None:
        """Ask `match` whether it can run; without it any task will do."""
        if self.match:
            self.match.check(task.only(self.match.reads), setting)

    def matched(self, subject: Subject, task: Task, seed: int) -> tuple[Self, Localization | None]:
        """Return the same with the number of weights that `match` selects, and what that localizer found."""
        if not self.match:
            return self, None
        found = self.match.localize(subject, task.only(self.match.reads), seed)
        if not found.mask.selected:
            raise UserError("the localizer to match selects no weights")
        return replace(self, match=None, parameters=found.mask.selected), found

    def weights(self, total: int) -> int:
        """Return the budget in weights, of `total` in the model, where it is not a number of parts."""
        return self.parameters or max(1, math.ceil(round(self.select * total, 3)))  # 0.07 * 100 is 7.000000000000001

    def taken(self, sizes: Sequence[int], total: int, parts: str, overshoot: bool = True) -> list[int]:
        """Return which parts of these sizes are taken, in their order; with overshoot the last may pass the budget.

        UserError, calling them `parts`, where there are not enough of them, or where none fits.
        """
        if self.count is not None:
            if self.count > len(sizes):
                raise UserError(f"{self.count} {parts} are wanted, but the model has {len(sizes)}")
            return list(range(self.count))
        budget, most, least = self.weights(total), sum(sizes), min(sizes)
        if most < budget:
            raise UserError(
                f"the budget is {budget} weights ({budget / total:.3g} of the model's), but all of its {len(sizes)} "
                f"{parts} have {most} ({most / total:.3g})"
            )
        if least > budget and not overshoot:
            raise UserError(
                f"none of the {parts} fits into the budget of {budget} weights without overshoot: the smallest has "
                f"{least} ({least / total:.3g} of the model's)"
            )
        used, taken = 0, []
        for number, size in enumerate(sizes):
            if used < budget and (overshoot or used + size <= budget):
                taken.append(number)
                used += size
        return taken

    def located(
        self,
        mask: Mask,
        numbers: Mapping[str, float],
        tables: Mapping[str, Explained],
        matched: Localization | None,
        words: Mapping[str, str] = MappingProxyType({}),
    ) -> Localization:
        """Return the mask of what is taken, with the budget and how much of it was used.

        A matched mask is kept beside it as "match".
        """
        budget = mask.selected if self.count is not None else self.weights(mask.total)
        numbers = {**numbers, "budget": budget, "budget_ratio": mask.selected / budget}
        if not matched:
            return Localization(mask, numbers, tables, words=words)
        numbers |= {f"match.{name}": number for name, number in matched.numbers.items()}
        words = {**words, **{f"match.{name}": said for name, said in matched.words.items()}}
        return Localization(mask, numbers, tables, {"match": matched.mask}, words)


@dataclass(frozen=True)
class BlockBudget(Budget):
    """Turn scores of sites into a mask of whole blocks; the localizers that score sites have these fields.

    The attention block of a layer is its q, k, v and output projections, the MLP block its gate, up and down (biases go
    with them). Blocks are added in descending order of the absolute value of their pooled score until the budget is
    reached (see Budget).

    Mechanistic Unlearning (Guo et al., 2024), https://arxiv.org/abs/2410.12949
    """

    parts: Literal["blocks", "mlps"] = "blocks"
    """Which blocks compete: attention and MLP blocks ("blocks"), or MLP blocks alone ("mlps")."""
    pooling: Pooling = "sum"
    """How a block's score is made of those of its sites: sum (signed), mean_abs, rms, or per_parameter. "sum" is the
    sum of the scores with their signs where they have any (as published), "mean_abs" the mean |score|, "rms" the root
    of the mean squared score, "per_parameter" the sum of |scores| over the block's weights."""
    overshoot: Literal["allow", "forbid"] = "allow"
    """Whether the last block may pass the budget ("allow"), or smaller ones fill it up ("forbid")."""

    def pooled(self, scores: np.ndarray, parameters: int) -> float:
        """Return one number, to rank a block by, from the scores of its sites [n] and its weights."""
        import numpy as np

        if self.pooling == "sum":
            return float(scores.sum())
        if self.pooling == "mean_abs":
            return float(np.abs(scores).mean())
        if self.pooling == "rms":
            return float(np.sqrt(np.square(scores).mean()))
        return float(np.abs(scores).sum()) / parameters

    def chosen(self, scores: Mapping[Block, float], sizes: Mapping[Block, int], total: int) -> list[Block]:
        """Return the blocks that are selected, best first; ties go to the lower layer, attention first."""
        order = sorted(scores, key=lambda block: (-abs(scores[block]), block[1], block[0]))
        ranked = [sizes[block] for block in order]
        return [order[number] for number in self.taken(ranked, total, self.parts, self.overshoot == "allow")]

    def select_blocks(
        self,
        subject: Subject,
        task: Task,
        seed: int,
        scores: Mapping[Block, np.ndarray],
        numbers: Mapping[str, float],
        tables: Mapping[str, Explained],
        words: Mapping[str, str] = MappingProxyType({}),
    ) -> Localization:
        """Return the mask of the chosen blocks' weights.

        scores: of each block's sites. numbers, tables, words: of the localizer, kept with the mask.
        """
        import pandas as pd

        from unlearn.models.layout import layout
        from unlearn.models.mask import Mask

        model, (mine, matched) = subject.module, self.matched(subject, task, seed)
        names = block_weights(layout(model), model)
        sizes = {block: sum(names[block].values()) for block in scores}
        ranked: dict[Block, float] = {
            block: self.pooled(values, sizes[block])
            for block, values in scores.items()
            if self.parts == "blocks" or block[0] == "mlp"
        }
        chosen = mine.chosen(ranked, sizes, sum(p.numel() for p in model.parameters()))
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
        mask = Mask.of(model, {name: True for block in chosen for name in names[block]})
        explained = {**tables, "blocks": _explained(pd.DataFrame(rows))}
        return mine.located(mask, {**numbers, "blocks": len(chosen)}, explained, matched, words)


def block_weights(parts: Layout, model: nn.Module) -> dict[Block, dict[str, int]]:
    """Return names and sizes of the weights of every block, attention and MLP, layer by layer."""
    names = {id(p): name for name, p in model.named_parameters()}
    found: dict[Block, dict[str, int]] = {}
    for layer, block in enumerate(parts.blocks):
        for kind in ("attention", "mlp"):
            weights = [p for module in block.weights[kind] for p in module.parameters()]
            found[kind, layer] = {names[id(p)]: p.numel() for p in weights}
    return found


def _explained(table: pd.DataFrame) -> Explained:
    taken = table[table["selected"].fillna(False).astype(bool)]
    words = (
        "What the localizer gives each attention and MLP block. Full colour: selected; pale: not. "
        f"{len(taken)} of {len(table)} blocks are selected, {taken['parameters'].sum():,.0f} weights."
    )
    chart = Chart("bar", "layer", ("score",), series="kind", marked="selected", shares=False, words={"mlp": "MLP"})
    return Explained(table, "Localization: scores of the blocks", words, chart)
