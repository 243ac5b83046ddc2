"""Adapters without their base model beside them, and half precision where it loses nothing."""

from __future__ import annotations

import copy
import json
import warnings
from typing import TYPE_CHECKING

import pytest
import torch
from bigram import SIZES, random_llama, tokenizer
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from unlearn.models import size
from unlearn.models.loading import halve, load_model, load_on, load_tokenizer, save_model
from unlearn.models.lora import Lora, base_of, merged, remove_adapters
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

IDS = torch.arange(2, 12)[None]


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter's folder, its base model in another."""
    save_model(random_llama(), tokenizer(), tmp_path / "base")
    model = adapted(load_model(str(tmp_path / "base")))
    model.save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter"


def adapted(model: torch.nn.Module) -> PeftModel:
    """With adapters that do something."""
    torch.manual_seed(0)
    found = Lora(rank=2).attach(model)  # type: ignore[arg-type]
    with torch.no_grad():
        for name, weight in found.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    return found.eval()


def test_an_adapters_folder_is_its_base_model_with_it(adapter: Path) -> None:
    base = load_model(str(adapter.parent / "base"))
    found = load_model(str(adapter))
    with torch.no_grad():
        plain = base(IDS).logits
        wanted = PeftModel.from_pretrained(base, adapter)(IDS).logits
        torch.testing.assert_close(found(IDS).logits, wanted, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(wanted, plain, atol=0.1)
    names = {name for name, _ in random_llama().named_parameters()}
    assert {name for name, p in found.named_parameters() if p.requires_grad} == names
    assert not found.training
    assert load_tokenizer(str(adapter)).get_vocab() == tokenizer().get_vocab()
    assert base_of(adapter) == str(adapter.parent / "base")
    assert base_of(adapter.parent / "base") is None


def _edit(adapter: Path, **changes: object) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base_model_name_or_path": None}, "does not name the model below the adapter"),
        ({"base_model_name_or_path": "./nowhere"}, "belongs to the model './nowhere', which is not there"),
        ({"r": 3}, "cannot load the adapter"),
        ({"target_modules": ["q_proj", "lm_head"]}, "cannot load the adapter"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_an_adapter_that_fits_nothing(adapter: Path, changes: dict[str, object], words: str) -> None:
    _edit(adapter, **changes)
    with pytest.raises(UserError, match=words):
        load_model(str(adapter))


def test_a_pickled_adapter_is_not_loaded(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(UserError, match=r"no adapter_model\.safetensors"):
        load_model(str(adapter))


def test_adapters_come_off_and_are_merged_in_a_copy() -> None:
    model, before = random_llama(), random_llama()
    with torch.no_grad():
        wanted = adapted(model)(IDS).logits
        copied = merged(model)
        torch.testing.assert_close(copied(IDS).logits, wanted, rtol=1e-4, atol=1e-4)
    assert any("lora_A" in name for name, _ in model.named_parameters())
    assert not any("lora" in name or "base_layer" in name for name, _ in copied.named_parameters())
    remove_adapters(model)
    assert merged(model) is model
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before.state_dict()[name])


def test_half_precision_where_it_changes_nothing() -> None:
    """A model released in bfloat16 is kept so, a fine-tuned one is not; positions stay exact."""
    model = random_llama()
    assert not halve(model)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    exact = random_llama()
    for weight in exact.parameters():
        weight.data = weight.data.bfloat16().float()
    wanted = [weight.clone() for weight in exact.parameters()]
    assert halve(exact)
    assert exact.dtype == torch.bfloat16
    assert all(torch.equal(a.float(), b) for a, b in zip(exact.parameters(), wanted, strict=True))
    assert {buffer.dtype for buffer in exact.buffers()} == {torch.float32}


def test_on_a_cpu_all_models_are_in_float32(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size, "LARGE", 0)
    assert load_on(str(adapter.parent / "base"), torch.device("cpu")).dtype == torch.float32


def test_a_generation_config_keeps_its_token_ids_alone(tmp_path: Path) -> None:
    """Written by hand, as on the hub: transformers would not save some of it beside greedy decoding."""
    save_model(random_llama(), tokenizer(), tmp_path / "odd")
    odd = {"eos_token_id": [0, 3], "pad_token_id": 1, "min_p": 0.1, "typical_p": 0.5, "num_return_sequences": 2}
    more = {"repetition_penalty": 1.3, "num_beams": 4, "no_repeat_ngram_size": 2, "temperature": 0.6}
    (tmp_path / "odd" / "generation_config.json").write_text(json.dumps(odd | more))
    model = load_model(str(tmp_path / "odd"))
    save_model(model, tokenizer(), tmp_path / "again")
    saved = json.loads((tmp_path / "again" / "generation_config.json").read_text())
    assert {name: value for name, value in saved.items() if value is not None and name in {*odd, *more}} == {
        "eos_token_id": [0, 3],
        "pad_token_id": 1,
    }


def test_a_model_with_an_odd_generation_config_can_be_saved(tmp_path: Path) -> None:
    model = random_llama()
    model.generation_config.min_p, model.generation_config.num_return_sequences = 0.1, 2
    save_model(model, tokenizer(), tmp_path)
    assert load_model(str(tmp_path)).generation_config.min_p is None


def tied_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=18, hidden_size=16, intermediate_size=16, num_hidden_layers=1, **SIZES)
    config.tie_word_embeddings = True
    model: LlamaForCausalLM = LlamaForCausalLM(config).eval()
    return model


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_adapters_on_tied_weights_are_refused(target: str) -> None:
    model = tied_llama()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(UserError, match=rf"names '.*{target}', but its weight is also another module's"):
        Lora(targets=("q_proj", target)).attach(model)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    Lora(targets=("q_proj", "v_proj")).attach(model)
    free = random_llama()  # not tied
    Lora(targets=("q_proj", "lm_head")).attach(free)


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_an_adapter_on_tied_weights_is_the_model_that_was_trained(tmp_path: Path, target: str) -> None:
    """Somebody else's: merged into a weight that two modules share, it would change both."""
    save_model(tied_llama(), tokenizer(), tmp_path / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = get_peft_model(load_model(str(tmp_path / "base")), LoraConfig(r=2, target_modules=["q_proj", target]))
        with torch.no_grad():
            for name, weight in other.named_parameters():
                if "lora_" in name:
                    weight.normal_()
            wanted = other.eval()(IDS).logits
        other.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    found = load_model(str(tmp_path / "adapter"))
    save_model(found, tokenizer(), tmp_path / "again")
    for model in (found, load_model(str(tmp_path / "again"))):
        with torch.no_grad():
            torch.testing.assert_close(model(IDS).logits, wanted, rtol=1e-4, atol=1e-4)


def test_an_adapters_own_tokenizer_and_template_are_used(adapter: Path) -> None:
    assert load_tokenizer(str(adapter)).chat_template is None
    (adapter / "chat_template.jinja").write_text("{{ messages[0].content }}!")
    found = load_tokenizer(str(adapter))
    assert found.chat_template == "{{ messages[0].content }}!"
    assert found.get_vocab() == tokenizer().get_vocab()
    own = copy.deepcopy(tokenizer())
    own.add_tokens(["Oslo"])
    own.save_pretrained(adapter)
    assert "Oslo" in load_tokenizer(str(adapter)).get_vocab()
