"""Every field of an experiment is declared once, and the lists made of that are those that users meet."""

from __future__ import annotations

from dataclasses import fields

from unlearn.stages.config_keys import AUDIT_KEYS, AUDITED, KEYS, RERUN_KEYS
from unlearn.stages.experiment import Experiment
from unlearn.stages.run_folder import kept


def test_each_field_of_an_experiment_is_declared() -> None:
    assert set(KEYS) == {field.name for field in fields(Experiment)}


def test_what_an_earlier_run_leaves_to_the_command() -> None:
    assert set(RERUN_KEYS) == {"attack", "leak", "relearn", "stages", "run", "cache", "tracker", "device", "threads"}


def test_what_an_audit_takes() -> None:
    deciding = {
        "model",
        "dataset",
        "train",
        "update",
        "finetune_update",
        "relearn",
        "evaluate",
        "token_budget",
        "probe_limit",
        "metric",
        "lora",
        "seed",
    }
    assert set(AUDITED) == deciding
    assert set(AUDIT_KEYS) == set(AUDITED) | {"output", "cache", "device", "threads"}


def test_a_run_is_identified_by_what_decides_its_models() -> None:
    config = {"_target_": "x", "method": {"beta": 1}, "seed": 0, "attack": {}, "device": "cpu", "output": "here"}
    assert kept(config) == {"_target_": "x", "method": {"beta": 1}, "seed": 0}
