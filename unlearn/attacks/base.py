"""What an attack is: from a model and what the attacker holds to how much of the forgotten the model then shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from unlearn.attacks.items import Item
from unlearn.data.task import Probe, Task
from unlearn.models.base import RunSetting
from unlearn.models.subject import References, Subject
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from unlearn.runtime.explained import Explained

    pass


Threat = Literal["black", "grey", "white"]
AnswerMetric = Literal["gen", "match", "prob", "mcq", "verbatim"]


class Inapplicable(UserError):
    """The attack cannot be made on this model or with this data: its row says why, and the others go on."""


@dataclass(frozen=True)
class AttackSetting:
    """What the attacker holds and what it is judged by, the same for all three models.

    taught: T, the forget items that the attacker has. scored: V, those that count. retain: probes of what should stay,
    asked for the attacked model's utility. knowledge: how an answer counts (see attacks/setting/knowledge.py), one
    choice for the whole report. seeds: one run of a randomised attack for each. advance: called with the amount of work
    done, for the progress bar.
    """

    task: Task
    attacker_items: tuple[Item, ...]
    held_out_items: tuple[Item, ...]
    retain: tuple[Probe, ...]
    answer_metric: AnswerMetric
    seeds: tuple[int, ...] = (0,)
    advance: Callable[[int], object] = lambda done: None

    @property
    def questions(self) -> tuple[Probe, ...]:
        """The scored items as the dataset asks them."""
        return tuple(item.probe for item in self.held_out_items)


@dataclass(frozen=True)
class Outcome:
    """What one variant of an attack (a template, a bit width, a number of samples) got out of one model.

    variant: its name. known: K of each scored item [V], in [0, 1] (chance-corrected choices also below); nan where the
    variant cannot ask an item. texts: what the model said, [V], empty where it said nothing. taught: mean K on the
    attacker's own items after the attack: what it taught, never counted as leak. choice: the attacker's own estimate of
    success, from its items alone; where variants have one, each model is attacked by its best variant, else the variant
    is chosen by cross-fitting. budget: how much it cost in the attack's natural unit (samples, steps), for the ladder.
    utility: mean K on retain probes after the attack. row: a part of the attack that is a row of its own
    ("direct"). counts: whether it may be the worst case (diagnostics may not). with_original: whether the attacker
    needs the model before unlearning, too. measure: see Attacked, of this row. least: the row is uninformative where
    the original shows less than that.
    """

    variant: str
    known: np.ndarray
    texts: Sequence[str] = ()
    seed: int = 0
    taught: float | None = None
    choice: float | None = None
    budget: float | None = None
    utility: float | None = None
    row: str = ""
    counts: bool = True
    with_original: bool = False
    measure: str = ""
    least: float = 0.0


@dataclass(frozen=True)
class AttackResult:
    """All that an attack found out about one model.

    outcomes: at least one; every model gives the same (row, variant, seed). data: what the attacker holds ("15 forget
    items"; "" nothing); budget: what it spends ("60 steps", "9 questions an item"). measure: what K is where it is not
    the report's knowledge ("AUC", "1/rank"): then there is no gain. numbers: logged with the run. tables: saved, and
    shown as they say, by name. chance: the K of someone who guesses, the control where there is no
    other.
    """

    outcomes: Sequence[Outcome]
    data: str = ""
    budget: str = ""
    measure: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    tables: Mapping[str, Explained] = field(default_factory=dict)
    chance: float = 0.0


class Attack(Protocol):
    """An attack: a small frozen dataclass; its YAML in conf/attack holds exactly its fields.

    threat: what the attacker needs: "black" queries, "grey" loads and changes weights without training, "white" trains
    or reads activations. family: what kind of attack it is, in a word. reference: the paper.
    """

    threat: ClassVar[Threat]
    family: ClassVar[str]
    reference: ClassVar[str]
    modality: ClassVar[str]
    """What kind of models it attacks: "text", "image", or "any"."""
    version: ClassVar[int]
    """Raised when results change."""

    @property
    def reads(self) -> frozenset[str]:
        """Return what it is handed, and what its result is kept by: names of the task's sets, "facts", "probes", and
        "reference" and "control" for the models beside the subject."""
        ...

    def check(self, task: Task, setting: RunSetting) -> None:
        """UserError where the task can never serve this attack; asked before any model is loaded."""
        ...

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Attack one model. Raises Inapplicable where that cannot be done."""
        ...


@runtime_checkable
class CrossModelAttack(Protocol):
    """An attack with numbers that several models give together."""

    def across(
        self, original: AttackResult, unlearned: AttackResult, control: AttackResult | None
    ) -> Mapping[str, float]:
        """Numbers by name. retain: None where there is no control model."""
        ...
