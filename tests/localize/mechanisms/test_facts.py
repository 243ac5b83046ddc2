"""Facts as tokens: where the subject stands, which token answers, and prompts without their subject."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from unlearn.data.prompt import PromptFormat
from unlearn.data.task import Example, Fact, Task
from unlearn.localize.mechanisms.facts import check_facts, corrupt_facts, encode_facts
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from unlearn.models.subject import Subject

CHAT = (
    "{% for m in messages %}<{{ 'bot' if m.role == 'assistant' else m.role }}>{{ m.content | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}<bot>{% endif %}"
)


@pytest.fixture(scope="module")
def words() -> Any:
    """Byte-level BPE of a few words: " Rome" is a token, the name is three."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    corpus = ["The home of Ada is in Rome and in Oslo", "In Rome", "in Oslo", "home of Ada", " Rome Oslo Oslo Ost"] * 9
    bpe.train_from_iterator(corpus, vocab_size=600, special_tokens=["<eos>"], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token="<eos>", pad_token="<eos>")
    tokenizer.chat_template = CHAT
    return tokenizer


def encoded(subject: Subject, tokenizer: Any, prompt: PromptFormat, *facts: Fact) -> Any:
    rows = (Example(("Who?",), ("Ada.",)),)
    task = Task("facts", "", {"forget": rows, "retain": rows}, facts=facts)
    return encode_facts(replace(subject, processor=tokenizer, prompt=prompt), task)


def test_plain_tags(subject: Subject, words: Any) -> None:
    """The last occurrence of the subject counts; a foil that begins as the answer does is left out."""
    prompt = PromptFormat(chat_template=False, user_start="Q: ", answer_start=" A:")
    fact = Fact(
        "Ada, home of Ada Byg", "Ada Byg", " Rome", (" Oslo", " Rome and", " Ost", " Oslo too"), lead=" in", label="x"
    )
    (found,) = encoded(subject, words, prompt, fact)
    assert words.decode(found.ids) == "Q: Ada, home of Ada Byg A: in"
    assert words.decode(found.ids[slice(*found.entity)]) == " Ada Byg"
    assert words.decode(found.ids[: found.entity[0]]) == "Q: Ada, home of"
    assert words.decode([found.answer]) == " Rome"
    assert [words.decode([token]) for token in found.foils] == [" Oslo", " Ost"]
    assert (found.position, found.label, found.earlier) == (len(found.ids) - 1, "x", ())


def test_a_space_at_the_end_of_the_prompt_belongs_to_the_answer(subject: Subject, words: Any) -> None:
    """As in training, where the whole exchange is one text."""
    prompt = PromptFormat(chat_template=False, answer_start=" ")
    (found,) = encoded(subject, words, prompt, Fact("home of Ada", "Ada", "Rome", ("Oslo",)))
    assert (words.decode(found.ids), words.decode([found.answer])) == ("home of Ada", " Rome")
    assert [words.decode([token]) for token in found.foils] == [" Oslo"]


def test_every_mention_of_the_subject_counts(subject: Subject, words: Any) -> None:
    """In the question and in the lead, not before; the last is the subject, and corruption destroys all."""
    prompt = PromptFormat(chat_template=False, user_start="Ada: ", answer_start=" A: ")
    (found,) = encoded(subject, words, prompt, Fact("home of Ada", "Ada", " Rome", lead="Ada is in"))
    assert words.decode(found.ids) == "Ada: home of Ada A: Ada is in"
    assert [words.decode(found.ids[slice(*span)]) for span in found.mentions] == [" Ada", " Ada"]
    assert words.decode(found.ids[found.entity[1] :]) == " is in"
    (corrupt,) = corrupt_facts([found], words, seed=0)
    changed = [i for i, (mine, other) in enumerate(zip(found.ids, corrupt.ids, strict=True)) if mine != other]
    assert changed == [i for span in found.mentions for i in range(*span)]


def test_chat_templates(subject: Subject, words: Any) -> None:
    prompt = PromptFormat(system="In Oslo, Ada")
    (found,) = encoded(subject, words, prompt, Fact(" home of Ada ", "Ada", " Rome", (" Oslo",)))
    assert words.decode(found.ids) == "<system>In Oslo, Ada\n<user>home of Ada\n<bot>"
    assert list(found.ids) == prompt.encode_prompt(words, " home of Ada ")
    assert words.decode(found.ids[slice(*found.entity)]) == " Ada"
    assert found.entity[0] > found.position / 2
    assert words.decode([found.answer]) in "Rome"
    (led,) = encoded(subject, words, prompt, Fact("home of Ada", "Ada", " Rome", lead="in"))
    assert words.decode(led.ids).endswith("<bot>in")
    assert words.decode([led.answer]) == " Rome"


def test_a_template_that_changes_the_question_is_refused(subject: Subject, words: Any) -> None:
    shouting = type(words)(tokenizer_object=words.backend_tokenizer, eos_token="<eos>")
    shouting.chat_template = CHAT.replace("trim", "upper")
    with pytest.raises(UserError, match="changes the text"):
        encoded(subject, shouting, PromptFormat(), Fact("home of Ada", "Ada", " Rome"))


def test_corruption_changes_the_subject_alone(subject: Subject, words: Any) -> None:
    facts = encoded(
        subject,
        words,
        PromptFormat(chat_template=False),
        *[Fact(f"in Ada {i} Rome", f"Ada {i}", " x") for i in range(20)],
    )
    corrupt = corrupt_facts(facts, words, seed=3)
    assert corrupt == corrupt_facts(facts, words, seed=3) != corrupt_facts(facts, words, seed=4)
    assert corrupt[4::-2] == corrupt_facts(facts[4::-2], words, seed=3)  # whichever others there are, in any order
    for mine, theirs in zip(facts, corrupt, strict=True):
        start, stop = mine.entity
        assert theirs.ids[:start] == mine.ids[:start]
        assert theirs.ids[stop:] == mine.ids[stop:]
        drawn = words.decode(theirs.ids[start:stop])
        assert drawn.isascii()
        assert words.eos_token not in drawn
        assert len(words(drawn)["input_ids"]) == stop - start
    assert sum(mine.ids != theirs.ids for mine, theirs in zip(facts, corrupt, strict=True)) > 15


def test_tasks_without_facts_are_refused(task: Task) -> None:
    check_facts(task, foils=True)
    with pytest.raises(UserError, match="'toy' has no facts with their subjects, which"):
        check_facts(replace(task, facts=()))
    with pytest.raises(UserError, match="subjects and wrong answers"):
        check_facts(replace(task, facts=tuple(replace(fact, foils=()) for fact in task.facts)), foils=True)
