"""Gradient methods: a loss over one micro-batch, and what it needs to compute it. The shared loop trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge

from unlearn.methods.divergence import divergence
from unlearn.training.objective import FORGET, RETAIN, SIDES, Loss, Losses, Side, Term

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from torch import Tensor, nn

    from unlearn.data.task import Task
    from unlearn.methods.base import Work
    from unlearn.models.base import RunSetting
    from unlearn.models.batches import Batch
    from unlearn.models.mask import Mask
    from unlearn.models.policy import Policy, Positions, TokenScores
    from unlearn.models.subject import Subject
    from unlearn.recipe import Recipe
    from unlearn.training.plan import Plan

Scores = dict[str, "TokenScores"]
Terms = dict[str, Term]
State = dict[str, "Tensor"]
Reference = Literal["nll", "model"]
NO_STATE: State = {}


class GradientMethod(ABC):
    """A method that is a loss. Its components are frozen: what changes while training lives in the state."""

    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1

    @property
    @abstractmethod
    def segments(self) -> tuple[str, ...]:
        """The sets of the task that it trains on, in the order in which a micro-batch has them."""

    @property
    @abstractmethod
    def sides(self) -> frozenset[Side]:
        """The sides that its loss has terms of."""

    @property
    def reference(self) -> frozenset[Reference]:
        """What it needs of the model as it was: "nll", one number a row, from a table; "model", the model itself."""
        return frozenset()

    @property
    def reads(self) -> frozenset[str]:
        """Return what it is handed: its sets, "forget" (by which epochs are counted), and what training goes by."""
        reference = {"reference"} if self.reference else set()
        return frozenset({*self.segments, "forget", "mask", "recipe", "lora", "update"} | reference)

    def check(self, task: Task, setting: RunSetting) -> None:
        """Refuse a task without one of the sets, or without forget rows where those are counted (UserError)."""
        task.require(*self.segments, *(["forget"] if setting.epochs else []))

    def places(self, module: nn.Module) -> Mask | None:
        """Return which weights the method itself wants changed, beside the run's mask; None: all."""
        return None

    def begin(self, policy: Policy, batches: Sequence[Batch], seed: int) -> State:
        """Return the state before the first step, of which `batches` are this process's. Alike on all ranks."""
        return {}

    def before_step(self, policy: Policy, batches: Sequence[Batch], state: State) -> None:
        """Prepare the step, of which `batches` are this process's; may change the state, alike on all ranks."""
        return

    def numbers(self, state: State) -> dict[str, float]:
        """Return numbers of the method's own with which a step was taken, by name: logged beside the losses."""
        return {}

    def after_step(self, losses: Losses, state: State) -> None:
        """Change the state by the losses of a step that was taken (unweighted, of the whole step)."""
        return

    @abstractmethod
    def loss(
        self,
        policy: Policy,
        batch: Batch,
        reference: Policy | None = None,
        state: State = NO_STATE,
        only: Collection[Side] = SIDES,
    ) -> Loss:
        """Return the terms of these sides of one micro-batch, normalised by the whole step's counts (see Segment).

        Summed over the micro-batches of a step, in whatever way the step is split, it is the loss of the step. How
        often the policy is called may not depend on the data: all ranks call it alike.
        """

    def plan(self, subject: Subject, task: Task, recipe: Recipe, seed: int) -> Plan:
        """Return which rows each step sees."""
        from unlearn.training.plan import plan_sets

        return plan_sets(task, self.segments, subject.processor, subject.prompt, recipe, seed)

    def unlearn(self, subject: Subject, task: Task, work: Work) -> Subject:
        """Train the subject in place on the loss."""
        from unlearn.methods.objective import MethodObjective

        plan = self.plan(subject, task, work.recipe, work.seed)
        table = work.reference_nll(plan.rows, plan.used("forget", "refusal")) if "nll" in self.reference else {}
        reference = work.reference_policy() if "model" in self.reference else None
        objective = MethodObjective(self, plan, work.seed, table, reference)
        work.train(subject, objective, places=self.places(subject.module))
        return subject


class TokenMean(GradientMethod):
    """loss = sign * TOK of the rows of one set, averaged over all of the step's answer tokens (nats)."""

    side: ClassVar[Side]
    """The set, which is named as its side."""
    sign: ClassVar[float]
    """1: descent; -1: ascent."""

    @property
    def segments(self) -> tuple[str, ...]:
        """That set."""
        return (self.side,)

    @property
    def sides(self) -> frozenset[Side]:
        """The one."""
        return frozenset({self.side})

    def loss(
        self,
        policy: Policy,
        batch: Batch,
        reference: Policy | None = None,
        state: State = NO_STATE,
        only: Collection[Side] = SIDES,
    ) -> Loss:
        """Return the one term."""
        if self.side not in only:
            return Loss({})
        value = self.sign * policy(batch.part(self.side))[self.side].token_mean()
        return Loss({self.side: Term(1.0, value, self.side)})


@dataclass(frozen=True, kw_only=True)
class ForgetRetain(GradientMethod):
    """total = forget_weight * forget + retain_weight * retain; a method says what `forget` is.

    Raises ValueError where both weights are 0.
    """

    forget_weight: Annotated[float, Ge(0)] = 1.0
    """How much forgetting counts."""
    retain_weight: Annotated[float, Ge(0)] = 1.0
    """How much keeping the rest counts; 0: retain rows are not read."""
    retain_loss: Literal["nll", "kl", "kl_wagle", "kl_muse"] = "nll"
    """Either "nll", or "kl" from the reference model; "kl_wagle" and "kl_muse" reproduce those codes' defects. "nll" is
    the token mean TOK_R of the nll over retain rows, "kl" is KL(reference || current) on them (see
    unlearn/methods/divergence.py)."""
    kl_positions: Literal["labels", "attended", "all"] = "attended"
    """Where a divergence is taken: "labels", "attended", or "all" (padding too). "labels" are the answer tokens
    (cheapest), "attended" prompt and answer; "all" dilutes it (what TOFU, NPO and OpenUnlearning do). It is averaged
    over each row's positions, then over rows."""

    def __post_init__(self) -> None:
        if not self.forget_weight and not self.retain_weight:
            raise ValueError("forget_weight and retain_weight are both 0: there is nothing to minimise")

    @property
    def segments(self) -> tuple[str, ...]:
        """Those of both sides."""
        return (*self.forget_segments(), *self.retain_segments())

    @property
    def sides(self) -> frozenset[Side]:
        """Forget where it weighs something, retain where there are rows for it."""
        return (FORGET if self.forget_weight else frozenset()) | (RETAIN if self.retain_segments() else frozenset())

    @property
    def reference(self) -> frozenset[Reference]:
        """The model for a divergence, and what the forget term needs."""
        kept: set[Reference] = {"model"} if self.retain_weight and self.retain_loss != "nll" else set()
        return frozenset(self.forget_reference() | kept)

    def forget_segments(self) -> tuple[str, ...]:
        """Return the sets that the forget side trains on."""
        return ("forget",)

    def retain_segments(self) -> tuple[str, ...]:
        """Return the sets that the retain side trains on: none where it weighs nothing."""
        return ("retain",) if self.retain_weight else ()

    def forget_reference(self) -> set[Reference]:
        """Return what the forget side needs of the model as it was."""
        return set()

    def loss(
        self,
        policy: Policy,
        batch: Batch,
        reference: Policy | None = None,
        state: State = NO_STATE,
        only: Collection[Side] = SIDES,
    ) -> Loss:
        """Return the terms, from one pass of the model over the rows that they look at."""
        import torch

        segments = (
            *(self.forget_segments() if "forget" in only else ()),
            *(self.retain_segments() if "retain" in only else ()),
        )
        if not segments:
            return Loss({})
        batch = batch.part(*segments)
        where = {name: positions for name, positions in self.logits_at().items() if name in segments}
        theirs: Scores = {}
        compared = [name for name in where if name in self.compared()]
        if compared:
            assert reference is not None, "the method asks for the reference model"
            with torch.no_grad():
                theirs = reference(batch.part(*compared), {name: where[name] for name in compared})
        return Loss(self.terms(policy(batch, where), theirs, state, only))

    def logits_at(self) -> dict[str, Positions]:
        """Return in which segments whole distributions are needed, and at which positions."""
        return {"retain": self.kl_positions} if self.retain_weight and self.retain_loss != "nll" else {}

    def compared(self) -> Collection[str]:
        """Return in which of these the reference model's are needed beside them."""
        return self.logits_at() if "model" in self.reference else ()

    def terms(self, scores: Scores, reference: Scores, state: State, only: Collection[Side]) -> Terms:
        """Return the terms of these sides. `reference`: the reference model's scores of the segments of `compared`."""
        terms = {}
        if "forget" in only:
            terms["forget"] = Term(self.forget_weight, self.forget(scores, reference), "forget")
        if "retain" in only and self.retain_weight:
            terms["retain"] = Term(self.retain_weight, self.retain(scores, reference), "retain")
        return terms

    def forget(self, scores: Scores, reference: Scores) -> Tensor:
        """Return the forget term before weighting: gradient ascent, -TOK_F, unless a method says otherwise."""
        return -scores["forget"].token_mean()

    def retain(self, scores: Scores, reference: Scores) -> Tensor:
        """Return the retain term before weighting."""
        if self.retain_loss == "nll":
            return scores["retain"].token_mean()
        return divergence(self.retain_loss, scores["retain"], reference["retain"])
