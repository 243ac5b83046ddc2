"""A step of three rows, a tiny Llama, and what each of two processes makes of them (a spawned process imports this)."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel
from transformers import LlamaConfig, LlamaForCausalLM

from unlearn.methods.grad_diff import GradDiff
from unlearn.models.batches import IGNORE, Batch, Segment
from unlearn.models.policy import Policy

METHOD = GradDiff(retain_loss="kl")


def tiny_llama(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2
    )
    return LlamaForCausalLM(config)


def make_batch(vocabulary: int = 40) -> Batch:
    """Two forget rows and a retain row, of 7, 9 and 4 tokens with prompts of 4, 2 and 1."""
    torch.manual_seed(1)
    ids, position = torch.randint(3, vocabulary, (3, 9)), torch.arange(9)
    lengths, prompts = torch.tensor([7, 9, 4])[:, None], torch.tensor([4, 2, 1])[:, None]
    attended = position < lengths
    labels = torch.where(attended & (position >= prompts), ids, IGNORE)
    segments = {"forget": Segment(0, 2, 2, 3 + 7), "retain": Segment(2, 3, 1, 3)}
    return Batch(torch.where(attended, ids, 0), attended.long(), labels, segments)


def split_step(rank: int) -> Batch:
    """Rank 0 has a forget row, rank 1 the other forget row and the retain row; totals are the whole step's."""
    batch = make_batch()
    rows = slice(0, 1) if rank == 0 else slice(1, 3)
    segments = {"forget": Segment(0, 1, 2, 10), "retain": Segment(1, rows.stop - rows.start, 1, 3)}
    return Batch(batch.input_ids[rows], batch.attention_mask[rows], batch.labels[rows], segments)


def one_of_two(rank: int, folder: Path) -> None:
    """One process of two: its share of the step through DistributedDataParallel; rank 0 saves the gradient."""
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    policy = DistributedDataParallel(Policy(tiny_llama(0)))
    loss = METHOD.loss(policy, split_step(rank), Policy(tiny_llama(1)))  # type: ignore[arg-type]
    (2 * loss.total).backward()  # gradients are averaged over the two
    if rank == 0:
        torch.save([weight.grad for weight in policy.parameters()], folder / "gradient.pt")
    store.set(f"done {rank}", "")
    store.wait(["done 0", "done 1"])
    os._exit(0)  # taking the group down while the other does the same hangs now and then
