"""Columns that metrics share, read off the token table: mean losses and probabilities of each probe's candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd

    from unlearn.score.table import Tables


def losses(tables: Tables, probes: Sequence[str]) -> pd.DataFrame:
    """Return a row for each probe of these sets (index: probe, item), in table order.

    answer, paraphrase: the candidate's mean token loss (nats, EOS included; nan where there is none). perturbed: mean
    loss over the perturbed answers. perturbed_mean, perturbed_sum: mean and sum of their probabilities exp(-loss).
    """
    import pandas as pd

    table = tables["tokens"][tables["tokens"]["probe"].isin(probes)]
    index = ["probe", "item"]
    loss = pd.Series(-row_means(table["logp"]), index=pd.MultiIndex.from_frame(table[index]))
    kind = table["kind"].to_numpy()
    columns = pd.DataFrame({"answer": loss[kind == "answer"]})
    columns["paraphrase"] = loss[kind == "paraphrase"]
    perturbed = loss[kind == "perturbed"]
    columns["perturbed"] = perturbed.groupby(level=index).mean()
    probability = np.exp(-perturbed).groupby(level=index)
    columns["perturbed_mean"], columns["perturbed_sum"] = probability.mean(), probability.sum()
    return columns


def clusters(rows: pd.DataFrame) -> np.ndarray:
    """Return what each row of a score table is about: [rows]; its item where it does not say."""
    own = rows["probe"].astype(str) + " item " + rows["item"].astype(str)
    found: np.ndarray = rows["cluster"].where(~rows["cluster"].isin(["", None]), own).to_numpy(str)
    return found


def probe_clusters(tables: Tables, probes: Sequence[str]) -> np.ndarray:
    """Return what each item of these sets is about: [items], in the order of `losses`."""
    tokens = tables["tokens"]
    return clusters(tokens[tokens["probe"].isin(probes) & (tokens["kind"] == "answer")])


def answers(tables: Tables, aim: str) -> pd.DataFrame:
    """Return the token table's rows of the answers of all probe sets with that aim."""
    return tables["tokens"][(tables["tokens"]["aim"] == aim) & (tables["tokens"]["kind"] == "answer")]


def row_means(column: Iterable[np.ndarray]) -> np.ndarray:
    """Return the mean of each array of a list column: [rows]; nan for an empty one."""
    rows = list(column)
    lengths = np.array([len(values) for values in rows], dtype=int)
    row_of = np.repeat(np.arange(len(lengths)), lengths)
    flat = np.concatenate([*rows, np.empty(0)])
    with np.errstate(invalid="ignore"):
        found: np.ndarray = np.bincount(row_of, weights=flat, minlength=len(lengths)) / lengths
        return found


def without_eos(table: pd.DataFrame, column: str) -> list[np.ndarray]:
    """Return a list column of the token table without EOS: an answer that does not end with it is whole."""
    return [values[:-1] if eos else values for values, eos in zip(table[column], table["eos"], strict=True)]
