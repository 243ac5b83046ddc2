"""Localization by the package's own code, as it is and as it is usually written."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal
from unittest import mock

import torch
from bench_setup import Setup, now, passed

from unlearn.localize.weights import threshold
from unlearn.localize.weights.interaction import Interaction
from unlearn.models.mask import Mask
from unlearn.models.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from unlearn.data.prompt import Encoded
    from unlearn.data.task import Task

Way = Literal["streamed", "plain"]
SELECT = 0.8


def measure(
    overrides: Sequence[str], threads: int, path: str, rows: int, what: Literal["mask"], way: Way
) -> dict[str, Any]:
    """Return what one of MEASUREMENTS gives, on a task of so many forget and retain examples."""
    setup = Setup.load(overrides, threads, path)
    sets = {name: setup.task.rows(name)[:rows] for name in ("forget", "retain")}
    task = replace(setup.task, sets=sets, beside={})
    prompt, recipe = setup.experiment.model.prompt, setup.experiment.train
    subject = Subject("original", setup.model, setup.tokenizer, prompt, recipe.micro_tokens)
    return MEASUREMENTS[what](subject, task, way)


def mask(subject: Subject, task: Task, way: Way) -> dict[str, Any]:
    """Seconds (wall, CPU) of the mask of localize=interaction, and of its selection alone; selected shares.

    It needs the gradients of forget and of retain rows, as WAGLE does, and computes nothing but the mask.
    """
    seconds: dict[str, tuple[float, float]] = {}

    def clocked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            started = now()
            answer = function(*args)
            seconds[name] = passed(started, now())
            return answer

        return call

    localizer = Interaction(select=SELECT)
    if way == "streamed":
        with mock.patch.object(threshold, "select", clocked("selection", threshold.select)):
            found = clocked("mask", localizer.localize)(subject, task, 0).mask
    else:
        found = clocked("mask", plain_mask)(subject, task, localizer, clocked("selection", by_sorting))
    return {"seconds": seconds, "numbers": [share["selected"] / share["total"] for share in found.shares()]}


def plain_mask(
    subject: Subject, task: Task, localizer: Interaction, select: Callable[..., dict[str, torch.Tensor]]
) -> Mask:
    """Return the mask from two whole gradients, both kept, rows one at a time."""
    forget = kept_gradients(subject.module, localizer.forget_rows(subject, task, 0))
    retain = kept_gradients(subject.module, localizer.retain_rows(subject, task, 0))
    scores = {name: (gradient * retain[name]).abs() for name, gradient in forget.items()}
    return Mask.of(subject.module, select(scores))


def kept_gradients(model: Any, rows: Sequence[Encoded]) -> dict[str, torch.Tensor]:
    """Return the mean gradient of the rows' token-mean nlls, summed where backward puts it."""
    for row in rows:
        ids = torch.tensor([row.ids])
        labels = ids.clone()
        labels[:, : row.n_prompt] = -100
        (model(input_ids=ids, labels=labels).loss / len(rows)).backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    return gradients


def by_sorting(scores: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Which scores are the highest: all of them in one tensor, the rank of each, a bool for each."""
    flat = torch.cat([score.flatten() for score in scores.values()])
    ranks = flat.argsort(descending=True).argsort()
    chosen = (ranks < int(len(flat) * SELECT)).split([score.numel() for score in scores.values()])
    return {name: bits.view_as(scores[name]) for name, bits in zip(scores, chosen, strict=True)}


MEASUREMENTS: dict[str, Callable[[Subject, Task, Way], dict[str, Any]]] = {"mask": mask}


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
