"""What the attack stage leaves in the run folder."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn.leak.tables import save_leaks
from unlearn.report.attacks_folder import ATTACKS
from unlearn.runtime.components import cache_key
from unlearn.runtime.store import write_json
from unlearn.runtime.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unlearn.attacks.base import AttackSetting
    from unlearn.attacks.setting.split import Items
    from unlearn.leak.leak_table import Leaks
    from unlearn.leak.record import Record
    from unlearn.stages.experiment import Experiment


def save_attacks(
    experiment: Experiment,
    folder: Path,
    records: Sequence[Record],
    items: Items,
    setting: AttackSetting,
    leaks: Leaks,
    further: Mapping[str, Any],
) -> None:
    """Write what was found, the items that were asked for and the leak report into the run folder, whole or not at all.

    further: what is noted beside the settings that the report is of.
    """
    partial = folder / f"{ATTACKS}.partial"
    with suppress(FileNotFoundError):
        shutil.rmtree(partial)
    for record in records:
        for role, found in record.runs.items():
            found.save(partial / record.name / role)
    about = {
        "version": __version__,
        "revision": _revision(),
        "seed": experiment.seed,
        "answer_metric": setting.answer_metric,
        "seeds": list(setting.seeds),
        "attacks": {name: cache_key(one) for name, one in experiment.attack.items()},
        "settings": cache_key(experiment.leak),
        **further,
    }
    asked = [(side, item) for side in ("attacker_items", "held_out_items") for item in getattr(items, side)]
    rows = [
        {
            "side": side,
            "index": item.index,
            "cluster": item.probe.cluster,
            "question": item.probe.question,
            "answer": item.short_answer,
        }
        for side, item in asked
    ]
    write_json(partial / "items.json", rows)
    save_leaks(leaks, about, partial)
    with suppress(FileNotFoundError):
        shutil.rmtree(folder / ATTACKS)
    partial.rename(folder / ATTACKS)


def _revision() -> str | None:
    """Return the commit of the checkout that runs, None outside one."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() or None
