"""Attribution patching: estimate what every site would do if it were patched, from two forwards and one backward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Le

from unlearn.localize.mechanisms.contrasts import Contrasts
from unlearn.localize.mechanisms.tables import explained_sites

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from unlearn.data.task import Task
    from unlearn.localize.base import Localization
    from unlearn.localize.budget import Block, Kind
    from unlearn.localize.mechanisms.attribution import Pair
    from unlearn.models.layout import Layout
    from unlearn.models.subject import Subject

HEADS = ("q", "k", "v", "z")  # sites with a score for each head
SITES = (*HEADS, "attn_out", "mlp_in", "mlp_out")
POOLED: dict[Kind, tuple[str, ...]] = {"attention": HEADS, "mlp": ("mlp_in", "mlp_out")}


@dataclass(frozen=True)
class AttributionPatching(Contrasts):
    """Select blocks that change the answer most where a clean and a corrupt run exchange values, to first order.

    The corrupt prompt has random tokens in the place of the subject. m = logit(answer) - mean logit(foils), where the
    answer is predicted. Score of a site a: sum over tokens and features of (a_other - a_base) dm/da on the base run,
    averaged over prompts: an estimate of how m changes where a is patched. Normalised: over m(clean) - m(corrupt), nan
    where that is below 0.1.

    Sites: q, k, v (before rotary) and z (the output) of each head, attn_out, mlp_in, mlp_out. An attention block is
    pooled from q, k, v and z, an MLP block from mlp_in and mlp_out.

    Attribution Patching Outperforms Automated Circuit Discovery (Syed et al., 2023), https://arxiv.org/abs/2310.10348
    """

    points: Annotated[int, Ge(0)] = 0
    """Integrated gradients over so many points; 0: the plain gradient."""
    exact: Annotated[float, Ge(0), Le(1)] = 0.05
    """This share of the sites, the largest scores, is patched for real as well. These effects stand beside the
    estimates in the table "sites"; the mask follows the estimates."""

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Return the mask, with the table "sites"; UserError where no foil begins otherwise than its answer does."""
        import pandas as pd

        from unlearn.localize.mechanisms.attribution import attribute, estimate
        from unlearn.models.layout import layout
        from unlearn.models.sites import at_rest

        model, parts = subject.module, layout(subject.module)
        keys = [(layer, site) for site in SITES for layer in range(len(parts.blocks))]
        with at_rest(model):
            pairs = self.pairs(subject, task, seed)
            found = estimate(
                subject,
                pairs,
                self.direction,
                lambda base, other: attribute(model, parts, base, other, keys, self.points),
            )
            table = pd.DataFrame(found.labels, columns=["layer", "site", "head"])
            table["score"] = found.scores.mean(0)
            table["exact"] = self._exact(subject, parts, pairs, table)
        table["normalised"] = table["score"] / found.scale
        table["head"] = table["head"].where(table["site"].isin(HEADS))
        scores: dict[Block, np.ndarray] = {}
        for kind, sites in POOLED.items():
            for layer in range(len(parts.blocks)):
                rows = table["site"].isin(sites) & (table["layer"] == layer)
                scores[kind, layer] = table["score"][rows].to_numpy()
        numbers = {"facts": len(pairs), "metric_gap": found.gap}
        return self.select_blocks(subject, task, seed, scores, numbers, {"sites": explained_sites(table)})

    def _exact(self, subject: Subject, parts: Layout, pairs: list[Pair], table: pd.DataFrame) -> np.ndarray:
        """Return mean effects of the sites that are patched for real, nan for the others."""
        import math

        import numpy as np

        from unlearn.localize.mechanisms.attribution import exact
        from unlearn.localize.mechanisms.patching import Patch
        from unlearn.runtime.progress import progress

        effects = np.full(len(table), math.nan)
        largest = table["score"].abs().sort_values(ascending=False, kind="stable").index
        checked = table.loc[largest[: math.ceil(self.exact * len(table))]]
        if len(checked):
            places = checked[["layer", "site", "head"]].to_numpy().tolist()
            patches = [Patch(((layer, site),), head=head) for layer, site, head in places]
            with progress("exact patching", total=len(pairs)) as advance:
                total = np.zeros(len(checked))
                for base, other in pairs:
                    total += exact(subject.module, parts, base, other, patches, subject.token_budget).numpy()
                    advance()
            effects[checked.index] = total / len(pairs)
        return effects
