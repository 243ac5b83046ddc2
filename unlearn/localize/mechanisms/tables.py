"""Make the tables of what single sites (heads, MLPs, attention outputs) do and know, as the report shows them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from unlearn.runtime.explained import Chart, Explained

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

NAMES = {
    "z": "Head outputs (z)",
    "q": "Queries (q)",
    "k": "Keys (k)",
    "v": "Values (v)",
    "attn_out": "Attention outputs",
    "mlp_in": "MLP inputs",
    "mlp_out": "MLP outputs",
}


def explained_sites(table: pd.DataFrame) -> Explained:
    """Return the table, by site, layer, head (nan: none) and score, with what is exact and intervals where known."""
    words = (
        "What each head, MLP or attention output does to the answer; the further from 0, the more it matters. "
        "Circles and diamonds: the exact effect, where an estimate was checked."
    )
    chart = Chart("heatmap", "layer", ("head",), "score", panel="site", exact="exact", signed=True, words=NAMES)
    if {"low", "high"} <= set(table.columns):
        chart = replace(chart, low="low", high="high")
    return Explained(table, "Localization: effect of each site", words, chart)


def explained_heads(table: pd.DataFrame) -> Explained:
    """Return the table of the heads that say the answer, by layer, head and score."""
    words = "How much of the answer each head says itself: what comes back when it alone is not corrupted."
    chart = Chart("heatmap", "layer", ("head",), "score", signed=True)
    return Explained(table, "Localization: heads that speak to the answer", words, chart)


def explained_enrichment(table: pd.DataFrame, chosen: Sequence[int]) -> Explained:
    """Return the table of the MLPs that those heads read, by layer and score, with those that were chosen."""
    words = "How much of the answer each MLP gives to those heads. Full colour: the MLPs that were chosen."
    shown = table.assign(chosen=table["layer"].isin(chosen))
    chart = Chart("bar", "layer", ("score",), marked="chosen", shares=False)
    return Explained(shown, "Localization: MLPs that these heads read", words, chart)


def explained_probes(table: pd.DataFrame, chosen: Sequence[int]) -> Explained:
    """Return the table of accuracies by layer and prompt, with the layers that were chosen."""
    words = (
        "How well a linear probe reads the fact from each layer. It is known where the curve is up and the control "
        "(shuffled labels) is not. Shaded: the layers that were chosen."
    )
    called = {"name": "name alone", "full": "full prompt", "chosen": "chosen layers"}
    chart = Chart("line", "layer", ("accuracy",), series="prompt", baseline="control", marked="chosen", words=called)
    return Explained(table.assign(chosen=table["layer"].isin(chosen)), "Localization: probes", words, chart)
