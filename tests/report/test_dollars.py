from __future__ import annotations

import matplotlib
from matplotlib.figure import Figure

from unlearn.report.style import STYLE


def test_dollar_signs_in_a_label_are_text() -> None:
    """As a formula this one cannot be read, and drawing it fails."""
    with matplotlib.rc_context(STYLE):
        figure = Figure()
        figure.subplots().set_title(r"$\nonsense{$")
        figure.canvas.draw()
