"""How much the masks of several runs have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from unlearn.report.style import AMOUNT, heat_map, percent, styled

if TYPE_CHECKING:
    from unlearn.report.folder import Run

WRITTEN = 14  # masks up to which the numbers are written into the cells


@dataclass(frozen=True)
class Overlaps:
    """Masks by name, the fraction f that each selects, and how much each pair overlaps.

    Of n masks, [n, n], nan for two of different models: iou: selected by both / selected by either. chance: the same
    for two random masks of those fractions, expected to be f1 f2 / (f1 + f2 - f1 f2).
    """

    names: Sequence[str]
    fractions: Sequence[float]
    iou: np.ndarray
    chance: np.ndarray

    @property
    def any(self) -> bool:
        """Whether any two can be compared."""
        return int(np.isfinite(self.iou).sum()) > len(self.names)

    def rows(self) -> list[tuple[str, str, list[str]]]:
        """For tables: each mask's name, its fraction, and its overlap with each, in brackets that of random masks."""
        cells = [
            ["–" if np.isnan(iou) else f"{iou:.3f} ({chance:.3f})" for iou, chance in zip(*pair, strict=True)]
            for pair in zip(self.iou, self.chance, strict=True)
        ]
        for i, line in enumerate(cells):
            line[i] = "1"
        return list(zip(self.names, (percent(fraction, 1) for fraction in self.fractions), cells, strict=True))


def overlaps(runs: Sequence[Run], names: Sequence[str]) -> Overlaps:
    """Compare the masks of runs that have one; the name says how a run localized.

    Masks that are alike under one name are taken once; different ones under one name get their seeds too, or where
    these are the same, their runs' names. All masks are in memory at once, a bit for each weight. UserError where one
    is damaged.
    """
    from unlearn.models.mask import Mask

    found: dict[tuple[str, str], tuple[Run, Mask]] = {}
    for run, name in zip(runs, names, strict=True):
        if run.localization and run.localization.mask.exists():
            mask = Mask.load(run.localization.mask)
            found.setdefault((name, mask.digest), (run, mask))
    masks = [mask for _, mask in found.values()]
    fractions = [mask.fraction for mask in masks]
    iou, chance = np.full((2, len(masks), len(masks)), np.nan)
    for i, first in enumerate(masks):
        for j, second in enumerate(masks[: i + 1]):
            if first.shapes == second.shapes:
                both = fractions[i] * fractions[j]
                iou[i, j] = iou[j, i] = first.iou(second)
                chance[i, j] = chance[j, i] = both / (fractions[i] + fractions[j] - both) if both else 0.0
    labels = []
    for (name, _), (run, _) in found.items():
        seeds = [other.about.seed for (same, _), (other, _) in found.items() if same == name]
        tell = f"seed {run.about.seed}" if len(set(seeds)) == len(seeds) else run.about.name
        labels.append(f"{name}, {tell}" if len(seeds) > 1 else name)
    return Overlaps(labels, fractions, iou, chance)


@styled
def overlap(found: Overlaps) -> Figure:
    """Draw the overlaps as a matrix; in brackets what two random masks would have."""
    n = len(found.names)
    longest = max(map(len, found.names))
    side = 0.62 * n if n <= WRITTEN else 0.3 * n
    figure = Figure(figsize=(1.9 + 0.075 * longest + side, 1.0 + 0.055 * longest + side), layout="constrained")
    axes = figure.subplots()
    texts = [[cell.replace(" ", "\n") for cell in line] for _, _, line in found.rows()]
    image = heat_map(axes, found.iou, found.names, AMOUNT, Normalize(0, 1), texts if n <= WRITTEN else ())
    axes.set_xticks(range(n), found.names, rotation=40, ha="right", rotation_mode="anchor", parse_math=False)
    bar = figure.colorbar(image, ax=axes, label="intersection over union", pad=0.02)
    bar.outline.set_visible(False)
    return figure
