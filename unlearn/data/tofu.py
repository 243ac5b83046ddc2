"""TOFU (Maini et al. 2024, arXiv 2401.06121): 200 invented authors with 20 questions each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Gt, MinLen

from unlearn.data.hub import read_lines, read_rows
from unlearn.data.refusals import REFUSALS, refusing
from unlearn.data.task import Ask, Example, ProbeSet, Question, Task
from unlearn.runtime.errors import UserError, unknown
from unlearn.runtime.paths import is_local, local

if TYPE_CHECKING:
    from collections.abc import Sequence

SPLITS = {
    "forget01": ("retain99", "holdout01"),
    "forget05": ("retain95", "holdout05"),
    "forget10": ("retain90", "holdout10"),
}
_PER_AUTHOR = 20


@dataclass(frozen=True)
class Tofu:
    """TOFU with the evaluation sets of OpenUnlearning.

    Training reads `split` and its retain split; probes are SPLIT_perturbed (forget), retain_perturbed,
    real_authors_perturbed, world_facts_perturbed (whose probabilities are normalised over the options, as in TOFU) and
    the matching holdout, where it exists.
    """

    path: Annotated[str, MinLen(1)] = "locuslab/TOFU"
    """Hub id, or a local folder with the same configs."""
    split: str = "forget10"
    """Which authors are to be forgotten: the last 1, 5 or 10 % (forget01, forget05, forget10)."""
    refusals: str | None = None
    """A text file with one refusal a line; null: the package's own."""
    max_retain: Annotated[int, Gt(0)] | None = None
    """Train on the first n retain rows only. It is for trials on a small machine."""
    max_new_tokens: Annotated[int, Gt(0)] = 200
    """Longest generated answer, in tokens."""

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise unknown("split", self.split, SPLITS, "dataset 'tofu'")
        if is_local(self.path) and not local(self.path).is_dir():
            raise UserError(f"'dataset.path' is {self.path!r}: there is no such folder")
        if self.refusals is not None:
            if not local(self.refusals).is_file():
                raise UserError(f"'dataset.refusals' is {self.refusals!r}: there is no such file")
            read_lines(self.refusals)

    def load(self, seed: int, ask: Ask | None = None) -> Task:
        """Read the files; UserError where one is missing, lacks a column, or a holdout row is also trained on."""
        retain_name, holdout_name = SPLITS[self.split]
        forget = self._examples(self.split, first_author=_first_author(self.split))
        retain = self._examples(retain_name, first_author=0)[: self.max_retain]
        probes = [
            self._probes("forget", "forget", f"{self.split}_perturbed", paraphrased=True),
            self._probes("retain", "retain", "retain_perturbed", paraphrased=True),
            self._probes("real_authors", "utility", "real_authors_perturbed"),
            self._probes("world_facts", "utility", "world_facts_perturbed"),
            self._probes("holdout", "holdout", holdout_name, perturbed=False, optional=True),
        ]
        found = [probe_set for probe_set in probes if probe_set is not None]
        self._check_disjoint(found, (*forget, *retain))
        return Task(
            name="tofu",
            split=self.split,
            sets={
                "forget": forget,
                "retain": retain,
                "refusal": refusing(forget, read_lines(self.refusals) if self.refusals else REFUSALS),
            },
            probes=tuple(found),
            beside={"refusal": "forget"},
        )

    def _examples(self, config: str, first_author: int) -> tuple[Example, ...]:
        rows = read_rows(self.path, config, {"question": str, "answer": str})
        return tuple(
            Example((row["question"],), (row["answer"],), f"author {first_author + i // _PER_AUTHOR}")
            for i, row in enumerate(rows)
        )

    def _probes(
        self,
        name: str,
        aim: Any,
        config: str,
        paraphrased: bool = False,
        perturbed: bool = True,
        optional: bool = False,
    ) -> ProbeSet | None:
        columns: dict[str, type] = {"question": str, "answer": str}
        if perturbed:
            columns["perturbed_answer"] = list
        if paraphrased:
            columns |= {"paraphrased_answer": str, "paraphrased_question": str}
        rows = read_rows(self.path, config, columns, optional=optional)
        if rows is None:
            return None
        clustered = aim in {"forget", "retain", "holdout"}
        first = _first_author(self.split) if aim == "forget" else 0
        probes = tuple(
            Question(
                question=row["question"],
                answer=row["answer"],
                paraphrased_answer=row.get("paraphrased_answer"),
                perturbed_answers=tuple(row.get("perturbed_answer") or ()),
                paraphrased_question=row.get("paraphrased_question"),
                cluster=f"{'holdout ' if aim == 'holdout' else ''}author {first + i // _PER_AUTHOR}"
                if clustered
                else f"{name} {i}",
            )
            for i, row in enumerate(rows)
        )
        return ProbeSet(name, aim, probes, normalise=aim == "utility", max_new_tokens=self.max_new_tokens)

    def _check_disjoint(self, probes: Sequence[ProbeSet], trained: Sequence[Example]) -> None:
        seen = {(example.questions[0], example.answers[0]) for example in trained}
        for probe_set in probes:
            if probe_set.aim == "holdout":
                for i, probe in enumerate(probe_set.probes):
                    if (probe.question, probe.answer) in seen:
                        raise UserError(
                            f"dataset 'tofu' ({self.path}): row {i} of the holdout is among the training rows"
                        )


def _first_author(split: str) -> int:
    """Forget splits are the last authors of 200."""
    return 200 - 2 * int(split.removeprefix("forget"))
