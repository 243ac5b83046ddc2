"""Which of the processes of an `accelerate launch` this one is; a plain run is rank 0 of 1 and imports nothing."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

_TIMEOUT = timedelta(days=7)  # the other ranks wait while rank 0 scores or holds a lock


def world_size() -> int:
    """How many processes run this command together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return the number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this is the process that writes files and prints."""
    return rank() == 0


def connect(cpu: bool) -> None:
    """Join the other processes (once, before anything else of torch.distributed); a plain run does nothing."""
    if world_size() > 1:
        from accelerate import PartialState

        PartialState(cpu=cpu, timeout=_TIMEOUT)


def from_main(value: Any) -> Any:
    """Rank 0's `value`, on every rank; also makes all ranks wait for rank 0."""
    if world_size() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    box = [value if is_main() else None]
    broadcast_object_list(box)
    return box[0]


def wait() -> None:
    """Wait until every rank is here."""
    if world_size() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def local_rank() -> int:
    """Return the number of this process on its machine, which is also the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))
