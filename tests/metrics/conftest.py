"""Score tables written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from unlearn.score.table import GENERATIONS, GRADIENTS, TOKENS, Tables

MakeScores = Callable[..., Tables]


@pytest.fixture(scope="session")
def make_scores() -> MakeScores:
    """`make_scores(forget=[item, ...], holdout=[...])`: probe sets by name, their items as dictionaries.

    Keys of an item: answer, paraphrase (token log-probabilities), perturbed (a list of such), hit, mean, var (of the
    answer), zlib, eos (whether candidates end with it: yes), gradnorm, cluster, and, for a generated answer, generation
    with reference, paraphrase_text and value.
    """
    roles = {"forget": "forget", "retain": "retain", "holdout": "holdout"}

    def make(**sets: list[dict[str, Any]]) -> Tables:
        tokens, generations, gradients = [], [], []
        for name, items in sets.items():
            role = roles.get(name, "utility")
            for i, item in enumerate(items):
                place = {"probe": name, "aim": role, "item": i, "cluster": item.get("cluster", "")}
                for kind in ("answer", "paraphrase", "perturbed"):
                    given = item.get(kind, [])
                    for choice, logp in enumerate(given if kind == "perturbed" else [given] if given else []):
                        shape = {column: np.array(item.get(column, logp), dtype=float) for column in ("mean", "var")}
                        row: dict[str, Any] = {
                            "normalise": role == "utility",
                            "kind": kind,
                            "choice": choice,
                            "text": "",
                        }
                        hit = np.array(item.get("hit", [True] * len(logp)), dtype=bool)
                        row |= {"logp": np.array(logp, dtype=float), "hit": hit, **shape, "zlib": item.get("zlib", 1)}
                        row["eos"] = item.get("eos", True)
                        tokens.append({**place, **row})
                if "generation" in item:
                    texts = {"answer": item.get("reference"), "paraphrase": item.get("paraphrase_text")}
                    texts |= {"value": item.get("value"), "generation": item["generation"], "question": "?"}
                    generations.append({**place, **texts})
                if "gradnorm" in item:
                    gradients.append({**place, "gradnorm": item["gradnorm"]})
        frames = zip((tokens, generations, gradients), (TOKENS, GENERATIONS, GRADIENTS), strict=True)
        made = (pd.DataFrame(rows, columns=columns) for rows, columns in frames)
        return dict(zip(("tokens", "generations", "gradients"), made, strict=True))

    return make
