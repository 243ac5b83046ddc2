"""A family that is no language model of transformers: a table of letters that follow letters, in a file of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unlearn.data.prompt import PromptFormat
from unlearn.data.task import Modality, Passage, Role, Row, Task
from unlearn.families.base import Loaded
from unlearn.recipe import Recipe
from unlearn.training.objective import Loss, Losses, Shard, Side, Term

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from unlearn.models.base import RunSetting
    from unlearn.models.subject import Subject

LETTERS = "abcdefghijklmnopqrstuvwxyz "
PROMPT = PromptFormat(chat_template=False)


class Table(nn.Module):
    """Logits of the next letter after each letter."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(len(LETTERS), len(LETTERS)))


class Run(nn.Module):
    """Run a table as training does: the nll of each pair of letters."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pairs: Tensor) -> Tensor:
        """Return [n] for pairs [n, 2]."""
        table: Any = self.model
        return nn.functional.cross_entropy(table.logits[pairs[:, 0]], pairs[:, 1], reduction="none")


@dataclass(frozen=True)
class Pairs:
    """A micro-batch."""

    pairs: Tensor
    share: float = 1.0

    def to(self, device: torch.device) -> Pairs:
        """Return it there."""
        return Pairs(self.pairs.to(device), self.share)

    def empty(self) -> Pairs:
        """Return it without rows."""
        return Pairs(self.pairs[:0], 0.0)


class Following:
    """The nll of what follows what in a text a step, in turn; `sign` -1 unlearns it."""

    def __init__(self, texts: Sequence[str], recipe: Recipe, sign: float = 1.0) -> None:
        self.texts, self.sign, self.steps = texts, sign, recipe.steps or len(texts)
        self.state: dict[str, Tensor] | None = None

    def batches(self, step: int, shard: Shard, tokens: int) -> Sequence[Pairs]:
        """Return the step's text."""
        ids = torch.tensor([LETTERS.index(letter) for letter in self.texts[step % len(self.texts)]])
        return [Pairs(torch.stack([ids[:-1], ids[1:]], 1))]

    def before_step(self, policy: nn.Module, batches: Sequence[Pairs]) -> None:
        """Begin."""
        self.state = self.state or {}

    def loss(self, policy: nn.Module, batch: Pairs, only: Collection[Side]) -> Loss:
        """Return its mean, as one side's."""
        side: Side = "retain" if self.sign > 0 else "forget"
        return Loss({side: Term(self.sign, policy(batch.pairs).mean(), side)} if side in only else {})

    def numbers(self) -> Losses:
        """Return none."""
        return {}

    def after_step(self, losses: Losses) -> None:
        """Take no note."""

    def may_save(self, step: int) -> bool:
        """Return True."""
        return True


@dataclass(frozen=True)
class Letters:
    """The family."""

    finetune: Recipe
    modality: ClassVar[Modality] = "text"
    version: ClassVar[int] = 1
    prompt: PromptFormat = PROMPT
    threads: int | None = 1
    source: str | None = None

    def key(self, task: Task) -> dict[str, Any]:
        """Return its name."""
        return {"family": "letters"}

    def published(self, task: Task, role: Role) -> str | None:
        """Return None."""
        return None

    def check_rows(self, task: Task) -> None:
        """Refuse nothing."""

    def start(self, task: Task, seed: int) -> Loaded:
        """Return an even table."""
        return Loaded(Table(), LETTERS)  # type: ignore[arg-type]

    def load(self, path: str) -> Loaded:
        """Return the table of a file."""
        table = Table()
        table.load_state_dict(load_file(Path(path) / "letters.safetensors"))
        return Loaded(table.eval(), LETTERS)  # type: ignore[arg-type]

    def save(self, loaded: Loaded, folder: Path, base: str | None = None, variant: str = "") -> None:
        """Write the file."""
        save_file(dict(loaded.module.state_dict()), folder / "letters.safetensors")

    def policy(self, module: Any) -> Any:
        """Return what runs it."""
        return Run(module)

    def objective(self, rows: Sequence[Row], processor: Any, recipe: Recipe, seed: int) -> Following:
        """Return what teaches it."""
        return Following([row.text for row in rows if isinstance(row, Passage)], recipe)


@dataclass(frozen=True)
class Ascend:
    """A method for it."""

    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"forget", "mask", "recipe", "update"})
    sides: ClassVar[frozenset[Side]] = frozenset({"forget"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """Refuse nothing."""

    def unlearn(self, subject: Subject, task: Task, work: Any) -> Subject:
        """Train on the texts' nll, upwards."""
        work.train(subject, Following([row.text for row in task.passages("forget")], work.recipe, sign=-1.0))
        return subject
