"""From texts to token ids, whatever a tokenizer adds at their ends."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], special: bool = True) -> list[list[int]]:
    """Return the ids of each text, none of them ended: an EOS that the tokenizer adds of its own is taken off.

    special: with the special tokens that the tokenizer puts before a text.
    """
    found: list[list[int]] = tokenizer(list(texts), add_special_tokens=special)["input_ids"] if texts else []
    return [_open(tokenizer, ids, text) if special else ids for ids, text in zip(found, texts, strict=True)]


def split_ids(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[str, str]], special: bool = True
) -> list[tuple[list[int], int]]:
    """Return for each (beginning, whole text) the ids of the whole, as `token_ids` has them, and where the rest begins.

    That is at the first token that reaches beyond the beginning, also where it takes some of it along.
    """
    starts = list(dict.fromkeys(start for start, _ in pairs))
    begun = dict(zip(starts, token_ids(tokenizer, starts, special), strict=True))
    rows = []
    for (start, text), ids in zip(pairs, token_ids(tokenizer, [text for _, text in pairs], special), strict=True):
        known = begun[start]
        alike = ids[: len(known)] == known
        rows.append((ids, len(known) if alike else min(len(ids), _reaching(tokenizer, start, text, ids, special))))
    return rows


def overlapping(
    tokenizer: PreTrainedTokenizerBase, text: str, spans: Sequence[tuple[int, int]], special: bool = True
) -> list[int]:
    """Return the positions of the text's tokens, as `token_ids` has them, that overlap [start, end) of a span."""
    if tokenizer.is_fast:
        coded: Any = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
        where = enumerate(coded["offset_mapping"])
        return [i for i, (begin, end) in where if any(begin < stop and end > start for start, stop in spans)]
    (whole,) = token_ids(tokenizer, [text], special)  # it cannot tell where its tokens stand
    found: set[int] = set()
    for start, stop in spans:
        before, until = token_ids(tokenizer, [text[:start], text[:stop]], special)
        end = shared(until, whole)
        found |= {*range(shared(before, whole), end + (end < len(until)))}
    return sorted(found)


def _reaching(tokenizer: PreTrainedTokenizerBase, start: str, text: str, ids: list[int], special: bool) -> int:
    """Return the first token of a text that reaches beyond its beginning."""
    if not tokenizer.is_fast:  # it cannot tell where its tokens stand
        return shared(token_ids(tokenizer, [start], special)[0], ids)
    spans: Any = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)["offset_mapping"]
    end = shared(start, text)
    return next((i for i, (_, stop) in enumerate(spans) if stop > end), len(ids))


def shared(these: Sequence[object], those: Sequence[object]) -> int:
    """Return how many tokens (or characters) the two begin with alike."""
    pairs = zip(these, those, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _open(tokenizer: PreTrainedTokenizerBase, ids: list[int], text: str) -> list[int]:
    """Return the ids without an EOS that is not in the text; a first token is BOS, though it may be the same."""
    over = len(ids) > 1 and ids[-1] == tokenizer.eos_token_id and not text.endswith(str(tokenizer.eos_token))
    return ids[:-1] if over else ids
