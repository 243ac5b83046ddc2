"""`unlearn audit`: how far the metrics themselves can be trusted (OpenUnlearning, Dorna et al. 2025, arXiv 2506.12618).

Models with and without the knowledge are trained in several ways: a faithful metric tells the one from the other. Some
are unlearned, and then relearned and quantised: a robust metric does not say only then that the knowledge was there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Le, Lt, MinLen

from unlearn.data.task import digest
from unlearn.localize.no_localization import NoLocalization
from unlearn.methods.base import Method
from unlearn.metrics.metric_quality import Scored, verdicts_on
from unlearn.report.audit import FILES, print_audit, save_audit
from unlearn.runtime import distributed
from unlearn.runtime.components import build, cache_key
from unlearn.runtime.errors import UserError
from unlearn.runtime.paths import local
from unlearn.runtime.progress import progress
from unlearn.score.table import load_tables
from unlearn.stages.audit_pools import IGNORANT, KNOWING, Bench, variants
from unlearn.stages.check import check_choices, check_metrics
from unlearn.stages.config_keys import AUDIT_KEYS, AUDITED, KEYS
from unlearn.stages.device import hardware
from unlearn.stages.prepare import ask, has_control
from unlearn.stages.references import references
from unlearn.stages.unlearn import check_method

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from omegaconf import DictConfig

    from unlearn.stages.experiment import Experiment


@dataclass(frozen=True)
class Pools:
    """Choose the models that metrics are tried on.

    For each seed 3 with and 3 without the knowledge, and each method on each. The data are those of the experiment's
    seed, with which the two models are trained that say what more knowledge looks like and that metrics compare with:
    that seed may not be among these.
    """

    methods: dict[str, Method]
    """What unlearns, by name."""
    seeds: Annotated[tuple[Annotated[int, Ge(0), Lt(2**32)], ...], MinLen(1)] = (1, 2)
    """Of the models in the pools: weights, order and unlearning."""
    least_utility: Annotated[float, Ge(0), Le(1)] = 0.8
    """Share of the original's utility that an unlearned model must keep to count."""

    def __post_init__(self) -> None:
        if not self.methods:
            raise ValueError("methods is empty: nothing is unlearned")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds={list(self.seeds)} has one twice")


def run(config: DictConfig, choices: Mapping[str, str], given: Collection[str], plugins: frozenset[str]) -> Path:
    """Audit what the composed configuration says, and return the folder.

    choices: the names chosen for each group. given: the keys that the command sets. plugins: modules outside the
    package that may be imported for components. UserError where a key is not an audit's, or a metric that the command
    names reads a table that no scorer gives.
    """
    for key in given:
        if (root := key.partition(".")[0]) == "experiment" or (root in KEYS and root not in AUDIT_KEYS):
            hint = ": name methods as +method@audit.methods.NAME=NAME" if root == "method" else ""
            raise UserError(f"an audit has no '{root}'{hint}")
    from omegaconf import OmegaConf

    pools = build(config.audit, "audit", plugins)
    if not isinstance(pools, Pools):
        raise UserError(f"'audit' is {str(pools)[:80]!r}: set audit.seeds, audit.methods.NAME or audit.least_utility")
    whole = OmegaConf.masked_copy(config, [str(key) for key in config if key != "audit"])
    experiment: Experiment = build(whole, plugins=plugins)
    if "metric" in given:  # those that are there anyway are reported as undefined
        check_metrics(experiment)
    return audit(experiment, pools, choices)


def audit(experiment: Experiment, pools: Pools, choices: Mapping[str, str]) -> Path:
    """Train the pools (or find them in the cache), judge every metric, print the table and write it; return the folder.

    UserError where the task has no model without the knowledge, or the experiment's own seed is among the pools'.
    """
    if distributed.world_size() > 1:
        raise UserError("an audit runs in one process: start it without accelerate launch")
    if experiment.seed in pools.seeds:
        raise UserError(f"'audit.seeds' has {experiment.seed}, the seed of the models to compare with: take others")
    for method in pools.methods.values():
        check_choices(replace(experiment, method=method))
    folder = _folder(experiment, pools, choices)
    device, threads = hardware(experiment)
    task = experiment.dataset.load(experiment.seed, lambda pairs: ask(experiment, pairs, device))
    if not has_control(experiment, task):
        raise UserError(f"there is no model without the knowledge of dataset '{task.name}' to try metrics on")
    for method in pools.methods.values():
        check_method(replace(experiment, method=method), task)
    experiment = replace(experiment.for_device(device.type).with_prompt_of(task), localize=NoLocalization())
    compared = references(experiment, task, device, threads)
    tables = {role: load_tables(reference.scores) for role, reference in compared.items()}
    bench = Bench(experiment, task, tables, device)
    original, control = (bench.measure("reference", role, compared[role].scores) for role in ("original", "control"))
    added = variants(task, experiment.seed)
    scored: list[Scored] = []
    with progress("auditing", total=len(pools.seeds) * (len(added) + 1 + 3 * len(pools.methods))) as advance:
        for seed in pools.seeds:
            for member in bench.at(seed).members(added, pools.methods):
                scored.append(member)
                advance(1)
    verdicts = verdicts_on(scored, original, control, pools.least_utility)
    missing = [name for name in (*KNOWING, *IGNORANT) if name not in added]
    notes = [f"No '{name}' models: dataset '{task.name}' has nothing to make them of." for name in missing]
    if silent := [v.metric for v in verdicts if v.reading == "none"]:
        notes.append(f"Not audited, as undefined or the same for original and control model: {', '.join(silent)}.")
    verdicts = [v for v in verdicts if v.reading != "none"]
    about = {"choices": {group: choices.get(group, "") for group in ("dataset", "model")}, "seed": experiment.seed}
    save_audit(folder, about | {"pools": cache_key(pools)}, scored, verdicts, notes)
    print_audit(folder, about, scored, verdicts, notes)
    return folder


def _folder(experiment: Experiment, pools: Pools, choices: Mapping[str, str]) -> Path:
    """Return where the audit of that configuration is or will be. UserError where something else is there."""
    decides = {key: cache_key(getattr(experiment, key)) for key in AUDITED}
    name = "-".join(["audit", *(choices.get(group, "") for group in ("dataset", "model"))])
    folder = local(experiment.output or f"outputs/{name}-{digest([decides, cache_key(pools)])[:6]}")
    if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} <= {*FILES}):
        raise UserError(f"{folder} is there and no audit: choose another output=")
    return folder
