"""Ridge probes and path patching of MLPs against numbers made by an independent implementation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from unlearn.localize.mechanisms.facts import EncodedFact
from unlearn.localize.mechanisms.path_patching import enrichment
from unlearn.models.layout import layout
from unlearn.score.linear_probe import fit
from unlearn.score.residuals import last_residuals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOLERANCE: dict[str, Any] = {"rtol": 1e-4, "atol": 2e-5}


class Fixture:
    """The stored model, inputs and expectations."""

    def __init__(self, folder: Path) -> None:
        self.inputs: dict[str, Any] = json.loads((folder / "batches.json").read_text())
        self.expected: dict[str, Any] = json.loads((folder / "expected.json").read_text())
        self.model = LlamaForCausalLM(LlamaConfig(**json.loads((folder / "config.json").read_text())))
        self.model.load_state_dict(load_file(folder / "model.safetensors"))
        self.model.eval()

    def facts(self, case: str, kind: str) -> Iterator[EncodedFact]:
        """The case's prompts without their padding; kind: clean_ids or corrupt_ids."""
        rows = self.inputs[case]
        keys = (kind, "answer_pos", "subject_ranges", "correct", "wrong")
        for ids, position, span, answer, foils in zip(*(rows[key] for key in keys), strict=True):
            yield EncodedFact(tuple(ids[: position + 1]), tuple(span), answer, tuple(foils))


@pytest.fixture(scope="module")
def fixture(parity: Path) -> Fixture:
    return Fixture(parity / "localize")


@pytest.mark.parametrize("token_budget", [1, 30, 10_000])
@pytest.mark.parametrize("case", ["ap_equal", "ap_padded"])
def test_enrichment_of_each_receiver_layer(fixture: Fixture, case: str, token_budget: int) -> None:
    pairs = list(zip(fixture.facts(case, "clean_ids"), fixture.facts(case, "corrupt_ids"), strict=True))
    expected = fixture.expected[case]
    for key, scores in expected["flu_path_patch_normalised"].items():
        receiver = int(key.removeprefix("receiver_layer_"))
        patched = enrichment(fixture.model, layout(fixture.model), pairs, receiver, token_budget)
        np.testing.assert_allclose(patched.recovered, scores[:receiver], **TOLERANCE)
        assert not any(scores[receiver:])
        np.testing.assert_allclose(patched.clean.mean(), expected["metric_clean"], **TOLERANCE)
        np.testing.assert_allclose(patched.corrupt.mean(), expected["metric_corrupt"], **TOLERANCE)


def test_ridge_probes_of_every_layer(fixture: Fixture) -> None:
    case, expected = fixture.inputs["ridge_probe"], fixture.expected["ridge_probe"]
    assert case["position"] == -1
    features, labels, n = last_residuals(fixture.model, case["ids"], 512), torch.tensor(case["labels"]), case["n_train"]
    probe = fit(features[:, :n], labels[:n], (case["lambda"],), case["classes"])
    assert len(features) == len(expected)
    for name, rows in (("train_acc", slice(n)), ("test_acc", slice(n, None))):
        accuracy = probe.accuracy(features[:, rows], labels[rows])
        np.testing.assert_allclose(accuracy, [layer[name] for layer in expected], **TOLERANCE)
    first = [layer["test_scores_first4"] for layer in expected]
    np.testing.assert_allclose(probe.scores(features[:, n : n + 4]), first, **TOLERANCE)
