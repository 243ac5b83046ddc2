"""What each of two processes makes of a training (a spawned process imports this)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch
from helpers import encode
from three_rows import tiny_llama
from torch import Tensor

from unlearn.data.task import Example, Task
from unlearn.methods.objective import MethodObjective
from unlearn.methods.pdu import PDU
from unlearn.methods.rmu import RMU
from unlearn.models.mask import Mask
from unlearn.models.policy import Policy
from unlearn.recipe import Recipe
from unlearn.runtime import distributed
from unlearn.training.loop import Setup, train
from unlearn.training.plan import plan_unlearning
from unlearn.training.sam import SAM

if TYPE_CHECKING:
    from pathlib import Path

    from unlearn.training.objective import Losses

METHODS = {"pdu": PDU(bound=4.0, retain_weight=1.0, rate=0.5), "rmu": RMU(layer=0, train=None)}


def unlearned(name: str, folder: Path) -> tuple[dict[str, Tensor], list[Losses]]:
    """The weights after unlearning under SAM and a mask, and the log."""
    model = tiny_llama(0, vocabulary=64).double()
    generator = torch.Generator().manual_seed(0)
    bits = {key: torch.rand(p.shape, generator=generator) < 0.5 for key, p in model.named_parameters()}
    rows = tuple(Example((f"what{i}?",), ("abc" * (1 + i % 4) + str(i),)) for i in range(9))
    task = Task("t", "all", {"forget": rows[:4], "retain": rows[4:]})
    recipe = Recipe(lr=0.01, batch_size=3, steps=4, micro_tokens=40)
    method = METHODS[name]
    plan = plan_unlearning(task, method.segments, encode, recipe, 1)
    reference = Policy(tiny_llama(1, vocabulary=64).double()).requires_grad_(False).eval()
    objective = MethodObjective(method, plan, 1, {}, reference)
    log = train(Policy(model), objective, Setup(recipe, 1, SAM(rho=0.1), Mask.of(model, bits)), folder)
    return dict(model.named_parameters()), log.history


def one_of_two(rank: int, folder: Path, port: int) -> None:
    """One process of two; rank 0 saves what came out."""
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    distributed.connect(cpu=True)
    for name in METHODS:
        weights, history = unlearned(name, folder / name)
        if rank == 0:
            torch.save([{key: p.detach() for key, p in weights.items()}, history], folder / f"{name}.pt")
    distributed.wait()
    os._exit(0)  # taking the group down while the other does the same hangs now and then
