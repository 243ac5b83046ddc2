"""Causal tracing: find the states that, put back, restore an answer which noise on the subject has destroyed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt

from unlearn.localize.budget import Block, BlockBudget, Kind
from unlearn.localize.mechanisms.tables import explained_sites
from unlearn.runtime.errors import UserError
from unlearn.runtime.explained import Chart, Explained

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pandas as pd

    from unlearn.data.task import Task
    from unlearn.localize.base import Localization
    from unlearn.localize.mechanisms.facts import EncodedFact
    from unlearn.localize.mechanisms.tracing import Trace
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import Subject

SITES: dict[Kind, str] = {"attention": "z", "mlp": "mlp_out"}  # what a block's scores are those of
NUMBERS = {
    "p_clean": "Probability of the answer, untouched.",
    "total_effect": "How much of it noise on the subject takes away.",
}
TRIED = 32  # facts that are tried at once to find those that the model knows
GROUPS = ("first subject", "middle subject", "last subject", "first after", "middle after", "last")


@dataclass(frozen=True)
class CausalTracing(BlockBudget):
    """Select blocks whose clean state best restores the answer in a run with a noised subject.

    Noise N(0, nu^2) is added to the embeddings of the subject's tokens, wherever it is named, in `samples` draws that
    are the same for all of a prompt's sites. p is the probability of the answer's first token, averaged over the draws.
    Total effect TE = p(clean) - p(noised), indirect effect IE = p(restored) - p(noised); both are averaged over
    prompts, and the normalised effect is mean IE / mean TE (nan where mean TE is below 0.01). Effects that can only be
    0 are not computed: before the subject, and of the last layer at any token but the last.

    Locating and Editing Factual Associations in GPT (Meng et al., 2022), https://arxiv.org/abs/2202.05262
    """

    form: Literal["sites", "tokens"] = "sites"
    """Sites: every head and MLP at all tokens; tokens: ROME's trace, by token and layer. "sites" (Mechanistic
    Unlearning): every head's output and every MLP's is restored, at all tokens; a block is pooled from these scores.
    "tokens" (ROME): at one token, the hidden state after a layer, or the MLP or the attention outputs of `window`
    layers around it; a block's score is its window's mean IE at the subject's last token."""
    samples: Annotated[int, Gt(0)] = 1
    """Draws of noise for each prompt."""
    noise: Literal["rome3", "sqrt3"] | Annotated[float, Gt(0)] = "rome3"
    """Standard deviation: rome3 (3 x that of the embeddings), sqrt3 (as published), or a number. "rome3" is 3 std over
    all subjects' embeddings, "sqrt3" is sqrt(3 std) over the prompt's own subject's."""
    window: Annotated[int, Gt(0)] = 10
    """Form "tokens": MLP or attention layers restored together, at most a third of all."""
    max_facts: Annotated[int, Gt(0)] = 8
    """How many facts are traced."""
    known_only: bool = True
    """Whether only facts are traced whose answer is the model's first choice."""
    seed: Annotated[int, Ge(0)] | None = None
    """Of the noise; None: the run's."""

    @property
    def reads(self) -> frozenset[str]:
        """Return that it traces facts, and what `match` reads."""
        return super().reads | {"facts"}

    def check(self, task: Task, setting: RunSetting) -> None:
        """Refuse a task without facts that mark their subjects."""
        from unlearn.localize.mechanisms.facts import check_facts

        super().check(task, setting)
        check_facts(task)

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Return the mask, with the table "sites" or "trace"; UserError where the model knows none of the facts."""
        import numpy as np

        from unlearn.localize.mechanisms.facts import LEAST_EFFECT, signal
        from unlearn.localize.mechanisms.tracing import site_patches, subject_noise, token_patches, trace
        from unlearn.models.layout import layout
        from unlearn.models.sites import at_rest
        from unlearn.runtime.progress import progress

        model, parts = subject.module, layout(subject.module)
        with at_rest(model):
            facts = self._facts(subject, task)
            drawn = seed if self.seed is None else self.seed
            noises = subject_noise(model, parts, facts, self.noise, self.samples, drawn)
            if self.form == "sites":
                patches = [site_patches(parts)] * len(facts)
            else:
                window = min(self.window, max(1, len(parts.blocks) // 3))
                patches = [token_patches(fact, len(parts.blocks), window) for fact in facts]
            with progress("causal tracing", total=sum(len(cells) + 1 for cells in patches)) as advance:
                runs = [
                    trace(model, parts, *prompt, subject.token_budget, advance)
                    for prompt in zip(facts, noises, patches, strict=True)
                ]
        numbers = {
            "facts": len(facts),
            "p_clean": float(np.mean([run.clean for run in runs])),
            "total_effect": float(np.mean([run.total_effect for run in runs])),
        }
        scale = signal(numbers["total_effect"], LEAST_EFFECT, "probability")
        scores: dict[Block, np.ndarray] = {}
        if self.form == "sites":
            table = site_table(runs, scale)
            for kind, site in SITES.items():
                for layer in range(len(parts.blocks)):
                    rows = (table["site"] == site) & (table["layer"] == layer)
                    scores[kind, layer] = table["score"][rows].to_numpy()
            return self.select_blocks(subject, task, seed, scores, numbers, {"sites": explained_sites(table)}, NUMBERS)
        words = [subject.processor.batch_decode([[token] for token in fact.ids]) for fact in facts]
        table = trace_table(facts, words, runs, len(parts.blocks))
        at_subject = table[(table["prompt"] == "average") & (table["token_text"] == "last subject")]
        for kind in SITES:
            for layer in range(len(parts.blocks)):
                rows = (at_subject["kind"] == kind) & (at_subject["layer"] == layer)
                scores[kind, layer] = at_subject["effect"][rows].to_numpy()
        return self.select_blocks(subject, task, seed, scores, numbers, {"trace": _explained(table)}, NUMBERS)

    def _facts(self, subject: Subject, task: Task) -> list[EncodedFact]:
        """Return the first `max_facts` facts (that the model knows); only as many are tried as it takes."""
        from unlearn.localize.mechanisms.facts import answered, encode_facts

        if not self.known_only:
            return encode_facts(subject, task, self.max_facts)
        facts = encode_facts(subject, task)
        known: list[EncodedFact] = []
        for start in range(0, len(facts), TRIED):
            known += answered(subject, facts[start : start + TRIED])
            if len(known) >= self.max_facts:
                break
        if not known:
            raise UserError(
                f"the model answers none of the {len(facts)} facts of dataset '{task.name}', so there is "
                "nothing to trace (known_only=false traces them all the same)"
            )
        return known[: self.max_facts]


def site_table(runs: Sequence[Trace], scale: float) -> pd.DataFrame:
    """Return a row for each site: its mean IE with a 95% interval over prompts, also as a share of `scale`, mean TE."""
    import numpy as np
    import pandas as pd

    cells = list(runs[0].restored)
    effects = np.array([[run.indirect_effect(cell) for cell in cells] for run in runs])  # [prompts, cells]
    low, high = intervals(effects)
    table = pd.DataFrame(cells, columns=["site", "layer", "head"]).assign(score=effects.mean(0), low=low, high=high)
    table["head"] = table["head"].where(table["site"] == "z")  # an MLP has none
    return table.assign(normalised=table["score"] / scale, exact=np.nan)


def trace_table(
    facts: Sequence[EncodedFact], words: Sequence[Sequence[str]], runs: Sequence[Trace], layers: int, examples: int = 4
) -> pd.DataFrame:
    """Return IE by kind, layer and token: of the first prompts as they are, and averaged over all by group of tokens.

    A prompt's effect at a group is the mean over its tokens there; a prompt without such tokens does not count.
    """
    import numpy as np
    import pandas as pd

    from unlearn.localize.mechanisms.tracing import KINDS

    cells = [(kind, layer) for kind in KINDS for layer in range(layers)]
    grids = [  # a [tokens, cells] for each prompt
        np.array([[run.indirect_effect((*cell, token)) for cell in cells] for token in range(len(fact.ids))])
        for fact, run in zip(facts, runs, strict=True)
    ]
    parts: list[pd.DataFrame] = []

    def add(
        prompt: str, token: int, text: str, effects: np.ndarray, low: np.ndarray | float, high: np.ndarray | float
    ) -> None:
        rows = pd.DataFrame(cells, columns=["kind", "layer"])
        parts.append(rows.assign(prompt=prompt, token=token, token_text=text, effect=effects, low=low, high=high))

    groups = [token_groups(fact) for fact in facts]
    for i, name in enumerate(GROUPS):
        means = [grid[tokens[name]].mean(0) for grid, tokens in zip(grids, groups, strict=True) if tokens[name]]
        if means:
            add("average", i, name, np.mean(means, axis=0), *intervals(np.array(means)))
    for grid, text in zip(grids[:examples], words, strict=False):
        for token, effects in enumerate(grid):
            add("".join(text), token, text[token], effects, np.nan, np.nan)
    return pd.concat(parts, ignore_index=True)


def token_groups(fact: EncodedFact) -> dict[str, list[int]]:
    """Return ROME's groups of tokens; a single token of the subject is its last."""
    first, stop = fact.entity
    after = list(range(stop, fact.position))
    return {
        "first subject": [first] if stop - first > 1 else [],
        "middle subject": list(range(first + 1, stop - 1)),
        "last subject": [stop - 1],
        "first after": after[:1],
        "middle after": after[1:],
        "last": [fact.position],
    }


def intervals(items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95% percentile-bootstrap interval of each column's mean, the rows [n, columns] resampled together."""
    import numpy as np

    from unlearn.metrics.statistics import LEVEL, resamples

    means = resamples(len(items)) @ items / len(items)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def _explained(table: pd.DataFrame) -> Explained:
    """Return the table, with the average's tokens of the subject marked."""
    words = (
        "How much of the answer's probability comes back when one state of the clean run is put into a run with a "
        "corrupted subject. Blue: it brings the answer back, so the fact passes there. Dots: the 95% interval "
        "includes 0."
    )
    subject = (table["prompt"] == "average") & table["token_text"].str.endswith("subject")
    called = {"hidden": "Hidden state", "mlp": "MLP output", "attention": "Attention output"}
    called |= {"average": "Average over the prompts", "effect": "indirect effect"}
    chart = Chart(
        "heatmap",
        "layer",
        ("token",),
        "effect",
        panel="kind",
        band="prompt",
        low="low",
        high="high",
        ticks=("token_text",),
        marked="of_subject",
        signed=True,
        words=called,
    )
    return Explained(table.assign(of_subject=subject), "Localization: causal trace", words, chart)
