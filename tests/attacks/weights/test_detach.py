"""Detaching: the weights below are asked; where there is nothing below, the row says so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from beside import NO_REFERENCES
from birthdays import original, retain, setting, subject, tokenizer

from unlearn.attacks.base import Inapplicable
from unlearn.attacks.setting.no_attack import NoAttack
from unlearn.attacks.weights.detach import Detach
from unlearn.models.loading import load_model, save_model
from unlearn.models.lora import Lora, base_of

if TYPE_CHECKING:
    from pathlib import Path


def test_the_weights_below_an_adapter_still_know(tmp_path: Path) -> None:
    save_model(original(), tokenizer(), tmp_path)
    layered = replace(subject(retain()), base=str(tmp_path))
    (found,) = Detach().attack(layered, setting(), NO_REFERENCES).outcomes
    assert found.known.mean() == 1
    assert found.utility == 1


@pytest.mark.parametrize("part", ["original", "retain"])
def test_references_have_nothing_to_detach(part: str) -> None:
    model = original() if part == "original" else retain()
    (found,) = Detach().attack(subject(model, part), setting(), NO_REFERENCES).outcomes  # type: ignore[arg-type]
    assert found.known.mean() == (part == "original")
    assert found.variant == "detached"


def test_an_adapter_that_was_not_merged_comes_off(tmp_path: Path) -> None:
    """It is attacked with its adapter on, and what is below it knows."""
    torch.manual_seed(0)
    save_model(original(), tokenizer(), tmp_path / "base")
    adapted = Lora(rank=4).attach(load_model(str(tmp_path / "base")))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    adapted.save_pretrained(str(tmp_path / "adapter"))
    released = load_model(str(tmp_path / "adapter"))
    attacked = replace(subject(released), base=base_of(tmp_path / "adapter"))  # type: ignore[arg-type]
    (plain,), (found,) = (one.attack(attacked, setting(), NO_REFERENCES).outcomes for one in (NoAttack(), Detach()))
    assert plain.known.mean() < 0.2
    assert found.known.mean() == 1
    assert found.counts


def test_changed_weights_cannot_be_detached() -> None:
    with pytest.raises(Inapplicable, match="not applicable: the weights themselves were changed"):
        Detach().attack(subject(retain()), setting(), NO_REFERENCES)
