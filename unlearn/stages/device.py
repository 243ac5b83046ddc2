"""What to work on: the device, the CPU threads, and the other processes of a launch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unlearn.runtime import distributed
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    import torch

    from unlearn.stages.experiment import Experiment


def hardware(experiment: Experiment) -> tuple[torch.device, int]:
    """Return the device to work on and the number of CPU threads, with the processes of a launch connected."""
    import torch

    threads = experiment.threads or experiment.model.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    if experiment.device == "auto":
        name = f"cuda:{distributed.local_rank()}" if torch.cuda.is_available() else "cpu"
    else:
        name = experiment.device
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"'device' is '{experiment.device}': {str(error).splitlines()[0]}") from error
    if device.type == "cuda":
        torch.cuda.set_device(device)  # accelerate works on the current one
    distributed.connect(cpu=device.type == "cpu")
    return device, threads
