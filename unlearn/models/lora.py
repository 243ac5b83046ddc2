"""Low-rank adapters (Hu et al. 2021, LoRA) through peft, for any method."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Lt

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from unlearn.localize.mask import Mask


@dataclass(frozen=True)
class Lora:
    """Train W + (alpha / rank) B A instead of W, with A [rank, in] and B [out, rank], B starting at zero.

    targets: names of the linear modules that get adapters; "all-linear" for every one but the vocabulary projection.
    Under a mask those of them get adapters that are selected as a whole or more than the model is on average; an
    adapter changes its whole matrix.
    """

    rank: Annotated[int, Gt(0)] = 8
    alpha: Annotated[int, Gt(0)] = 16
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    targets: str | tuple[str, ...] = "all-linear"

    def attach(self, model: PreTrainedModel, mask: Mask | None = None) -> PeftModel:
        """The model with fresh adapters; only they are trainable. Raises UserError where no module has such a name.

        mask: one from `adapted`, of the matrices that get adapters; None for all that `targets` names.
        """
        from peft import LoraConfig, get_peft_model

        from unlearn.errors import UserError

        targets: str | list[str] = self.targets if isinstance(self.targets, str) else list(self.targets)
        if mask is not None:
            targets = [name.removesuffix(".weight") for name, selected in mask.tensors.items() if selected is True]
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an older name
                return get_peft_model(model, config)
        except ValueError as error:
            raise UserError(f"'lora.targets' is {self.targets!r}: {error}") from error

    def adapted(self, model: PreTrainedModel, mask: Mask) -> Mask:
        """The matrices that get adapters under a mask, as a mask of whole tensors.

        UserError where there is none, or where the mask is another model's.
        """
        import torch
        from transformers.pytorch_utils import Conv1D

        from unlearn.errors import UserError
        from unlearn.localize.mask import Mask

        mask.check_fits(model)
        linear = [
            f"{name}.weight"
            for name, module in model.named_modules()
            if isinstance(module, (torch.nn.Linear, Conv1D))
            and module is not model.get_output_embeddings()
            and self._names(name)
        ]
        threshold = max(mask.fraction, 1 / mask.total)  # of an empty mask, nothing
        chosen = {name for name in linear if mask.share(name) >= threshold}
        if not chosen:
            raise UserError(f"the mask selects no linear module that 'lora.targets' ({self.targets!r}) names")
        return Mask.where(model, chosen.__contains__)

    def _names(self, module: str) -> bool:
        """Whether `targets` names this module; as for peft, a single string is a regular expression."""
        if self.targets == "all-linear":
            return True
        if isinstance(self.targets, str):
            return re.fullmatch(self.targets, module) is not None
        return module.rpartition(".")[2] in self.targets
