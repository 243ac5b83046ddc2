from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest
from black_box import subject

from unlearn.attacks.prompts.rewriter import Rewriter
from unlearn.data.prompt import PromptFormat
from unlearn.models.loading import save_model
from unlearn.runtime.components import cache_key
from unlearn.runtime.errors import UserError
from unlearn.score.generate import generate

if TYPE_CHECKING:
    from pathlib import Path

    from unlearn.models.subject import Subject

PLAIN = PromptFormat(chat_template=False, user_end="\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("attacker")
    victim = subject()
    save_model(victim.module, victim.processor, place)
    return place


def greedy(asked: Subject, prompt: PromptFormat, requests: list[str], longest: int) -> list[str]:
    return generate(asked.module, asked.processor, prompt.encode_prompts(asked.processor, requests), longest, 4096)


def test_the_model_under_test_writes_where_no_other_is_named(tmp_path: Path) -> None:
    file = tmp_path / "kept.jsonl"
    found = Rewriter(file=str(file), max_new_tokens=5).write(subject(), ["Say a", "Say b"])
    assert found == greedy(subject(), subject().prompt, ["Say a", "Say b"], 5)
    assert not file.exists()


def test_what_another_model_wrote_is_kept_and_read_without_it(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "kept.jsonl"
    rewriter = Rewriter(str(folder), PLAIN, str(file), 5)
    expected = greedy(subject(), PLAIN, ["Say a", "Say b"], 5)
    assert rewriter.write(subject(), ["Say a", "Say b", "Say a"]) == [*expected, expected[0]]
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(row["model"], row["request"], row["text"]) for row in rows] == [
        (str(folder), "Say a", expected[0]),
        (str(folder), "Say b", expected[1]),
    ]
    file.write_text(file.read_text().replace(json.dumps(expected[0]), json.dumps("kept text")))
    missing = subject()
    assert rewriter.write(missing, ["Say a"]) == ["kept text"]
    gone = Rewriter(str(tmp_path / "gone"), PLAIN, str(file), 5)  # the file is there: the model may not be
    with pytest.raises(UserError, match="cannot load the model"):
        gone.write(subject(), ["Say a"])
    assert dataclasses.replace(rewriter, max_new_tokens=4).write(subject(), ["Say a"]) != ["kept text"]
    tagged = dataclasses.replace(PLAIN, answer_start="A: ")  # asked otherwise, it may write something else
    assert dataclasses.replace(rewriter, prompt=tagged).write(subject(), ["Say a"]) == greedy(
        subject(), tagged, ["Say a"], 5
    )


def test_a_model_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        Rewriter(str(tmp_path / "gone"))


@pytest.mark.parametrize("line", ["{", '{"model": "m", "tokens": 5}', "[1]", '"text"'])
def test_a_damaged_line_is_named(folder: Path, tmp_path: Path, line: str) -> None:
    file = tmp_path / "kept.jsonl"
    file.write_text(json.dumps({"model": "other", "tokens": 5, "request": "q", "text": "t"}) + "\n" + line)
    if '"m"' in line:
        line = line.replace('"m"', json.dumps(str(folder)))
        file.write_text(line)
    with pytest.raises(UserError, match=r"line \d: not a line of"):
        Rewriter(str(folder), PLAIN, str(file), 5).write(subject(), ["q"])


def test_texts_that_the_model_did_not_write_are_in_the_cache_key(folder: Path, tmp_path: Path) -> None:
    plain = Rewriter(str(folder), PLAIN, max_new_tokens=5)
    one = dataclasses.replace(plain, file=str(tmp_path / "kept.jsonl"))
    one.write(subject(), ["Say a"])
    assert cache_key(one) == cache_key(plain)  # its own
    row = json.loads((tmp_path / "kept.jsonl").read_text())
    keys = [cache_key(plain)]
    for text in ("another text", "a third"):
        (tmp_path / "kept.jsonl").write_text(json.dumps({**row, "text": text}) + "\n")
        keys.append(cache_key(one))
        assert one.write(subject(), ["Say a"]) == [text]
    assert len(set(map(repr, keys))) == 3
    (tmp_path / "kept.jsonl").write_text(json.dumps({**row, "text": "a third", "tokens": 6}) + "\n")
    assert cache_key(one) == cache_key(plain)  # of another length


def test_where_texts_are_kept_changes_no_cache_key(folder: Path) -> None:
    one = Rewriter(str(folder), PLAIN, "a.jsonl")
    assert cache_key(one) == cache_key(dataclasses.replace(one, file="b.jsonl"))
    assert cache_key(one) != cache_key(dataclasses.replace(one, max_new_tokens=3))
