"""Figures of a localization: where the selected weights are, and what led there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from textwrap import shorten
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import CenteredNorm, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from unlearn.models.parameters import TYPES
from unlearn.report.folder import Localization
from unlearn.report.style import (
    AMOUNT,
    COLOURS,
    DASHED,
    OTHERS,
    SIGNED,
    Drawn,
    accuracy_by_layer,
    heat_map,
    styled,
    unit_frame,
)

MLP, ATTENTION = "#0072b2", "#d55e00"
BLOCKS = {"attention": ("attention", ATTENTION, "#f6d9c4"), "mlp": ("MLP", MLP, "#c3dded")}  # the last: not selected
KINDS = {"hidden": "Hidden state", "mlp": "MLP output", "attention": "Attention output"}
SITES = {
    "z": "Head outputs (z)",
    "q": "Queries (q)",
    "k": "Keys (k)",
    "v": "Values (v)",
    "attn_out": "Attention outputs",
    "mlp_in": "MLP inputs",
    "mlp_out": "MLP outputs",
    "extraction": "Heads that speak to the answer",
    "enrichment": "MLPs that these heads read",
}
NUMBERS = {  # what the numbers of the localizers say
    "gamma_balanced": "The γ at which both terms of WAGLE's score weigh the same.",
    "gamma": "Curvature of the retain loss in WAGLE's score |(θ − g_r/γ) g_f|. Large: SNIP; small: the interaction.",
    "snip_share": "Share of WAGLE's score that its weight term (SNIP) makes up.",
    "snip_iou": "Overlap (IoU) of the mask with SNIP's at the same fraction. 1: it is SNIP's.",
    "interaction_iou": "Overlap (IoU) of the mask with that of |g_f g_r| at the same fraction. 1: it is that one.",
    "iou": "Overlap (IoU) of the two masks that are combined.",
    "fraction": "Share of all weights that this mask selects.",
    "scored": "Weights that got a score.",
    "selected": "Weights that were selected.",
    "asked": "Share of the scored weights that was to be selected.",
    "achieved": "Share of them that was selected: as every row of weights is rounded up, never less.",
    "threshold": "Score of the last weight that was selected.",
    "zero_scores": "Weights of score 0: the data say nothing about them.",
    "zero_selected": "Selected weights of score 0: taken by their position alone.",
    "budget": "Weights that the selected blocks were to have.",
    "budget_ratio": "Weights that they have, over that.",
    "parameters": "Weights that were selected.",
    "blocks": "Attention and MLP blocks that were selected.",
    "layers": "Layers that hold selected weights.",
    "matrices": "Weight matrices that were selected.",
    "parts": "Parts (MLPs or matrices) that were drawn.",
    "facts": "Prompts that the scores rest on.",
    "p_clean": "Probability of the answer, untouched.",
    "total_effect": "How much of it noise on the subject takes away.",
    "metric_gap": "How far the answer's logit falls against wrong answers' with another subject.",
    "gap": "How far the answer's logit falls against wrong answers' with another subject.",
    "receiver": "Earliest layer whose heads speak to the answer: facts may be looked up before it.",
    "first_layer": "First layer of the lookup: the name alone tells the class.",
    "last_layer": "Last layer of the lookup: the full prompt tells it as well as it ever does.",
    "chance": "Accuracy of always naming the most frequent class.",
    "name_accuracy": "Accuracy of the best layer's probe on the name alone.",
    "full_accuracy": "Accuracy of the best layer's probe on the full prompt.",
    "candidates": "Weights that could have been selected.",
    "moved": "Share of them that training has shrunk.",
    "gone": "Share of them that training has brought to 0.",
    "gone_selected": "Share of the selected weights that training has brought to 0.",
    "forget": "Probability of the forget set's answers before anything is removed.",
    "retain": "Probability of the retain set's answers before anything is removed.",
    "injected": "Probability of the injected answers before anything is removed.",
    "forget_removed": "Probability of the forget set's answers with the selected weights set to 0.",
    "retain_removed": "Probability of the retain set's answers with the selected weights set to 0.",
    "injected_removed": "Probability of the injected answers with the selected weights set to 0.",
}
WRITTEN = 40  # layers up to which every cell has its number written in it
STRONGEST = 20  # edges that are drawn


def figures(found: Localization) -> dict[str, Drawn]:
    """The figures that this localization has data for, by name."""
    drawn = {}
    if found.shares:
        words = (
            "Per cent of each module type's weights, layer by layer, that unlearning may change. The middle colour is "
            f"the whole model's {percent(found.fraction)}: darker cells hold more than that, paler ones less."
        )
        drawn["localize-selected"] = Drawn("Localization: the selected weights", words, selected(found))
    explained: Any = (
        (
            "trace",
            "Localization: causal trace",
            "How much of the answer's probability comes back when one state of the clean run is put into a run with a "
            "corrupted subject. Blue: it brings the answer back, so the fact passes there. Dots: the 95% interval "
            "includes 0.",
            trace,
        ),
        (
            "blocks",
            "Localization: scores of the blocks",
            "What the localizer gives each attention and MLP block. Full colour: selected; pale: not.",
            blocks,
        ),
        (
            "sites",
            "Localization: effect of each site",
            "What each head, MLP or attention output does to the answer; the further from 0, the more it matters. "
            "Circles and diamonds: the exact effect, where an estimate was checked.",
            sites,
        ),
        (
            "edges",
            "Localization: strongest edges",
            f"The {STRONGEST} connections between blocks that matter most for the answer, by estimated effect.",
            edges,
        ),
        (
            "probes",
            "Localization: probes",
            "How well a linear probe reads the fact from each layer. It is known where the curve is up and the control "
            "(shuffled labels) is not. Shaded: the layers that were chosen.",
            partial(probes, chosen=chosen_layers(found)),
        ),
        (
            "removal",
            "Localization: removing the selected weights",
            "What the model still says as more and more of the selected weights are set to 0. A good mask takes the "
            "forget set away and leaves the retain set.",
            removal,
        ),
    )
    for name, title, words, draw in explained:
        if len(table := _sites(found) if name == "sites" else found.table(name)):
            drawn[f"localize-{name}"] = Drawn(title, words, draw(table))
    return drawn


def _sites(found: Localization) -> pd.DataFrame:
    """The scores of single sites, those of path patching among them."""
    parts = [found.table("sites"), *(found.table(name).assign(site=name) for name in ("extraction", "enrichment"))]
    return pd.concat([part for part in parts if len(part)] or parts[:1]).reindex(columns=list(parts[0]))


def chosen_layers(found: Localization) -> list[int]:
    """The layers that hold selected weights; none where all of them do, as that tells nothing."""
    inside = [share for share in found.shares if share.layer is not None]
    chosen = {share.layer for share in inside if share.layer is not None and share.selected}
    return sorted(chosen) if chosen != {share.layer for share in inside} else []


def meaning(number: str, numbers: Mapping[str, float] = MappingProxyType({})) -> str:
    """What a localizer's number says, "" where that is not known; a part's ("first.gamma") goes by its own name.

    numbers: of the same localizer. Where they tell the share f of the scored weights that is selected, an overlap with
    a mask of the same share is told with what chance would give, f / (2 - f).
    """
    part, dot, name = number.rpartition(".")
    words = NUMBERS.get(name, "")
    selected, scored = (numbers.get(f"{part}{dot}{count}", math.nan) for count in ("selected", "scored"))
    if name in ("snip_iou", "interaction_iou") and scored > 0:
        words += f" Two random masks of this size: {selected / (2 * scored - selected):.2g}."
    return words


def percent(share: float, decimals: int = 0) -> str:
    """A share for people ("80%"), with more decimals where fewer would make it 0 or 100% by rounding alone."""
    while float(text := f"{100 * share:.{decimals}f}") in (0.0, 100.0) and share not in (0.0, 1.0) and decimals < 4:
        decimals += 1
    return f"{text}%"


@styled
def selected(found: Localization) -> Figure:
    """Share of selected weights by module type (rows) and layer (columns), with sums; below, what is in no layer."""
    table = pd.DataFrame([asdict(share) for share in found.shares])
    inside, outside = table[table["layer"].notna()], table[table["layer"].isna()].assign(layer=0)
    grids = {}
    if len(inside):
        grids["layer"] = _shares(inside, sums=True)
    if len(outside):
        grids["outside the layers"] = _shares(outside, sums=False)
    columns = max(grid.shape[1] for grid in grids.values())
    size = min(12.5, 4.0 + 0.32 * columns), 1.2 + 0.3 * sum(map(len, grids.values()))
    figure = Figure(figsize=size, layout="constrained")
    norm = _half_way_at(found.fraction)
    heights = [len(grid) for grid in grids.values()]
    panels = figure.subplots(len(grids), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axes, (where, grid) in zip(panels, grids.items(), strict=True):
        values = grid.to_numpy()
        texts = [["" if math.isnan(share) else percent(share)[:-1] for share in row] for row in values]
        image = heat_map(axes, values, list(grid.index), AMOUNT, norm, texts if columns <= WRITTEN + 1 else ())
        axes.set_xlabel(where)
        if where == "layer":
            _layer_ticks(axes, len(values[0]) - 1, last="all")
            axes.axvline(len(values[0]) - 1.5, color="white", linewidth=5)
            axes.axhline(len(values) - 1.5, color="white", linewidth=5)
        else:
            axes.set_xticks([])
    ticks = [float(norm.inverse(place)) for place in (0, 0.25, 0.5, 0.75, 1)]
    bar = figure.colorbar(image, ax=list(panels), ticks=ticks, pad=0.02, label="selected")
    bar.ax.set_yticks(ticks, [percent(tick) for tick in ticks])
    _plain(bar)
    return figure


def _shares(table: pd.DataFrame, sums: bool) -> pd.DataFrame:
    """Selected of all weights by type and layer, nan where there are none; with `sums` over "all" last."""
    types = [kind for kind in TYPES if kind in set(table["type"])]
    layers = range(_count(table["layer"]))
    counts = []
    for name in ("selected", "total"):
        grid = table.pivot_table(index="type", columns="layer", values=name, aggfunc="sum")
        grid = grid.reindex(index=types, columns=layers, fill_value=0).fillna(0.0)
        if sums:
            grid.loc["all"] = grid.sum()
            grid["all"] = grid.sum(axis=1)
        counts.append(grid)
    return (counts[0] / counts[1].where(counts[1] > 0)).astype(float)


def _half_way_at(fraction: float) -> PowerNorm:
    """Colours from 0 to 1 whose middle is `fraction`, so that differences show in sparse and in dense masks alike."""
    return PowerNorm(math.log(0.5) / math.log(min(max(fraction, 0.01), 0.97)), 0, 1)


@styled
def trace(table: pd.DataFrame) -> Figure:
    """Indirect effects by token (rows) and layer (columns), a panel for each kind: the average, and one prompt."""
    examples = [prompt for prompt in table["prompt"].unique() if prompt != "average"]
    prompts = [prompt for prompt in ("average", *examples[:1]) if prompt in set(table["prompt"])]
    kinds = [kind for kind in KINDS if kind in set(table["kind"])]
    parts = [table[table["prompt"] == prompt] for prompt in prompts]
    heights = [1.15 + 0.24 * part["token"].nunique() for part in parts]
    figure = Figure(figsize=(4.2 + 2.7 * len(kinds), sum(heights)), layout="constrained")
    rows = figure.subfigures(len(prompts), 1, height_ratios=heights, squeeze=False)[:, 0]
    for row, prompt, part in zip(rows, prompts, parts, strict=True):
        title = "Average over the prompts" if prompt == "average" else f"One prompt: {shorten(prompt, 110)}"
        row.suptitle(title, fontsize=9.5, parse_math=False)
        norm = CenteredNorm(halfrange=part["effect"].abs().max() or 1.0)
        tokens = part.drop_duplicates("token").sort_values("token")
        panels = row.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        for axes, kind in zip(panels, kinds, strict=True):
            mine = part[part["kind"] == kind]
            grid = _grid(mine, "effect", "token", tokens["token"], _count(table["layer"]))
            image = heat_map(axes, grid, [_shown(text) for text in tokens["token_text"]], SIGNED, norm)
            unsure = mine[(mine["low"] <= 0) & (mine["high"] >= 0)]
            places = unsure["token"].map(list(tokens["token"]).index)
            axes.scatter(unsure["layer"], places, s=3, color="#777777", linewidths=0)
            axes.set(title=KINDS[kind], xlabel="layer")
        for label in panels[0].get_yticklabels():
            if "subject" in label.get_text() and prompt == "average":
                label.set(color=MLP, fontweight="bold")
        _plain(row.colorbar(image, ax=list(panels), pad=0.01, label="indirect effect"))
    return figure


def _grid(table: pd.DataFrame, value: str, rows: str, order: Sequence[Any], layers: int) -> np.ndarray:
    """The values by row and layer, nan where there is none."""
    grid = table.pivot_table(index=rows, columns="layer", values=value, aggfunc="mean")
    return grid.reindex(index=list(order), columns=range(layers)).to_numpy(dtype=float)


def _count(numbers: pd.Series) -> int:
    """How many layers or heads there are, counted from 0."""
    return int(numbers.max()) + 1


def _shown(token: str) -> str:
    """A token as a label: what cannot be seen is made so."""
    return repr(token)[1:-1] if token.strip() else repr(token)


@styled
def blocks(table: pd.DataFrame) -> Figure:
    """Score of each block by layer, attention beside MLP; the selected ones in full colour."""
    kinds = [kind for kind in BLOCKS if kind in set(table["kind"])]
    layers = _count(table["layer"])
    figure = Figure(figsize=(min(12.5, 5 + 0.16 * layers), 3.3), layout="constrained")
    axes = figure.subplots()
    width = 0.84 / len(kinds)
    taken = table[table["selected"].fillna(False).astype(bool)]
    for i, kind in enumerate(kinds):
        name, colour, pale = BLOCKS[kind]
        every, shift = table[table["kind"] == kind], (i - (len(kinds) - 1) / 2) * width
        left = every.drop(taken.index, errors="ignore")
        mine = every.drop(left.index)
        for part, shade, label in ((mine, colour, name), (left, pale, f"{name}, not selected")):
            if len(part):
                axes.bar(part["layer"] + shift, part["score"], width * 0.9, color=shade, label=label)
    axes.set_title(f"{len(taken)} of {len(table)} blocks selected, {taken['parameters'].sum():,.0f} weights")
    axes.set(xlabel="layer", ylabel="score", xlim=(-0.6, layers - 0.4))
    axes.axhline(0, color="#444444", linewidth=0.8)
    axes.grid(axis="x", visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return figure


@styled
def sites(table: pd.DataFrame) -> Figure:
    """Scores of heads as heat maps by head and layer, of other sites as bars; last, estimates against exact effects."""
    names = [site for site in dict.fromkeys((*SITES, *table["site"])) if site in set(table["site"])]
    checked = table[table["exact"].notna()]
    panels = len(names) + (len(checked) > 0)
    layers, rows = _count(table["layer"]), math.ceil(panels / 2)
    heads = _count(table["head"]) if table["head"].notna().any() else 0
    size = min(13.0, 7.5 + 0.1 * layers), min(3.8, 1.9 + 0.07 * max(heads, 10)) * rows
    figure = Figure(figsize=size, layout="constrained")
    every = list(figure.subplots(rows, min(panels, 2), squeeze=False).flat)
    for axes, site in zip(every, names, strict=False):
        part = table[table["site"] == site]
        if part["head"].notna().any():
            _heads(axes, part, layers)
        else:
            _bars(axes, part)
        axes.set_title(SITES.get(site, site), parse_math=False)
        axes.set_xlabel("layer")
    for axes in every[panels:]:
        axes.set_axis_off()
    if len(checked):
        _estimates(every[len(names)], checked)
    return figure


def _heads(axes: Axes, part: pd.DataFrame, layers: int) -> None:
    """A heat map by head and layer; the exact effects as circles in the same colours."""
    norm = CenteredNorm(halfrange=part[["score", "exact"]].abs().max().max() or 1.0)
    grid = _grid(part, "score", "head", range(_count(part["head"])), layers)
    image = heat_map(axes, grid, [], SIGNED, norm)
    exact = part[part["exact"].notna()]
    ring: Any = {"s": 22, "edgecolors": "#222222", "linewidths": 0.8}
    axes.scatter(exact["layer"], exact["head"], c=exact["exact"], cmap=SIGNED, norm=norm, **ring)
    axes.set_ylabel("head")
    _plain(axes.figure.colorbar(image, ax=axes, pad=0.02))


def _bars(axes: Axes, part: pd.DataFrame) -> None:
    """A bar for each layer, with its interval; the exact effects as diamonds."""
    reach = np.nan_to_num([part["score"] - part["low"], part["high"] - part["score"]]).clip(0)
    axes.bar(part["layer"], part["score"], 0.8, color=MLP, yerr=reach, error_kw={"elinewidth": 1, "ecolor": "#333333"})
    axes.plot(part["layer"], part["exact"], "D", color="white", markeredgecolor="#222222", markersize=4, zorder=3)
    axes.axhline(0, color="#444444", linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="x", visible=False)
    axes.set_ylabel("score")


def _estimates(axes: Axes, checked: pd.DataFrame) -> None:
    """Estimates (x) against exact effects (y) of the sites that were checked, with the line where both are equal."""
    for (site, part), colour in zip(checked.groupby("site", sort=False), OTHERS * len(checked), strict=False):
        axes.scatter(part["score"], part["exact"], s=16, color=colour, label=SITES.get(str(site), str(site)), zorder=3)
    axes.axline((0, 0), slope=1, color="#999999", linestyle=DASHED, linewidth=1)
    axes.set(title="Estimate and exact effect", xlabel="estimate", ylabel="exact")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.legend(loc="best", fontsize=8)


@styled
def edges(table: pd.DataFrame) -> Figure:
    """The strongest edges, by absolute score, as horizontal bars."""
    strongest = table.loc[table["score"].abs().sort_values(ascending=False, kind="stable").index[:STRONGEST]]
    figure = Figure(figsize=(7.5, 1.0 + 0.22 * len(strongest)), layout="constrained")
    axes = figure.subplots()
    colours = [MLP if score > 0 else ATTENTION for score in strongest["score"]]
    axes.barh(range(len(strongest)), strongest["score"], color=colours)
    names = [f"{source} → {target}" for source, target in zip(strongest["source"], strongest["target"], strict=True)]
    axes.set_yticks(range(len(strongest)), names, parse_math=False)
    axes.invert_yaxis()
    axes.axvline(0, color="#444444", linewidth=0.8)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("score")
    return figure


@styled
def probes(table: pd.DataFrame, chosen: Sequence[int]) -> Figure:
    """Accuracy of a probe of each layer, for each prompt, and with shuffled labels; the chosen layers shaded."""
    layers = _count(table["layer"])
    figure = Figure(figsize=(min(11.0, 5.5 + 0.1 * layers), 3.4), layout="constrained")
    axes = figure.subplots()
    for layer in chosen:
        label = "chosen layers" if layer == chosen[0] else ""
        axes.axvspan(layer - 0.5, layer + 0.5, color="#e9e3c9", linewidth=0, zorder=0, label=label)
    for prompt, part in table.sort_values("layer").groupby("prompt"):
        name, colour = ("name alone", MLP) if prompt == "name" else ("full prompt", ATTENTION)
        axes.plot(part["layer"], part["accuracy"], "o-", color=colour, markersize=3.5, label=name)
        dashed: Any = {"linestyle": DASHED, "linewidth": 1, "label": f"{name}, control"}
        axes.plot(part["layer"], part["control"], color=colour, **dashed)
    accuracy_by_layer(axes)
    return figure


@styled
def removal(table: pd.DataFrame) -> Figure:
    """Probability of each set's answers against the share of all weights that is set to 0."""
    figure = Figure(figsize=(6.5, 3.2), layout="constrained")
    axes = figure.subplots()
    names = {"forget": ("forget", ATTENTION), "retain": ("retain", COLOURS["control"]), "injected": ("injected", MLP)}
    for name, (label, colour) in names.items():
        if table[name].notna().any():
            axes.plot(table["fraction"], table[name], "o-", color=colour, markersize=4, label=label)
    axes.set(xlabel="share of all weights set to 0", ylabel="probability of the answers")
    unit_frame(axes, "y")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return figure


def _layer_ticks(axes: Axes, layers: int, last: str) -> None:
    """Numbers under the layers, not all where they are many, and a name under the column behind them."""
    step = next(step for step in (1, 2, 5, 10, 20, 50) if layers / step <= 42)
    axes.set_xticks([*range(0, layers, step), layers], [*map(str, range(0, layers, step)), last])


def _plain(bar: Colorbar) -> None:
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    bar.ax.grid(visible=False)
