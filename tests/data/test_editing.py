from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from scoring import Scoring

from unlearn.data.editing import LETTERS, first_or_random, maintained, multiple_choice, probabilities
from unlearn.data.sports_facts import SportsFacts
from unlearn.data.task import COMPLETION
from unlearn.families.tiny import TinyLM
from unlearn.metrics.evaluate import evaluate
from unlearn.recipe import Recipe
from unlearn.runtime.components import build, conf_dir
from unlearn.runtime.errors import UserError


@given(n=st.integers(0, 60), gone=st.sets(st.integers(0, 59)))
def test_what_is_maintained(n: int, gone: set[int]) -> None:
    train, test = maintained(range(n), gone)
    kept = [i for i in range(n) if i not in gone]
    assert [*train, *test] == kept
    assert len(train) == math.floor(0.8 * len(kept) + 1e-9)


def test_random_splits_are_torchs_with_their_size_as_seed() -> None:
    before = torch.get_rng_state()
    drawn = first_or_random("random_16", 100)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(16)
    assert drawn == torch.randperm(100)[:16].tolist()
    torch.set_rng_state(before)
    assert first_or_random("first_64", 100) == list(range(64))
    assert first_or_random("first_16", 5) == list(range(5))


def test_each_option_is_once_under_each_letter() -> None:
    options = ["red", "green", "blue", "grey"]
    probes = multiple_choice("Which?\n{options}\nAnswer:", options, "blue", "x")
    seen = set()
    for probe in probes:
        head, *lines, tail = probe.question.split("\n")
        assert (head, tail, probe.cluster) == ("Which?", "Answer:", "x")
        shown = dict(line.split(". ") for line in lines)
        assert list(shown) == list(LETTERS)
        assert sorted(shown.values()) == sorted(options)
        assert shown[probe.answer.strip()] == "blue"
        assert {probe.answer, *probe.perturbed_answers} == {f" {letter}" for letter in LETTERS}
        assert len(probe.perturbed_answers) == 3
        seen |= set(shown.items())
    assert len(seen) == 16


def test_without_a_model_nothing_is_known() -> None:
    with pytest.raises(UserError, match=r"dataset\.known=null"):
        probabilities(None, [("a", "b")])


def test_every_metric_takes_a_task_of_completions() -> None:
    """No holdout, no control model, answers of one token without EOS: a value or a note, never an error."""
    task = SportsFacts(split="first_16", max_forget=3, max_maintain=3).load(0)
    tiny = TinyLM(COMPLETION, Recipe(lr=1, steps=1), hidden=16, layers=1, heads=2, mlp=16, vocabulary=600)
    model, tokenizer = tiny.start(task, 0)
    assert task.prompt is not None
    scores = Scoring(gradients=True).score(model, tokenizer, task.prompt, task)
    assert not scores["tokens"]["eos"].any()
    files = sorted((conf_dir() / "metric").glob("*.yaml"))
    metrics = {name: metric for path in files for name, metric in build(OmegaConf.load(path), "metric").items()}
    found = {result.key: result for result in evaluate(metrics, scores, {})}
    assert all(math.isfinite(result.value) or result.note for result in found.values())
    for key in ("model_utility", "forget/probability", "injected/recall", "forget_choice/choice", "forget/truth_ratio"):
        assert math.isfinite(found[key].value), key
    said = (3, "chance 0.25; 3 clusters: t interval")  # athletes
    assert (found["forget_choice/choice"].n, found["forget_choice/choice"].note) == said
    for key in ("forget_quality", "forget/privleak", "forget/mia_loss", "forget/extraction_strength"):
        assert math.isnan(found[key].value), key
    assert "counterfact_scores" not in found
