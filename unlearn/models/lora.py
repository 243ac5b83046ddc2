"""Low-rank adapters (Hu et al. 2021, LoRA) through peft, for any method."""

from __future__ import annotations

import copy
import re
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, Le, Lt

from unlearn.runtime.errors import UserError
from unlearn.runtime.read import read_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from peft import PeftModel
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Lora:
    """Train W + (alpha / rank) B A instead of W, with A [rank, in] and B [out, rank], B starting at zero.

    Hu et al. 2021, LoRA (arXiv 2106.09685).
    """

    rank: Annotated[int, Gt(0), Le(4096)] = 8
    """Rank of the matrices that are trained."""
    alpha: Annotated[int, Gt(0)] = 16
    """Scale: what they add is multiplied by alpha / rank."""
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of their inputs that is dropped in training."""
    targets: str | tuple[str, ...] = "all-linear"
    """Names of linear modules ([q_proj, v_proj]), or "all-linear": all but the vocabulary projection. Any other single
    text is a regular expression that matches whole names."""

    def attach(self, model: PreTrainedModel, modules: Sequence[str] | None = None) -> PeftModel:
        """Return the model with fresh adapters; only they are trainable.

        modules: full names of the modules that get adapters, None for all that `targets` names. UserError where no
        module has such a name.
        """
        from peft import LoraConfig, get_peft_model

        named = self.targets if isinstance(self.targets, str) else list(self.targets)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=named if modules is None else list(modules),
            task_type="CAUSAL_LM",
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an older name
                warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`")  # see below
                warnings.filterwarnings("ignore", "fan_in_fan_out")  # of GPT-2's layers, which it sets by itself
                adapted = get_peft_model(model, config)
        except ValueError as error:
            raise UserError(f"'lora.targets' is {self.targets!r}: {error}") from error
        if shared := tied_layers(adapted):
            remove_adapters(model)
            raise UserError(
                f"'lora.targets' names {shared[0]!r}, but its weight is also another module's (the embedding and the "
                "output are tied): what is trained could not be merged into it; name other modules"
            )
        return adapted

    def modules(self, model: PreTrainedModel) -> list[str]:
        """Return full names of the linear modules that `targets` names."""
        import torch
        from transformers.pytorch_utils import Conv1D

        return [
            name
            for name, module in model.named_modules()
            if isinstance(module, (torch.nn.Linear, Conv1D))
            and module is not model.get_output_embeddings()
            and self._names(name)
        ]

    def _names(self, module: str) -> bool:
        if self.targets == "all-linear":
            return True
        if isinstance(self.targets, str):
            return re.fullmatch(self.targets, module) is not None
        return any(module == target or module.endswith(f".{target}") for target in self.targets)


def tied_layers(model: nn.Module) -> list[str]:
    """Return full names of the modules with adapters whose weight is also that of a module beside them."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    weights = Counter(id(own) for module in model.modules() for own in module.parameters(recurse=False))
    adapted: dict[str, Any] = {name: m for name, m in model.named_modules() if isinstance(m, BaseTunerLayer)}
    return [name for name, module in adapted.items() if weights[id(module.get_base_layer().weight)] > 1]


def untie(model: PreTrainedModel) -> None:
    """Give each module that has an adapter a weight of its own: merged, it is no longer that of a module beside it."""
    import torch

    for name in tied_layers(model):
        module: Any = model.get_submodule(name)
        layer = module.get_base_layer()
        layer.weight = torch.nn.Parameter(layer.weight.detach().clone())
        for config in (model.config, model.config.get_text_config()):
            config.tie_word_embeddings = False


def remove_adapters(model: PreTrainedModel, merge: bool = False) -> None:
    """Take off whatever adapters are on the model, all or, where `attach` broke off, some; `merge` adds them first."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            if merge:
                module.merge()
            model.set_submodule(name, module.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of the model with its adapters merged into the weights; the model itself where it has none."""
    if not hasattr(model, "peft_config"):
        return model
    model = copy.deepcopy(model)
    remove_adapters(model, merge=True)
    return model


def base_of(folder: Path) -> str | None:
    """Return the Hub id or folder of the model that an adapter folder (peft's) belongs to; None where it is none.

    UserError where it does not say.
    """
    file = folder / "adapter_config.json"
    if not file.is_file():
        return None
    about = read_json(file)
    base = about.get("base_model_name_or_path") if isinstance(about, dict) else None
    if not isinstance(base, str) or not base:
        raise UserError(f"{file} does not name the model below the adapter (base_model_name_or_path)")
    return base
