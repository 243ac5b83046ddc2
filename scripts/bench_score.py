"""A full evaluation by the package's own code, as it is and as it would be without its speed levers."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal
from unittest import mock

import numpy as np
from bench_setup import Setup, now, passed

from unlearn.metrics.evaluate import evaluate
from unlearn.models.subject import References, Subject
from unlearn.score import generate, gradient, likelihood
from unlearn.score.tokens import Tokens
from unlearn.stages.score import asked_of, score

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from unlearn.score.table import Tables

Seconds = dict[str, tuple[float, float]]
Lever = Literal["shared_prompt", "one_pass", "projection", "sorting"]

EXTRA_PASSES = {
    "exact memorization": ("forget",),
    "extraction strength": ("forget",),
    "loss": ("forget", "holdout"),
    "zlib": ("forget", "holdout"),
    "reference": ("forget", "holdout"),
    "Min-K": ("forget", "holdout"),
    "Min-K++, log-probabilities": ("forget", "holdout"),
    "Min-K++, their moments": ("forget", "holdout"),
}
"""Which answers are run through the model again, for which metric, where each metric asks the model itself.

Probability and truth ratio, which need all candidates, are the one pass that is there in any case.
"""


def measure(overrides: Sequence[str], threads: int, path: str, off: Sequence[Lever] = ()) -> dict[str, Any]:
    """Seconds (wall, CPU) of an evaluation and its parts, every candidate's summed log-probability, and all answers.

    off: levers that are switched off. The model is its own control: it makes no difference to the time.
    """
    setup = Setup.load(overrides, threads, path)
    scoring = {
        name: replace(scorer, share_prefix="shared_prompt" not in off) if isinstance(scorer, Tokens) else scorer
        for name, scorer in setup.experiment.evaluate.items()
    }
    seconds: Seconds = {}
    with ExitStack() as patches:

        def patch(module: Any, name: str, value: Any) -> None:
            patches.enter_context(mock.patch.object(module, name, value))

        if "projection" in off:
            patch(likelihood, "projection_at", project_everything)
        if "sorting" in off:
            patch(likelihood, "map_batches", in_file_order)
            patch(generate, "map_batches", in_file_order)
        patch(likelihood, "likelihoods", clocked(likelihood.likelihoods, seconds, "likelihoods"))
        patch(generate, "generate", clocked(generate.generate, seconds, "generation"))
        if "gradients" in scoring:
            patch(gradient, "gradient_norms", clocked(gradient.gradient_norms, seconds, "gradient norms"))

        def run() -> Tables:
            experiment = setup.experiment
            subject = Subject(
                "original", setup.model, setup.tokenizer, experiment.model.prompt, experiment.token_budget
            )
            asked, alone = asked_of(experiment, setup.task), References(lambda: subject, lambda: None)
            scores = {name: table.frame for name, table in score(scoring, subject, asked, alone).items()}
            if "one_pass" in off:
                for roles in EXTRA_PASSES.values():
                    ask_again(setup, scores, roles)
            metrics = clocked(evaluate, seconds, "metrics")
            metrics(experiment.metric, scores, {"control": scores})
            return scores

        scores = clocked(run, seconds, "evaluation")()
    return {
        "seconds": seconds,
        "rows": len(scores.get("generations", ())),
        "candidates": len(scores["tokens"]),
        "numbers": [float(logp.sum()) for logp in scores["tokens"]["logp"]],
        "texts": list(scores["generations"]["generation"]) if "generations" in scores else [],
    }


def ask_again(setup: Setup, scores: Tables, roles: Sequence[str]) -> None:
    """Another pass over the answers of these roles, which must give the same numbers as the first."""
    table = scores["tokens"]
    first = table[table["aim"].isin(roles) & (table["kind"] == "answer")]
    questions = {(s.name, i): p.question for s in setup.task.probes for i, p in enumerate(s.probes)}
    places = zip(first["probe"], first["item"], first["text"], strict=True)
    pairs = [(questions[probe, item], text) for probe, item, text in places]
    rows = setup.experiment.model.prompt.encode_all(setup.tokenizer, pairs)
    pad, budget = generate.pad_id(setup.tokenizer), setup.experiment.token_budget
    again = likelihood.likelihoods(setup.model, [[row] for row in rows], pad, budget)
    for (stats,), logp in zip(again, first["logp"], strict=True):
        np.testing.assert_allclose(stats.logp, logp, atol=1e-2)


@contextmanager
def project_everything(model: nn.Module, index: Tensor) -> Iterator[None]:
    """In the place of `projection_at`: logits at all positions, from which those of `index` are taken."""

    def pick(module: nn.Module, inputs: object, logits: Tensor) -> Tensor:
        return logits.flatten(0, -2).index_select(0, index).unsqueeze(0)

    handle = model.get_output_embeddings().register_forward_hook(pick)  # type: ignore[operator]
    try:
        yield
    finally:
        handle.remove()


def in_file_order(
    function: Callable[[list[Any]], list[Any]],
    rows: Sequence[Any],
    length: Callable[[Any], int],
    token_budget: int,
    share: Callable[[Any], float] = lambda row: 0.0,
    progress: Callable[[int], object] | None = None,
) -> list[Any]:
    """In the place of `map_batches`: batches within the same limits, of rows as they come."""
    batches: list[list[Any]] = []
    width, used = 0, 0.0
    for row in rows:
        width, used = max(width, length(row)), used + share(row)
        if not batches or (len(batches[-1]) + 1) * width > token_budget or used > 1:
            batches.append([])
            width, used = length(row), share(row)
        batches[-1].append(row)
    return [answer for batch in batches for answer in function(batch)]


def clocked(function: Callable[..., Any], seconds: Seconds, name: str) -> Callable[..., Any]:
    """Return `function`, adding the time it takes to seconds[name]."""

    def call(*args: Any, **options: Any) -> Any:
        started = now()
        answer = function(*args, **options)
        wall, cpu = passed(started, now())
        before = seconds.get(name, (0.0, 0.0))
        seconds[name] = before[0] + wall, before[1] + cpu
        return answer

    return call


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
