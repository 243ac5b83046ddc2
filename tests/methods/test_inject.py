from __future__ import annotations

import pytest
import torch
from stub_policy import StubPolicy, step, take
from three_rows import tiny_llama

from unlearn.data.prompt import Encoded
from unlearn.methods.inject import Inject
from unlearn.models.batches import micro_batches
from unlearn.models.policy import Policy

NLL = torch.tensor(
    [[1.0, 2.0, 9.0, 9.0, 9.0], [6.0, 9.0, 9.0, 9.0, 9.0], [2.0, 3.0, 4.0, 9.0, 9.0], [0.5, 0.5, 1.0, 2.0, 9.0]]
)
BATCH = step({"injected": [2, 1], "retain": [3], "fluency": [4]})


def test_weighted_means_over_all_tokens() -> None:
    loss = Inject(forget_weight=2, retain_weight=0.5, fluency_weight=3).loss(StubPolicy(NLL), BATCH, None)
    assert {name: term.value.item() for name, term in loss.terms.items()} == {
        "forget": 3.0,
        "retain": 3.0,
        "fluency": 1.0,
    }
    assert loss.total.item() == pytest.approx(2 * 3 + 0.5 * 3 + 3 * 1)


def test_first_tokens_alone() -> None:
    loss = Inject(tokens="first").loss(StubPolicy(NLL), BATCH, None)
    assert {name: term.value.item() for name, term in loss.terms.items()} == {
        "forget": 3.5,
        "retain": 2.0,
        "fluency": 1.0,
    }


def test_a_loss_of_one_micro_batch_is_its_share() -> None:
    whole = Inject(tokens="first").loss(StubPolicy(NLL), BATCH, None).total
    parts = [{"injected": [0], "fluency": [0]}, {"injected": [1]}, {"retain": [0]}, {}]
    split = [Inject(tokens="first").loss(StubPolicy(NLL), take(BATCH, rows), None).total for rows in parts]
    assert torch.stack(split).sum().item() == pytest.approx(whole.item())


def test_needs() -> None:
    assert Inject().segments == ("injected", "retain", "fluency")
    assert Inject().reference == frozenset()
    assert Inject(fluency_weight=0, retain_weight=0).segments == ("injected",)
    assert Inject(fluency_weight=0, retain_weight=0).reference == frozenset()
    assert Inject(retain_loss="kl").segments == ("injected", "retain", "fluency")
    assert Inject(retain_loss="kl").reference == {"model"}


def rows() -> list[Encoded]:
    torch.manual_seed(2)
    lengths, prompts = (6, 5, 7, 9, 4, 12, 10), (3, 4, 3, 5, 3, 1, 1)
    return [
        Encoded(tuple(torch.randint(3, 40, (n,)).tolist()), prompt) for n, prompt in zip(lengths, prompts, strict=True)
    ]


STEP = {"injected": [0, 1, 2], "retain": [3, 4], "fluency": [5, 6]}


@pytest.mark.parametrize("tokens", ["all", "first"])
@pytest.mark.parametrize("retain_loss", ["nll", "kl"])
@pytest.mark.parametrize("micro_tokens", [1000, 24, 1])
def test_the_gradient_is_that_of_a_plain_loop_however_the_step_is_split(tokens, retain_loss, micro_tokens: int) -> None:
    method = Inject(forget_weight=2, retain_weight=0.5, fluency_weight=0.3, tokens=tokens, retain_loss=retain_loss)
    model, other, data = tiny_llama(0), tiny_llama(1), rows()

    def logp(of, row: Encoded) -> torch.Tensor:
        logits: torch.Tensor = of(torch.tensor([row.ids])).logits
        return logits[0].log_softmax(-1)

    def mean(numbers: list[int], tokens: str = "all") -> torch.Tensor:
        nll = []
        for row in (data[number] for number in numbers):
            positions = range(row.n_prompt, len(row.ids))
            given = logp(model, row)
            nll += [-given[t - 1, row.ids[t]] for t in (positions if tokens == "all" else positions[:1])]
        return torch.stack(nll).mean()

    def divergence(row: Encoded) -> torch.Tensor:
        theirs, mine = logp(other, row).detach(), logp(model, row)
        return (theirs.exp() * (theirs - mine)).sum(-1).mean()

    kept = STEP["retain"]
    retain = mean(kept, tokens) if retain_loss == "nll" else torch.stack([divergence(data[n]) for n in kept]).mean()
    expected = 2 * mean(STEP["injected"], tokens) + 0.5 * retain + 0.3 * mean(STEP["fluency"])
    expected.backward()
    gradient = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    assert len(gradient) == len(list(model.parameters()))
    model.zero_grad()

    policy, reference, total = Policy(model), Policy(other), 0.0
    batches = micro_batches(data, STEP, micro_tokens)
    assert (len(batches) > 1) == (micro_tokens < 1000)
    for batch in batches:
        loss = method.loss(policy, batch, reference)
        loss.total.backward()
        total += loss.total.item()
    assert total == pytest.approx(expected.item(), rel=1e-5)
    for weight, wanted in zip(model.parameters(), gradient, strict=True):
        torch.testing.assert_close(weight.grad, wanted, rtol=1e-4, atol=1e-6)
