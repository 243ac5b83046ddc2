"""One forward pass over all candidate answers: per-token log-probabilities and what membership inference needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from unlearn.models.interventions.base import gated_at, interventions
from unlearn.models.projection import projection_at
from unlearn.score.batching import map_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor
    from transformers import PreTrainedModel

    from unlearn.data.prompt import Encoded

# Architectures that take a 4-D attention mask and explicit positions as they are. Others (ALiBi biases, positions taken
# from the mask, recurrent state) get one plain row for each candidate.
TREE_ATTENTION = (
    *("llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neox", "phi", "phi3"),
    *("gemma", "gemma2", "gemma3_text", "olmo2", "smollm3"),
)

LOGITS = 1 << 26  # at most so many exist at once
CHUNK_CPU, CHUNK_GPU = 1 << 20, 1 << 26  # reduced at once: what a processor's cache holds, what keeps a GPU busy


@dataclass(frozen=True)
class TokenStats:
    """The n labelled tokens of one candidate: float32 arrays [n], `hit` bool."""

    logp: np.ndarray
    """Log-probability (nats)."""
    hit: np.ndarray
    """Whether the token was the most probable one."""
    mean: np.ndarray
    """Mean of log p under the model's own next-token distribution."""
    var: np.ndarray
    """Its variance."""


@dataclass(frozen=True)
class Tree:
    """Candidates that begin alike, each token of their common beginnings held once."""

    ids: np.ndarray
    """Each node's token, [nodes]."""
    positions: np.ndarray
    """Each node's depth, [nodes]."""
    paths: tuple[np.ndarray, ...]
    """For each candidate its nodes in order, [tokens]."""
    n_prompt: tuple[int, ...]
    """For each candidate how many of its tokens are unlabelled."""

    @classmethod
    def of(cls, candidates: Sequence[Encoded]) -> Tree:
        """Return the prefix tree of the candidates' ids."""
        nodes: dict[tuple[int, int], int] = {}
        paths: list[np.ndarray] = []
        for candidate in candidates:
            walk = [-1]
            for token in candidate.ids:
                walk.append(nodes.setdefault((walk[-1], token), len(nodes)))
            paths.append(np.array(walk[1:]))
        ids = np.array([token for _, token in nodes])
        positions = np.empty_like(ids)
        for path in paths:
            positions[path] = np.arange(len(path))
        return cls(ids, positions, tuple(paths), tuple(c.n_prompt for c in candidates))

    @property
    def predictors(self) -> tuple[np.ndarray, ...]:
        """Return for each candidate the nodes whose next token is labelled, [labels]."""
        return tuple(path[n - 1 : -1] for path, n in zip(self.paths, self.n_prompt, strict=True))

    @property
    def labels(self) -> tuple[np.ndarray, ...]:
        """Return for each candidate its labelled tokens, [labels]."""
        return tuple(self.ids[path[n:]] for path, n in zip(self.paths, self.n_prompt, strict=True))

    def visible(self, width: int) -> np.ndarray:
        """Return whether a node (row) sees another (column), itself and its ancestors: [width, width] bool."""
        seen = np.zeros((width, width), dtype=bool)
        for path in self.paths:
            seen[path[:, None], path] = np.tri(len(path), dtype=bool)
        return seen


@torch.inference_mode()
def likelihoods(
    model: PreTrainedModel,
    groups: Sequence[Sequence[Encoded]],
    pad_id: int,
    token_budget: int,
    share_prefix: bool = True,
    mask_pad: bool = False,
    progress: Callable[[int], object] | None = None,
) -> list[list[TokenStats]]:
    """Return token statistics of every candidate; a group holds the candidates of one probe.

    share_prefix: run a group as one row, its common beginnings (the prompt above all) once, under tree attention: each
    token sees itself and what precedes it in its own candidates. The numbers are those of plain rows, to which it falls
    back where the architecture is not known to take such a mask (TREE_ATTENTION) or attends through a sliding window.
    mask_pad: also hide tokens equal to `pad_id` inside the text, as implementations do that pad with EOS and derive the
    mask from the ids.
    token_budget: padded tokens of a batch, which also holds at most LOGITS logits. progress: called with rows done.
    """
    longest = max((len(candidate.ids) for group in groups for candidate in group), default=0)
    if share_prefix and _takes_trees(model, longest) and _one_gate(model, groups):
        trees = [Tree.of(group) for group in groups if group]
    else:
        trees = [Tree.of([candidate]) for group in groups for candidate in group]
    vocabulary = model.config.get_text_config().vocab_size
    scored = map_batches(
        lambda batch: _score(model, batch, pad_id, mask_pad),
        trees,
        length=lambda tree: len(tree.ids),
        token_budget=token_budget,
        share=lambda tree: len(np.unique(np.concatenate(tree.predictors))) * vocabulary / LOGITS,
        progress=progress,
    )
    stats = (candidate for tree in scored for candidate in tree)
    return [[next(stats) for _ in group] for group in groups]


def _takes_trees(model: PreTrainedModel, longest: int) -> bool:
    config = model.config
    return (
        config.model_type in TREE_ATTENTION
        and config._attn_implementation in ("eager", "sdpa")
        and longest <= (getattr(config, "sliding_window", None) or longest)
    )


def _one_gate(model: PreTrainedModel, groups: Sequence[Sequence[Encoded]]) -> bool:
    """Return whether the rows of each group have one gate: interventions act by the prompt, which must be one."""
    if interventions(model) is None:
        return True
    return all(len({candidate.ids[: candidate.n_prompt] for candidate in group}) <= 1 for group in groups)


def _score(model: PreTrainedModel, trees: list[Tree], pad_id: int, mask_pad: bool) -> list[list[TokenStats]]:
    """Return those of one batch of trees: the forward pass, then statistics at the nodes that predict a label."""
    device, width = model.device, max(len(tree.ids) for tree in trees)
    ids, positions = (np.zeros((len(trees), width), dtype=np.int64) for _ in range(2))
    ids[:] = pad_id
    for b, tree in enumerate(trees):
        ids[b, : len(tree.ids)] = tree.ids
        positions[b, : len(tree.ids)] = tree.positions
    inputs: dict[str, Tensor] = {}
    if any(len(tree.paths) > 1 for tree in trees):
        seen = np.stack([tree.visible(width) for tree in trees])
        if mask_pad:
            seen &= (ids != pad_id)[:, None]
        hidden = ~torch.from_numpy(seen).to(device)[:, None]
        mask = torch.zeros(hidden.shape, dtype=model.dtype, device=device)
        inputs["attention_mask"] = mask.masked_fill_(hidden, torch.finfo(mask.dtype).min)
        inputs["position_ids"] = torch.from_numpy(positions).to(device)
    elif mask_pad:
        inputs["attention_mask"] = torch.from_numpy(ids != pad_id).long().to(device)

    # A node that several candidates share is projected once, though each of them may have its own label there.
    predictors = np.concatenate([b * width + nodes for b, tree in enumerate(trees) for nodes in tree.predictors])
    labels = [candidate for tree in trees for candidate in tree.labels]
    nodes, node_of = np.unique(predictors, return_inverse=True)
    given, index = torch.from_numpy(ids).to(device), torch.from_numpy(nodes).to(device)
    with gated_at(model, given, index), projection_at(model, index):
        logits = model(input_ids=given, use_cache=False, **inputs).logits[0]
    stats = _statistics(logits, node_of, np.concatenate(labels))
    cuts = np.cumsum([len(candidate) for candidate in labels])[:-1]
    by_candidate = iter(zip(*(np.split(stat, cuts) for stat in stats), strict=True))
    return [[TokenStats(*next(by_candidate)) for _ in tree.paths] for tree in trees]


def _statistics(logits: Tensor, node_of: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return (logp, hit, mean, var) of each label [n] under logits[node_of]; logits: [nodes, V]."""
    node, label = (torch.from_numpy(x).to(logits.device) for x in (node_of, labels))
    hit = logits.argmax(dim=-1)[node] == label
    logp = torch.empty(len(labels), device=logits.device)
    mean, var = (torch.empty(len(logits), device=logits.device) for _ in range(2))
    size = max(1, (CHUNK_CPU if logits.device.type == "cpu" else CHUNK_GPU) // logits.shape[1])
    order = torch.argsort(node)
    bounds = torch.searchsorted(node[order], torch.arange(0, len(logits) + size, size, device=node.device)).tolist()
    for i, start in enumerate(range(0, len(logits), size)):
        mine = order[bounds[i] : bounds[i + 1]]
        log_p = torch.log_softmax(logits[start : start + size].float(), dim=-1)
        logp[mine] = log_p[node[mine] - start, label[mine]]
        p = log_p.exp()
        average = torch.linalg.vecdot(p, log_p)
        deviation = log_p.sub_(average[:, None])
        mean[start : start + size] = average
        var[start : start + size] = torch.linalg.vecdot(p.mul_(deviation), deviation)
    return tuple(x.cpu().numpy() for x in (logp, hit, mean[node], var[node]))
