"""NPO steps through the package's own training loop, as they are and as they would be without its speed levers."""

from __future__ import annotations

import copy
import json
import random
import sys
import tempfile
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from bench_setup import Setup, now, passed
from torch import Tensor
from torch.nn import functional as F

from unlearn.methods.gradient import NO_STATE, State
from unlearn.methods.npo import NPO
from unlearn.methods.objective import MethodObjective
from unlearn.models.batches import IGNORE, Batch
from unlearn.models.mask import Mask
from unlearn.models.policy import Policy, TokenScores
from unlearn.training.loop import Setup as TrainingSetup
from unlearn.training.loop import Watch, train
from unlearn.training.objective import SIDES, Loss, Side
from unlearn.training.plan import Plan, plan_unlearning
from unlearn.training.reference import reference_nll

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

Lever = Literal["table", "one_forward", "projection", "buckets"]


def measure(
    overrides: Sequence[str],
    threads: int,
    path: str,
    off: Sequence[Lever] = (),
    lower_half: Literal["trained", "frozen", "zeroed"] = "trained",
    selected: float | None = None,
) -> dict[str, Any]:
    """Seconds (wall, CPU) of `train.steps` steps, after one to warm up, and of the reference table; every step's loss.

    off: levers that are switched off. lower_half: what becomes of the embeddings and the lower half of the layers: they
    are trained, are frozen, or get gradients that are set to zero before the optimizer sees them. selected: train under
    a mask that selects this share of every tensor at random.
    """
    setup = Setup.load(overrides, threads, path)
    model, recipe, prompt = setup.model, setup.experiment.train, setup.experiment.model.prompt
    plan = plan_unlearning(
        setup.task,
        ("forget", "retain"),
        lambda q, a: prompt.encode(setup.tokenizer, q, a),
        recipe,
        setup.experiment.seed,
    )
    if "buckets" in off:
        plan = shuffled(plan)
    plan.steps.insert(0, plan.steps[0])
    for weight in lower_weights(model) if lower_half != "trained" else ():
        if lower_half == "frozen":
            weight.requires_grad_(False)
        else:
            weight.register_hook(torch.zeros_like)
    mask = None if selected is None else random_mask(model, selected)
    assert isinstance(setup.experiment.method, NPO)
    method = Plain(**{f.name: getattr(setup.experiment.method, f.name) for f in fields(NPO)}, off=frozenset(off))
    started = now()
    table, reference = {}, None
    if "table" in off:
        reference = Policy(copy.deepcopy(model)).requires_grad_(False)
    else:
        table = reference_nll(Policy(model), plan.rows, plan.used("forget"), recipe.micro_tokens, lambda rows: None)
    ends = [now()]
    with tempfile.TemporaryDirectory() as folder:
        objective = MethodObjective(method if off else setup.experiment.method, plan, 0, table, reference)
        watch = Watch(advance=lambda *args, **parts: ends.append(now()))
        log = train(Policy(model), objective, TrainingSetup(recipe, 0, mask=mask), Path(folder), watch)
    return {
        "seconds": {"steps": passed(ends[1], ends[-1]), "table": passed(started, ends[0])},
        "rows": len(plan.used("forget")),
        "numbers": [row["loss"] for row in log.history],
    }


@dataclass(frozen=True, kw_only=True)
class Plain(NPO):
    """NPO with levers switched off: the same number, computed as it is usually written."""

    off: frozenset[Lever]

    def loss(
        self,
        policy: Policy,
        batch: Batch,
        reference: Policy | None = None,
        state: State = NO_STATE,
        only: Collection[Side] = SIDES,
    ) -> Loss:
        """Return the loss of one micro-batch."""
        score = all_logits if "projection" in self.off else Policy.__call__
        if "one_forward" in self.off:
            scores = {name: score(policy, alone(batch, name))[name] for name in batch.segments}
        else:
            scores = score(policy, batch)
        if reference is not None:
            with torch.no_grad():
                theirs = score(reference, alone(batch, "forget"))["forget"].sums
            segment = replace(scores["forget"].segment, reference_nll=theirs)
            scores["forget"] = replace(scores["forget"], segment=segment)
        return Loss(self.terms(scores, {}, state, only))


def all_logits(policy: Policy, batch: Batch) -> dict[str, TokenScores]:
    """Scores from logits at all positions, of which those without a label are dropped in the loss."""
    logits = policy.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
    targets = F.pad(batch.labels[:, 1:], (0, 1), value=IGNORE)
    nll = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="none")
    nll, is_target = nll.view(targets.shape)[:, :-1], targets[:, :-1] != IGNORE
    return {name: TokenScores(nll[s.rows], is_target[s.rows], s) for name, s in batch.segments.items()}


def alone(batch: Batch, name: str) -> Batch:
    """One segment as a batch of its own, padded to its own longest row."""
    part = batch.part(name)
    width = int(part.attention_mask.sum(dim=1).max())

    def cut(tensor: Tensor) -> Tensor:
        return tensor[:, :width].contiguous()

    return Batch(cut(part.input_ids), cut(part.attention_mask), cut(part.labels), part.segments)


def shuffled(plan: Plan) -> Plan:
    """Return the same rows in as many steps of the same sizes, without regard to length."""
    rng = random.Random(0)
    decks = {name: [row for step in plan.steps for row in step[name]] for name in plan.steps[0]}
    for deck in decks.values():
        rng.shuffle(deck)
    return Plan(plan.rows, [{name: [decks[name].pop() for _ in step[name]] for name in step} for step in plan.steps])


def random_mask(model: torch.nn.Module, share: float) -> Mask:
    """Return a share of every tensor, at random: bits to unpack for each."""
    generator = torch.Generator().manual_seed(0)
    return Mask.of(
        model, {name: torch.rand(p.shape, generator=generator) < share for name, p in model.named_parameters()}
    )


def lower_weights(model: Any) -> list[torch.nn.Parameter]:
    """Return the embeddings and the weights of the lower half of the layers."""
    layers = model.get_decoder().layers
    lower = [model.get_input_embeddings(), *layers[: len(layers) // 2]]
    return [weight for module in lower for weight in module.parameters()]


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
