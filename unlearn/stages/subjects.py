"""Models of a run, loaded as those that work on them are handed them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unlearn.models.layered import below, variant_of
from unlearn.models.subject import Subject

if TYPE_CHECKING:
    import torch

    from unlearn.data.task import Role
    from unlearn.stages.experiment import Experiment


def load_subject(
    experiment: Experiment, path: str, role: Role, device: torch.device | str, dtype: torch.dtype | None = None
) -> Subject:
    """Return the model in a folder, or on the hub, with its variant and where the weights below its layers lie.

    dtype: of its weights; None: float32, as the family loads it.
    """
    module: Any
    module, processor = experiment.model.load(path)
    module = module.to(device) if dtype is None else module.to(device=device, dtype=dtype)
    prompt, budget = experiment.model.prompt, experiment.token_budget
    return Subject(role, module, processor, prompt, budget, variant_of(path), base=below(path))
