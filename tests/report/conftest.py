"""Run folders as the pipeline writes them, made up: every number is known, every file can be left out or damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from unlearn.localize.mask import Mask, pack
from unlearn.score.table import GENERATIONS, GRADIENTS, TOKENS, Scores

SETS = {"forget": "forget", "retain": "retain", "world": "utility", "holdout": "holdout"}
LEVELS = {"target": (0.93, 0.92), "unlearned": (0.21, 0.81), "retain": (0.15, 0.9)}  # forget, the rest
MakeRun = Callable[..., Path]
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


def results(model: str, has_retain: bool) -> list[dict[str, Any]]:
    """The metrics of one model: what it knows of the forget set and of the rest is in LEVELS."""
    forget, rest = LEVELS[model]
    quality = {"target": 3.2e-13, "unlearned": 0.37, "retain": 1.0}[model]
    found = [
        result("forget_quality", "", quality if has_retain else None, 0, note="" if has_retain else "no retain model"),
        result("forget_quality_ks", "", 0.2 if has_retain else None, 0, note="" if has_retain else "no retain model"),
        result("model_utility", "", rest - 0.1, 0.02, 120),
        result("mia_min_k", "forget", {"target": 0.99, "unlearned": 0.31, "retain": 0.5}[model], 0.05, 80),
        result("privleak", "forget", {"target": -98.0, "unlearned": 38.0, "retain": 0.0}[model], 5.0, 80),
        result("exact_memorization", "forget", forget),
        result("extraction_strength", "forget", forget / 2),
    ]
    for probe in ("forget", "retain", "world"):
        level = forget if probe == "forget" else rest
        for name, change in (("probability", 0.0), ("rouge", 0.01), ("recall", -0.05), ("truth_ratio", -0.1)):
            found.append(result(name, probe, level + change))
    return found


def scores(model: str, texts: dict[tuple[str, int], str]) -> Scores:
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
    return Scores(pd.DataFrame(tokens), pd.DataFrame(generations), pd.DataFrame(columns=GRADIENTS))


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Make a finished run folder: make_run("a", seed=1, method={"beta": 0.2}, change={"forget/probability": 0.3})."""

    def make(
        name: str = "run",
        seed: int = 0,
        method: dict[str, Any] | None = None,
        change: dict[str, float | None] | None = None,
        has_retain: bool = True,
        texts: dict[tuple[str, int], str] | None = None,
        split: str = "forget10",
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        models = ["target", "unlearned", *(["retain"] if has_retain else [])]
        metrics = {model: results(model, has_retain) for model in models}
        for row in metrics["unlearned"]:
            key = f"{row['probe']}/{row['name']}" if row["probe"] else row["name"]
            if change and key in change:
                row |= result(row["name"], row["probe"], change[key])
        config = {
            "seed": seed,
            "model": {"_target_": "unlearn.models.tiny.Tiny", "width": 64, "seed": seed},
            "dataset": {"_target_": "unlearn.data.authors.Authors", "split": split, "seed": None},
            "method": {"_target_": "unlearn.methods.npo.NPO", "beta": 0.1} | (method or {}),
            "train": {"_target_": "unlearn.recipe.Recipe", "lr": 1e-5, "epochs": 5},
            "tracker": {"_target_": "unlearn.tracking.NoTracker"},
        }
        about = {
            "version": "0.1.0",
            "name": name,
            "seed": seed,
            "task": {"name": "authors", "split": split},
            "n_parameters": 1_234_567,
            "device": "cpu",
            "has_retain": has_retain,
            "notes": [] if has_retain else ["no retain model: forget quality is left out"],
            "stages": [
                {"name": "target", "seconds": 20.5, "peak_rss_mb": 900.0, "cached": True},
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
            | ({"forget_quality": 1e-13 * 10 ** (s / 3)} if has_retain else {})
            for s in (10, 20, 30)
        ]
        OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
        (folder / "unlearned").mkdir()
        for file, value in (
            ("run", about),
            ("metrics", metrics),
            ("unlearned/history", history),
            ("unlearned/curve", curve),
        ):
            (folder / f"{file}.json").write_text(json.dumps(value))
        for model in models:
            scores(model, texts or {}).save(folder / "scores" / model)
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
        tables: dict[str, pd.DataFrame] | None = None,
        shapes: dict[str, tuple[int, ...]] = SHAPES,
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
        located |= {"shares": mask.shares(), "numbers": numbers or {}}
        (folder / "localize/localize.json").write_text(json.dumps(located))
        for title, table in (tables or {}).items():
            table.to_parquet(folder / f"localize/{title}.parquet")
        config: Any = OmegaConf.load(folder / "config.yaml")
        config["localize"] = {"_target_": f"unlearn.localize.{name}.{name.title()}"} | fields
        OmegaConf.save(config, folder / "config.yaml")
        about = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(about | {"choices": {"localize": name}}))
        return mask

    return add
