"""How the attacks of a run are judged: one choice for all of them."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt, MinLen

from unlearn.attacks.base import AnswerMetric
from unlearn.attacks.items import Split


@dataclass(frozen=True)
class LeakSettings:
    """What counts as knowledge, who is asked, and who never learned.

    answer_metric: how an answer counts: gen (ROUGE-L recall of the greedy answer), match (it contains the bare fact),
    prob (exp of the mean log-probability of the answer), mcq (choice among the wrong answers, corrected for chance),
    verbatim (ROUGE-L F1). null: match where the dataset knows the bare facts, else gen. attacker_share: share of the
    forget items that attackers may learn from, at least `min_attacker_items` of them; attacks are judged by the rest.
    split: across_cluster keeps all that is asked about one person on one side; within_cluster gives the attacker some
    facts about each. items: attack with so many forget items only (null: all). utility: how many retain probes are
    asked after each attack. baseline: the model that never learned (control), the same questions about invented
    subjects (placebo), or guessing (chance); auto: the first of them that there is. seeds: a randomised attack is made
    once for each. max_seconds: the longest that one attack may take on one model; it is skipped then, saying so, and
    the others go on (None: as long as it takes). UserError where the system has no timer.
    """

    answer_metric: AnswerMetric | None = None
    attacker_share: Annotated[float, Gt(0), Lt(1)] = 0.25
    min_attacker_items: Annotated[int, Ge(1)] = 5
    split: Split = "across_cluster"
    items: Annotated[int, Ge(4)] | None = None
    utility: Annotated[int, Ge(0)] = 20
    baseline: Literal["auto", "control", "placebo", "chance"] = "auto"
    seeds: Annotated[tuple[Annotated[int, Ge(0), Lt(2**32)], ...], MinLen(1)] = (0,)
    max_seconds: Annotated[float, Gt(0)] | None = None

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds has {list(self.seeds)}: each seed once")
        if self.max_seconds is not None and not hasattr(signal, "setitimer"):
            raise ValueError("max_seconds needs a system with timer signals; leave it null here")
