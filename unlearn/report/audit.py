"""What an audit found: one table on the console and in audit.md and audit.csv, and everything in audit.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from unlearn.metrics.metric_quality import MEASURES, WORDS
from unlearn.runtime.store import write_file, write_json
from unlearn.runtime.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from unlearn.metrics.metric_quality import Scored, Verdict

FILES = ("audit.json", "audit.csv", "audit.md")


def save_audit(
    folder: Path, about: Mapping[str, Any], scored: Sequence[Scored], verdicts: Sequence[Verdict], notes: Sequence[str]
) -> None:
    """Write audit.json, audit.csv and audit.md into `folder`, each whole or not at all."""
    import pandas as pd

    rows = [_row(verdict) for verdict in verdicts]
    found = {"metrics": rows, "models": [asdict(model) for model in scored]}
    write_json(folder / "audit.json", _finite({"version": __version__, **about, "notes": list(notes), **found}))
    csv = pd.DataFrame(rows).to_csv(index=False)
    write_file(folder / "audit.csv", lambda path: path.write_text(csv, encoding="utf-8"))
    columns = _columns()
    cells = [columns, ("---",) * len(columns), *((f"`{name}`", *rest) for name, *rest in map(_cells, verdicts))]
    table = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    text = "\n\n".join([f"# {_title(about)}", _sizes(scored), *notes, table, WORDS]) + "\n"
    write_file(folder / "audit.md", lambda path: path.write_text(text, encoding="utf-8"))


def print_audit(
    folder: Path, about: Mapping[str, Any], scored: Sequence[Scored], verdicts: Sequence[Verdict], notes: Sequence[str]
) -> None:
    """Return the table, what its columns mean, and where its files are."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 140)
    table = Table(title=Text(_title(about), style="bold"), box=box.SIMPLE_HEAD, pad_edge=False)
    for column in _columns():
        table.add_column(column, justify="left" if column == "metric" else "right")
    for verdict in verdicts:
        table.add_row(*map(Text, _cells(verdict)))
    console.print(table)
    for line in (_sizes(scored), *notes, WORDS):
        console.print(Text(line, style="dim"))
    console.print(f"audit: {folder / 'audit.md'}", markup=False, soft_wrap=True)


def _columns() -> tuple[str, ...]:
    return ("metric", *MEASURES.values(), "n", "robustness", "overall")


def _title(about: Mapping[str, Any]) -> str:
    return f"Metrics audited on {about['choices']['dataset']}, {about['choices']['model']}"


def _sizes(scored: Sequence[Scored]) -> str:
    def names(pool: str) -> str:
        return ", ".join(dict.fromkeys(model.name for model in scored if model.pool == pool))

    n = {pool: sum(model.pool == pool for model in scored) for pool in ("knowing", "ignorant", "unlearned")}
    return (
        f"{n['knowing']} models with the knowledge ({names('knowing')}), {n['ignorant']} without it "
        f"({names('ignorant')}), {n['unlearned']} unlearned ({names('unlearned')})."
    )


def _row(verdict: Verdict) -> dict[str, Any]:
    """All numbers of one metric, intervals as two."""
    found = verdict.quality
    row: dict[str, Any] = {"metric": verdict.metric, "reading": verdict.reading, "threshold": found.threshold}
    for name in MEASURES:
        low, high = getattr(found, f"{name}_interval")
        row |= {name: getattr(found, name), f"{name}_low": low, f"{name}_high": high}
    return row | {"n": found.n, "robustness": found.robustness, "overall": found.overall}


def _cells(verdict: Verdict) -> tuple[str, ...]:
    found = verdict.quality
    measured = [_show(getattr(found, name), *getattr(found, f"{name}_interval")) for name in MEASURES]
    return verdict.metric, *measured, str(found.n), _show(found.robustness), _show(found.overall)


def _show(value: float, low: float = math.nan, high: float = math.nan) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.2f}" + ("" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]")


def _finite(value: Any) -> Any:
    """JSON-able: None in the place of nan."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
