"""conf/method: every choice names a method and shows exactly its fields."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from unlearn.runtime.components import build, conf_dir
from unlearn.runtime.errors import UserError

CHOICES = sorted(path.stem for path in (conf_dir() / "method").glob("*.yaml"))


def load(choice: str, **changes: object):
    return build(OmegaConf.merge(OmegaConf.load(conf_dir() / "method" / f"{choice}.yaml"), changes), "method")


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_shows_every_field(choice: str) -> None:
    keys = set(OmegaConf.load(conf_dir() / "method" / f"{choice}.yaml")) - {"_target_"}
    method = load(choice)
    assert keys == {field.name for field in dataclasses.fields(method)}
    if choice != "idk":  # which is PO with another pooling
        assert method == type(method)(), "the file and the class have different defaults"


def test_po_and_idk_differ_in_pooling() -> None:
    assert dataclasses.replace(load("idk"), pooling="separate") == load("po")


@pytest.mark.parametrize(
    ("choice", "key", "value"),
    [
        ("npo", "beta", 0),
        ("npo", "reduction", "token"),
        ("grad_diff", "retain_weight", -1.0),
        ("kl", "retain_loss", "nll"),
        ("simnpo", "gamma", 1.0),
        ("idk", "retain_loss", "kl"),
        ("dpo", "kl_positions", "prompt"),
    ],
)
def test_bad_values_are_refused(choice: str, key: str, value: object) -> None:
    with pytest.raises(UserError, match="'method"):
        load(choice, **{key: value})


def test_choosing_a_method_imports_nothing_heavy() -> None:
    modules = ", ".join(sorted({type(load(choice)).__module__ for choice in CHOICES}))
    check = f"import sys, {modules}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=conf_dir().parent).returncode == 0
