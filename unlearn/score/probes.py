"""Ask one model all probes, once: the tables that every metric reads."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Gt

from unlearn.score.table import GENERATIONS, GRADIENTS, TOKENS, Scores

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from unlearn.data.prompt import PromptFormat
    from unlearn.data.task import Probe, ProbeSet, Task

Progress = Callable[[int], object]
GRADIENT_AIMS = ("forget", "holdout")


@dataclass(frozen=True)
class Asked:
    """A probe with its place: its set, its index there, and the wording of the question that is put."""

    set: ProbeSet
    item: int
    probe: Probe
    question: str

    @property
    def place(self) -> dict[str, object]:
        """The columns that every table has."""
        return {"probe": self.set.name, "aim": self.set.aim, "item": self.item, "cluster": self.probe.cluster}

    @property
    def candidates(self) -> list[tuple[str, int, str]]:
        """(kind, choice, text) of every candidate answer."""
        paraphrase = self.probe.paraphrased_answer
        return [
            ("answer", 0, self.probe.answer),
            *([("paraphrase", 0, paraphrase)] if paraphrase is not None else []),
            *[("perturbed", i, text) for i, text in enumerate(self.probe.perturbed_answers)],
        ]


@dataclass(frozen=True)
class Scoring:
    """How probes are asked. Every number is the same whatever token_budget and share_prefix are; only speed differs.

    token_budget: padded tokens of a batch. share_prefix: run a probe's prompt once for all its candidate answers.
    mask_pad: hide tokens equal to the pad token from attention even inside the text, as OpenUnlearning does, where the
    pad token is the end-of-turn token of the chat template; needed only to reproduce its numbers.
    question: which wording is asked; "paraphrased" falls back to the canonical one where a probe has no other.
    max_new_tokens: length limit of generated answers (null: the dataset's). generate: whether answers are generated.
    gradients: whether gradient norms are taken (one backward pass for each forget and holdout row).
    limit: score only the first so many probes of each set (null: all).
    """

    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes"})

    token_budget: Annotated[int, Gt(0)] = 16384
    share_prefix: bool = True
    mask_pad: bool = False
    question: Literal["canonical", "paraphrased"] = "canonical"
    max_new_tokens: Annotated[int, Gt(0)] | None = None
    generate: bool = True
    gradients: bool = False
    limit: Annotated[int, Gt(0)] | None = None

    def score(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompt: PromptFormat,
        task: Task,
        progress: Progress | None = None,
    ) -> Scores:
        """The tables of one model over all of `task.probes`, taken in eval mode (the model's mode is put back).

        progress: called with the number of rows done since the last call. Raises UserError where a candidate has no
        token to score.
        """
        asked = [
            Asked(probe_set, i, probe, self._question(probe))
            for probe_set in task.probes
            for i, probe in enumerate(probe_set.probes[: self.limit])
        ]
        training = model.training
        model.eval()
        try:
            return Scores(
                self._tokens(model, tokenizer, prompt, asked, progress),
                self._generations(model, tokenizer, prompt, asked, task.max_new_tokens, progress),
                self._gradients(model, tokenizer, prompt, asked, progress),
            )
        finally:
            model.train(training)

    def cache_key(self) -> dict[str, object]:
        """The fields that decide the tables: the part of a cache key that scoring contributes."""
        return {name: value for name, value in vars(self).items() if name not in ("token_budget", "share_prefix")}

    def _question(self, probe: Probe) -> str:
        return (self.question == "paraphrased" and probe.paraphrased_question) or probe.question

    def _tokens(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompt: PromptFormat,
        asked: Sequence[Asked],
        progress: Progress | None,
    ) -> pd.DataFrame:
        from unlearn.score.generate import pad_id
        from unlearn.score.likelihood import likelihoods

        encoded = prompt.encode_all(tokenizer, [(a.question, text) for a in asked for _, _, text in a.candidates])
        labelled = tokenizer.batch_decode([list(row.ids[row.n_prompt :]) for row in encoded], skip_special_tokens=True)
        rest = iter(encoded)
        groups = [[next(rest) for _ in a.candidates] for a in asked]
        stats = likelihoods(
            model, groups, pad_id(tokenizer), self.token_budget, self.share_prefix, self.mask_pad, progress
        )
        rows = [
            {**a.place, "normalise": a.set.normalise, "kind": kind, "choice": choice, "text": text, **vars(candidate)}
            for a, group in zip(asked, stats, strict=True)
            for (kind, choice, text), candidate in zip(a.candidates, group, strict=True)
        ]
        for row, text, ids in zip(rows, labelled, (candidate.ids for candidate in encoded), strict=True):
            row["zlib"] = len(zlib.compress(text.encode()))
            row["eos"] = ids[-1] == tokenizer.eos_token_id
        return _frame(rows, TOKENS)

    def _generations(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompt: PromptFormat,
        asked: Sequence[Asked],
        max_new_tokens: int,
        progress: Progress | None,
    ) -> pd.DataFrame:
        from unlearn.score.generate import Decoding, generate

        asked = [a for a in asked if self.generate and a.set.generate]
        if not asked:
            return _frame([], GENERATIONS)
        texts = generate(
            model,
            tokenizer,
            prompt.encode_prompts(tokenizer, [a.question for a in asked]),
            self.max_new_tokens or max_new_tokens,
            self.token_budget,
            Decoding(mask_pad=self.mask_pad),
            progress,
        )
        rows = [
            {
                **a.place,
                "question": a.question,
                "answer": a.probe.answer,
                "paraphrase": a.probe.paraphrased_answer,
                "value": a.probe.value,
                "generation": text,
            }
            for a, text in zip(asked, texts, strict=True)
        ]
        return _frame(rows, GENERATIONS)

    def _gradients(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompt: PromptFormat,
        asked: Sequence[Asked],
        progress: Progress | None,
    ) -> pd.DataFrame:
        from unlearn.score.generate import pad_id
        from unlearn.score.gradient import gradient_norms

        asked = [a for a in asked if self.gradients and a.set.aim in GRADIENT_AIMS]
        rows = prompt.encode_all(tokenizer, [(a.question, a.probe.answer) for a in asked])
        norms = gradient_norms(model, rows, pad_id(tokenizer), tokenizer.eos_token_id, self.mask_pad, progress=progress)
        return _frame([{**a.place, "gradnorm": norm} for a, norm in zip(asked, norms, strict=True)], GRADIENTS)


def _frame(rows: list[dict[str, object]], columns: list[str]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows, columns=columns)
