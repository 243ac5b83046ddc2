"""A pretrained causal LM from the hub, a local folder, or a GGUF file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import MinLen

from unlearn.data.history import Training
from unlearn.families.causal_lm import CausalLM
from unlearn.models.base import Threads, check_local
from unlearn.runtime.components import component_versions
from unlearn.runtime.paths import local_state

if TYPE_CHECKING:
    from unlearn.data.task import Role, Task
    from unlearn.families.base import Loaded


@dataclass(frozen=True)
class PretrainedLM(CausalLM):
    """A causal LM of transformers."""

    version: ClassVar[int] = 1

    path: Annotated[str, MinLen(1)]
    """Hub id, folder or .gguf file."""
    checkpoints: dict[str, dict[str, str]] = field(default_factory=dict)
    """Published models for some datasets, by dataset name. Each is {"base": id, "original": id, "control": id}: those
    of the model `base`, in which {split} and {retain} stand for the names of the forget and the retain split (forget10,
    retain90); another `path` has none."""
    original: Annotated[str, MinLen(1)] | None = None
    """Another original model: hub id or folder."""
    control: Annotated[str, MinLen(1)] | None = None
    """Another control model: hub id or folder."""
    threads: Threads | None = None
    """CPU threads; null: all cores."""

    def __post_init__(self) -> None:
        for key in ("path", "original", "control"):
            check_local(f"model.{key}", getattr(self, key))

    @property
    def source(self) -> str:
        """Return this run's own target where one is set."""
        return self.original or self.path

    def key(self, task: Task) -> dict[str, Any]:
        """Where the weights come from; for local files also their size and time of change."""
        return {
            "family": "pretrained",
            "versions": component_versions(type(self)),
            "path": self.path,
            "files": local_state(self.path),
        }

    def published(self, task: Task, role: Role) -> str | None:
        """Return this run's own checkpoint if one is set, else the published one for the task, if any.

        Whichever of the two the task's history says was trained on nothing is what this family starts from.
        """
        if mine := (self.original if role == "original" else self.control):
            return mine
        made = task.pretrained or task.history
        if made.of(role) == Training(()):
            return self.path
        of_task = self.checkpoints.get(task.name, {})
        known = of_task.get(role) if of_task.get("base") == self.path else None  # another path is another model
        return known.replace("{split}", task.split).replace("{retain}", retain_split(task.split)) if known else None

    def check_rows(self, task: Task) -> None:
        """Ask the original model's tokenizer and config."""
        from unlearn.models.loading import load_config, load_tokenizer
        from unlearn.models.readable import Limits, check_rows

        path = self.published(task, "original") or self.path
        check_rows(task, load_tokenizer(path), self.prompt, Limits.of(load_config(path)))

    def start(self, task: Task, seed: int) -> Loaded:
        """Return the pretrained weights and their own tokenizer.

        Where it has no padding token, EOS pads (rows are masked by length, not by id).
        """
        return self.load(self.path)


def retain_split(forget_split: str) -> str:
    """Return the name of the complement of a forget split: retain90 for forget10."""
    percent = forget_split.removeprefix("forget")
    return f"retain{100 - int(percent):02d}" if percent.isdigit() else f"retain_{forget_split}"
