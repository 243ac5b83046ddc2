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
    """What counts as knowledge, who is asked, and who never learned."""

    answer_metric: AnswerMetric | None = None
    """What counts as knowledge: gen, match, prob, mcq, verbatim; None: match where bare facts are known, else gen.
    By gen it is ROUGE-L recall of the greedy answer, by match whether that contains the bare fact, by prob exp of the
    answer's mean log-probability, by mcq the choice among wrong answers, corrected for chance, by verbatim ROUGE-L
    F1."""
    attacker_share: Annotated[float, Gt(0), Lt(1)] = 0.25
    """Share of the forget items that attackers may learn from; they are judged by the others."""
    min_attacker_items: Annotated[int, Ge(1)] = 5
    """The fewest of them."""
    split: Split = "across_cluster"
    """across_cluster: whole persons on one side; within_cluster: the attacker has some facts about each."""
    items: Annotated[int, Ge(4)] | None = None
    """Attack with so many forget items only; None: all."""
    utility: Annotated[int, Ge(0)] = 20
    """Retain probes asked after each attack."""
    baseline: Literal["auto", "control", "placebo", "chance"] = "auto"
    """Who never learned: control, placebo (invented subjects), chance; auto: the first that there is. For placebo the
    unlearned model is asked the same about subjects that do not exist; by chance one guesses."""
    seeds: Annotated[tuple[Annotated[int, Ge(0), Lt(2**32)], ...], MinLen(1)] = (0,)
    """A randomised attack is made once for each."""
    max_seconds: Annotated[float, Gt(0)] | None = None
    """The longest that one attack may take on one model; it is skipped then, and the others go on. None: as long as it
    takes. ValueError where the system has no timer."""

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds has {list(self.seeds)}: each seed once")
        if self.max_seconds is not None and not hasattr(signal, "setitimer"):
            raise ValueError("max_seconds needs a system with timer signals; leave it null here")
