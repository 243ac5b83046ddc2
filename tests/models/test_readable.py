"""What a model cannot read is refused before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import tokenizers_with_habits as habits
import transformers
from families import FAMILIES
from transformers import PreTrainedTokenizerFast

from unlearn.data.history import History, Training
from unlearn.data.prompt import PromptFormat
from unlearn.data.task import Example, Passage, ProbeSet, Question, Request, Row, Task
from unlearn.families.pretrained import PretrainedLM
from unlearn.models.readable import Limits, check_rows
from unlearn.recipe import Recipe
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

TAGS = PromptFormat(False, "", None, "Question: ", "\n", "Answer: ")
OPEN = PromptFormat(False, user_end="\n")
KNOWN = History(Training(("forget",)), None)
WIDE = Limits(1000, None)


def task(*rows: Row, probes: tuple[Question, ...] = (), **more: Row) -> Task:
    asked = (ProbeSet("asked", "forget", probes, max_new_tokens=20),) if probes else ()
    sets = {"forget": rows or (Example(("Where?",), ("Paris",)),)} | {name: (row,) for name, row in more.items()}
    return Task("towns", "all", sets, asked, history=KNOWN)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return habits.byte_bpe()


def test_a_join_that_splits_a_token_is_told_once(
    tokenizer: PreTrainedTokenizerFast, capsys: pytest.CaptureFixture[str]
) -> None:
    three = task(*(Example((question,), ("Paris",)) for question in ("Where?", "When?", "Who?")))
    check_rows(three, tokenizer, TAGS, WIDE)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dataset 'towns': forget row 0 and 2 others: tokens span")
    assert "' Paris'" in line
    check_rows(three, tokenizer, OPEN, WIDE)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("faulty", "place"),
    [
        (
            task(Example(("Where?",), ("Paris",)), Example(("Where?", "When?"), ("paris", "\u6771\u4eac"))),
            "forget row 1",
        ),
        (task(other=Passage("\u6771\u4eac")), "other row 0"),
        (task(probes=(Question("Where?", "Paris", perturbed_answers=("\u6771\u4eac",)),)), "probe 'asked' 0"),
    ],
)
def test_what_has_no_answer_is_refused_with_its_place(faulty: Task, place: str) -> None:
    """A tokenizer that drops what it does not know, as some do with rare scripts."""
    tokenizer = habits.dropping()
    with pytest.raises(UserError, match=r"no (answer )?token is left") as caught:
        check_rows(faulty, tokenizer, PromptFormat(False, user_end="?"), WIDE)
    assert str(caught.value).startswith(f"dataset 'towns': {place}")


def test_rows_of_requests_are_read_too(tokenizer: PreTrainedTokenizerFast) -> None:
    known = Example(("Where?",), ("Paris",))
    later = Request({"forget": (Example(("Where?",), ("Oslo",)),)})
    asked = replace(task(known), requests=(later,))
    tokenizer.add_tokens(["Oslo"])
    with pytest.raises(UserError, match="request 1, forget row 0 has token"):
        check_rows(asked, tokenizer, OPEN, Limits(len(tokenizer) - 1, None))


def test_tokens_beyond_the_embedding_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    size = len(tokenizer)
    check_rows(task(), tokenizer, OPEN, Limits(size, None))
    tokenizer.add_tokens(["Oslo"])
    check_rows(task(), tokenizer, OPEN, Limits(size, None))
    with pytest.raises(UserError, match=rf"forget row 0 has token {size} \('Oslo'\), .* embeddings of {size} tokens"):
        check_rows(task(Example(("Where?",), ("Oslo",))), tokenizer, OPEN, Limits(size, None))
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})  # and the model was not resized
    with pytest.raises(UserError, match=rf"padding token '\[PAD\]' is number {size + 1}"):
        check_rows(task(), tokenizer, OPEN, Limits(size, None))


def test_rows_beyond_the_positions(tokenizer: PreTrainedTokenizerFast, capsys: pytest.CaptureFixture[str]) -> None:
    long = task(Example(("Where?",), ("Paris",)), Example(("Where?",), ("Paris" * 10,)))
    exact = len(OPEN.encode(tokenizer, "Where?", "Paris" * 10).ids)
    check_rows(long, tokenizer, OPEN, Limits(1000, exact, rotary=False))
    with pytest.raises(UserError, match=rf"forget row 1 is {exact} tokens long, but the model reads no more than"):
        check_rows(long, tokenizer, OPEN, Limits(1000, exact - 1, rotary=False))
    assert not capsys.readouterr().err
    check_rows(long, tokenizer, OPEN, Limits(1000, exact - 1))
    assert f"forget row 1 is {exact} tokens long" in capsys.readouterr().err


def test_generated_answers_need_positions_too(tokenizer: PreTrainedTokenizerFast) -> None:
    asked = task(probes=(Question("Where?", "Paris"),))
    most = len(OPEN.encode_prompt(tokenizer, "Where?")) + 20
    check_rows(asked, tokenizer, OPEN, Limits(1000, most, rotary=False))
    with pytest.raises(UserError, match=r"probe 'asked' 0 asks with .* for an answer of up to 20"):
        check_rows(asked, tokenizer, OPEN, Limits(1000, most - 1, rotary=False))


@pytest.mark.parametrize("name", FAMILIES)
def test_which_architectures_read_on_beyond_their_positions(name: str) -> None:
    config = FAMILIES[name]()
    limits = Limits.of(config)
    assert limits.vocabulary == 64
    assert limits.positions == config.max_position_embeddings
    assert limits.rotary == (name not in {"gpt2", "gptj", "opt"})  # tables of so many rows


def test_a_pretrained_model_is_asked_without_its_weights(tmp_path: Path) -> None:
    tokenizer = habits.byte_bpe()
    tokenizer.save_pretrained(tmp_path)
    transformers.GPT2Config(vocab_size=len(tokenizer), n_positions=8, bos_token_id=1, eos_token_id=2).save_pretrained(
        tmp_path
    )
    (tmp_path / "model.safetensors").touch()
    family = PretrainedLM(OPEN, Recipe(lr=1e-3, batch_size=2, steps=1), str(tmp_path))
    family.check_rows(task())
    with pytest.raises(UserError, match="no more than 8"):
        family.check_rows(task(Example(("Where, and when?",), ("In Paris, in 1901",))))
