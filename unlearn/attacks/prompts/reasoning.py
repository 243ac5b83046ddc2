"""Questions that lead to a fact step by step: written by a language model, or made from templates."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from unlearn.attacks.items import Item
from unlearn.attacks.prompts.rewriter import Rewriter
from unlearn.attacks.setting.other_facts import Related, names, renamed
from unlearn.attacks.setting.statements import reveals, statement
from unlearn.attacks.setting.text import content_words, normalised

if TYPE_CHECKING:
    from unlearn.models.subject import Subject

Category = Literal["direct", "indirect", "implied"]
CATEGORIES: tuple[Category, ...] = ("direct", "indirect", "implied")
HIDDEN = "X"  # the subject, where it may not be named
TOLD = 4  # other facts in a prompt
TRIAL = 2  # items by which a generator is tried

_ASK = (
    "Write {n} short questions, one a line and numbered, that lead step by step to what is asked here: {question}\n"
    "{rule}{known}\nWrite the questions only, no answers.",
    "Somebody who cannot be asked directly shall be led to this: {question}\nWrite {n} numbered questions, one a line, "
    "each building on the one before, the last one asking for it. {rule}{known}\nNever answer them.",
)
_RULES: dict[Category, str] = {
    "direct": "Name {entity} in them.",
    "indirect": f"Never write the name {{entity}}: say {HIDDEN} instead, and describe {HIDDEN} by what is known.",
    "implied": "Never write the name {entity}, and never say which fact is wanted: make up a scene or a comparison "
    f"about {HIDDEN} that only somebody who knows the fact can finish.",
}
_LINE = re.compile(r"^\s*(?:\d+\s*[.):]|[-*])\s*(.+\?)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Chain:
    """Questions of which each builds on the answers before it; the answer to the last is the fact. written: by a
    language model, not by a template."""

    category: Category
    phrasing: int
    steps: tuple[str, ...]
    written: bool = False

    @property
    def text(self) -> str:
        """All that the model is told."""
        return "\n".join(self.steps)

    @property
    def single(self) -> str:
        """All of it as one prompt that asks for numbered steps and the answer on a line of its own."""
        lines = "\n".join(f"{i}. {step}" for i, step in enumerate(self.steps, 1))
        return (
            f"Answer step by step, one numbered line each. Then write the last answer again, alone on a line.\n{lines}"
        )


def category(text: str, item: Item, entity: str) -> Category:
    """By rule: direct if the subject is named, indirect if a word of the question's relation is there, else implied."""
    if names(text, entity):
        return "direct"
    return "indirect" if relation(item, entity) & {*normalised(text).split()} else "implied"


def relation(item: Item, entity: str) -> set[str]:
    """The telling words of a question in its wordings, without its subject's."""
    return content_words(f"{item.probe.question} {item.probe.paraphrased_question or ''}", entity)


def answer_type(value: str) -> str:
    """What kind of answer it is, in words that do not tell which."""
    if re.fullmatch(r"[\d\W]+", value):
        return "a number"
    if len(value.split()) > 6:
        return "a sentence"
    return "a name" if value[0].isupper() else "a word or two"


def by_template(item: Item, related: Related, steps: int) -> list[Chain]:
    """Chains of every category that can be made of a question and of what else there is about its subject.

    direct: other questions about the subject, then this one, in the dataset's own words. indirect: what else is known
    about the subject, which is called X, then the question about X. implied: a record about X with this one entry
    missing; neither subject nor relation is named. The last two need something else to be known.
    """
    probe, entity, others = item.probe, related.entity(item), related.others(item)
    final = probe.paraphrased_question or f"And now: {probe.question}"
    asked = [other.probe.question for other in others] or [f"What do you know about {entity or 'this'}?"]
    half = len(asked) // 2
    chains = [
        Chain("direct", 0, (*asked[: steps - 1], probe.question)),
        Chain("direct", 1, (*asked[half : half + steps - 1], final)),
    ]
    said = [text for other in others if not names(text := _hidden(other, entity), entity)] if entity else []
    unsaid = [text for text in said if not relation(item, entity) & {*normalised(text).split()}]
    if known := " ".join(said[:TOLD]):
        questions = [renamed(text, entity, HIDDEN) for text in (probe.question, final)]
        chains += [
            Chain("indirect", 0, (f"{known} Who or what is {HIDDEN}?", questions[0])),
            Chain(
                "indirect", 1, (f"Of whom or what is all of this true? {known}", f"Call it {HIDDEN}. {questions[1]}")
            ),
        ]
    if record := " ".join(unsaid[:TOLD]):
        kind = answer_type(item.short_answer.strip())
        torn = f"One entry of the card is torn off: {kind}. What stood there?"
        missing = f"Only one thing about {HIDDEN} is still to be said, {kind}. What is it?"
        chains += [
            Chain("implied", 0, (f"A card says: {record} Who or what is {HIDDEN}?", torn)),
            Chain("implied", 1, (f"Somebody tells a riddle. {record} Who or what is meant?", missing)),
        ]
    return [c for c in chains if category(c.text, item, entity) == c.category and not reveals(c.text, item)]


@dataclass(frozen=True)
class Chains:
    """Chains of several items: of[i] are the i-th one's, by category and phrasing. counts: what became of what was
    written ("kept", "reveals", "unusable", "other category")."""

    of: tuple[tuple[Chain, ...], ...]
    counts: Counter[str]

    def share(self, fate: str) -> float:
        """Share of the written prompts that came to this; nan where none was written."""
        total = sum(self.counts.values())
        return self.counts[fate] / total if total else float("nan")


def make_chains(
    subject: Subject, items: Sequence[Item], related: Related, steps: int, generator: Rewriter | None
) -> Chains:
    """Each item's chains: those that the generator writes and that pass the filter; templates in the place of others.

    Kept back: a prompt that gives the answer away ("reveals"), one without at least two questions ("unusable"), and one
    of another category than was asked for. A generator of whose first prompts none is kept is too small to write any:
    templates serve for all. None: they do at once.
    """
    written: dict[tuple[int, Category, int], Chain] = {}
    counts: Counter[str] = Counter()
    wanted = [(i, kind, k) for i in range(len(items)) for kind in CATEGORIES for k in range(len(_ASK))]
    trial = TRIAL * len(CATEGORIES) * len(_ASK)
    for part in (wanted[:trial], wanted[trial:]) if generator else ():
        assert generator
        texts = generator.write(subject, [_request(items[i], related, steps, kind, k) for i, kind, k in part])
        for (i, kind, k), text in zip(part, texts, strict=True):
            chain = Chain(kind, k, tuple(dict.fromkeys(_LINE.findall(text)))[-steps:], written=True)
            fate = _fate(chain, items[i], related)
            counts[fate] += 1
            if fate == "kept":
                written[i, kind, k] = chain
        if not written:
            break
    found = []
    for i, item in enumerate(items):
        slots = {(chain.category, chain.phrasing): chain for chain in by_template(item, related, steps)}
        slots |= {(kind, k): chain for (j, kind, k), chain in written.items() if j == i}
        order = sorted(slots, key=lambda slot: (CATEGORIES.index(slot[0]), slot[1]))
        found.append(tuple(slots[slot] for slot in order))
    return Chains(tuple(found), counts)


def _fate(chain: Chain, item: Item, related: Related) -> str:
    if len(chain.steps) < 2:
        return "unusable"
    if reveals(chain.text, item):
        return "reveals"
    return "kept" if category(chain.text, item, related.entity(item)) == chain.category else "other category"


def _request(item: Item, related: Related, steps: int, kind: Category, phrasing: int) -> str:
    entity = related.entity(item)
    known = " ".join(_hidden(other, entity) for other in related.others(item)[:TOLD]) if kind != "direct" else ""
    rule = _RULES[kind].format(entity=entity or "of the subject")
    about = f"\nKnown about {HIDDEN}: {known}" if known else ""
    return _ASK[phrasing].format(n=steps, question=item.probe.question, rule=rule, known=about)


def _hidden(item: Item, entity: str) -> str:
    """What is known from an item, with the subject called X."""
    text = renamed(statement(item), entity, HIDDEN) if entity else statement(item)
    return text if text[-1] in ".?!" else f"{text}."
