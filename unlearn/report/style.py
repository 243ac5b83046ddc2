"""How figures look, and how they become files."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import wraps
from io import BytesIO
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

COLOURS = {
    "original": "#d55e00",
    "unlearned": "#0072b2",
    "control": "#009e73",
}  # told apart by colour-blind readers too
OTHERS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#6a3d9a", "#444444")
STYLE: Any = {
    "text.parse_math": False,  # a label of a user may hold dollar signs
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "unlearn",  # the same figure is the same file
}
_UP = ["#9ccbe6", "#0072b2", "#052c49"]
AMOUNT = LinearSegmentedColormap.from_list("amount", ["#f2f5f8", *_UP]).with_extremes(bad="white")
SIGNED = LinearSegmentedColormap.from_list("signed", ["#7a3200", "#d55e00", "#f7d0b5", "#fbfbfb", *_UP]).with_extremes(
    bad="white"
)
DASHED = (0, (4, 3))
P = ParamSpec("P")
T = TypeVar("T")


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Return the function that draws in the report's style."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> T:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


@dataclass(frozen=True)
class Drawn:
    """A figure with its title and what it shows, in a sentence."""

    title: str
    words: str
    figure: Figure


def to_svg(figure: Figure) -> bytes:
    """Return the figure as an SVG file's bytes, the same for the same figure."""
    buffer = BytesIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")  # a token of any script may be a label
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def percent(share: float, decimals: int = 0) -> str:
    """Return a share for people ("80%"), with more decimals where fewer would make it 0 or 100% by rounding alone."""
    while float(text := f"{100 * share:.{decimals}f}") in (0.0, 100.0) and share not in (0.0, 1.0) and decimals < 4:
        decimals += 1
    return f"{text}%"


def unit_frame(axes: Axes, *names: str) -> None:
    """Show shares and probabilities on the whole scale from 0 to 1, so that a small change looks small."""
    for name in names:
        low, high = getattr(axes, f"get_{name}lim")()
        getattr(axes, f"set_{name}lim")(min(low, 0.0) if low < -0.1 else 0.0, max(high, 1.04))


def heat_map(
    axes: Axes,
    values: np.ndarray,
    rows: Sequence[str],
    colours: Colormap,
    norm: Normalize,
    texts: Sequence[Sequence[str]] = (),
) -> AxesImage:
    """Draw `values` [rows, columns] as cells, the first row on top, nan as blank; `texts` [rows, columns] go into them.

    Columns are numbered from 0, as layers are, and so are rows without names; other ticks are the caller's to set.
    """
    image = axes.imshow(values, cmap=colours, norm=norm, aspect="auto", interpolation="none")
    height, width = values.shape
    axes.set_xticks(np.arange(-0.5, width), minor=True)
    axes.set_yticks(np.arange(-0.5, height), minor=True)
    axes.grid(visible=False)
    axes.grid(which="minor", color="white", linewidth=0.9 if width <= 40 else 0.3)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if rows:
        axes.set_yticks(range(height), rows, parse_math=False)
    for y, line in enumerate(texts):
        for x, text in enumerate(line):
            shade = colours(norm(values[y, x]))
            dark = np.dot(shade[:3], (0.299, 0.587, 0.114)) < 0.55
            axes.text(x, y, text, ha="center", va="center", fontsize=7, color="white" if dark else "#222222")
    return image
