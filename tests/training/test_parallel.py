from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from torch.multiprocessing.spawn import spawn
from two_processes import METHODS, one_of_two, unlearned

from unlearn.training import parallel

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """SAM under a mask, steps that do not divide evenly, and state that is measured and updated over both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(one_of_two, args=(tmp_path, port), nprocs=2)
    for name in METHODS:
        theirs, history = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        mine, expected = unlearned(name, tmp_path / f"{name}-alone")
        for row, other in zip(expected, history, strict=True):
            assert row == pytest.approx(other, rel=1e-5, abs=1e-6)
        for key, weight in mine.items():
            torch.testing.assert_close(theirs[key], weight.detach(), rtol=1e-6, atol=1e-8)


def test_gradients_are_sent_in_messages_of_one_type_and_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_BUCKET", 10)
    sizes = [(4, torch.float32), (5, torch.float32), (3, torch.float32), (30, torch.float32), (1, torch.bfloat16)]
    buckets = parallel._buckets([torch.zeros(size, dtype=dtype) for size, dtype in sizes])
    assert [[len(gradient) for gradient in bucket] for bucket in buckets] == [[4, 5], [3], [30], [1]]


def test_one_process_sends_nothing() -> None:
    parameter = nn.Parameter(torch.ones(2))
    parallel.sum_gradients([parameter])
    assert parameter.grad is None
    assert parallel.sum_losses({"loss": torch.tensor(2.0)}) == {"loss": 2.0}
