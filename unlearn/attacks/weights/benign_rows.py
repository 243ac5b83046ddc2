"""Rows to train on that hold none of the forgotten answers: contamination would pass training off as recovery."""

from __future__ import annotations

import random
from typing import Literal

from unlearn.attacks.base import AttackSetting, Inapplicable
from unlearn.attacks.setting.contamination import Answers
from unlearn.data.task import Example

Source = Literal["retain", "unrelated", "related"]


def benign_rows(setting: AttackSetting, source: Source, seed: int, text: str | None = None) -> list[Example | str]:
    """Return clean rows of a source in an order drawn from `seed`; passages are bare texts.

    retain: the task's retain rows. unrelated: plain text, of `text` (a file, a dataset on the hub; None: the package's
    own passages). related: the forget items' questions alone, as text. A row that says an attacker's or a held-out
    item's answer (see `Answers`) is left out. Raises Inapplicable where none is left.
    """
    rows: list[Example | str] = []
    if source == "retain":
        rows += [Example(example.questions[:1], example.answers[:1]) for example in setting.task.examples("retain")]
    elif source == "unrelated":
        from unlearn.data.fluency import fluency

        rows += [passage.text for passage in fluency(text)]
    else:
        probes = [item.probe for item in (*setting.attacker_items, *setting.held_out_items)]
        rows += [q for probe in probes for q in (probe.question, probe.paraphrased_question) if q]
    answers = Answers((*setting.attacker_items, *setting.held_out_items))
    clean = [row for row in rows if not answers.said_in(_text(row))]
    if not clean:
        raise Inapplicable(f"dataset '{setting.task.name}' has no {source} rows without the forgotten answers")
    random.Random(f"benign-{source}-{seed}").shuffle(clean)
    return clean


def _text(row: Example | str) -> str:
    return row if isinstance(row, str) else " ".join((*row.questions, *row.answers))
