"""What tells runs apart: their configurations, and names for what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlearn.report.folder import Run


def alike(runs: Sequence[Run], groups: Sequence[str] = ()) -> list[list[Run]]:
    """Return lists of runs whose configurations agree in all but the seed (in those config groups, if named)."""
    lists: dict[tuple[tuple[str, Any], ...], list[Run]] = {}
    for run in runs:
        flat = flat_of(run)
        kept = {key: value for key, value in flat.items() if not groups or key.partition(".")[0] in groups}
        lists.setdefault(tuple(sorted(kept.items())), []).append(run)
    return list(lists.values())


def flat_of(run: Run) -> dict[str, str]:
    """Return the configuration of what was computed, by dotted key: without the tracker and the run's seed."""
    flat: dict[str, str] = {}

    def visit(key: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                visit(f"{key}.{name}".lstrip("."), inner)
        elif isinstance(value, list):
            for i, inner in enumerate(value):
                visit(f"{key}.{i}", inner)
        elif not (key.rpartition(".")[2] == "seed" and value == run.about.seed):
            flat[key] = str(value)

    visit("", {name: node for name, node in run.config.items() if name != "tracker"})
    if not run.results:  # the attack of some model: the configuration does not say which
        flat["folder"] = run.about.name
    return flat


def names(settings: Sequence[Sequence[Run]]) -> list[str]:
    """Return a name for each setting: its method, and where it differs from others of the same components."""
    flats = []
    for run, *_ in settings:  # components go by their chosen names: several may share a class
        chosen = {f"{group}._target_": name for group, name in run.about.choices.items()}
        flats.append({key: chosen.get(key, value) for key, value in flat_of(run).items()})
    named = []
    for group, flat in zip(settings, flats, strict=True):
        parts = [group[0].method if group[0].results else "attack"]
        for key, value in flat.items():
            component = key.rpartition(".")[0] + "._target_"
            peers = flats if key == component else [f for f in flats if f.get(component) == flat.get(component)]
            if key != "method._target_" and len({f.get(key) for f in peers}) > 1:
                name = key.removesuffix("._target_")
                shown = group[0].about.choices.get(name) or value.rpartition(".")[2] if key == component else value
                parts.append(f"{name.removeprefix('method.')}={shown}")
        named.append(" ".join(parts))
    return named


def localizers(runs: Sequence[Run]) -> list[str]:
    """Return how each run localized: the localizer, and where it differs from the same one in other runs."""
    flats = [{k: v for k, v in flat_of(run).items() if k.startswith("localize.")} for run in runs]
    named = []
    for run, flat in zip(runs, flats, strict=True):
        peers = [other for peer, other in zip(runs, flats, strict=True) if peer.localizer == run.localizer]
        told = [key for key in flat if len({other.get(key) for other in peers}) > 1]
        named.append(" ".join([run.localizer, *(f"{key.removeprefix('localize.')}={flat[key]}" for key in told)]))
    return named
