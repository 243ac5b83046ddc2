"""What an attack is: from a model and what the attacker holds to how much of the forgotten the model then shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from unlearn.attacks.items import Item
from unlearn.data.task import Question, Task
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject
    from unlearn.runtime.explained import Explained

Threat = Literal["black", "grey", "white"]
AnswerMetric = Literal["gen", "match", "prob", "mcq", "verbatim"]
MEMBERSHIP = "AUC"
"""The measure of attacks that tell the scored rows from others. A value above the control's is a leak, one below it
tells that something was removed; their seeds are resamples of the other rows."""


class Inapplicable(UserError):
    """The attack cannot be made on this model or with this data: its row says why, and the others go on."""


@dataclass(frozen=True)
class AttackSetting:
    """What the attacker holds and how the attack is evaluated, the same for all three models."""

    task: Task
    """The task, with what the attack reads of it."""
    attacker_items: tuple[Item, ...]
    """T, the forget items that the attacker has."""
    held_out_items: tuple[Item, ...]
    """V, those that count."""
    retain: tuple[Question, ...]
    """Probes of what should stay, asked for the attacked model's utility."""
    answer_metric: AnswerMetric
    """How an answer counts (see setting/answer_metric.py), one choice for the whole report."""
    seeds: tuple[int, ...] = (0,)
    """One run of a randomised attack for each."""
    advance: Callable[[int], object] = lambda done: None
    """Called with the amount of work done, for the progress bar."""

    @property
    def questions(self) -> tuple[Question, ...]:
        """Return the held-out items as the dataset asks them."""
        return tuple(item.probe for item in self.held_out_items)


@dataclass(frozen=True)
class Outcome:
    """What one variant of an attack (a template, a bit width, a number of samples) got out of one model."""

    variant: str
    """Its name."""
    known: np.ndarray
    """K of each held-out item, [V], in [0, 1] (choices, which are corrected for chance, also below); nan where the
    variant cannot ask an item."""
    texts: Sequence[str] = ()
    """What the model said, [V], empty where it said nothing."""
    seed: int = 0
    """The seed of this run."""
    on_attacker_items: float | None = None
    """Mean K on the attacker's own items after the attack, which is never counted as leak."""
    self_estimate: float | None = None
    """The attacker's own estimate of its success, from its items alone. Where variants have one, each model is attacked
    by its best variant, else the variant is chosen by cross-fitting."""
    budget: float | None = None
    """How much it cost in the attack's natural unit (samples, steps), for the ladder."""
    utility: float | None = None
    """Mean K on retain probes after the attack."""
    row: str = ""
    """A part of the attack that is a row of its own ("direct")."""
    counts: bool = True
    """Whether it may be the worst case (diagnostics may not)."""
    with_original: bool = False
    """Whether the attacker needs the model before unlearning, too."""
    measure: str = ""
    """What K is, of this row; see AttackResult."""
    min_original: float = 0.0
    """The row is uninformative where the original shows less than that."""


@dataclass(frozen=True)
class AttackResult:
    """All that an attack got out of one model."""

    outcomes: Sequence[Outcome]
    """At least one; every model gives the same (row, variant, seed)."""
    data: str = ""
    """What the attacker holds ("15 forget items"; "" nothing)."""
    budget: str = ""
    """What it spends ("60 steps", "9 questions an item")."""
    measure: str = ""
    """What K is where it is not the report's answer metric ("AUC", "1/rank"): then there is no gain."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Logged with the run, by name."""
    tables: Mapping[str, Explained] = field(default_factory=dict)
    """Saved, and shown as they say, by name."""
    chance: float = 0.0
    """The K of someone who guesses, the control where there is no other."""


class Attack(Protocol):
    """An attack: a small frozen dataclass; its YAML in conf/attack holds exactly its fields."""

    threat: ClassVar[Threat]
    """What the attacker needs: "black" queries, "grey" loads and changes weights without training, "white" trains or
    reads activations."""
    family: ClassVar[str]
    """What kind of attack it is, in a word."""
    reference: ClassVar[str]
    """The paper."""
    modality: ClassVar[str]
    """What kind of models it attacks: "text", "image", or "any"."""
    version: ClassVar[int]
    """Raised when results change."""

    @property
    def reads(self) -> frozenset[str]:
        """Return what it is handed, and what its result is kept by.

        Names of the task's sets, "facts", "probes", and "reference" and "control" for the models beside the subject.
        """
        ...

    def check(self, task: Task, setting: RunSetting) -> None:
        """Raise UserError where the task can never serve this attack; asked before any model is loaded."""
        ...

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Attack one model; Inapplicable where that cannot be done."""
        ...


@runtime_checkable
class CrossModelAttack(Protocol):
    """An attack with numbers that several models give together."""

    def across(
        self, original: AttackResult, unlearned: AttackResult, control: AttackResult | None
    ) -> Mapping[str, float]:
        """Return numbers by name. control: None where there is no control model."""
        ...
