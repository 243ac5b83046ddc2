"""The attacker's language model: it rewrites questions, and what it wrote is kept."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Gt, MinLen

from unlearn.data.prompt import PromptFormat
from unlearn.data.task import digest
from unlearn.models.base import check_local
from unlearn.runtime.errors import UserError
from unlearn.runtime.paths import local

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from unlearn.models.subject import Subject


@dataclass(frozen=True)
class Rewriter:
    """Write texts by any causal LM, greedily: the same request gives the same text."""

    files: ClassVar[tuple[str, ...]] = ("path",)

    path: Annotated[str, MinLen(1)] | None = None
    """Hub id, folder or .gguf file of any causal LM; None: the model before unlearning."""
    prompt: PromptFormat = field(default_factory=PromptFormat)
    """How the model at `path` is asked."""
    file: Annotated[str, MinLen(1)] | None = None
    """What the model at `path` wrote, used again; None: not kept.

    JSON lines {model, prompt, tokens, request, text, written}, the prompt as a hash. What is there is not asked again,
    so that a run is repeated without the model. `written` signs what the model wrote; a text that was put there or
    changed by hand is used, too.
    """
    max_new_tokens: Annotated[int, Gt(0)] = 128
    """Longest text."""

    def __post_init__(self) -> None:
        if not (self.file and local(self.file).exists()):  # the texts may be there though the model no longer is
            check_local("rewriter.path", self.path)

    def cache_key(self) -> dict[str, Any]:
        """Return what decides the texts, for cache keys.

        Of `file` these are the texts that the model did not write: those that it did follow from the other fields, and
        a run that adds some is no other run.
        """
        texts = {} if self.path is None else {request: text for request, text, own in self._lines() if not own}
        asked = {"path": self.path, "prompt": asdict(self.prompt), "max_new_tokens": self.max_new_tokens}
        return {**asked, "texts": digest(texts)}

    def write(self, subject: Subject, requests: Sequence[str]) -> list[str]:
        """Return the text for each request, in order. UserError where the file is damaged or the model is not there."""
        if self.path is None:
            return self._written(subject.module, subject.processor, subject.prompt, subject.token_budget, requests)
        known = {request: text for request, text, _ in self._lines()}
        missing = [request for request in dict.fromkeys(requests) if request not in known]
        if missing:
            from unlearn.models.loading import load_on, load_tokenizer

            model = load_on(self.path, subject.module.device)
            texts = self._written(model, load_tokenizer(self.path), self.prompt, subject.token_budget, missing)
            new = dict(zip(missing, texts, strict=True))
            self._keep(new)
            known |= new
        return [known[request] for request in requests]

    def _written(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompt: PromptFormat,
        token_budget: int,
        requests: Sequence[str],
    ) -> list[str]:
        """Let a model write."""
        from unlearn.score.generate import generate

        prompts = prompt.encode_prompts(tokenizer, list(requests))
        return generate(model, tokenizer, prompts, self.max_new_tokens, token_budget)

    def _about(self) -> dict[str, Any]:
        """Return what a line says of how its text was made: rows of other models, formats or lengths are not these."""
        return {"model": self.path, "prompt": digest(asdict(self.prompt)), "tokens": self.max_new_tokens}

    def _sign(self, request: str, text: str) -> str:
        """Return what stands beside a text that the model wrote: of a text that was changed it is another."""
        return digest([self._about(), request, text])

    def _lines(self) -> list[tuple[str, str, bool]]:
        """Return request, text, and whether the model wrote it, of each line in the file that is of this model."""
        if self.file is None or not (path := local(self.file)).exists():
            return []
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {path}: {error}") from error
        found = []
        for i, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                request, text = str(row["request"]), str(row["text"])
                if self._about().items() <= row.items():
                    found.append((request, text, row.get("written") == self._sign(request, text)))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{path}, line {i}: not a line of {{model, prompt, tokens, request, text}}: delete it"
                ) from error
        return found

    def _keep(self, texts: dict[str, str]) -> None:
        """Add texts, by request, to the file."""
        if self.file is None:
            return
        from filelock import FileLock

        path = local(self.file)
        rows = [
            {**self._about(), "request": request, "text": text, "written": self._sign(request, text)}
            for request, text in texts.items()
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")), path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
