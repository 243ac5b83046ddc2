"""Load and save models. Weights are safetensors or GGUF, never pickles."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from unlearn.models import layered
from unlearn.models.generation_config import token_ids_only
from unlearn.models.interventions.base import interventions
from unlearn.models.lora import base_of, untie
from unlearn.models.size import is_large
from unlearn.runtime.errors import UserError
from unlearn.runtime.paths import is_local, local, prefer_local
from unlearn.runtime.store import disk_errors

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()


def load_model(path: str) -> PreTrainedModel:
    """Return a causal LM in float32 on the CPU.

    It comes from a hub id, a folder, a layered folder (see models/layered.py), an adapter's folder (merged into its
    base model) or a GGUF file; UserError where it can't be had.
    """
    if (about := layered.read(local(path))) is not None:
        return _with_layers(local(path), about)
    if (base := base_of(local(path))) is not None:
        return _with_adapter(base, local(path))
    with _ClearErrors(path, "model"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            *_place(path), dtype=torch.float32, output_loading_info=True, **_source(path)
        )
        model, found = loaded
        if missing := sorted(found["missing_keys"]):  # they would be left random
            raise ValueError(f"{len(missing)} weights are missing, {missing[0]} among them")
    # a GGUF file's quantization was undone by loading; with its config left in, the model could not be saved
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
        model.hf_quantizer = None
        model.is_quantized = False
    model.generation_config = token_ids_only(model.generation_config)
    ready: PreTrainedModel = model.eval()
    return ready


def load_on(path: str, device: torch.device | str) -> PreTrainedModel:
    """Return what `load_model` does, `on_device`."""
    return on_device(load_model(path), device)


def on_device(model: Any, device: torch.device | str) -> PreTrainedModel:
    """Return a model on a device, as attacks have it.

    A large one (see `is_large`) is in bfloat16 on a GPU, at half the memory, if that holds all of its weights exactly,
    as those that were released in it. Others stay in float32.
    """
    if torch.device(device).type == "cuda" and is_large(model):
        halve(model)
    found: PreTrainedModel = model.to(device)
    return found


def halve(model: PreTrainedModel) -> bool:
    """Turn float32 weights into bfloat16, where that changes none of them; whether it did. Buffers (positions) stay."""
    weights = [weight for weight in model.parameters() if weight.dtype == torch.float32]
    if not all(torch.equal(weight, weight.bfloat16().float()) for weight in weights):
        return False
    for weight in weights:
        weight.data = weight.data.bfloat16()
    model.config.dtype = torch.bfloat16
    return True


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer that belongs to a model, with EOS as padding token where it has none.

    That of an adapter's own folder comes before its base model's, and so does a chat template there.
    """
    template = None
    while not _has_tokenizer(local(path)) and (base := layered.below(path)) is not None:
        file = local(path) / "chat_template.jinja"
        template = template or (file.read_text() if file.is_file() else None)
        path = base
    with _ClearErrors(path, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(*_place(path), **_source(path))
    if template:
        tokenizer.chat_template = template
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer_config.json").is_file() and any(
        (folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
    )


def load_config(path: str) -> PretrainedConfig:
    """Return the config of the weights below a model's layers."""
    while (base := layered.below(path)) is not None:
        path = base
    with _ClearErrors(path, "model"):
        source = {name: value for name, value in _source(path).items() if name != "use_safetensors"}
        config: PretrainedConfig = AutoConfig.from_pretrained(*_place(path), **source)
    return config


def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    base: str | None = None,
    variant: str = "",
) -> None:
    """Write a model folder that `load_model` reads; without interventions on the model transformers reads it, too.

    base: hub id or folder of the weights below the interventions, which are written only where they are no longer
    those. variant: see Subject.
    """
    held = interventions(model)
    weights: Path | None = folder if held is None else folder / layered.BASE
    if held is not None and base is not None and _same_weights(model, load_model(base)):
        weights = None
    if weights is not None:
        model.generation_config = token_ids_only(model.generation_config)
        with disk_errors(weights):
            model.save_pretrained(weights, safe_serialization=True)
            tokenizer.save_pretrained(weights)
    if held is not None:
        layered.write(folder, base if base and weights is None else layered.BASE, list(held), variant=variant)


def load(run: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the unlearned model of a finished run, and its tokenizer; UserError where there is none."""
    folder = run / "unlearned"
    if not layered.is_model(folder):
        raise UserError(f"{run} holds no unlearned model: not a finished run folder")
    return load_model(str(folder)), load_tokenizer(str(folder))


def count_weights(folder: Path) -> int:
    """Return the number of weights saved in a model folder (tied ones once), from the files' headers."""
    if (about := layered.read(folder)) is not None:
        place = local(layered.base_place(folder, about))
        return sum(map(count_weights, (place, *(folder / layer.folder for layer in about.layers))))
    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            total += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 (not a dict)
    return total


def _with_layers(folder: Path, about: layered.Layered) -> PreTrainedModel:
    """Return the base with the folder's layers on it: adapters merged, interventions attached."""
    base = layered.base_place(folder, about)
    model = load_model(base)
    for layer in about.layers:
        if layer.kind == "adapter":
            model = _adapted(model, folder / layer.folder)
    layered.attach(model, folder, about)
    return model


def _same_weights(model: PreTrainedModel, other: PreTrainedModel) -> bool:
    """Return whether two models have the same parameters, bit for bit."""
    theirs = dict(other.named_parameters())
    return all(
        name in theirs and weight.dtype == theirs[name].dtype and torch.equal(weight.cpu(), theirs[name])
        for name, weight in model.named_parameters()
    )


def _with_adapter(base: str, folder: Path) -> PreTrainedModel:
    """Return the base model with the adapter merged into its weights."""
    if not (folder / "adapter_model.safetensors").is_file():
        raise UserError(f"{folder} holds no adapter_model.safetensors (pickled weights, *.bin, are never loaded)")
    if is_local(base) and not local(base).exists():
        raise UserError(f"the adapter in {folder} belongs to the model '{base}', which is not there")
    return _adapted(load_model(base), folder)


def _adapted(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Return the model with peft's adapter in the folder merged into its weights."""
    from peft import PeftModel

    with _ClearErrors(str(folder), "adapter"), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an older name
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`")  # they are untied
        warnings.filterwarnings("error", "Found missing adapter keys")  # they would be left as they start: at nothing
        adapted: Any = PeftModel.from_pretrained(model, folder, torch_device="cpu")
        untie(adapted)
        model = adapted.merge_and_unload()
    found: PreTrainedModel = model.requires_grad_(True).eval()
    return found


def _place(path: str) -> tuple[str]:
    place = local(path)
    if place.suffix == ".gguf":
        return (str(place.parent),)
    if place.exists():
        return (str(place),)
    prefer_local()
    return (path,)


def _source(path: str) -> dict[str, Any]:
    weights: dict[str, Any] = {"gguf_file": Path(path).name} if path.endswith(".gguf") else {"use_safetensors": True}
    return weights | {"trust_remote_code": False}  # left open, a model with code of its own would have the user asked


class _ClearErrors:
    """Turn the many ways in which loading fails into one line."""

    def __init__(self, path: str, what: str) -> None:
        self.path, self.what = path, what

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, (KeyboardInterrupt, UserError, torch.OutOfMemoryError, MemoryError)):
            return
        reason = shorten(str(error), 200, placeholder=" ...") or type(error).__name__
        raise UserError(
            f"cannot load the {self.what} '{self.path}' (wanted: a hub id with safetensors weights, a folder, or a "
            f".gguf file): {reason}"
        ) from error
