"""Patching, against models that are put together from the blocks of both."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from beside import beside
from bigram import random_llama, setting, subject, tokenizer

from unlearn.attacks.internals.patch import Patch
from unlearn.data.task import Question

SCORED = [Question("a b c", "d e", value="e"), Question("f g", "h"), Question("i", "j k l")]
READ = {"a b c d": "e", "f g": "h", "i": "j"}


def test_patched_models_are_one_model_below_and_the_other_above() -> None:
    mine, original = random_llama(1), random_llama(2)
    found = Patch().attack(subject(mine), setting(SCORED), beside(subject(original)))
    known = {outcome.variant: outcome.known for outcome in found.outcomes}
    assert list(known) == [f"{direction} {layer}" for direction in ("into", "out of") for layer in range(3)]
    assert not any(outcome.counts for outcome in found.outcomes)
    for direction, below, above in (("into", original, mine), ("out of", mine, original)):
        for layer in range(3):
            both = copy.deepcopy(above)
            both.model.embed_tokens = below.model.embed_tokens
            for i in range(layer + 1):
                both.model.layers[i] = below.model.layers[i]
            expected = []
            for prompt, answer in READ.items():
                ids, token = (tokenizer()(text)["input_ids"] for text in (prompt, answer))
                with torch.no_grad():
                    order = both(torch.tensor([ids])).logits[0, -1].argsort(descending=True).tolist()
                expected.append(1 / (1 + order.index(token[0])))
            assert known[f"{direction} {layer}"].tolist() == pytest.approx(expected)
            row: Any = found.tables["patch"].frame.set_index(["direction", "layer"]).loc[(direction, layer)]
            assert row["score"] == pytest.approx(np.mean(expected))
            assert row["log_rank"] == pytest.approx(-np.mean(np.log(expected)))
    assert not any(m._forward_hooks or m._forward_pre_hooks for model in (mine, original) for m in model.modules())
