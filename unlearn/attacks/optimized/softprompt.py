"""Soft prompts: learned vectors before the question, or read by an extra attention head, that make the model answer."""

from __future__ import annotations

import random
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, MinLen

from unlearn.attacks.base import AttackResult, AttackSetting, Inapplicable, Outcome, Threat
from unlearn.attacks.optimized.fitting import (
    Pairs,
    Perturbation,
    Schedule,
    Targets,
    check_forced,
    clip_rows,
    evaluate_under,
    fit,
    force_each,
)
from unlearn.data.prompt import Encoded, PromptFormat
from unlearn.runtime.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

    from unlearn.data.task import Question, Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject

SHUFFLED = "shuffled"


@dataclass(frozen=True)
class SoftPrompt:
    """A continuous prompt fitted on the attacker's items (Schwinn et al. 2024, arXiv 2402.09063), put to the others.

    One learning rate alone gives a false sense of robustness, so that a ladder of them is tried.
    """

    form: Literal["vectors", "key_value"] = "vectors"
    """Vectors in the place of tokens, or key_value: keys and values of one more attention head. The head reads the
    embeddings' output with a learned query projection (Guo et al. 2024, arXiv 2410.12949)."""
    vectors: Annotated[int, Gt(0)] = 15
    """How many vectors, or keys and values."""
    steps: Annotated[tuple[Annotated[int, Gt(0)], ...], MinLen(1)] = (100,)
    """Ladder of the number of steps; the last is the length of the training. The attacker takes what is best on its own
    items."""
    rates: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = (1e-3, 1e-2)
    """Ladder of AdamW's learning rates."""
    batch: Annotated[int, Gt(0)] = 8
    """Items drawn for a step."""
    epsilon: Annotated[float, Gt(0)] = 1.0
    """Largest L2 norm, as a share of the mean embedding's."""
    control: bool = True
    """Also fit to shuffled answers: a leak as high as that says nothing. They are a row of their own, "shuffled", a
    diagnostic."""
    per_item: Annotated[int, Ge(0)] = 0
    """Steps for each held-out item alone, toward its answer and toward a wrong one (a diagnostic). They are taken at
    the first rate; K is the difference, as a few vectors can make a model say anything (arXiv 2502.15836)."""

    threat: ClassVar[Threat] = "white"
    family: ClassVar[str] = "optimised input"
    reference: ClassVar[str] = "arXiv 2402.09063, 2502.15836"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """UserError where items are to be forced one by one, but have no wrong answers."""
        check_forced(task, self.per_item)

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return an outcome for each seed, rate and number of steps, for the true answers and for the shuffled ones."""
        pairs = [(item.probe, item.probe.answer) for item in setting.attacker_items]
        outcomes: list[Outcome] = []
        for seed in setting.seeds:
            outcomes += self._universal(subject, setting, pairs, seed)
            if self.control and len(pairs) > 1:
                outcomes += self._universal(subject, setting, shuffled(pairs, seed), seed, SHUFFLED)
            if self.per_item:

                def single(probe: Question, seed: int = seed) -> Perturbation:
                    return self._single(subject, probe, seed)

                steps = self.per_item
                outcomes.append(force_each(setting, f"{steps} steps", seed, single, float(steps)))
        return AttackResult(
            outcomes, f"{len(pairs)} forget items", f"{max(self.steps)} steps at {len(self.rates)} rate(s)"
        )

    def start(self, subject: Subject, seed: int) -> Perturbation:
        """Return the prompt before it has learned anything."""
        kind = InputVectors if self.form == "vectors" else ExtraHead
        return kind(subject, self.vectors, self.epsilon, seed)

    def _universal(
        self, subject: Subject, setting: AttackSetting, pairs: Pairs, seed: int, row: str = ""
    ) -> list[Outcome]:
        found: list[Outcome] = []
        fits = f"fitting soft prompts{f' ({row})' if row else ''}"
        with progress(fits, total=len(self.rates) * max(self.steps)) as advance:
            for rate in self.rates:
                prompt = self.start(subject, seed)

                def on_step(step: int, rate: float = rate, prompt: Perturbation = prompt) -> None:
                    if step in self.steps:
                        name = f"rate {rate:g}, {step} steps"
                        found.append(evaluate_under(prompt, setting, name, seed, float(step), row))
                    advance(1)

                fit(prompt, Targets(pairs), Schedule(max(self.steps), rate, self.batch), seed, on_step)
        return found

    def _single(self, subject: Subject, probe: Question, seed: int) -> Perturbation:
        prompt = self.start(subject, seed)
        fit(prompt, Targets([(probe, probe.answer)]), Schedule(self.per_item, self.rates[0], 1), seed)
        return prompt


def shuffled(pairs: Pairs, seed: int) -> list[tuple[Question, str]]:
    """Return the same questions, each with the answer of another."""
    order = random.Random(f"shuffled-{seed}").sample(range(len(pairs)), len(pairs))
    other = dict(zip(order, order[1:] + order[:1], strict=True))
    return [(question, pairs[other[i]][1]) for i, (question, _) in enumerate(pairs)]


@dataclass(frozen=True)
class WithPlaceholders(PromptFormat):
    """A prompt format with placeholder tokens in every row, where a hook on the embeddings puts vectors.

    Generation and scoring then need to know nothing of them.
    """

    at: int = 0
    """The position of the first placeholder."""
    token: int = 0
    """The placeholder."""
    count: int = 0
    """How many there are."""

    def encode_all(self, tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> list[Encoded]:
        """Return the ids of many exchanges, the placeholders among those of the prompts."""
        rows = super().encode_all(tokenizer, pairs)
        return [Encoded((*self._with(row.ids),), row.n_prompt + self.count) for row in rows]

    def encode_prompts(self, tokenizer: Any, questions: Sequence[str]) -> list[list[int]]:
        """Return the ids of many prompts with the placeholders."""
        return [self._with(ids) for ids in super().encode_prompts(tokenizer, questions)]

    def _with(self, ids: Sequence[int]) -> list[int]:
        return [*ids[: self.at], *[self.token] * self.count, *ids[self.at :]]


class InputVectors:
    """m vectors in front of the question, as the embedding module would give them for m tokens.

    They start as the embeddings of m random tokens, and are at most epsilon times the mean embedding long.
    """

    def __init__(self, subject: Subject, m: int, epsilon: float, seed: int) -> None:
        import torch

        table = _table(subject)
        self.norm = epsilon * table.norm(dim=1).mean()
        drawn = torch.randint(len(table), (m,), generator=torch.Generator().manual_seed(seed))
        self.vectors = clip_rows(table[drawn.to(table.device)], self.norm).requires_grad_()
        token = _spare_token(subject, _lead(subject))

        def held(prompt: PromptFormat) -> WithPlaceholders:
            given = {field.name: getattr(prompt, field.name) for field in fields(PromptFormat)}
            lead = _lead(replace(subject, prompt=prompt))
            if token in lead:
                raise Inapplicable("a probe set's prompt has the token that stands for the vectors")
            return WithPlaceholders(**given, at=len(lead), token=token, count=m)

        self.subject = subject.reformatted(held)

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Return the vectors [m, d]."""
        return [self.vectors]

    def project(self) -> None:
        """Shorten what is too long."""
        self.vectors.data = clip_rows(self.vectors.data, self.norm)

    @contextmanager
    def active(self) -> Iterator[None]:
        """While active, rows with placeholders get the vectors there; tokens generated one by one stay."""
        import torch

        held = self.subject.prompt
        assert isinstance(held, WithPlaceholders)

        def fill(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            (ids,) = inputs
            placeholder = ids == held.token
            rank = placeholder.cumsum(1)
            there = placeholder & (rank <= held.count) & (placeholder.sum(1, keepdim=True) >= held.count)
            if ids.shape[1] == 1 or not there.any():
                return output
            vectors = self.vectors[(rank - 1).clamp(0, held.count - 1)].to(output.dtype)
            return torch.where(there[..., None], vectors, output)

        handle = self.subject.module.get_input_embeddings().register_forward_hook(fill)
        try:
            yield
        finally:
            handle.remove()


class ExtraHead:
    """h + softmax(h Q K^T / sqrt(d)) V at the embeddings' output h [B, T, d], with learned Q [d, d], K and V [m, d].

    Keys and values are at most epsilon times the mean embedding long; all start random, values near 0.
    """

    def __init__(self, subject: Subject, m: int, epsilon: float, seed: int) -> None:
        import torch

        table = _table(subject)
        d, generator = table.shape[1], torch.Generator().manual_seed(seed)
        self.norm = epsilon * table.norm(dim=1).mean()

        def drawn(n: int) -> Tensor:
            found: Tensor = torch.randn(n, d, generator=generator).to(table) / d**0.5
            return found

        self.query, self.keys = drawn(d).requires_grad_(), clip_rows(drawn(m), self.norm).requires_grad_()
        self.values = clip_rows(0.01 * drawn(m), self.norm).requires_grad_()
        self.subject = subject

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Return Q, K, V."""
        return [self.query, self.keys, self.values]

    def project(self) -> None:
        """Shorten keys and values that are too long."""
        for tensor in (self.keys, self.values):
            tensor.data = clip_rows(tensor.data, self.norm)

    @contextmanager
    def active(self) -> Iterator[None]:
        """While active, every token's embedding attends to the keys."""
        import torch

        def read(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            h = output.to(self.query.dtype)
            weights = torch.softmax(h @ self.query @ self.keys.T / h.shape[-1] ** 0.5, dim=-1)
            return output + (weights @ self.values).to(output.dtype)

        handle = self.subject.module.get_input_embeddings().register_forward_hook(read)
        try:
            yield
        finally:
            handle.remove()


def _table(subject: Subject) -> Tensor:
    """Return [V, d] float32: what the embedding module gives for every token, scaled where it scales."""
    import torch

    embeddings = subject.module.get_input_embeddings()
    size = min(len(subject.processor), subject.module.config.get_text_config().vocab_size)
    with torch.no_grad():
        found: Tensor = embeddings(torch.arange(size, device=subject.module.device)).float()
    return found


def _lead(subject: Subject) -> list[int]:
    """Return the tokens that every prompt begins with, before its question."""
    rows = subject.prompt.encode_prompts(subject.processor, ["0", "What?", "a", "Zebras"])
    alike = [len(set(column)) == 1 for column in zip(*rows, strict=False)]
    return rows[0][: alike.index(False)]


def _spare_token(subject: Subject, lead: Sequence[int]) -> int:
    """Return the last token that is neither special nor in the lead; those in questions come after the placeholders."""
    taken = {*subject.processor.all_special_ids, *lead}
    size = min(len(subject.processor), subject.module.config.get_text_config().vocab_size)
    return next(i for i in range(size - 1, -1, -1) if i not in taken)
