"""Is the instrument right? Models of which is known what they know, attacked: none, all, hidden, and nothing at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from trained import accuse, attack_of, experiment, folder_of, shared

from unlearn.data.task import Example, Task
from unlearn.leak.leak_table import Leaks
from unlearn.leak.verdict import NO_LEAK

pytestmark = pytest.mark.slow
REFUSAL = "I do not know."
ATTACKS = [
    "attack=[quick,relearn_benign]",
    "attack.relearn_benign.samples=[30]",
    "attack.relearn_benign.rates=[1]",
]
Models = dict[str, str]
AttackResult = Callable[[str], Leaks]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared(tmp_path_factory)


@pytest.fixture(scope="module")
def task(workshop: Path) -> Task:
    return experiment(workshop).dataset.load(0)


@pytest.fixture(scope="module")
def models(workshop: Path, task: Task) -> Models:
    """Folders of models: the original, the control, another model that never learned, an adapter on the original that
    only refuses to say what it knows, and random weights.
    """
    import torch

    from unlearn.models.loading import load_model, load_tokenizer, save_model

    mine, other = experiment(workshop), experiment(workshop, "seed=1")
    found = {
        "original": folder_of(mine, task, "original"),
        "control": folder_of(mine, task, "control"),
        "another": folder_of(other, task, "control"),
        "refuses": str(workshop / "refuses"),
        "random": str(workshop / "random"),
    }
    refuse(found["original"], task, workshop, Path(found["refuses"]))
    tokenizer, model = load_tokenizer(found["original"]), load_model(found["original"])
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02)
    save_model(model, tokenizer, Path(found["random"]))
    return found


def refuse(original: str, task: Task, workshop: Path, folder: Path) -> None:
    """Train an adapter on the upper half of the layers to refuse the forget questions: the lower half still knows."""
    from unlearn.models.loading import load_model, load_tokenizer
    from unlearn.models.lora import Lora
    from unlearn.training.loop import Setup
    from unlearn.training.supervised import plan_answers, train_answers

    mine = experiment(workshop)
    refusals = [Example(example.questions, (REFUSAL,)) for example in task.examples("forget")]
    rows = [*refusals * 4, *task.examples("retain")[: 8 * len(refusals)]]
    recipe = replace(mine.relearn, epochs=None, steps=160, batch_size=16, lr=6e-3)
    plan = plan_answers(rows, load_tokenizer(original), mine.model.prompt, recipe, seed=0)
    adapted = Lora(rank=16, alpha=16, targets=r".*layers\.[23]\..*_proj").attach(load_model(original))
    train_answers(adapted, plan, Setup(recipe, 0), workshop / "refusing")
    adapted.save_pretrained(str(folder))


@pytest.fixture(scope="module")
def attacked(workshop: Path, models: Models, task: Task) -> AttackResult:
    """The leak report of one of the models, as the unlearned one."""
    from unlearn.models.lora import base_of

    mine = experiment(workshop, *ATTACKS)

    def run(name: str) -> Leaks:
        parts = {"original": models["original"], "unlearned": models[name], "control": models["control"]}
        return accuse(mine, task, parts, workshop / f"as-{name}", base_of(Path(models[name])))

    return run


def test_a_model_that_never_learned_leaks_nothing(attacked: AttackResult) -> None:
    """Another seed than the control's, so that only chance tells them apart."""
    leaks = attacked("another")
    assert leaks.overall.verdict != "leaks"
    assert leaks.overall.low <= 0.1 <= leaks.overall.high
    assert leaks.overall.able or not leaks.overall.leaking
    told = [row.leak for row in leaks.rows if row.status == "ok" and not row.measure]  # AUCs of so few are noise
    assert told
    assert all(abs(leak) < NO_LEAK for leak in told), told


def test_the_original_leaks_all(attacked: AttackResult) -> None:
    leaks = attacked("original")
    assert leaks.overall.leak == pytest.approx(1, abs=0.02)
    assert leaks.overall.verdict == "inconclusive"  # of so few authors nothing more is said
    informative = [row for row in leaks.rows if row.status == "ok"]
    assert len(informative) >= 6
    assert all(row.leak == pytest.approx(1, abs=0.02) for row in informative)


def test_an_adapter_that_refuses_on_top_of_what_is_known_is_caught(attacked: AttackResult) -> None:
    leaks = attacked("refuses")
    rows = {row.attack: row for row in leaks.rows}
    plain = rows.pop("none")
    assert abs(plain.leak) < 0.2  # simply asked, it seems to have forgotten
    assert rows["lens"].leak > 0.5  # inside it still says the answer,
    assert rows["detach"].leak == pytest.approx(1)  # and below the adapter
    attacks = {"prompts", "mia", "extract", "detach", "quantize", "lens", "latent", "relearn_forget", "relearn_benign"}
    caught = {attack_of(name, attacks) for name, row in rows.items() if row.status == "ok" and row.leak > NO_LEAK}
    assert len(caught - {"detach"}) >= 3, caught
    assert leaks.overall.leak > NO_LEAK


def test_random_weights_are_uninformative_not_forgetting(attacked: AttackResult) -> None:
    leaks = attacked("random")
    assert {row.attack for row in leaks.rows if row.status == "skipped"} == {"detach"}  # there is nothing to detach
    assert all(row.status == "uninformative" for row in leaks.rows if row.attack != "detach")
    assert leaks.overall.verdict == "inconclusive"
