"""The real command on adapters: the merged model of a run has nothing to detach, the adapter itself has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from helpers import SMALL, unlearn

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.command
ATTACKED = [argument for argument in SMALL if argument != "attack=none"]
ATTACKED += ["dataset.authors=30", "attack=[detach,quantize]", "attack.quantize.formats=[int8]"]
ATTACKED += ["leak.answer_metric=prob", "model.finetune.epochs=30", "leak.min_attacker_items=1"]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that unlearned with adapters."""
    folder = tmp_path_factory.mktemp("workshop")
    done = unlearn("run", *ATTACKED, "lora=all_linear", "method=simnpo", "train.lr=0.03", "output=first", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def rows(folder: Path) -> dict[str, Any]:
    report = json.loads((folder / "attacks" / "leak.json").read_text())
    return {row["attack"]: row for row in report["rows"]}


def test_the_merged_model_of_a_run_has_nothing_to_detach(workshop: Path) -> None:
    found = rows(workshop / "first")
    assert found["detach"]["status"] == "skipped"
    assert found["detach"]["reason"].startswith("not applicable")
    assert found["quantize"]["status"] in ("ok", "uninformative")


def test_the_adapter_itself_is_attacked_and_comes_off(workshop: Path) -> None:
    """What is below it is the original; with it on, it is the model that the run released."""
    done = unlearn("run", *ATTACKED, "stages=[attack]", "run=first/unlearned/adapter", "output=again", cwd=workshop)
    assert done.returncode == 0, done.stderr
    assert "is not the original" not in done.stderr
    found, merged = rows(workshop / "again"), rows(workshop / "first")
    assert found["detach"]["unlearned"] == pytest.approx(found["detach"]["original"], abs=1e-6)
    assert found["none"]["unlearned"] == pytest.approx(merged["none"]["unlearned"], abs=1e-4)
    assert found["none"]["unlearned"] < 0.9 * found["none"]["original"]
    assert (found["detach"]["status"], found["detach"]["counts"]) == ("ok", True)
    assert found["detach"]["leak"] == pytest.approx(1, abs=1e-6)


def test_an_adapter_without_its_base(workshop: Path) -> None:
    folder = workshop / "stray"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    done = unlearn("run", *ATTACKED, "stages=[attack]", "run=stray", cwd=workshop)
    assert done.returncode == 2
    assert "does not name the model below the adapter" in done.stderr.splitlines()[-1]
