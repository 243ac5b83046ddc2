"""The weight matrices of a model's linear maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from unlearn.models.layout import matrix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel


def linear_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Name and weight [outputs, inputs] (sharing memory) of every linear map but the vocabulary projection."""
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if module is not head and (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"):
            yield f"{name}.weight", matrix(module).data
