"""Linear layers as bitsandbytes packs them, for those who want the deployed kernels rather than their simulation."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from torch import nn

from unlearn.models.layout import matrix

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn.attacks.weights.number_formats import Format

OUTLIER = 6.0  # LLM.int8: inputs above it are multiplied in full precision (Dettmers et al. 2022, arXiv 2208.07339)


def pack(model: PreTrainedModel, form: Format) -> None:
    """Replace every linear layer but the vocabulary projection, in place, on its device.

    nf4, fp4: blocks of 64 with float32 scales (no double quantisation). int8: LLM.int8. ImportError where the package
    is not installed.
    """
    packed: Any = import_module("bitsandbytes.nn")  # an optional package
    head = model.get_output_embeddings()
    for name, module in list(model.named_modules()):
        if module is head or not (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"):
            continue
        weight: Any = matrix(module).data.contiguous()
        outputs, inputs = weight.shape
        bias: Any = module.bias
        layer: Any
        if form == "int8":
            layer = packed.Linear8bitLt(inputs, outputs, bias is not None, has_fp16_weights=False, threshold=OUTLIER)
            layer.weight = packed.Int8Params(weight.cpu(), requires_grad=False, has_fp16_weights=False)
        else:
            layer = packed.Linear4bit(
                inputs, outputs, bias is not None, weight.dtype, compress_statistics=False, quant_type=form
            )
            layer.weight = packed.Params4bit(
                weight.cpu(), requires_grad=False, compress_statistics=False, quant_type=form
            )
        layer.bias = bias
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.to(weight.device))
