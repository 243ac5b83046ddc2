"""Which numbers are shown first, in which group, and how each is to be read, in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from unlearn.metrics.base import Result
from unlearn.report.folder import Run

FORGETTING, EDITING, UTILITY = "Forgetting", "Editing", "Utility"
MEMORISATION, MEMBERSHIP = "Memorisation", "Membership"
GROUPS = {
    FORGETTING: "What the model still says about the forget set, also where it is asked in other forms. The aim is the "
    "control model's column, not zero.",
    EDITING: "What the model says in the place of the forgotten answers. The aim of editing is 1.",
    UTILITY: "What the model should still know. The aim is the original's column.",
    MEMORISATION: "How much of the forget set's wording can be drawn out. The aim is the control model's column.",
    MEMBERSHIP: "Whether the forget set can be told from text that no model has seen. The aim is the control model's "
    "column. Over-unlearned: more is gone than if it had never been there.",
}


@dataclass(frozen=True)
class Reading:
    """How a metric is shown. aims: of the probe sets on which it is a headline number ("" where it spans several)."""

    name: str
    title: str
    group: str
    aims: tuple[str, ...]
    words: str


GONE, KEPT = ("forget", "transfer"), ("retain", "utility")
CHOICE = "Share of questions of which {} is the likeliest option. Chance is one over their number; should {}."
MIA = "AUC of telling forgotten from unseen rows by their {}. 0.5, or the control model's: no trace; above: known."
READINGS = (  # in the order in which they are shown
    Reading(
        "forget_quality",
        "Forget quality (p)",
        FORGETTING,
        ("", "forget"),
        "Chance of a gap this large between the truth ratios of this and the control model, were they alike (KS test). "
        "Near 1: cannot be told apart; below 0.05: can.",
    ),
    Reading(
        "forget_quality_ks",
        "KS distance",
        FORGETTING,
        ("", "forget"),
        "That gap itself: the largest between the two distributions of truth ratios. 0: the same, 1: apart.",
    ),
    Reading(
        "probability",
        "Probability",
        FORGETTING,
        GONE,
        "Probability of the true answer, per token. Should come down to the control model's.",
    ),
    Reading(
        "rouge",
        "ROUGE-L recall",
        FORGETTING,
        ("forget",),
        "Share of the true answer's words found in order in what is generated. Should fall to the control model's.",
    ),
    Reading(
        "recall",
        "Fact recall",
        FORGETTING,
        GONE,
        "Share of generated answers that contain the bare fact. Should come down to the control model's.",
    ),
    Reading(
        "truth_ratio",
        "Truth ratio",
        FORGETTING,
        ("forget",),
        "How alike the model rates true and false answers. 1: alike, 0: one is far likelier. "
        "Should come up to the control model's.",
    ),
    Reading("choice", "Choice accuracy", FORGETTING, GONE, CHOICE.format("the true answer", "come down")),
    Reading(
        "probability",
        "Probability",
        EDITING,
        ("injected",),
        "Probability of the injected answer. Should come up to 1.",
    ),
    Reading(
        "recall",
        "Fact recall",
        EDITING,
        ("injected",),
        "Share of generated answers that contain the injected fact. Should come up to 1.",
    ),
    Reading("choice", "Choice accuracy", EDITING, ("injected",), CHOICE.format("the injected answer", "come up to 1")),
    Reading(
        "counterfact_scores",
        "ROME score S",
        EDITING,
        ("",),
        "Harmonic mean of efficacy, paraphrase and neighbourhood score. Should come up to 1.",
    ),
    Reading(
        "efficacy_score",
        "Efficacy score",
        EDITING,
        ("",),
        "Share of edited facts whose new answer is likelier than the true one. Should come up to 1.",
    ),
    Reading(
        "paraphrase_score",
        "Paraphrase score",
        EDITING,
        ("",),
        "The same where the fact is asked in other words: whether the edit generalises. Should come up to 1.",
    ),
    Reading(
        "neighbourhood_score",
        "Neighbourhood score",
        EDITING,
        ("",),
        "Share of like subjects, not edited, whose true answer is still the likelier. Should stay at the original's.",
    ),
    Reading(
        "model_utility",
        "Model utility",
        UTILITY,
        ("",),
        "Harmonic mean of the scores on all sets that should stay: 0 as soon as one is 0. "
        "Should stay at the original's.",
    ),
    Reading(
        "probability", "Probability", UTILITY, KEPT, "Probability of the true answer. Should stay at the original's."
    ),
    Reading(
        "rouge",
        "ROUGE-L recall",
        UTILITY,
        KEPT,
        "Words of the true answer in the generated one. Should stay at the original's.",
    ),
    Reading(
        "recall",
        "Fact recall",
        UTILITY,
        KEPT,
        "Share of answers that contain the bare fact. Should stay at the original's.",
    ),
    Reading("choice", "Choice accuracy", UTILITY, KEPT, CHOICE.format("the true answer", "stay at the original's")),
    Reading(
        "exact_memorization",
        "Exact memorisation",
        MEMORISATION,
        ("forget",),
        "Share of the true answer's tokens that are the model's first choice, given those before.",
    ),
    Reading(
        "extraction_strength",
        "Extraction strength",
        MEMORISATION,
        ("forget",),
        "Share of the true answer that the model completes word for word, given the rest as its beginning.",
    ),
    *(
        Reading(f"mia_{name}", f"MIA: {title}", MEMBERSHIP, ("", "forget"), MIA.format(words))
        for name, title, words in (
            ("loss", "loss", "loss"),
            ("zlib", "zlib", "loss per compressed byte"),
            ("min_k", "Min-K", "least likely tokens"),
            ("min_k_plus_plus", "Min-K++", "least likely tokens, standardised"),
            ("gradnorm", "gradient norm", "gradient norm"),
            ("reference", "reference", "loss beside a reference model's"),
        )
    ),
    Reading(
        "privleak",
        "PrivLeak (%)",
        MEMBERSHIP,
        ("", "forget"),
        "Min-K's AUC against the control model's. 0: like it; below: leaks (−100: fully); above: over-unlearned.",
    ),
)
# Metrics with a side that says "more was removed than retraining would have": the neutral value, and which side it is.
_OVER = {**{r.name: (0.5, -1) for r in READINGS if r.name.startswith("mia_")}, "privleak": (0.0, 1)}


@dataclass(frozen=True)
class Line:
    """One row of the headline table: a metric on a probe set, with the result of each model that has it."""

    key: str
    metric: str
    probe: str
    group: str
    words: str
    results: Mapping[str, Result]

    @property
    def name(self) -> str:
        """The metric's own name."""
        return self.key.rpartition("/")[2]

    @property
    def title(self) -> str:
        """The metric's name, with the probe set's where there are several."""
        return f"{self.metric}, {self.probe}" if self.probe else self.metric

    @property
    def defined(self) -> bool:
        """Whether any model has a value."""
        return not all(math.isnan(result.value) for result in self.results.values())

    @property
    def over_unlearned(self) -> bool:
        """Whether the unlearned model's whole interval lies where more was removed than retraining would have removed.

        A membership AUC counts as such below 0.5, or below the control model's where that is lower still: then the
        held-out rows are easier in themselves.
        """
        result, retain = self.results.get("unlearned"), self.results.get("control")
        if self.name not in _OVER or result is None or math.isnan(result.value):
            return False
        neutral, side = _OVER[self.name]
        if retain is not None and side * (retain.value - neutral) > 0:
            neutral = retain.value
        end = result.low if side > 0 else result.high
        return side * ((result.value if math.isnan(end) else end) - neutral) > 0

    @property
    def n(self) -> int:
        """How many items the number rests on."""
        return max(result.n for result in self.results.values())


def headline(run: Run) -> list[Line]:
    """The headline numbers of a run, group by group, in reading order; those undefined for every model are left out."""
    return [line for line in _lines(run) if line.defined]


def undefined(run: Run) -> dict[str, str]:
    """The headline metrics that are undefined for every model, by title, and why."""
    return {line.title: next(iter(line.results.values())).note for line in _lines(run) if not line.defined}


def _lines(run: Run) -> list[Line]:
    keys = dict.fromkeys(key for model in run.models for key in run.results[model])
    first = {key: next(r for m in run.models if (r := run.result(m, key))) for key in keys}
    lines = []
    for reading in READINGS:
        for key, result in first.items():
            aim = run.aims[result.probe] if result.probe else ""
            if result.name == reading.name and aim in reading.aims:
                results = {model: r for model in run.models if (r := run.result(model, key))}
                probe = "" if result.probe == "forget" else result.probe
                lines.append(Line(key, reading.title, probe, reading.group, reading.words, results))
    return lines


def show(value: float, key: str = "") -> str:
    """A number for people: three decimals, powers of ten where it is tiny, percentages signed, and a dash for nan."""
    if math.isnan(value):
        return "–"
    if key.endswith("privleak"):
        return f"{value:+.1f}"
    if value and abs(value) < 1e-3:
        return f"{value:.0e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"


def show_interval(result: Result) -> str:
    """The result's 95% interval, "" where it has none."""
    if math.isnan(result.low) or math.isnan(result.high):
        return ""
    return f"[{show(result.low, result.name)}, {show(result.high, result.name)}]"
