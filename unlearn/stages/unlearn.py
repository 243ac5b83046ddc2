"""The unlearning stage: the original model, trained on the method's loss."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn.data.task import Role, Task, digest
from unlearn.methods.base import SEGMENTS, Need
from unlearn.runtime import distributed
from unlearn.runtime.components import cache_key
from unlearn.runtime.progress import notify, progress
from unlearn.runtime.store import Built, Store, read_json, write_json
from unlearn.stages.experiment import Experiment
from unlearn.stages.keys import libraries
from unlearn.stages.prepare import cache
from unlearn.stages.references import Reference

if TYPE_CHECKING:
    from unlearn.models.mask import Mask

References = Mapping[Role, Reference]


def unlearn(
    experiment: Experiment,
    task: Task,
    known: References,
    mask: Mask | None,
    store: Store,
    device: Any,
    tracker: Any,
) -> Built:
    """Train the original model on the method's loss; the result is a model folder with its training log.

    known: the target, and the control model where there is one. mask: which weights may change, None for all.
    """
    original = known["original"]
    key = {
        "original": original.key,
        "mask": mask and mask.digest,
        "method": cache_key(experiment.method),
        "recipe": [cache_key(experiment.train), experiment.train.evaluate_at, experiment.train.evaluate_every],
        "lora": cache_key(experiment.lora),
        "data": task.only(("forget", "retain", "refusal", "injected", "fluency")).key(),
        "prompt": cache_key(experiment.model.prompt),
        "seed": experiment.seed,
        "libraries": libraries(),
    }

    def build(folder: Path) -> None:
        import torch

        from unlearn.data.prompt import encode_passage
        from unlearn.localize.lora_modules import adapted
        from unlearn.models.loading import load_model, load_tokenizer, save_model
        from unlearn.models.mask import Mask
        from unlearn.models.policy import Policy
        from unlearn.training import checkpoint
        from unlearn.training.loop import train
        from unlearn.training.masking import check_unselected
        from unlearn.training.plan import plan_unlearning

        family, method, recipe = experiment.model, experiment.method, experiment.train
        tokenizer = load_tokenizer(original.path)
        model: Any = load_model(original.path)
        model = model.to(device=device, dtype=getattr(torch, recipe.weights))
        segments = [SEGMENTS[need] for need in method.needs if need in SEGMENTS]
        plan = plan_unlearning(
            task,
            segments,
            lambda question, answer: family.prompt.encode(tokenizer, question, answer),
            recipe,
            experiment.seed,
            lambda text: encode_passage(tokenizer, text),
        )
        table = _reference_table(experiment, original, plan, model) if Need.REFERENCE_LOGPS in method.needs else None
        reference = None
        if Need.REFERENCE_MODEL in method.needs:
            reference = Policy(load_model(original.path).to(device)).requires_grad_(False)
        allowed = mask
        if lora := experiment.lora:
            modules = adapted(model, mask, lora.modules(model)) if mask else None
            allowed = mask and Mask.where(model, {f"{name}.weight" for name in modules or ()}.__contains__)
            torch.manual_seed(experiment.seed)
            model = lora.attach(model, modules)

        def evaluate(step: int) -> dict[str, float]:
            return _curve_point(experiment, task, model, tokenizer, known)

        def record(kind: str, row: dict[str, float]) -> None:
            tracker.log({f"{kind}/{name}": value for name, value in row.items() if name != "step"}, int(row["step"]))

        with progress("unlearning", total=len(plan.steps)) as advance:
            log = train(
                model,
                plan,
                method,
                recipe,
                folder,
                experiment.seed,
                reference,
                table,
                None if lora else mask,  # adapters are what is trained, and only they
                evaluate,
                advance=advance,
                record=record,
                notify=notify,
            )
        if not distributed.is_main():
            return
        if lora:
            model.save_pretrained(folder / "adapter")
            model = model.merge_and_unload()
        if allowed:
            before: Any = load_model(original.path)
            changed = check_unselected(allowed, before.to(next(model.parameters()).dtype), model)
            notify(f"{changed:.1%} of the weights that may change did, and no other")
        save_model(model, tokenizer, folder)
        write_json(folder / "history.json", log.history)
        write_json(folder / "curve.json", log.curve)
        checkpoint.discard(folder)

    return store.stage("unlearned", key, build, collective=True)


def _reference_table(experiment: Experiment, original: Reference, plan: Any, model: Any) -> dict[int, float]:
    """The original model's summed nll of every forget and alternate row that training will see, from the cache."""
    from unlearn.models.policy import Policy
    from unlearn.training.reference import reference_nll

    used = plan.used("forget", "alternate")
    rows = digest([(plan.rows[row].ids, plan.rows[row].n_prompt) for row in used])

    bf16 = experiment.train.precision == "bf16"  # as the policy will compute, so that both start out equal

    def build(folder: Path) -> None:
        import torch

        autocast = torch.autocast(model.device.type, torch.bfloat16, enabled=bf16)
        with progress("reference log-probabilities", total=len(used)) as advance, autocast:
            table = reference_nll(Policy(model), plan.rows, used, experiment.train.micro_tokens, advance)
        write_json(folder / "reference.json", [table[row] for row in used])

    key = {
        "original": original.key,
        "rows": rows,
        "weights": experiment.train.weights,
        "bf16": bf16,
        "libraries": libraries(),
    }
    built = cache(experiment).stage("reference", key, build)
    return dict(zip(used, read_json(built.folder / "reference.json"), strict=True))


def _curve_point(experiment: Experiment, task: Task, model: Any, tokenizer: Any, known: References) -> dict[str, float]:
    """The metrics that need no generated text, at one moment of the training."""
    from unlearn.metrics.evaluate import evaluate
    from unlearn.score.table import Scores

    scoring = dataclasses.replace(experiment.evaluate, generate=False, gradients=False)
    scores = scoring.score(model, tokenizer, experiment.model.prompt, task)
    control = Scores.load(known["control"].scores) if "control" in known else None
    results = evaluate(experiment.metric, scores, control)
    return {result.key: result.value for result in results if not math.isnan(result.value)}
