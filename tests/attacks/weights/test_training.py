"""Training inside an attack: the subject stays as it was, memory that runs out makes no difference."""

from __future__ import annotations

import copy
import random
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bigram import random_llama, subject
from omegaconf import OmegaConf
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from unlearn.attacks.weights.training import ADAPTER_RATES, ADAPTERS, at_rate, by_size, checkpoint_steps, train
from unlearn.data.task import Example
from unlearn.models import size
from unlearn.models.lora import Lora
from unlearn.models.policy import Policy
from unlearn.recipe import Recipe
from unlearn.runtime.components import build, conf_dir

if TYPE_CHECKING:
    from unlearn.models.subject import Subject

ROWS = [Example(("a b",), ("c d",)), Example(("e",), ("f g h",)), Example(("i j k",), ("l",))]
RECIPE = Recipe(lr=1e-2, batch_size=3, steps=6, schedule="constant")


def trained(attacked: Subject, recipe: Recipe = RECIPE, lora: Lora | None = None) -> list[dict[str, torch.Tensor]]:
    """The state at two checkpoints."""
    seen = []
    assert train(attacked, ROWS, recipe, 0, lambda v, _: seen.append(copy.deepcopy(v.module.state_dict())), 2, lora)
    return seen


@pytest.mark.parametrize("lora", [None, Lora(rank=2, dropout=0.1)], ids=("all weights", "adapters"))
def test_the_subject_is_bit_identical_afterwards(lora: Lora | None) -> None:
    model = random_llama()
    model.model.norm.weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    modules = dict(model.named_modules())
    required = {name: p.requires_grad for name, p in model.named_parameters()}
    random.seed(7)
    drawn = random.Random(7).random()
    states = trained(subject(model), lora=lora)
    assert any(not torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert dict(model.named_modules()) == modules
    assert {name: p.requires_grad for name, p in model.named_parameters()} == required
    assert all(p.grad is None for p in model.parameters())
    assert not model.training
    assert random.random() == drawn


def test_adapters_alone_learn_and_are_drawn_from_the_seed() -> None:
    first, second = (trained(subject(random_llama()), lora=Lora(rank=2))[-1] for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    base = random_llama().state_dict()
    kept = {name.replace(".base_layer", ""): weight for name, weight in first.items() if "lora_" not in name}
    assert all(torch.equal(kept[name], base[name]) for name in base)
    assert any(weight.abs().sum() > 0 for name, weight in first.items() if "lora_B" in name)


@pytest.mark.parametrize(
    ("steps", "checkpoints", "due"),
    [(20, 3, [7, 14, 20]), (9, 3, [3, 6, 9]), (2, 3, [1, 2]), (7, 1, [7])],
)
def test_checkpoints_are_evenly_spaced_and_end_at_the_end(steps: int, checkpoints: int, due: list[int]) -> None:
    assert checkpoint_steps(steps, checkpoints) == due
    seen: list[int] = []
    recipe = Recipe(lr=1e-3, batch_size=3, steps=steps)
    train(subject(random_llama(layers=1)), ROWS, recipe, 0, lambda _, step: seen.append(step), checkpoints)
    assert seen == due


def test_out_of_memory_halves_the_micro_batches_and_changes_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """After three steps no more than 8 padded tokens fit: the look before that is not repeated."""
    wanted = trained(subject(random_llama()))
    forward, sizes = Policy.forward, []

    def tight(self: Policy, batch: Any, *args: Any) -> object:
        sizes.append(batch.input_ids.numel())
        if len(sizes) > 3 and sizes[-1] > 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than there is")
        return forward(self, batch, *args)

    monkeypatch.setattr(Policy, "forward", tight)
    found = trained(
        subject(random_llama()), Recipe(lr=1e-2, batch_size=3, steps=6, schedule="constant", micro_tokens=64)
    )
    assert max(sizes[:3]) > 8
    assert max(sizes[-12:]) <= 8
    assert len(found) == 2
    for name, weight in wanted[-1].items():
        torch.testing.assert_close(found[-1][name], weight, rtol=1e-4, atol=1e-5)


def test_a_row_that_does_not_fit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: Policy, *args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Policy, "forward", none)
    with pytest.raises(torch.OutOfMemoryError):
        trained(subject(random_llama()))


def test_a_training_that_diverges_says_so_and_is_not_looked_at_any_more() -> None:
    seen: list[int] = []
    recipe = Recipe(lr=1e30, batch_size=3, steps=8, clip=None, schedule="constant")
    assert not train(subject(random_llama()), ROWS, recipe, 0, lambda _, step: seen.append(step), 8)
    assert len(seen) < 8


def test_all_tokens_of_a_bare_text_are_learned_and_answers_alone_of_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text of 4 tokens has 3 labels (nothing comes before the first), the examples 2 + 3 + 1."""
    labels: list[int] = []
    forward = Policy.forward

    def counting(self: Policy, batch: Any, *args: Any) -> object:
        labels.append(int((batch.labels != -100).sum()))
        return forward(self, batch, *args)

    monkeypatch.setattr(Policy, "forward", counting)
    model: LlamaForCausalLM = random_llama(layers=1)
    train(subject(model), [*ROWS, "a b c d"], Recipe(lr=1e-3, batch_size=4, steps=1), 0, lambda *_: None)
    assert labels == [9]


def test_a_rate_multiplies_the_learning_rate() -> None:
    recipe = at_rate(Recipe(lr=0.1, steps=1), 0.5, batch_size=7)
    assert (recipe.lr, recipe.batch_size) == (0.05, 7)


@pytest.mark.parametrize("lora", [None, Lora(rank=2, dropout=0.5)], ids=("all weights", "adapters"))
def test_looks_are_without_dropout(lora: Lora | None) -> None:
    """Every look sees the same logits twice, while the training itself is with dropout: another one without differs."""
    ids = torch.arange(2, 10)[None]

    def logits(dropout: float) -> list[torch.Tensor]:
        torch.manual_seed(0)
        rates: Any = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), dropout)
        config = GPT2Config(vocab_size=18, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0, **rates)
        seen: list[torch.Tensor] = []

        def on_checkpoint(attacked: Subject, step: int) -> None:
            assert not any(module.training for module in attacked.module.modules())
            with torch.no_grad():
                seen.extend(attacked.module(ids).logits for _ in range(2))

        train(subject(GPT2LMHeadModel(config).eval()), ROWS, RECIPE, 0, on_checkpoint, 3, lora)
        return seen

    found = logits(0.5)
    assert len(found) == 6
    assert all(torch.equal(one, two) for one, two in zip(found[::2], found[1::2], strict=True))
    assert not torch.equal(found[-1], logits(0.0)[-1])


def test_adapters_that_were_put_on_half_way_are_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    from peft.tuners.lora.model import LoraModel

    really: Any = LoraModel._replace_module
    model = random_llama()
    modules, put = dict(model.named_modules()), []

    def breaks(self: LoraModel, *args: object) -> None:
        put.append(args)
        if len(put) > 4:
            raise RuntimeError("no more room for adapters")
        really(self, *args)

    monkeypatch.setattr(LoraModel, "_replace_module", breaks)
    with pytest.raises(RuntimeError, match="no more room"):
        trained(subject(model), lora=Lora(rank=2))
    assert dict(model.named_modules()) == modules
    assert all(p.requires_grad for p in model.parameters())
    assert not hasattr(model, "peft_config")


def test_what_is_trained_goes_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    model, mine = random_llama(), Lora(rank=3)
    assert by_size("auto", model) is None
    monkeypatch.setattr(size, "LARGE", 100)
    assert by_size("auto", model) == ADAPTERS
    assert by_size(None, model) is None
    assert by_size(mine, model) == mine


def test_the_configured_adapters_and_rates_are_those_of_large_models() -> None:
    assert build(OmegaConf.load(conf_dir() / "lora" / "relearn.yaml")) == ADAPTERS
    lr = OmegaConf.load(conf_dir() / "train" / "llm_relearn.yaml").lr
    assert [rate * lr for rate in ADAPTER_RATES] == pytest.approx([1e-5, 5e-5, 2e-4])


def test_all_weights_are_trained_in_float32() -> None:
    model = random_llama().bfloat16()
    dtypes: set[torch.dtype] = set()
    train(subject(model), ROWS, RECIPE, 0, lambda v, _: dtypes.update(p.dtype for p in v.module.parameters()))
    assert dtypes == {torch.float32}
    assert model.dtype == torch.bfloat16
