"""Task arithmetic: the model is fine-tuned on the forget rows, and what that changed is taken away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Gt

if TYPE_CHECKING:
    from pathlib import Path

    from unlearn.data.task import Task
    from unlearn.methods.base import Work
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import Subject
    from unlearn.training.objective import Side

_FILE = "weights.safetensors"


@dataclass(frozen=True, kw_only=True)
class TaskVector:
    """theta - forget_scale * (theta_F - theta) + retain_scale * (theta_R - theta), theta_X fine-tuned on X.

    Ilharco et al. 2023, Editing Models with Task Arithmetic (arXiv 2212.04089); for unlearning Shi et al. 2024, MUSE
    (forget_scale 5). Both trainings start from the given model and follow the run's recipe. Sums are taken in float32.
    """

    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1

    forget_scale: Annotated[float, Gt(0)] = 1.0
    """How much of what the forget rows teach is taken away."""
    retain_scale: Annotated[float, Ge(0)] = 0.0
    """How much of what the retain rows teach is added; 0: they are not read."""

    @property
    def sets(self) -> dict[Side, float]:
        """The sets to fine-tune on, and how much of each is added."""
        scales: dict[Side, float] = {"forget": -self.forget_scale, "retain": self.retain_scale}
        return {name: scale for name, scale in scales.items() if scale}

    @property
    def sides(self) -> frozenset[Side]:
        """Forget: each training has one side, and the forget rows are there always."""
        return frozenset({"forget"})

    @property
    def reads(self) -> frozenset[str]:
        """Return what it is handed: its sets, and what training goes by."""
        return frozenset({*self.sets, "mask", "recipe", "lora", "update"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """Refuse a task without one of the sets (UserError)."""
        task.require(*self.sets)

    def unlearn(self, subject: Subject, task: Task, work: Work) -> Subject:
        """Fine-tune on each set, one after the other, and change the subject in place."""
        import torch
        from safetensors.torch import load_file

        tuned = [(scale, self._tuned(name, subject, task, work)) for name, scale in self.sets.items()]
        weights = [(scale, load_file(folder / _FILE)) for scale, folder in tuned]
        with torch.no_grad():
            for name, parameter in subject.module.named_parameters():
                start = parameter.float()
                change = torch.zeros_like(start)
                for scale, values in weights:
                    change += scale * (values[name].to(start) - start)
                parameter.copy_(torch.where(change == 0, start, start + change))  # what stayed keeps every bit
        return subject

    def _tuned(self, name: Side, subject: Subject, task: Task, work: Work) -> Path:
        """Return the folder with the weights after fine-tuning on a set, which is named as its side."""

        def build(folder: Path) -> None:
            from safetensors.torch import save_file

            from unlearn.runtime import distributed
            from unlearn.training.plan import plan_sets
            from unlearn.training.supervised import Answers

            model = subject.copied()
            plan = plan_sets(task, [name], subject.processor, subject.prompt, work.recipe, work.seed)
            work.train(model, Answers(plan, name), name)
            if distributed.is_main():
                named = {key: value.detach().cpu().contiguous() for key, value in model.module.named_parameters()}
                save_file(named, folder / _FILE)

        return work.step(name, build)
