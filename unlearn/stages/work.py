"""What the unlearning stage lends a method: training, steps that are not done twice, and the models beside."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from unlearn.data.narrowing import UndeclaredReadError
from unlearn.data.task import Role, digest
from unlearn.models.mask import Mask
from unlearn.models.subject import References
from unlearn.runtime import distributed
from unlearn.runtime.progress import notify, progress
from unlearn.runtime.read import read_json
from unlearn.runtime.store import Store, write_json
from unlearn.stages.keys import libraries
from unlearn.stages.prepare import cache
from unlearn.stages.subjects import load_subject
from unlearn.training.gradients import StepGradients
from unlearn.training.loop import Setup, Watch, train
from unlearn.training.reference import reference_nll
from unlearn.training.weights import Weights

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from unlearn.data.prompt import Encoded
    from unlearn.models.lora import Lora
    from unlearn.models.policy import Policy
    from unlearn.models.subject import Subject
    from unlearn.recipe import Recipe
    from unlearn.report.tracking import Tracker
    from unlearn.stages.experiment import Experiment
    from unlearn.stages.references import Reference
    from unlearn.training.checkpoint import Log
    from unlearn.training.objective import Losses, Objective

T = TypeVar("T")


class UnlearningWork:
    """The `Work` of one method on one model (see unlearn/methods/base.py)."""

    def __init__(
        self,
        experiment: Experiment,
        known: Mapping[Role, Reference],
        mask: Mask | None,
        folder: Path,
        device: torch.device,
        request: int = 0,
    ) -> None:
        """Lend what a run has to the unlearning of one request.

        known: as "original" the model that is given, which is what came of the request before. request: its number, 0
        where the task has none.
        """
        self.experiment, self.known, self.folder, self.device = experiment, known, folder, device
        self.seed, self.request, self.family = experiment.seed, request, experiment.model
        self.allowed = self._mask = mask
        """Which weights the result may differ in."""
        self.temporary = (folder / "steps", folder / "trainings")
        """What is of no use once the method is through."""
        self._evaluate: Callable[[Any], dict[str, float]] | None = None
        self._tracker: Tracker | None = None
        self._given: Subject | None = None

    def _lent(self, name: str, value: T) -> T:
        """Return what the run lends under a name; UndeclaredReadError where the method does not read it."""
        if name not in self.experiment.method.reads:
            raise UndeclaredReadError(name)
        return value

    @property
    def recipe(self) -> Recipe:
        """How the run trains."""
        return self._lent("recipe", self.experiment.train)

    @property
    def mask(self) -> Mask | None:
        """Which weights may change; None: all."""
        return self._lent("mask", self._mask)

    @property
    def lora(self) -> Lora | None:
        """The adapters that are trained in the place of the weights; None: none."""
        return self._lent("lora", self.experiment.lora)

    def watch_with(self, evaluate: Callable[[Any], dict[str, float]], tracker: Tracker) -> None:
        """Take points of the trade-off curve with `evaluate`, and show the log to a tracker."""
        self._evaluate, self._tracker = evaluate, tracker

    def subject(self) -> Subject:
        """Return the model to unlearn, in the recipe's number format."""
        self._given = self._load("original", getattr(torch, self.experiment.train.weights))
        return self._given

    @property
    def references(self) -> References:
        """The model as it was given, and the control model where there is one, loaded when they are asked for."""
        both = References(
            lambda: self._load("original"), lambda: self._load("control") if "control" in self.known else None
        )
        return both.only(self.experiment.method.reads)

    def log(self, line: str) -> None:
        """Tell the user something."""
        notify(line)

    def train(self, subject: Subject, objective: Objective, name: str = "", places: Mask | None = None) -> Log:
        """Train the subject's weights in place (see `Work.train`)."""
        module: Any = subject.module
        self._given = None
        mask = places if self._mask is None else self._mask if places is None else self._mask & places
        lora = self.experiment.lora
        if lora:
            module, mask = self._with_adapters(lora, module, mask), None  # adapters are what is trained, and only they
        folder = self.folder if not name else self.temporary[1] / name
        setup = Setup(self.recipe, self.seed, self._lent("update", self.experiment.update), mask)
        with progress(name or "unlearning", total=objective.steps) as advance:
            evaluate = self._evaluate if not name else None
            watch = Watch(
                (lambda step: evaluate(module)) if evaluate else None, advance, self._recorder(name), self.log
            )
            log = train(self.family.policy(module), objective, setup, folder, watch)
        if lora:
            if distributed.is_main():
                module.save_pretrained(self.folder / "-".join(["adapter", *([name] if name else [])]))
            module.merge_and_unload()
        if distributed.is_main():
            ending = f"-{name}.json" if name else ".json"
            write_json(self.folder / f"history{ending}", log.history)
            if not name:
                write_json(self.folder / "curve.json", log.curve)
        return log

    def gradient(self, policy: torch.nn.Module, objective: Objective, step: int) -> Losses:
        """Leave the gradient of an objective's step in `.grad` (see `Work.gradient`)."""
        weights = Weights(policy.get_submodule("model"), self._mask)
        return StepGradients(policy, objective, weights, self.recipe, self.seed).of(step)()

    def step(self, name: str, build: Callable[[Path], None]) -> Path:
        """Return a folder that `build` filled (see `Work.step`)."""
        steps = Store(self.temporary[0], hashed=False, notify=notify)
        return steps.stage(name, {"step": name}, build, collective=True).folder

    def cached(self, name: str, key: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """Return a folder that `build` filled, in whatever run (see `Work.cached`)."""
        whole = {"original": self.known["original"].key, **key, "libraries": libraries()}
        return cache(self.experiment).stage(name, whole, build).folder

    def reference_nll(self, rows: Sequence[Encoded], used: Sequence[int]) -> dict[int, float]:
        """Return the summed answer nll of rows (see `Work.reference_nll`), from the cache."""
        recipe = self._lent("reference", self.experiment.train)
        bf16 = recipe.precision == "bf16"  # as the policy will compute, so that both start out equal

        def build(folder: Path) -> None:
            given = self._given or self._load("original", getattr(torch, recipe.weights))
            autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=bf16)
            with progress("reference log-probabilities", total=len(used)) as advance, autocast:
                table = reference_nll(self.family.policy(given.module), rows, used, recipe.micro_tokens, advance)
            write_json(folder / "reference.json", [table[row] for row in used])

        read = digest([rows[row] for row in used])
        folder = self.cached("reference", {"rows": read, "weights": recipe.weights, "bf16": bf16}, build)
        return dict(zip(used, read_json(folder / "reference.json"), strict=True))

    def reference_policy(self) -> Policy:
        """Return a policy of the subject as it was given, frozen."""
        return self.family.policy(self.references.original().module).requires_grad_(False)

    def _load(self, role: Role, dtype: torch.dtype = torch.float32) -> Subject:
        subject = load_subject(self.experiment, self.known[role].path, role, self.device, dtype)
        first = role != "original" or self.request <= 1
        return subject if first else replace(subject, variant=f"request-{self.request - 1}")

    def _with_adapters(self, lora: Lora, module: Any, mask: Mask | None) -> Any:
        """Return the module with fresh adapters, where the mask selects enough of a matrix."""
        from unlearn.localize.lora_modules import adapted

        modules = adapted(module, mask, lora.modules(module)) if mask else None
        if mask:
            self.allowed = Mask.where(module, {f"{name}.weight" for name in modules or ()}.__contains__)
        torch.manual_seed(self.seed)
        return lora.attach(module, modules)

    def _recorder(self, name: str) -> Callable[[str, dict[str, Any]], None]:
        prefix = "".join(f"{part}/" for part in (f"request-{self.request}" if self.request else "", name) if part)

        def record(kind: str, row: dict[str, Any]) -> None:
            if self._tracker:
                values = {f"{prefix}{kind}/{key}": value for key, value in row.items() if key != "step"}
                self._tracker.log(values, int(row["step"]))

        return record
