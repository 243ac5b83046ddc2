"""A scorer: from a model and the probes of a task to a table, from which metrics are computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearn.data.task import Modality, Task
from unlearn.runtime.errors import UserError
from unlearn.runtime.explained import Explained
from unlearn.score.base import Progress, ask_all, encode_questions, evaluating, frame

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject


@dataclass(frozen=True)
class Doubt:
    """Table `doubt`: a row per probe of the wanted aim, with the entropy (nats) of the answer's first token."""

    version: ClassVar[int] = 1
    modality: ClassVar[Modality] = "text"
    tables: ClassVar[tuple[str, ...]] = ("doubt",)
    reads: ClassVar[frozenset[str]] = frozenset({"probes"})
    along: ClassVar[bool] = False

    aim: str = "forget"
    """Aim of the probe sets that are asked."""

    def check(self, task: Task, setting: RunSetting) -> None:
        """UserError where no probe set has the aim."""
        if self.aim not in {each.aim for each in task.probes}:
            raise UserError(f"evaluate.doubt: dataset '{task.name}' has no probes whose aim is '{self.aim}'")

    def score(
        self, subject: Subject, task: Task, references: References, progress: Progress | None = None
    ) -> Mapping[str, Explained]:
        """Return the table."""
        import torch

        asked = [each for each in ask_all(task, "canonical") if each.set.aim == self.aim]
        rows: list[dict[str, object]] = []
        with evaluating(subject.module), torch.inference_mode():
            for each, ids in zip(asked, encode_questions(subject, asked), strict=True):
                given = torch.tensor([ids], device=subject.module.device)
                every, lengths = torch.ones_like(given, dtype=torch.bool), torch.tensor([len(ids)], device=given.device)
                with subject.gated(given, every, lengths):
                    logits = subject.module(input_ids=given).logits[0, -1].float()
                rows.append({**each.place, "entropy": torch.distributions.Categorical(logits=logits).entropy().item()})
                if progress:
                    progress(1)
        words = "How many ways of beginning its answer the model still sees."
        return {"doubt": Explained(frame(rows, [*asked[0].place, "entropy"]), "Doubt", words)}
