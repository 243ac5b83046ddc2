from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from unlearn.data.prompt import Encoded, PromptFormat, encode_text
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

IGNORE = -100


@pytest.fixture(scope="module")
def rows(parity: Path) -> list[dict[str, Any]]:
    read: list[dict[str, Any]] = json.loads((parity / "evals" / "tokenization.json").read_text())
    return read


@pytest.fixture(scope="module")
def tags(parity: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((parity / "evals" / "templates.json").read_text())
    return read


@pytest.fixture(scope="module")
def tokenizer(parity: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(parity / "evals" / "models" / "target")


def prompt_format(tags: dict[str, Any], shots: list[dict[str, str]]) -> PromptFormat:
    """The fixture's template as ours. Solved examples before the question are part of a tag model's system text."""
    if tags["apply_chat_template"]:
        assert not shots
        return PromptFormat(system=tags.get("system_prompt", ""), date=tags.get("date_string"))
    start, middle = tags["user_start_tag"], tags["user_end_tag"] + tags["asst_start_tag"]
    system = "".join(start + shot["question"] + middle + shot["answer"] + tags["asst_end_tag"] for shot in shots)
    return PromptFormat(False, system, None, start, tags["user_end_tag"], tags["asst_start_tag"])


def check(row: dict[str, Any], encoded: Encoded, prompt: list[int]) -> None:
    """The published labels, and one more where a token joins the prompt's last space and the answer's first word.

    Published code counts the prompt's tokens, so that it leaves that one out.
    """
    assert (prompt if row["generate"] else list(encoded.ids)) == row["input_ids"]
    whole = row["generate"] and row["kind"] != "completion"
    labels = list(row["labels"])
    last = labels.count(IGNORE) - 1
    if row["kind"] != "completion" and not whole and row["input_ids"][last] != prompt[last]:
        labels[last] = row["input_ids"][last]
    n_prompt = 0 if whole else encoded.n_prompt
    assert [IGNORE] * n_prompt + list(encoded.ids[n_prompt:]) == labels


def test_question_and_answer_rows(
    rows: list[dict[str, Any]], tags: dict[str, Any], tokenizer: PreTrainedTokenizerBase
) -> None:
    found = [row for row in rows if row["kind"] in ("qa", "qa_fewshot")]
    assert {row["template"] for row in found} == {"chat", "tags"}
    for row in found:
        prompt = prompt_format(tags[row["template"]], row.get("shots", []))
        encoded = prompt.encode(tokenizer, row["question"], row["answer"])
        check(row, encoded, prompt.encode_prompt(tokenizer, row["question"]))


def test_text_rows(rows: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> None:
    found = [row for row in rows if row["kind"] == "completion"]
    assert found
    for row in found:
        separator = " " if row["insert_space"] else ""
        encoded = encode_text(tokenizer, row["text"], row["prefix"], separator, row["max_length"])
        check(row, encoded, list(encoded.ids[: encoded.n_prompt]))


@pytest.mark.parametrize("template", ["chat", "tags"])
def test_many_rows_at_once_are_the_rows_one_by_one(
    rows: list[dict[str, Any]], tags: dict[str, Any], tokenizer: PreTrainedTokenizerBase, template: str
) -> None:
    prompt = prompt_format(tags[template], [])
    pairs = [(row["question"], row["answer"]) for row in rows if row.get("template") == template]
    pairs += [(pairs[0][0], answer) for _, answer in pairs]
    assert prompt.encode_all(tokenizer, pairs) == [prompt.encode(tokenizer, *pair) for pair in pairs]
    assert prompt.encode_all(tokenizer, []) == []


def test_eos_is_added_once(tags: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> None:
    eos = tokenizer.eos_token_id
    for template in ("chat", "tags"):
        ids = prompt_format(tags[template], []).encode(tokenizer, "Where?", "Here.").ids
        assert ids[-1] == eos
        assert ids[-2] != eos


def test_tag_rows_are_cut_before_eos_and_refused_where_no_answer_is_left(
    tags: dict[str, Any], tokenizer: PreTrainedTokenizerBase
) -> None:
    whole = prompt_format(tags["tags"], [])
    ids = whole.encode(tokenizer, "Where?", "Far away, over there.")
    room = len(ids.ids) - 3
    cut = PromptFormat(False, "", None, whole.user_start, whole.user_end, whole.answer_start, max_tokens=room)
    assert cut.encode(tokenizer, "Where?", "Far away, over there.").ids == (*ids.ids[:room], tokenizer.eos_token_id)
    full = PromptFormat(
        False, "", None, whole.user_start, whole.user_end, whole.answer_start, max_tokens=ids.n_prompt - 1
    )
    with pytest.raises(UserError, match="no answer token is left of 'Far away"):
        full.encode(tokenizer, "Where? Tell me at once, in a whole sentence.", "Far away, over there.")


def test_a_text_without_a_token_to_score_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(UserError, match="no token is left to score"):
        encode_text(tokenizer, "", "Once upon a time", separator="")
