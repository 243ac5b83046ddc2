"""Every TOFU metric, per row and in aggregate, against the numbers of OpenUnlearning's evaluation (fixture `evals`).

Left out: the fixture's MUSE and multiple-choice cases, whose data sets are not part of the package.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scoring import Scoring

from unlearn.data.prompt import PromptFormat
from unlearn.data.tofu import Tofu
from unlearn.metrics.exact_memorization import ExactMemorization
from unlearn.metrics.extraction_strength import ExtractionStrength
from unlearn.metrics.forget_quality import ForgetQuality
from unlearn.metrics.mia_gradnorm import MiaGradnorm
from unlearn.metrics.mia_loss import MiaLoss
from unlearn.metrics.mia_min_k import MiaMinK
from unlearn.metrics.mia_min_k_plus_plus import MiaMinKPlusPlus
from unlearn.metrics.mia_reference import MiaReference
from unlearn.metrics.mia_zlib import MiaZlib
from unlearn.metrics.model_utility import ModelUtility
from unlearn.metrics.privleak import PrivLeak
from unlearn.metrics.probability import Probability
from unlearn.metrics.rouge import Rouge, rouge
from unlearn.metrics.truth_ratio import TruthRatio, ratio, right_and_wrong
from unlearn.models.loading import load_model, load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from unlearn.data.prompt import Encoded
    from unlearn.data.task import Task
    from unlearn.metrics.base import Metric
    from unlearn.score.table import Tables

LOSS = {"abs": 1e-5, "rel": 0}
SCORE = {"abs": 1e-5, "rel": 1e-4}
NORM = {"abs": 0, "rel": 1e-3}
EXACT = {"abs": 1e-9, "rel": 0}
FLOAT32 = {"abs": 1e-7, "rel": 0}  # a ratio of small counts that was kept in single precision
P_VALUE = {"abs": 0, "rel": 1e-6}
PERCENT = {"abs": 1e-3, "rel": 1e-6}  # 1e-16 in an AUC becomes 1e-4 where privleak divides by 1e-10

PROBE_SETS = {"forget": "forget", "retain": "retain", "ra": "real_authors", "wf": "world_facts"}
MIA: dict[str, tuple[Any, dict[str, float]]] = {
    "mia_loss": (MiaLoss(), SCORE),
    "mia_zlib": (MiaZlib(), SCORE),
    "mia_min_k": (MiaMinK(), SCORE),
    "mia_min_k_plus_plus": (MiaMinKPlusPlus(), SCORE),
    "mia_reference": (MiaReference(), SCORE),
    "mia_gradnorm": (MiaGradnorm(), NORM),
}


@dataclass(frozen=True)
class Compared:
    """One number or text of ours beside the fixture's."""

    where: str
    ours: Any
    theirs: Any
    tolerance: dict[str, float] | None = None

    @property
    def agrees(self) -> bool:
        if self.tolerance is None or self.theirs is None:
            return self.ours == self.theirs or (self.theirs is None and math.isnan(self.ours))
        return bool(self.ours == pytest.approx(self.theirs, nan_ok=True, **self.tolerance))


@dataclass(frozen=True)
class ByCount(PromptFormat):
    """As published: labels begin after as many tokens as the prompt alone has; what spans the join has none."""

    def encode_all(self, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[str, str]]) -> list[Encoded]:
        rows = super().encode_all(tokenizer, pairs)
        prompts = self.encode_prompts(tokenizer, [question for question, _ in pairs])
        return [replace(row, n_prompt=len(prompt)) for row, prompt in zip(rows, prompts, strict=True)]


class Fixture:
    """The fixture's models, scored once for each prompt format and wording."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cases = json.loads((folder / "expected.json").read_text())["cases"]
        self.scores = cache(self._scores)
        self.task = cache(self._task)

    def prompt(self, template: str) -> PromptFormat:
        tags = json.loads((self.folder / "templates.json").read_text())[template]
        if tags["apply_chat_template"]:
            return PromptFormat(system=tags.get("system_prompt", ""), date=tags.get("date_string"))
        names = {"user_start": "user_start_tag", "user_end": "user_end_tag", "answer_start": "asst_start_tag"}
        return ByCount(chat_template=False, **{ours: tags[theirs] for ours, theirs in names.items()})

    def _task(self, split: str) -> Task:
        return Tofu(path=str(self.folder / "data" / "locuslab" / "TOFU"), split=split).load(0)

    def _scores(self, model: str, template: str, scoring: Scoring, split: str = "forget10") -> Tables:
        path = str(self.folder / "models" / model)
        return scoring.score(load_model(path), load_tokenizer(path), self.prompt(template), self.task(split))


SCORING = Scoring(mask_pad=True, gradients=True)
SMALL_BATCHES = Scoring(mask_pad=True, gradients=True, token_budget=600, share_prefix=False)
PARAPHRASED = Scoring(mask_pad=True, question="paraphrased")


@pytest.fixture(scope="module")
def fixture(parity: Path) -> Fixture:
    return Fixture(parity / "evals")


def compare(fixture: Fixture, name: str) -> Iterator[Compared]:
    """Everything that the case `name` holds beside what we compute."""
    case = fixture.cases[name]
    meta = case["meta"]
    split = meta.get("forget_split", "forget10")
    scoring = SMALL_BATCHES if meta["batch_size"] != 32 else SCORING
    scoring = PARAPHRASED if meta.get("question_key") == "paraphrased_question" else scoring
    scores = fixture.scores(meta["model"], meta["template"], scoring, split)

    def beside(model: str) -> Any:
        return model and fixture.scores(model, meta["template"], SCORING, split)

    retain = beside((meta.get("retain_logs", f"tofu/retain/{meta['template']}") or "//").split("/")[1])
    reference = beside(meta.get("reference_model") or "retain")
    for metric, expected in case["metrics"].items():
        compared = COMPARE[metric](scores, retain or None, reference, expected, meta)
        yield from (Compared(f"{name} {metric} {c.where}", c.ours, c.theirs, c.tolerance) for c in compared)


def aggregate(metric: Metric, probe: str, scores: Tables, control: Tables | None = None) -> float:
    return next(
        result.value for result in metric(scores, {"control": control} if control else {}) if result.probe == probe
    )


def by_row(expected: dict[str, Any], field: str, ours: Any, tolerance: dict[str, float] | None) -> Iterator[Compared]:
    """Rows of the peer's log beside ours, in the row order of the data set."""
    rows = expected.get("value_by_index", {})
    assert not rows or len(rows) == len(ours)
    for index, row in rows.items():
        yield Compared(f"[{index}].{field}", ours[int(index)], row and row[field], tolerance)


def probability(probe: str, candidate: Any) -> Callable[..., Iterator[Compared]]:
    def compare(scores: Tables, retain: Any, reference: Any, expected: dict[str, Any], meta: Any) -> Iterator[Compared]:
        table = scores["tokens"][(scores["tokens"]["probe"] == probe) & (scores["tokens"]["kind"] == candidate)]
        loss = [-np.mean(logp, dtype=float) for logp in table["logp"]]
        if candidate == "perturbed":
            loss = [list(rows) for rows in np.array(loss).reshape(table["item"].nunique(), -1)]
        yield from by_row(expected, "avg_loss", loss, LOSS)
        yield from by_row(expected, "prob", [np.exp(-np.array(x)).tolist() for x in loss], LOSS)
        # Our aggregate of the real-world sets is the normalised one, which the peer logs under another name.
        raw = float(np.mean([np.mean(np.exp(-np.array(x))) for x in loss]))
        ours = raw if probe in ("real_authors", "world_facts") else aggregate(Probability(candidate), probe, scores)
        yield Compared("agg_value", ours, expected["agg_value"], LOSS)

    return compare


def normalised(probe: str) -> Callable[..., Iterator[Compared]]:
    def compare(scores: Tables, retain: Any, reference: Any, expected: dict[str, Any], meta: Any) -> Iterator[Compared]:
        yield from by_row(expected, "prob", Probability().items(scores, probe), LOSS)
        yield Compared("agg_value", aggregate(Probability(), probe, scores), expected["agg_value"], LOSS)

    return compare


def overlap(probe: str, reference_text: Any) -> Callable[..., Iterator[Compared]]:
    def compare(scores: Tables, retain: Any, reference: Any, expected: dict[str, Any], meta: Any) -> Iterator[Compared]:
        asked = scores["generations"][scores["generations"]["probe"] == probe]
        texts = asked["generation"].tolist()
        yield from by_row(expected, "generation", texts, None)
        yield from by_row(expected, "ground_truth", asked[reference_text].tolist(), None)
        for field in ("rouge1_recall", "rougeL_f1", "rougeL_recall"):
            yield from by_row(expected, field, rouge(asked[reference_text], texts, *field.split("_")), EXACT)
        ours = aggregate(Rouge(reference=reference_text), probe, scores)
        yield Compared("agg_value", ours, expected["agg_value"], EXACT)

    return compare


def truth_ratio(probe: str) -> Callable[..., Iterator[Compared]]:
    def compare(scores: Tables, retain: Any, reference: Any, expected: dict[str, Any], meta: Any) -> Iterator[Compared]:
        metric = TruthRatio("prob_mean" if meta.get("aggregator") == "prob_mean" else "paper")
        raw = ratio(*right_and_wrong(scores, [probe])) if metric.aggregate == "paper" else metric.items(scores, probe)
        yield from by_row(expected, "score", raw, {"abs": 0, "rel": 1e-4})
        yield Compared("agg_value", aggregate(metric, probe, scores), expected["agg_value"], SCORE)

    return compare


def memorization(metric: Metric) -> Callable[..., Iterator[Compared]]:
    def compare(scores: Tables, retain: Any, reference: Any, expected: dict[str, Any], meta: Any) -> Iterator[Compared]:
        result = next(result for result in metric(scores, {}) if result.probe == "forget")
        yield from by_row(expected, "score", result.items, FLOAT32)
        yield Compared("agg_value", result.value, expected["agg_value"], FLOAT32)

    return compare


def membership(name: str) -> Callable[..., Iterator[Compared]]:
    def compare(scores: Tables, retain: Any, reference: Any, expected: dict[str, Any], meta: Any) -> Iterator[Compared]:
        attack, tolerance = MIA[name]
        with_control = (scores, reference) if name == "mia_reference" else (scores,)
        rows = {role: attack.rows(*with_control, role) for role in ("forget", "holdout")}
        for role, ours in rows.items():
            yield from by_row(expected.get(role, {}), "score", ours, tolerance)
            if role in expected:
                yield Compared(f"{role}.agg_value", ours.mean(), expected[role]["agg_value"], tolerance)
        # Two scores that tie within 1e-6 may fall in either order; each such pair counts 1 / (n m).
        ties = (np.abs(rows["forget"][:, None] - rows["holdout"]) < 1e-6).mean()
        ours = aggregate(attack, "forget", scores, reference)
        for key in expected.keys() & {"auc", "agg_value"}:
            yield Compared(key, ours, expected[key], {"abs": 1e-9 + ties, "rel": 0})

    return compare


def single(metric: Metric, probe: str, tolerance: dict[str, float]) -> Callable[..., Iterator[Compared]]:
    def compare(scores: Tables, retain: Any, reference: Any, expected: dict[str, Any], meta: Any) -> Iterator[Compared]:
        yield Compared("agg_value", aggregate(metric, probe, scores, retain), expected["agg_value"], tolerance)

    return compare


COMPARE: dict[str, Callable[..., Iterator[Compared]]] = {
    "exact_memorization": memorization(ExactMemorization()),
    "extraction_strength": memorization(ExtractionStrength()),
    "forget_quality": single(ForgetQuality(), "", P_VALUE),
    "model_utility": single(ModelUtility(), "", LOSS),
    "privleak": single(PrivLeak(), "forget", PERCENT),
    "forget_truth_ratio": truth_ratio("forget"),
    **{name: membership(name) for name in MIA},
}
for short, probe in PROBE_SETS.items():
    COMPARE |= {
        f"{short}_Q_A_Prob": probability(probe, "answer"),
        f"{short}_Q_A_PARA_Prob": probability(probe, "paraphrase"),
        f"{short}_Q_A_PERT_Prob": probability(probe, "perturbed"),
        f"{short}_Q_A_Prob_normalised": normalised(probe),
        f"{short}_Q_A_ROUGE": overlap(probe, "answer"),
        f"{short}_Q_A_PARA_ROUGE": overlap(probe, "paraphrase"),
        f"{short}_Truth_Ratio": truth_ratio(probe),
    }

MODELS = ("target", "retain", "unlearned")
CASES = [
    *(f"tofu/{model}/{template}" for model in MODELS for template in ("chat", "tags")),
    *(f"tofu/target/chat/{variant}" for variant in ("paraphrased_question", "prob_mean", "batch5")),
]


def test_the_fixture_holds_these_tofu_cases(fixture: Fixture) -> None:
    assert sorted(name for name in fixture.cases if name.startswith("tofu/")) == sorted(CASES)


@pytest.mark.parametrize("name", CASES)
def test_every_value_agrees(fixture: Fixture, name: str) -> None:
    compared = list(compare(fixture, name))
    assert compared
    assert not [c for c in compared if not c.agrees]


@pytest.mark.parametrize("name", ["tofu/unlearned/chat", "tofu/target/tags"])
def test_sharing_prompts_changes_no_number(fixture: Fixture, name: str) -> None:
    _, model, template = name.split("/")
    shared = fixture.scores(model, template, SCORING, fixture.cases[name]["meta"]["forget_split"])
    path, task = str(fixture.folder / "models" / model), fixture.task(fixture.cases[name]["meta"]["forget_split"])
    plain = Scoring(mask_pad=True, share_prefix=False, token_budget=2000, generate=False)
    apart = plain.score(load_model(path), load_tokenizer(path), fixture.prompt(template), task)
    for column in ("logp", "mean", "var"):
        np.testing.assert_allclose(
            np.concatenate(shared["tokens"][column]), np.concatenate(apart["tokens"][column]), atol=2e-5
        )
    assert shared["tokens"]["zlib"].tolist() == apart["tokens"]["zlib"].tolist()
