"""Every attack on oracles: where the unlearned model is the control itself, none may find a leak, and where it is the
original, each must find all of it. To the last digit, for attacks see weights and seeds and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from trained import accuse, attack_of, experiment, folder_of, shared

from unlearn.leak.leak_table import Leaks
from unlearn.leak.record import AttackRun
from unlearn.runtime.components import conf_dir

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unlearn.leak.leak_row import Row

pytestmark = pytest.mark.slow


def attacks() -> list[str]:
    """The names of all attacks, without presets."""
    nodes = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((conf_dir() / "attack").glob("*.yaml"))}
    return [name for name, node in nodes.items() if node and "_target_" in node.get(name, {})]


ATTACKS = attacks()
LADDER = {"samples": "[8]", "rates": "[1]", "least_steps": "2"}
STRING = {"steps": "[1,2]", "length": "4", "width": "4", "topk": "8", "items": "1"}
TINY: dict[str, Mapping[str, str]] = {
    "abliterate": {"contrasts": "[retain,original]", "layers": "2", "prompts": "8"},
    "confidence": {},
    "detach": {},
    "dialogue": {"turns": "2"},
    "dual_use": {"probes": "4"},
    "enhanced_gcg": {"steps": "[1,2]", "length": "4", "items": "1", "proposals": "4", "buffer": "2", "tokens": "8"},
    "extract": {"prefixes": "[0.5]"},
    "gcg": STRING,
    "gcg_prefix": STRING,
    "latent": {"layers": "[0.5]", "epsilons": "[0.1]", "steps": "2"},
    "lens": {"tuned": "2"},
    "mia": {},
    "multihop": {},
    "patch": {},
    "perturb": {"every": "[15]"},
    "probe": {"wrong": "1"},
    "prompts": {},
    "prune": {"top_forget": "[0.01]", "top_general": "[0.01]", "samples": "4"},
    "prune_magnitude": {"shares": "[0.1]"},
    "quantize": {"formats": "[int8,int4]"},
    "quantize_then_sample": {"second.samples": "2", "second.ks": "[1,2]"},
    "refusals": {},
    "relearn_benign": LADDER,
    "relearn_forget": LADDER,
    "relearn_related": LADDER,
    "relearn_rtt": {"rates": "[0.05]", "folds": "2", "epochs": "1"},
    "relearn_speed": {"steps": "2", "checkpoints": "2"},
    "relearn_then_quantize": {"first.samples": "[8]", "first.least_steps": "2"},
    "relearn_unrelated": LADDER,
    "rewritten": {"rewriter.max_new_tokens": "16"},
    "rwku": {},
    "sample": {"samples": "4", "ks": "[1,4]"},
    "sleek": {"items": "6", "retain": "2", "generator.max_new_tokens": "16"},
    "softprompt": {"vectors": "2", "steps": "[2]", "rates": "[0.01]"},
    "ununlearn": {"sizes": "[1]"},
}
"""Settings that make an attack last tenths of a second; none for those that do without."""

NOTHING: Any = None
FEWEST_INFORMATIVE = 0.8  # of the attacks: what all rows of which are uninformative or skipped proves nothing


@dataclass(frozen=True)
class Trial:
    """What was found where the unlearned model was one of the two others."""

    leaks: Leaks
    folder: Path

    def rows(self, name: str) -> list[Row]:
        return [row for row in self.leaks.rows if attack_of(row.attack, ["none", *ATTACKS]) == name]

    def found(self, name: str, part: str) -> AttackRun:
        return AttackRun.load(self.folder / "attacks" / name / part)


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trial]:
    """The control and the original, each as the unlearned model, beside themselves.

    All attacks see one loaded model in turn. The second time they do so in reverse order, so that one that does not
    leave the model as it was is found out: what comes after it differs from what was found on the original at first.
    Models that nothing was put on are said to be: what lies below them is the same, so that detaching is tried, too.
    """
    settings = [
        f"{'+' * key.startswith('+')}attack.{name}.{key.removeprefix('+')}={value}"
        for name, tiny in TINY.items()
        for key, value in tiny.items()
    ]
    workshop = shared(tmp_path_factory)
    # the overlap of answers tells models apart that know nothing
    judging = ["leak.answer_metric=gen", "leak.utility=4"]
    mine = experiment(workshop, f"attack=[{','.join(TINY)}]", *settings, *judging)
    task = mine.dataset.load(0)
    models = {"original": folder_of(mine, task, "original"), "control": folder_of(mine, task, "control")}
    found = {}
    for part in ("control", "original"):
        folder = tmp_path_factory.mktemp(f"as-{part}")
        leaks = accuse(mine, task, {**models, "unlearned": models[part]}, folder, base=models[part])
        found[part] = Trial(leaks, folder)
        mine = replace(mine, attack=dict(reversed(mine.attack.items())))
    return found


def test_every_attack_is_here() -> None:
    assert list(TINY) == ATTACKS, "an attack without tiny settings in TINY, or one that is no more"


@pytest.mark.parametrize("name", ["none", *ATTACKS])
def test_the_control_itself_leaks_nothing(trials: Mapping[str, Trial], name: str) -> None:
    trial = trials["control"]
    for row in made(trial, name):
        assert row.unlearned == row.control, row
        assert row.excess == 0, row
        assert row.status != "ok" or (row.leak == 0 and row.low <= 1e-6 and row.high >= -1e-6), row
    same(trial, name, "control")


@pytest.mark.parametrize("name", ["none", *ATTACKS])
def test_the_original_itself_leaks_all(trials: Mapping[str, Trial], name: str) -> None:
    trial = trials["original"]
    for row in made(trial, name):
        assert row.unlearned == row.original, row
        assert row.status != "ok" or (row.leak == 1 and row.low <= 1 + 1e-6 and row.high >= 1 - 1e-6), row
    same(trial, name, "original")


def made(trial: Trial, name: str) -> list[Row]:
    """The rows of the attack for which all models were asked something; each of the others says why it is not one."""
    rows = trial.rows(name)
    assert rows
    for row in rows:
        assert row.status == "ok" or (row.status in ("uninformative", "skipped") and row.reason), row
    return [row for row in rows if not math.isnan(row.original)]


def same(trial: Trial, name: str, part: str) -> None:
    """Whatever the attack found on the unlearned model it found on the other, which has the same weights."""
    mine, other = trial.found(name, "unlearned"), trial.found(name, part)
    assert (mine.status, mine.reason) == (other.status, other.reason)
    for one, two in zip(mine.result.outcomes, other.result.outcomes, strict=True):
        np.testing.assert_array_equal(one.known, two.known, str(one))
        assert replace(one, known=NOTHING) == replace(two, known=NOTHING)
    both = set(mine.result.numbers) & set(other.result.numbers)  # some are of the unlearned model alone
    assert {key: repr(mine.result.numbers[key]) for key in both} == {
        key: repr(other.result.numbers[key]) for key in both
    }


@pytest.mark.parametrize(("part", "leak"), [("control", 0), ("original", 1)])
def test_most_attacks_say_something(trials: Mapping[str, Trial], part: str, leak: float) -> None:
    trial = trials[part]
    informative = [name for name in ATTACKS if any(row.status == "ok" for row in trial.rows(name))]
    silent = {name: [row.reason for row in trial.rows(name)] for name in ATTACKS if name not in informative}
    print(f"\n{len(informative)} of {len(ATTACKS)} attacks are informative: {', '.join(informative)}; not: {silent}")
    assert len(informative) >= FEWEST_INFORMATIVE * len(ATTACKS), silent
    assert trial.leaks.overall.leak == pytest.approx(leak)
    assert trial.leaks.overall.verdict == "inconclusive"  # of so few authors nothing more is said
