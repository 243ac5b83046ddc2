"""Run folders as the pipeline writes them, made up: every number is known, every file can be left out or damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from unlearn.attacks.base import AttackResult, Outcome
from unlearn.data.task import Role
from unlearn.leak.leak_row import NONE
from unlearn.leak.leak_table import Leaks, leak_report
from unlearn.leak.record import AttackedRole, AttackRun, Record
from unlearn.leak.tables import save_leaks
from unlearn.metrics.evaluate import readings
from unlearn.models.mask import Mask, pack
from unlearn.report.attacks_folder import Attacks, read_attacks
from unlearn.runtime.components import build, conf_dir
from unlearn.runtime.explained import Chart, Explained
from unlearn.score.table import GENERATIONS, GRADIENTS, TOKENS, Tables

if TYPE_CHECKING:
    from unlearn.metrics.base import Metric

SETS = {"forget": "forget", "retain": "retain", "world": "utility", "holdout": "holdout"}
LEVELS = {"original": (0.93, 0.92), "unlearned": (0.21, 0.81), "control": (0.15, 0.9)}  # forget, the rest
MakeRun = Callable[..., Path]
METRICS: dict[str, Metric] = {
    name: metric
    for chosen in OmegaConf.load(conf_dir() / "config.yaml")["defaults"]  # type: ignore[index]
    if "metric" in chosen
    for file in chosen["metric"]
    for name, metric in build(OmegaConf.load(conf_dir() / "metric" / f"{file}.yaml"), "metric").items()
}
"""Those of a run, in their order."""
SHAPES = {  # 20 weights
    "model.embed_tokens.weight": (3, 2),
    "model.layers.0.mlp.up_proj.weight": (10,),
    "model.layers.2.mlp.down_proj.weight": (2, 2),
}


def result(
    name: str, probe: str, value: float | None, reach: float = 0.04, n: int = 40, note: str = ""
) -> dict[str, Any]:
    """A result as metrics.json holds it."""
    low, high = (None, None) if value is None else (value - reach, value + reach)
    return {"name": name, "probe": probe, "value": value, "low": low, "high": high, "n": n, "note": note}


def results(model: str, has_control: bool) -> list[dict[str, Any]]:
    """The metrics of one model: what it knows of the forget set and of the rest is in LEVELS."""
    forget, rest = LEVELS[model]
    quality = {"original": 3.2e-13, "unlearned": 0.37, "control": 1.0}[model]
    missing = "" if has_control else "no control model"
    found = [
        result("forget_quality", "", quality if has_control else None, 0, note=missing),
        result("forget_quality_ks", "", 0.2 if has_control else None, 0, note=missing),
        result("model_utility", "", rest - 0.1, 0.02, 120),
        result("mia_min_k", "forget", {"original": 0.99, "unlearned": 0.31, "control": 0.5}[model], 0.05, 80),
        result("privleak", "forget", {"original": -98.0, "unlearned": 38.0, "control": 0.0}[model], 5.0, 80),
        result("exact_memorization", "forget", forget),
        result("extraction_strength", "forget", forget / 2),
    ]
    for probe in ("forget", "retain", "world"):
        level = forget if probe == "forget" else rest
        for name, change in (("probability", 0.0), ("rouge", 0.01), ("recall", -0.05), ("truth_ratio", -0.1)):
            found.append(result(name, probe, level + change))
    return found


def scores(model: str, texts: dict[tuple[str, int], str]) -> Tables:
    """Tables with three probes a set; `texts` replaces what is generated for some."""
    tokens, generations = [], []
    for probe, role in SETS.items():
        for item in range(3):
            one = np.array([-0.1], dtype=np.float32)
            row = (probe, role, False, item, "", "answer", 0, "text", True, one, np.array([True]), one, one, 4)
            tokens.append(dict(zip(TOKENS, row, strict=True)))
            said = texts.get((probe, item), f"{model} says {probe} {item}")
            asked = (probe, role, item, "", f"question {probe} {item}?", f"answer {probe} {item}", None, None, said)
            generations.append(dict(zip(GENERATIONS, asked, strict=True)))
    frames: dict[str, list[dict[str, Any]]] = {"tokens": tokens, "generations": generations}
    return {name: pd.DataFrame(rows) for name, rows in frames.items()} | {"gradients": pd.DataFrame(columns=GRADIENTS)}


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Make a finished run folder: make_run("a", seed=1, method={"beta": 0.2}, change={"forget/probability": 0.3})."""

    def make(
        name: str = "run",
        seed: int = 0,
        method: dict[str, Any] | None = None,
        change: dict[str, float | None] | None = None,
        has_control: bool = True,
        texts: dict[tuple[str, int], str] | None = None,
        split: str = "forget10",
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        models = ["original", "unlearned", *(["control"] if has_control else [])]
        metrics = {model: results(model, has_control) for model in models}
        for row in metrics["unlearned"]:
            key = f"{row['probe']}/{row['name']}" if row["probe"] else row["name"]
            if change and key in change:
                row |= result(row["name"], row["probe"], change[key])
        config = {
            "seed": seed,
            "model": {"_target_": "unlearn.families.tiny.Tiny", "width": 64, "seed": seed},
            "dataset": {"_target_": "unlearn.data.authors.Authors", "split": split, "seed": None},
            "method": {"_target_": "unlearn.methods.npo.NPO", "beta": 0.1} | (method or {}),
            "train": {"_target_": "unlearn.recipe.Recipe", "lr": 1e-5, "epochs": 5},
            "tracker": {"_target_": "unlearn.report.tracking.NoTracker"},
        }
        about = {
            "version": "0.1.0",
            "name": name,
            "seed": seed,
            "task": {"name": "authors", "split": split},
            "n_parameters": 1_234_567,
            "device": "cpu",
            "has_control": has_control,
            "notes": [] if has_control else ["no control model: forget quality is left out"],
            "stages": [
                {"name": "original", "seconds": 20.5, "peak_rss_mb": 900.0, "cached": True},
                {"name": "unlearn", "seconds": 10.25, "peak_rss_mb": 1100.0, "cached": False},
                {"name": "score", "seconds": 4.5, "peak_rss_mb": 700.0, "cached": False},
            ],
        }
        history = [
            {
                "step": i + 1,
                "lr": 1e-5,
                "grad_norm": 3.0 / (i + 1),
                "loss": 2.0 / (i + 1),
                "forget": 1.5 / (i + 1),
                "retain": 0.5,
            }
            for i in range(40)
        ]
        curve = [
            {
                "step": s,
                "forget/probability": 0.9 - 0.02 * s,
                "retain/probability": 0.92 - 0.003 * s,
                "world/probability": 0.9,
            }
            | ({"forget_quality": 1e-13 * 10 ** (s / 3)} if has_control else {})
            for s in (10, 20, 30)
        ]
        OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
        (folder / "unlearned").mkdir()
        for file, value in (
            ("run", about),
            ("metrics", metrics),
            ("readings", readings(METRICS)),
            ("unlearned/history", history),
            ("unlearned/curve", curve),
        ):
            (folder / f"{file}.json").write_text(json.dumps(value))
        for model in models:
            (folder / "scores" / model).mkdir(parents=True)
            for table, rows in scores(model, texts or {}).items():
                Explained(rows).save(folder / "scores" / model / f"{table}.parquet")
        return folder

    return make


@pytest.fixture
def localize() -> Callable[..., Mask]:
    """Add to a run folder what a localizer leaves there: localize(folder, {parameter: selected positions}, "snip")."""

    def add(
        folder: Path,
        selected: dict[str, list[int]],
        name: str = "wagle",
        numbers: dict[str, float | None] | None = None,
        tables: dict[str, Explained] | None = None,
        shapes: dict[str, tuple[int, ...]] = SHAPES,
        words: dict[str, str] | None = None,
        **fields: Any,
    ) -> Mask:
        tensors: dict[str, Any] = {}
        for parameter, shape in shapes.items():
            bits = torch.zeros(shape, dtype=torch.bool)
            bits.view(-1)[selected.get(parameter, [])] = True
            tensors[parameter] = bool(bits.all()) if bits.all() or not bits.any() else pack(bits)
        mask = Mask(shapes, tensors)
        mask.save(folder / "localize/mask.safetensors")
        located = {"localizer": name.title(), "selected": mask.selected, "total": mask.total, "fraction": mask.fraction}
        located |= {
            "shares": mask.shares(),
            "numbers": numbers or {},
            "words": words or {},
            "tables": list(tables or {}),
        }
        (folder / "localize/localize.json").write_text(json.dumps(located))
        for title, table in (tables or {}).items():
            table.save(folder / f"localize/{title}.parquet")
        config: Any = OmegaConf.load(folder / "config.yaml")
        config["localize"] = {"_target_": f"unlearn.localize.{name}.{name.title()}"} | fields
        OmegaConf.save(config, folder / "config.yaml")
        about = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(about | {"choices": {"localize": name}}))
        return mask

    return add


N = 12  # scored items, three of each of four people
PLAIN = np.zeros(N)


def first(n: int) -> np.ndarray:
    """K of 1 for n items, 0 for the others: one of each person in turn, 0, 3, 6, 9, then 1, 4, 7, 10, then the rest."""
    place = np.arange(N) % 3 * 4 + np.arange(N) // 3
    return (place < n).astype(float)


def said(who: str, known: np.ndarray) -> tuple[str, ...]:
    return tuple(f"{who}: answer {i}" if k else f"{who}: no idea {i}" for i, k in enumerate(known))


def found(who: str, *outcomes: Outcome, **attacked: Any) -> AttackRun:
    """One attack's find on a model, with texts made up from K."""
    told = [replace(outcome, texts=said(who, outcome.known)) for outcome in outcomes]
    return AttackRun(AttackResult(told, **attacked), seconds=2.0, gflop=10.0)


def records() -> list[Record]:
    """One record of each kind. The original knows all 12 items, the control model none if it is not taught:

    none: the unlearned model shows none. prompts: 3, by one of two templates. sample: a ladder of 3 and 6. quantize
    broke, detach was skipped. relearn: a ladder of 2 and 9, for which the control model gets item 11; the attacker's
    own items tell the better rate. ruin: shows nothing on any model. lens: 6, but a diagnostic.
    """
    every, nothing = first(N), PLAIN
    of: dict[str, np.ndarray] = {"original": every, "unlearned": nothing, "control": nothing}

    def three(name: str, threat: Any, family: str, make: Callable[[str], AttackRun]) -> Record:
        found: dict[AttackedRole, AttackRun] = {role: make(role) for role in get_args(Role)}
        return Record(name, threat, family, "arXiv 0000.00000", found)

    def prompts(role: str) -> AttackRun:
        known = {"original": every, "unlearned": first(3), "control": nothing}[role]
        return found(role, Outcome("hint", nothing), Outcome("role play", known), budget="2 questions an item")

    def sample(role: str) -> AttackRun:
        ladder_steps = {"original": (N, N), "unlearned": (3, 6), "control": (0, 0)}[role]
        outcomes = [Outcome(f"{b} draws", first(n), budget=b) for b, n in zip((1.0, 16.0), ladder_steps, strict=True)]
        return found(role, *outcomes, budget="16 draws")

    def relearn(role: str) -> AttackRun:
        last = np.roll(first(1), -1)
        ladder_steps = {"original": (every, every), "unlearned": (first(2), first(9)), "control": (nothing, last)}[role]
        outcomes = []
        for budget, known in zip((5.0, 10.0), ladder_steps, strict=True):
            about: dict[str, Any] = {"budget": budget, "on_attacker_items": 0.9, "utility": 0.8}
            outcomes += [Outcome(f"{budget:g} rows, rate 1", known, self_estimate=0.5 + budget / 100, **about)]
            outcomes += [Outcome(f"{budget:g} rows, rate 9", nothing, self_estimate=0.1, **about)]
        return found(role, *outcomes, data="up to 10 forget rows", budget="3 passes")

    def ruin(role: str) -> AttackRun:
        return found(role, Outcome("ruin", nothing, utility=0.0))

    def lens(role: str) -> AttackRun:
        known = {"original": every, "unlearned": first(6), "control": nothing}[role]
        table = pd.DataFrame({"layer": [0, 1], "stream": ["block", "mlp"], "score": [0.1, 0.6]})
        probe = pd.DataFrame({"layer": [0, 1], "accuracy": [0.3, 0.9], "control": [0.25, 0.26]})
        tables = {
            "lens": Explained(
                table, "Logit lens", "Where it is read.", Chart("heatmap", "layer", ("stream",), "score")
            ),
            "probe": Explained(
                probe, "Probes", "What is read.", Chart("line", "layer", ("accuracy",), baseline="control")
            ),
        }
        return found(role, Outcome("layer 1", known, counts=False), measure="1/rank", tables=tables)

    broken, skipped = (
        AttackRun.failed("error", "ValueError: a | hostile <b>reason</b>"),
        AttackRun.failed("skipped", "no adapter"),
    )
    return [
        three(NONE, "black", "none", lambda role: found(role, Outcome(NONE, of[role], counts=False))),
        three("prompts", "black", "prompting", prompts),
        three("sample", "black", "sampling", sample),
        three("quantize", "grey", "compression", lambda role: broken),
        three("detach", "grey", "detaching", lambda role: skipped),
        three("relearn", "white", "relearning", relearn),
        three("ruin", "white", "relearning", ruin),
        three("lens", "white", "reading", lens),
    ]


@pytest.fixture
def attack() -> Callable[..., Leaks]:
    """Add to a run folder what the attack stage leaves there: attack(folder, only=("relearn",))."""

    def add(
        folder: Path,
        made: list[Record] | None = None,
        control: Any = "control",
        only: tuple[str, ...] | None = None,
        **about: Any,
    ) -> Leaks:
        made = [record for record in made or records() if only is None or record.name in (NONE, *only)]
        clusters = [f"person {i // 3}" for i in range(N)]
        leaks = leak_report(made, clusters, control)
        for record in made:
            for role, one in record.runs.items():
                one.save(folder / "attacks" / record.name / role)
        judged = {
            "version": "0.2.0",
            "seed": 0,
            "answer_metric": "match",
            "seeds": [0],
            "settings": ["LeakSettings", {"items": None}],
        }
        names = [record.name for record in made if record.name != NONE]
        save_leaks(
            leaks,
            judged | {"attacks": {name: [name.title(), {}] for name in names}} | about,
            folder / "attacks",
        )
        asked = [("attacker_items", 100 + i, "person 4") for i in range(3)] + [
            ("held_out_items", i, c) for i, c in enumerate(clusters)
        ]
        items = [
            {"side": side, "index": i, "cluster": cluster, "question": f"question {i}?", "answer": f"answer {i}"}
            for side, i, cluster in asked
        ]
        (folder / "attacks/items.json").write_text(json.dumps(items))
        return leaks

    return add


@pytest.fixture
def attacks(make_run: MakeRun, attack: Callable[..., Leaks]) -> Attacks:
    """The attacks of a run."""
    folder = make_run()
    attack(folder)
    return read_attacks(folder / "attacks")
