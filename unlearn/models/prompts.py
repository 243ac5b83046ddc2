"""Put prompts into a padded batch; each predicts at its last token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unlearn.data.prompt import Encoded
from unlearn.models.batches import pad_rows

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class PromptBatch:
    """Prompts padded on the right."""

    ids: Tensor
    """[B, T] token ids."""
    mask: Tensor
    """[B, T], 1 at tokens and 0 at padding."""
    position: Tensor
    """[B], where each one's answer is predicted."""

    @property
    def index(self) -> Tensor:
        """Return the answer positions in the flattened [B T], as `projection_at` takes them: [B]."""
        return torch.arange(len(self.ids), device=self.ids.device) * self.ids.shape[1] + self.position


def collate(rows: Sequence[Sequence[int]], device: torch.device | str) -> PromptBatch:
    """Return prompts padded on the right, each predicting at its last token."""
    ids, mask, _ = pad_rows([Encoded(tuple(row), len(row)) for row in rows])
    return PromptBatch(ids.to(device), mask.to(device), torch.tensor([len(row) - 1 for row in rows], device=device))
