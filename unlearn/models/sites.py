"""Read and replace tensors inside a model through plain module hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unlearn.models.interventions.base import gated_at
from unlearn.models.projection import precise, projection_at

if TYPE_CHECKING:
    from unlearn.models.layout import Layout, Site
    from unlearn.models.prompts import PromptBatch

Key = tuple[int, str]  # a layer and the name of one of its sites
Edit = Callable[[Tensor], Tensor | None]


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """In eval mode and without a gradient of any weight; mode and requires_grad are as before at the end."""
    training, wanted = model.training, [p.requires_grad for p in model.parameters()]
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        model.train(training)
        for parameter, flag in zip(model.parameters(), wanted, strict=True):
            parameter.requires_grad_(flag)


@contextmanager
def edited(*edits: tuple[Site, Edit]) -> Iterator[None]:
    """While active, each function sees its site's tensor (as the module has it) and may give another in its place."""
    with ExitStack() as stack:
        for site, edit in edits:
            for handle in _hooks(site, edit):
                stack.callback(handle.remove)
        yield


def _hooks(site: Site, edit: Edit) -> Iterable[Any]:
    def first(value: Any) -> Tensor:
        found: Tensor = value[0] if isinstance(value, tuple) else value
        return found

    def replaced(value: Any, new: Tensor | None) -> Any:
        return None if new is None else (new, *value[1:]) if isinstance(value, tuple) else new

    if not site.takes:
        return [site.module.register_forward_hook(lambda _, inputs, value: replaced(value, edit(first(value))))]
    if site.norm is None:
        return [site.module.register_forward_pre_hook(lambda _, inputs: replaced(inputs, edit(first(inputs))))]
    norm = site.norm  # shared: the edit must reach this branch alone, so it is normed here once more
    seen: list[Tensor] = []

    def branch(_: nn.Module, inputs: Any) -> Any:
        new = edit(seen.pop())
        return replaced(inputs, None if new is None else norm.forward(new))

    return [
        norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]), prepend=True),
        site.module.register_forward_pre_hook(branch),
    ]


def logits_at(model: nn.Module, ids: Tensor, index: Tensor) -> Tensor:
    """[n, V], at least float32: logits at the flat positions `index` [n] of ids [B, T]."""
    # padding is on the right: under a causal mask nothing that is read sees it
    with gated_at(model, ids, index), projection_at(model, index):
        return precise(model(input_ids=ids, use_cache=False).logits[0])


def capture(
    model: nn.Module, layout: Layout, keys: Iterable[Key], batch: PromptBatch
) -> tuple[Tensor, dict[Key, Tensor]]:
    """Return the answers' logits [B, V], and each site's values [B, T, heads, width], without gradients."""
    values: dict[Key, Tensor] = {}

    def keep(key: Key, site: Site) -> Edit:
        def look(tensor: Tensor) -> None:
            values[key] = site.view(tensor, len(batch.ids))

        return look

    sites = ((key, layout.site(*key)) for key in keys)
    with torch.no_grad(), edited(*((site, keep(key, site)) for key, site in sites)):
        return logits_at(model, batch.ids, batch.index), values
