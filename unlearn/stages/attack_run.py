"""What the attack stage attacks: the model that a run made, or the one that `run=` names, beside its references."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unlearn.models.layered import below
from unlearn.runtime import distributed
from unlearn.runtime.paths import local_state
from unlearn.runtime.progress import notify
from unlearn.runtime.read import read_json
from unlearn.runtime.store import key_hash, read_manifest, write_json
from unlearn.stages.attack import AttackedModel, attack
from unlearn.stages.prepare import has_control, require_trained, trained
from unlearn.stages.run_folder import attacked_model, costs, record
from unlearn.stages.unlearn import UNLEARNED, original_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from unlearn.data.task import Role, Task
    from unlearn.stages.experiment import Experiment


def attack_run(
    experiment: Experiment, choices: Mapping[str, str], task: Task, folder: Path, device: torch.device
) -> bool:
    """Attack the unlearned model and its references; whether that was done (in one process alone)."""
    if distributed.world_size() > 1:
        notify(f"attacks run in one process: unlearn run stages=[attack] run={folder}")
        return False
    foreign = attacked_model(experiment)
    model = foreign or folder / UNLEARNED
    if set(experiment.stages) <= {"attack", "report"}:
        require_trained(experiment, task)
    original = trained(experiment, task, "original", device)
    key: dict[str, Any]
    beneath = below(model)
    if foreign:
        key = {"path": str(model), "files": [local_state(path) for path in (str(model), beneath) if path]}
        if beneath and beneath != original.path:
            notify(f"the layers belong to {beneath}, which is not the original to compare with ({original.path})")
    else:
        made = read_manifest(model)
        key = {"unlearned": made.key}
        if key_hash(original_of(made.inputs.get("model", {}))) != key_hash(original.key):
            notify("the original is not the one that was unlearned: it was trained again, or comes from elsewhere")
    models: dict[Role, AttackedModel] = {
        "original": AttackedModel("original", original.path, original.key),
        "unlearned": AttackedModel("unlearned", str(model), key, beneath),
    }
    if has_control(experiment, task):
        control = trained(experiment, task, "control", device)
        models["control"] = AttackedModel("control", control.path, control.key)
    stage = attack(experiment, task, models, folder, device)
    if (folder / "run.json").is_file():
        about = read_json(folder / "run.json", dict[str, Any])
        write_json(folder / "run.json", about | {"stages": costs(folder, [stage])})
    else:
        record(experiment, choices, task, folder, device, {}, [stage])
    return True
