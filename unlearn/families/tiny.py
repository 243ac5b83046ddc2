"""A Llama small enough to be trained from scratch on two CPU cores in half a minute, with its own tokenizer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Gt

from unlearn.data.task import Role, Task, digest
from unlearn.data.texts import all_texts
from unlearn.families.base import Loaded
from unlearn.families.causal_lm import CausalLM
from unlearn.models.base import Threads
from unlearn.runtime.components import component_versions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


POSITIONS = 2048  # tokens of the longest row that it is made for
_SPECIAL = ("<pad>", "<eos>")


@dataclass(frozen=True)
class TinyLM(CausalLM):
    """Llama architecture with tied embeddings; byte-level BPE of `vocabulary` tokens trained on the task's own texts.

    Byte-level, so that any prompt or attack string can be put to it.
    """

    version: ClassVar[int] = 1

    hidden: Annotated[int, Gt(0)] = 96
    """Width; a multiple of 2 * heads."""
    layers: Annotated[int, Gt(0)] = 4
    """Number of layers."""
    heads: Annotated[int, Gt(0)] = 4
    """Attention heads of a layer."""
    mlp: Annotated[int, Gt(0)] = 288
    """Width of the MLPs."""
    vocabulary: Annotated[int, Ge(300)] = 1500
    """Tokens of its own byte-level BPE."""
    threads: Threads | None = 1
    """CPU threads; two processes of one thread train original and control model at once."""

    def __post_init__(self) -> None:
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden={self.hidden} must be a multiple of 2 * heads={2 * self.heads}")

    @property
    def source(self) -> None:
        """None: random weights."""
        return None

    def key(self, task: Task) -> dict[str, Any]:
        """Architecture and the texts that the tokenizer is trained on."""
        shape = {k: v for k, v in asdict(self).items() if k not in {"prompt", "finetune", "threads"}}
        return {
            "family": "tiny",
            "versions": component_versions(type(self)),
            **shape,
            "corpus": digest(list(all_texts(task))),
        }

    def published(self, task: Task, role: Role) -> str | None:
        """Never: it is trained here."""
        return None

    def check_rows(self, task: Task) -> None:
        """Ask the tokenizer that it would have."""
        from unlearn.models.readable import Limits, check_rows

        tokenizer = self._tokenizer(task)
        check_rows(task, tokenizer, self.prompt, Limits(len(tokenizer), POSITIONS))

    def start(self, task: Task, seed: int) -> Loaded:
        """Return random weights, the same for original and control models of one seed."""
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        tokenizer = self._tokenizer(task)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=self.hidden,
            intermediate_size=self.mlp,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            max_position_embeddings=POSITIONS,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        torch.manual_seed(seed)
        return Loaded(LlamaForCausalLM(config), tokenizer)

    def _tokenizer(self, task: Task) -> PreTrainedTokenizerBase:
        """Train the tokenizer on every text of the task (0.1 to 0.3 s)."""
        from tokenizers import ByteLevelBPETokenizer
        from transformers import PreTrainedTokenizerFast

        bpe = ByteLevelBPETokenizer()
        lines = [self.prompt.user_start, self.prompt.user_end, self.prompt.answer_start, *all_texts(task)]
        bpe.train_from_iterator(lines, vocab_size=self.vocabulary, special_tokens=list(_SPECIAL), show_progress=False)
        return PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, pad_token=_SPECIAL[0], eos_token=_SPECIAL[1])
