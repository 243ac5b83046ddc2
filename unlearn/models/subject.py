"""A model with all that it takes to ask it: what localizers, methods, scorers and attacks are handed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unlearn.data.narrowing import Undeclared
from unlearn.data.prompt import PromptFormat
from unlearn.data.task import Role

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from unlearn.models.sampling import Sampling


@dataclass(frozen=True)
class Subject:
    """A model in eval mode on its device. Who is handed one leaves it as it was: weights, mode, gradients, hooks."""

    role: Role
    """Which of the three models it is; an attack may not treat them differently."""

    module: PreTrainedModel
    """The model."""

    processor: PreTrainedTokenizerBase
    """Its tokenizer."""

    prompt: PromptFormat
    """How questions are put to it."""

    token_budget: int
    """Most padded tokens of one forward."""

    variant: str = ""
    """Which of several models of one role it is: "request-2" after the second of a row of requests."""

    base: str | None = None
    """Hub id or folder of the weights below its layers (an adapter, an intervention); None where it has no layers."""

    sampling: Sampling | None = None
    """How its answers are drawn; None: greedily."""

    reformed: Callable[[PromptFormat], PromptFormat] = lambda prompt: prompt
    """What is made of every prompt format that questions come in (conversations, vectors in front)."""

    def reformatted(self, change: Callable[[PromptFormat], PromptFormat]) -> Subject:
        """Return the subject with another form of prompts, of its own and of those that probe sets bring."""
        earlier = self.reformed
        return replace(self, prompt=change(self.prompt), reformed=lambda prompt: change(earlier(prompt)))

    def puts(self, prompt: PromptFormat | None) -> PromptFormat:
        """Return how it is asked what a probe set has in that format; None: in its own."""
        return self.prompt if prompt is None else self.reformed(prompt)

    def copied(self) -> Subject:
        """Return the same subject with weights of its own, to be changed."""
        return replace(self, module=copy.deepcopy(self.module))

    @property
    def layered(self) -> bool:
        """Whether there are layers on its weights."""
        from unlearn.models.interventions.base import interventions

        return self.base is not None or interventions(self.module) is not None

    def stripped(self) -> Subject:
        """Return the subject without its layers: the weights below, loaded anew; itself where it has none.

        Where all layers are interventions and it is not known where the weights lie, a copy without them.
        """
        if not self.layered:
            return self
        if self.base is None:
            from unlearn.models.interventions.base import strip

            bare = self.copied()
            strip(bare.module)
            return bare
        from unlearn.models.loading import load_on

        return replace(self, module=load_on(self.base, self.module.device), base=None)

    def gated(self, ids: Tensor, mask: Tensor, prompt_lengths: Tensor) -> AbstractContextManager[None]:
        """Return a context in which its interventions act on the rows of a batch: see models/interventions/base.py."""
        from unlearn.models.interventions.base import gated

        return gated(self.module, ids, mask, prompt_lengths)


@dataclass(frozen=True)
class References:
    """The models beside the subject, loaded when they are asked for."""

    original: Callable[[], Subject]
    """Gives the model before unlearning, for those whose threat model has it."""

    control: Callable[[], Subject | None]
    """Gives the model that never learned, None where there is none."""

    def only(self, reads: Collection[str]) -> References:
        """Return the models as a component sees them that declares to read these ("reference": the original).

        Asking for another raises UndeclaredReadError.
        """
        return References(
            self.original if "reference" in reads else Undeclared("reference"),
            self.control if "control" in reads else Undeclared("control"),
        )
