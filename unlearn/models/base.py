"""What the pipeline asks of a model family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from annotated_types import Gt, Le

from unlearn.data.prompt import PromptFormat
from unlearn.data.task import Modality, Role, Task
from unlearn.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Threads = Annotated[int, Gt(0), Le(1024)]  # thousands crash the process


@dataclass(frozen=True)
class RunSetting:
    """What a run is like, beside its task: what a component may refuse before anything is loaded."""

    modality: Modality
    source: str | None
    """Hub id or folder of the pretrained weights that the run starts from; None where they are random."""
    control: bool
    """Whether there is a control model."""
    masked: bool
    """Whether a localizer says which weights may change."""
    lora: bool
    """Whether adapters are trained instead of the weights themselves."""


class ModelFamily(Protocol):
    """A starting point for original and control models: a small frozen dataclass in conf/model.

    prompt: how it is asked. finetune: how original and control models are trained where none is published. threads: CPU
    threads for it, None for all cores.
    """

    prompt: PromptFormat
    finetune: Recipe
    threads: Threads | None

    @property
    def source(self) -> str | None:
        """Hub id or folder of the pretrained weights that it starts from; None where they are random."""
        ...

    def key(self, task: Task) -> dict[str, Any]:
        """What decides the starting weights and the tokenizer, for cache keys."""
        ...

    def published(self, task: Task, role: Role) -> str | None:
        """Hub id or folder of a released original or control checkpoint for this task, None where there is none."""
        ...

    def tokenizer(self, task: Task) -> PreTrainedTokenizerBase:
        """The tokenizer, with a padding token."""
        ...

    def start(self, task: Task, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
        """The model that training of target and retain starts from, in float32 on the CPU."""
        ...
