"""What each key of the configuration (each field of `Experiment`) decides: the one place where that is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Decides = Literal["models", "attacks", "conditions"]

KEYS: Mapping[str, Decides] = {
    "model": "models",
    "dataset": "models",
    "localize": "models",
    "method": "models",
    "train": "models",
    "update": "models",
    "finetune_update": "models",
    "evaluate": "models",
    "token_budget": "models",
    "probe_limit": "models",
    "metric": "models",
    "seed": "models",
    "lora": "models",
    "overlap": "models",
    "control_model": "models",
    "attack": "attacks",
    "leak": "attacks",
    "relearn": "attacks",
    "stages": "conditions",
    "run": "conditions",
    "output": "conditions",
    "cache": "conditions",
    "tracker": "conditions",
    "device": "conditions",
    "threads": "conditions",
}
"""models: what a run computes up to its scores. attacks: what comes after them, and can be made again on the same
models. conditions: where and how it runs, which changes no result."""

RERUN_KEYS = tuple(key for key, decides in KEYS.items() if decides != "models" and key != "output")
"""What `run=FOLDER` takes from the command; all else comes from the earlier run."""

AUDIT_KEYS = tuple(
    key
    for key in KEYS
    if key not in ("localize", "method", "overlap", "control_model", "attack", "leak", "stages", "run", "tracker")
)
"""What an audit of metrics takes beside its own `audit`."""

AUDITED = tuple(key for key in AUDIT_KEYS if KEYS[key] != "conditions")
"""What decides the result of an audit, and so its folder."""
