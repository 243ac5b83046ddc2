"""Take mean gradients over rows, tensor by tensor as backward finds them: no full gradient ever exists beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unlearn.models.batches import micro_batches
from unlearn.models.gradients import gradients_to
from unlearn.models.policy import Policy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn.data.prompt import Encoded


@dataclass(frozen=True)
class Gradients:
    """Hold the mean gradient of R rows, each with its own loss, the mean nll of its answer tokens (nats)."""

    means: Mapping[str, Tensor]
    """The mean of the R gradients, by parameter: float32, on the device or the CPU."""
    mean_square: float | None
    """The mean over rows and weights of a row's squared gradient; None where rows shared batches. That is the mean of
    the empirical Fisher information's diagonal."""
    device: torch.device
    """The model's device."""

    def of(self, name: str) -> Tensor:
        """Return the mean gradient of one parameter, on the model's device."""
        return self.means[name].to(self.device)


def mean_gradients(
    model: PreTrainedModel,
    rows: Sequence[Encoded],
    names: Sequence[str],
    token_budget: int,
    passes: int = 1,
    squares: bool = False,
    advance: Callable[[int], object] = lambda rows: None,
) -> Gradients:
    """Return the mean gradient of the parameters `names` over the rows, with the model in eval mode.

    A hook adds each parameter's gradient to a float32 sum as soon as it is final, and frees it. Batches that do not fit
    in memory are made smaller; how rows are cut makes no difference to the result. The model is given back as it was.

    passes: go over the rows once for each of so many groups of parameters with about as many weights; the sums of a
    group that is done wait on the CPU, so the device holds 4 N / passes bytes of sums for N weights. squares: rows go
    one at a time, and `mean_square` is given. advance: called with rows done, each once a pass even where memory ran
    out and it was done again: len(rows) * passes in all.
    """
    wanted = set(names)
    parameters = {name: p for name, p in model.named_parameters() if name in wanted}
    weights = sum(p.numel() for p in parameters.values())
    means: dict[str, Tensor] = {}
    square = 0.0
    for group in _groups(parameters, passes):
        sums, squared = _sum_over_rows(model, rows, group, 1 if squares else token_budget, squares, advance)
        square += squared
        place = "cpu" if passes > 1 else model.device
        means |= {name: sums.pop(name).div_(len(rows)).to(place) for name in group}  # none stays for the next group
    return Gradients(means, square / weights / len(rows) if squares else None, model.device)


def _groups(parameters: Mapping[str, nn.Parameter], passes: int) -> list[dict[str, nn.Parameter]]:
    """Return the parameters in order, cut where the weights so far are nearest to a multiple of number / passes."""
    groups: dict[int, dict[str, nn.Parameter]] = {}
    total, before = sum(p.numel() for p in parameters.values()), 0
    for name, parameter in parameters.items():
        middle = before + parameter.numel() / 2
        groups.setdefault(int(passes * middle / total), {})[name] = parameter
        before += parameter.numel()
    return list(groups.values())


def _sum_over_rows(
    model: PreTrainedModel,
    rows: Sequence[Encoded],
    group: Mapping[str, nn.Parameter],
    budget: int,
    squares: bool,
    advance: Callable[[int], object],
) -> tuple[dict[str, Tensor], float]:
    """Return the sum of the rows' gradients, and of their squares over rows and weights.

    Starts again where memory runs out, as sums that a failed batch has touched cannot be mended. The longest rows go
    first, so it fails early if at all.
    """
    from accelerate.utils.memory import should_reduce_batch_size

    furthest = 0

    def reached(done: int) -> None:
        nonlocal furthest
        if done > furthest:
            advance(done - furthest)
            furthest = done

    sums = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in group.items()}
    longest = max(len(row.ids) for row in rows)
    while True:
        try:
            return sums, _add_rows(model, rows, group, sums, budget, squares, reached)
        except RuntimeError as error:
            if budget <= longest or not should_reduce_batch_size(error):
                raise
        budget //= 2
        for total in sums.values():
            total.zero_()


def _add_rows(
    model: PreTrainedModel,
    rows: Sequence[Encoded],
    group: Mapping[str, nn.Parameter],
    sums: Mapping[str, Tensor],
    budget: int,
    squares: bool,
    reached: Callable[[int], object],
) -> float:
    """Add the rows' gradients to `sums`; return the sum of the batches' squared gradients where wanted, else 0.

    reached: called with the number of rows that are done so far.
    """
    squared: list[Tensor] = []

    def take(name: str, gradient: Tensor) -> None:
        sums[name].add_(gradient)
        if squares:
            squared.append(torch.linalg.vector_norm(gradient, dtype=torch.float32) ** 2)

    square, done = 0.0, 0
    with gradients_to(model, group, take):
        policy = Policy(model)
        for batch in reversed(micro_batches(rows, {"rows": range(len(rows))}, budget)):
            scores = policy(batch.to(model.device))["rows"]
            (scores.sums / scores.counts.clamp(min=1)).sum().backward()
            square += sum(value.item() for value in squared)
            squared.clear()
            done += len(batch.labels)
            reached(done)
    return square
