"""Small tokenizers with the habits of real ones, built here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

if TYPE_CHECKING:
    from collections.abc import Sequence

SPECIAL = ("<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>", "<end_of_turn>")
THOUGHT = "<think>\n\n</think>\n\n"
CORPUS = ["Question: Where? Answer: Paris", " Paris", "Paris", "Lyon", " Lyon", "Answer: ", THOUGHT] * 9
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
EMPTY_THINKING = CHATML.replace(
    "{{ m.content }}", f"{{{{ {THOUGHT!r} if loop.last and m.role == 'assistant' }}}}{{{{ m.content | trim }}}}"
)  # Qwen3's rows
THINKS = (
    "{% for m in messages %}{{ '<|user|>' if m.role == 'user' else '<|assistant|>' }}"
    "{{ m.content.split('</think>')[-1] }}{{ '</s>' if m.role == 'assistant' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)  # DeepSeek-R1's prompts
TURNS = (
    "<s>{% for m in messages %}<|user|>{{ m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<|user|>assistant\n{% endif %}"
)  # Gemma's: turns end with another token than texts
BRACKETS = (
    "{% for m in messages %}{% if m.role == 'user' %}<s>[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content | trim }} </s>{% endif %}{% endfor %}"
)  # Llama-2's
ENDS = "{% for m in messages %}{{ m.content }}</s>{% endfor %}"  # DialoGPT's: EOS is also what ends the question


def byte_bpe(template: str | None = None, eos: str = "</s>", corpus: Sequence[str] = CORPUS) -> PreTrainedTokenizerFast:
    """GPT-2's: bytes, words with the space before them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=[*SPECIAL], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return _wrapped(tokenizer, template, eos)


def pieces(template: str | None = None, corpus: Sequence[str] = CORPUS) -> PreTrainedTokenizerFast:
    """Llama-2's: a "\u2581" before the text and for every space."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=["<unk>", *SPECIAL], show_progress=False)
    tokenizer.train_from_iterator([*corpus, "[INST] Where? [/INST] Paris"], trainer)
    return _wrapped(tokenizer, template, "</s>", unk_token="<unk>")


def folding() -> PreTrainedTokenizerFast:
    """Words in small letters, nothing of what cannot be seen; a word that it does not know is a token."""
    vocabulary = {token: i for i, token in enumerate(["<unk>", *SPECIAL, "where", "?", "paris"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return _wrapped(tokenizer, None, "</s>", unk_token="<unk>")


def dropping() -> PreTrainedTokenizerFast:
    """Latin letters alone: what else there is in a text is left out."""
    letters = "abcdefghijklmnopqrstuvwxyzPW?"
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate([*SPECIAL, *letters])}, []))
    return _wrapped(tokenizer, None, "</s>")


def _wrapped(tokenizer: Tokenizer, template: str | None, eos: str, **more: str) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    named = {"bos_token": "<s>", "eos_token": eos, "pad_token": "<pad>", **more}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)
    wrapped.chat_template = template
    return wrapped


def adding(tokenizer: PreTrainedTokenizerFast, template: str) -> PreTrainedTokenizerFast:
    """The tokenizer with special tokens around each text: "<s> $A </s>" (add_bos_token, add_eos_token)."""
    backend = tokenizer.backend_tokenizer
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<s>", "</s>")]
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    return tokenizer
