"""How large a model is, for what is done otherwise with a large one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LARGE = 2_000_000_000  # weights; the models called 1.5B have fewer


def is_large(model: PreTrainedModel) -> bool:
    """Return whether attacks spare its memory.

    They train adapters on a large model (attacks/weights/training.py), and on a GPU its weights are kept in bfloat16
    where that changes none of them (models/loading.py).
    """
    return model.num_parameters() > LARGE
