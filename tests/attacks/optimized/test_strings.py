"""Strings in prompts: round trips, gradients, candidates."""

from __future__ import annotations

import pytest
import torch
from families import FAMILIES, family
from prompted import PAIRS, POSED, TEXT, subject_of, tokenizer_of

from unlearn.attacks.base import Inapplicable
from unlearn.attacks.optimized.strings import (
    Slot,
    Where,
    insert,
    one_hot_gradient,
    swaps,
    top_tokens,
)
from unlearn.data.prompt import PromptFormat


@pytest.mark.parametrize("where", ["suffix", "prefix"])
def test_a_string_stands_in_every_exchange_as_it_is_asked(where: Where) -> None:
    subject = subject_of()
    slot = Slot(subject, where)
    ids, frames = slot.start(POSED, 6)
    assert len(ids) == 6
    for (question, answer), frame in zip(PAIRS, frames, strict=True):
        row = subject.prompt.encode(subject.processor, insert(question, slot.text(ids), where), answer)
        assert (*frame.before, *ids, *frame.after) == row.ids
        assert frame.labels == len(row.ids) - row.n_prompt


def test_only_strings_that_re_encode_survive() -> None:
    subject = subject_of()
    slot = Slot(subject, "suffix")
    ids, frames = slot.start(POSED, 4)
    vocabulary = subject.processor.get_vocab()
    torn = (*ids[:2], vocabulary["h"], vocabulary["e"])  # the tokenizer knows "he"
    doubled = (*ids[:3], ids[0])
    assert slot.survivors(frames, [torn, doubled, doubled]) == [doubled]


def test_a_tokenizer_that_forgets_letters_gives_no_string_back() -> None:
    from tokenizers import normalizers

    subject = subject_of()
    subject.processor.backend_tokenizer.normalizer = normalizers.Replace(" ", "")
    with pytest.raises(Inapplicable, match="comes back"):
        Slot(subject, "suffix").start(POSED, 4)


def test_what_may_be_drawn_is_plain_text() -> None:
    subject = subject_of()
    texts = subject.processor.batch_decode([[i] for i in Slot(subject, "suffix").allowed.tolist()])
    assert len(texts) > 50
    assert all(t.isascii() and t.isprintable() and t.strip() for t in texts)
    assert not set(texts) & {"<pad>", "<eos>"}


@pytest.mark.parametrize("name", ["llama", "gemma", "gemma3", "gpt2", "opt"])
def test_the_one_hot_gradient_is_that_of_a_finite_step_between_two_tokens(name: str) -> None:
    model = family(name).double()
    assert name in FAMILIES
    ids = torch.randint(3, 60, (1, 7), generator=torch.Generator().manual_seed(0))
    embeddings = model.get_input_embeddings()

    def loss() -> torch.Tensor:
        logits = model(input_ids=ids).logits
        return torch.nn.functional.cross_entropy(logits[0, -3:-1], ids[0, -2:])

    gradient = one_hot_gradient(model, slice(2, 4), loss)
    assert gradient.shape == (2, 64)
    position, token, step = 3, 11, 1e-2  # norms are computed in float32

    def moved(share: float) -> float:
        """The loss with a share of another token in the one-hot row."""

        def mix(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            other = embeddings.forward(torch.tensor(token))
            output = output.clone()
            output[0, position] += share * other
            return output

        handle = embeddings.register_forward_hook(mix)
        try:
            with torch.no_grad():
                return float(loss())
        finally:
            handle.remove()

    slope = (moved(step) - moved(-step)) / (2 * step)
    assert float(gradient[1, token]) == pytest.approx(slope, rel=0.02, abs=1e-4)
    assert not embeddings._forward_hooks


def test_the_gradient_leaves_no_hook_behind_where_the_model_fails() -> None:
    model = family("llama")

    def fails() -> torch.Tensor:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        one_hot_gradient(model, slice(0, 1), fails)
    assert not model.get_input_embeddings()._forward_hooks


def test_the_steepest_tokens_are_drawn_at_as_many_places_as_asked() -> None:
    gradient = torch.tensor([[0.0, -3.0, -1.0, -9.0], [5.0, 4.0, -2.0, -9.0], [0.0, 1.0, 2.0, 3.0]])
    top = top_tokens(gradient, torch.tensor([0, 1, 2]), 2)
    assert top.tolist() == [[1, 2], [2, 1], [0, 1]]
    drawn = swaps((7, 8, 9), top, 2, 40, torch.Generator().manual_seed(0))
    assert len(drawn) == 40
    for candidate in drawn:
        changed = [i for i in range(3) if candidate[i] != (7, 8, 9)[i]]
        assert len(changed) == 2
        assert all(candidate[i] in top[i].tolist() for i in changed)


def test_the_fixtures_tokenizer_goes_round() -> None:
    tokenizer = tokenizer_of()
    assert tokenizer.batch_decode([tokenizer(TEXT)["input_ids"]])[0] == TEXT
    assert PromptFormat(chat_template=False).encode(tokenizer, "a", "b").n_prompt == 1
