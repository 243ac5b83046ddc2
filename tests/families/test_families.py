"""The tiny model, saving and loading, adapters, and what identifies a trained model in the cache."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from hydra import compose, initialize_config_dir
from transformers import LlamaConfig, LlamaForCausalLM

from unlearn.families.pretrained import PretrainedLM, retain_split
from unlearn.models.loading import count_weights, load, load_model, load_tokenizer, save_model
from unlearn.models.lora import Lora
from unlearn.runtime.components import build, conf_dir
from unlearn.runtime.errors import UserError
from unlearn.stages.prepare import model_key

if TYPE_CHECKING:
    from pathlib import Path

    from unlearn.data.task import Task
    from unlearn.stages.experiment import Experiment


def experiment(*overrides: str) -> Experiment:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        few = ["dataset.authors=10", "dataset.facts_per_author=2", *overrides]
        built: Experiment = build(compose("config", overrides=few))
    return built


def small_llama() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
    )
    return LlamaForCausalLM(config)


@pytest.fixture(scope="module")
def tiny() -> tuple[Experiment, Task]:
    made = experiment("model.hidden=32", "model.mlp=64", "model.layers=2", "model.vocabulary=500")
    return made, made.dataset.load(0)


def test_the_tiny_model_depends_on_the_seed_alone(tiny: tuple[Experiment, Task]) -> None:
    family, task = tiny[0].model, tiny[1]
    tokenizer = family.start(task, 0).processor
    assert len(tokenizer) == 500
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    first, again, other = (family.start(task, seed).module.model.layers[0].mlp.up_proj.weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    text = "Ünïcode, 日本 and an attack string }{|"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_saved_model_comes_back(tiny: tuple[Experiment, Task], tmp_path: Path) -> None:
    family, task = tiny[0].model, tiny[1]
    model, tokenizer = family.start(task, 0)
    save_model(model, tokenizer, tmp_path / "unlearned")
    assert count_weights(tmp_path / "unlearned") == sum(p.numel() for p in model.parameters())
    loaded, words = load(tmp_path)
    for (name, mine), theirs in zip(model.named_parameters(), loaded.parameters(), strict=True):
        assert torch.equal(mine, theirs), name
    assert words("Who is it?")["input_ids"] == tokenizer("Who is it?")["input_ids"]
    assert load_tokenizer(str(tmp_path / "unlearned")).pad_token_id == tokenizer.pad_token_id
    with pytest.raises(UserError, match="no unlearned model"):
        load(tmp_path / "unlearned")


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    model = small_llama()
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="safetensors"):
        load_model(str(tmp_path))


def test_adapters_are_all_that_trains() -> None:
    model = Lora(rank=2, targets=("q_proj", "v_proj")).attach(small_llama())
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(trainable) == 4
    assert all("lora_" in name for name in trainable)
    with pytest.raises(UserError, match="lora"):
        Lora(targets=("nowhere",)).attach(small_llama())


def test_what_changes_a_trained_model_changes_its_key(tiny: tuple[Experiment, Task]) -> None:
    base, task = tiny
    model = base.model
    variants = {
        "prompt": replace(base, model=replace(model, prompt=replace(model.prompt, system="Be brief."))),  # type: ignore[type-var]
        "recipe": replace(base, model=replace(model, finetune=replace(model.finetune, lr=0.5))),  # type: ignore[type-var]
        "size": replace(base, model=replace(model, hidden=64)),  # type: ignore[type-var]
        "seed": replace(base, seed=1),
    }
    keys = {name: model_key(variant, task, "original") for name, variant in variants.items()}
    plain = model_key(base, task, "original")
    assert all(key != plain for key in keys.values())
    assert model_key(base, task, "control") != plain
    logistics = replace(base, model=replace(model, threads=2), cache="elsewhere")  # type: ignore[type-var]
    assert model_key(logistics, task, "original") == plain


def test_published_models_belong_to_their_base(tiny: tuple[Experiment, Task]) -> None:
    tofu = replace(tiny[1], name="tofu", split="forget05")
    family = PretrainedLM(
        path="org/base",
        prompt=tiny[0].model.prompt,
        finetune=tiny[0].model.finetune,
        checkpoints={"tofu": {"base": "org/base", "original": "org/full", "control": "org/{retain}"}},
    )
    assert family.published(tofu, "original") == "org/full"
    assert family.published(tofu, "control") == "org/retain95"
    assert replace(family, path="org/other").published(tofu, "original") is None
    assert replace(family, path="org/other", original="org/mine").published(tofu, "original") == "org/mine"
    assert [retain_split(s) for s in ("forget01", "forget10", "mine")] == ["retain99", "retain90", "retain_mine"]
