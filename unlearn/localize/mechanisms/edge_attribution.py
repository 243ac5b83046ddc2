"""Edge attribution: estimate how much each connection between blocks matters for the answer, to first order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn.localize.budget import Block, Kind, Pooling
from unlearn.localize.mechanisms.contrasts import Contrasts
from unlearn.runtime.explained import Chart, Explained

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from unlearn.data.task import Task
    from unlearn.localize.base import Localization
    from unlearn.models.subject import Subject

SOURCES: dict[str, Kind] = {"head": "attention", "attn": "attention", "mlp": "mlp"}


@dataclass(frozen=True)
class EdgeAttribution(Contrasts):
    """Select blocks whose edges to later blocks change the answer most, to first order.

    Score of an edge u -> d: (u_other - u_base) . dm/d(the residual that d reads) on the base run, averaged over
    prompts; runs and m as in attribution patching. u: embed, head.l.h, mlp.l; d: attn.l, mlp.l, logits. A block's sites
    are its outgoing edges (those of all its heads), each as |mean score|. The table "edges" holds the edges.

    Attribution Patching Outperforms Automated Circuit Discovery (Syed et al., 2023), https://arxiv.org/abs/2310.10348
    """

    pooling: Pooling = "rms"
    """Of the scores of a block's edges: rms, mean_abs, per_parameter, or sum (more heads, more score). The root mean
    square is the default, as a sum would grow with the number of heads, and with that of the layers that follow."""

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Return the mask, with the table "edges"; UserError where no foil begins otherwise than its answer does."""
        import numpy as np
        import pandas as pd

        from unlearn.localize.mechanisms.attribution import attribute_edges, estimate
        from unlearn.models.layout import layout
        from unlearn.models.sites import at_rest

        model, parts = subject.module, layout(subject.module)
        with at_rest(model):
            pairs = self.pairs(subject, task, seed)
            found = estimate(
                subject, pairs, self.direction, lambda base, other: attribute_edges(model, parts, base, other)
            )
        sources, targets, _ = zip(*found.labels, strict=True)
        table = pd.DataFrame({"source": sources, "target": targets, "score": found.scores.mean(0)})
        table["normalised"] = table["score"] / found.scale
        outgoing: dict[Block, list[float]] = {}
        for source, score in zip(table["source"], table["score"].abs(), strict=True):
            name, *place = source.split(".")
            if name in SOURCES:
                outgoing.setdefault((SOURCES[name], int(place[0])), []).append(score)
        scores: dict[Block, np.ndarray] = {block: np.array(values) for block, values in outgoing.items()}
        numbers = {"facts": len(pairs), "metric_gap": found.gap}
        return self.select_blocks(subject, task, seed, scores, numbers, {"edges": _explained(table)})


def _explained(table: pd.DataFrame) -> Explained:
    words = "The connections between blocks that matter most for the answer, by estimated effect."
    chart = Chart("ranking", "source", ("target",), "score")
    return Explained(table, "Localization: strongest edges", words, chart)
