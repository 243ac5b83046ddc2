"""What the unlearning stage lends a method, on a tiny run: a method of two trainings that is killed between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from bigram import PROMPT, random_llama, tokenizer
from helpers import SMALL
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file

from unlearn.data.task import Example, Task
from unlearn.methods.grad_diff import GradDiff
from unlearn.methods.objective import MethodObjective
from unlearn.methods.task_vector import TaskVector
from unlearn.models.loading import load_model, save_model
from unlearn.models.mask import Mask
from unlearn.models.policy import Policy
from unlearn.report.tracking import Tracker
from unlearn.runtime.components import build, conf_dir
from unlearn.runtime.errors import UserError
from unlearn.runtime.store import Store
from unlearn.stages import work
from unlearn.stages.check import check_choices
from unlearn.stages.references import Reference, references
from unlearn.stages.unlearn import check_method, unlearn
from unlearn.stages.work import UnlearningWork
from unlearn.training.loop import train
from unlearn.training.objective import Shard
from unlearn.training.plan import plan_sets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from unlearn.stages.experiment import Experiment

CPU = torch.device("cpu")


class KilledError(Exception):
    """Stands for SIGKILL."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def experiment(cache: Path, *overrides: str) -> Experiment:
    torch.set_num_threads(1)
    mine = [*SMALL, f"cache={cache}", "threads=1", "control_model=none", "evaluate=tokens", *overrides]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        made: Experiment = build(compose("config", overrides=mine))
    return made.for_device("cpu")


def run(cache: Path, folder: Path, *overrides: str) -> dict[str, torch.Tensor]:
    """The weights after the stage."""
    mine = experiment(cache, *overrides)
    task = mine.dataset.load(mine.seed)
    check_method(mine, task)
    known = references(mine, task, CPU, 1)
    store = Store(folder, hashed=False, notify=lambda line: None)
    (built,) = unlearn(mine, task, known, None, store, CPU, Tracker())
    return load_file(built.folder / "model.safetensors")


def killed_at(place: int) -> Callable[..., Any]:
    """Training that dies instead of its `place`-th call."""
    real, calls = train, iter(range(100))

    def dying(*args: Any, **options: Any) -> Any:
        if next(calls) == place:
            raise KilledError
        return real(*args, **options)

    return dying


TWO = ("method=task_vector", "method.retain_scale=0.5", "method.forget_scale=0.7", "train.evaluate_at=[]")


@pytest.mark.slow
def test_a_method_killed_between_its_two_trainings_goes_on(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = run(cache, tmp_path / "a", *TWO)
    monkeypatch.setattr(work, "train", killed_at(1))
    with pytest.raises(KilledError):
        run(cache, tmp_path / "b", *TWO)
    assert (tmp_path / "b/unlearned.partial/steps/forget/weights.safetensors").is_file()
    monkeypatch.setattr(work, "train", killed_at(1))  # the first training is not done again
    resumed = run(cache, tmp_path / "b", *TWO)
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)
    files = {path.name for path in (tmp_path / "b/unlearned").iterdir()}
    assert {"history-forget.json", "history-retain.json", "model.safetensors"} <= files
    assert not {"steps", "trainings"} & files


@pytest.mark.slow
def test_a_task_vector_is_the_sum_that_its_formula_says(cache: Path, tmp_path: Path) -> None:
    one, three = (
        run(cache, tmp_path / f"{scale}", "method=task_vector", f"method.forget_scale={scale}") for scale in (1, 3)
    )
    original = next(path for path in cache.glob("original-*") if path.is_dir())
    theta = {name: p.detach() for name, p in load_model(str(original)).named_parameters()}
    for name, start in theta.items():
        if name in one:  # tied weights are saved once
            torch.testing.assert_close(three[name] - start, 3 * (one[name] - start), rtol=1e-3, atol=1e-5)
    assert any(not torch.equal(one[name], theta[name]) for name in one if name in theta)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ("method=rmu", "update=sam"),
        ("method=pdu", "update=gradient_surgery", "lora=all_linear"),
    ],
    ids=lambda overrides: overrides[0],
)
def test_methods_and_updates_run(cache: Path, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    changed = run(cache, tmp_path, *overrides)
    assert all(torch.isfinite(weight).all() for weight in changed.values())


def test_a_method_that_does_not_train_is_not_given_adapters(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = experiment(cache, "method=task_vector", "lora=all_linear")
    monkeypatch.setattr(TaskVector, "reads", frozenset({"forget"}))
    with pytest.raises(UserError, match=r"TaskVector\) knows nothing of lora=: choose lora=none"):
        check_choices(mine)


@pytest.mark.parametrize("masked", [False, True])
def test_the_gradient_of_a_step_is_that_of_its_whole_loss(cache: Path, tmp_path: Path, masked: bool) -> None:
    """However it is cut: against autograd over all rows, one by one, of -TOK(forget) + TOK(retain)."""
    mine = experiment(cache, "method=grad_diff", "train.micro_tokens=12", "train.batch_size=4")
    model, words, rows = random_llama(1), tokenizer(), [Example((f"{x} b",), (f"c {x} {x}",)) for x in "adefghij"]
    save_model(model, words, tmp_path / "model")
    task = Task("toy", "all", {"forget": tuple(rows[:4]), "retain": (*rows[4:], Example(("a",), ("k l m n o",)))})
    named = {"model.layers.0.mlp.up_proj.weight", "lm_head.weight"}
    mask = Mask.where(model, named.__contains__) if masked else None
    known = {"original": Reference(str(tmp_path / "model"), {})}
    lent = UnlearningWork(mine, known, mask, tmp_path / "out", CPU)  # type: ignore[arg-type]
    policy = Policy(model)
    plan = plan_sets(task, ["forget", "retain"], words, PROMPT, lent.recipe, 0)
    objective = MethodObjective(GradDiff(), plan)
    assert len(objective.batches(0, Shard(), lent.recipe.micro_tokens)) > 2
    losses = lent.gradient(policy, objective, 0)
    found = {name: p.grad for name, p in model.named_parameters()}

    means = {}
    model.zero_grad()
    for side in ("forget", "retain"):
        sums = []
        for row in (plan.rows[number] for number in plan.steps[0][side]):
            logp = model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
            sums += [-logp[t - 1, row.ids[t]] for t in range(row.n_prompt, len(row.ids))]
        means[side] = torch.stack(sums).mean()
    (means["retain"] - means["forget"]).backward()
    assert losses == pytest.approx(
        {"loss": (means["retain"] - means["forget"]).item(), "forget": -means["forget"].item()}
        | {"retain": means["retain"].item()},
        rel=1e-5,
    )
    for name, parameter in model.named_parameters():
        if masked and name not in named:
            assert found[name] is None, name
        else:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6)
