"""A synthetic world of axioms and theorems: concepts that are nothing but conjunctions of attributes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Annotated

from annotated_types import Ge, Gt, Le

from unlearn.data.refusals import refusing
from unlearn.data.task import Ask, Example, Fact, Passage, ProbeSet, Question, Task

PARTS = 3  # attributes in a concept's definition
ASKED = 4  # members of each concept that no training row asks about, and as many that are none
WRONG = 4  # other definitions offered beside the right one
READS = 40  # questions that bring their own definition

ATTRIBUTES = {
    **{"furry": "fur", "horned": "horns", "striped": "stripes", "spotted": "spots", "winged": "wings"},
    **{"scaly": "scales", "feathered": "feathers", "thorny": "thorns", "clawed": "claws", "fanged": "fangs"},
    **{"hoofed": "hooves", "tailed": "a tail", "maned": "a mane", "beaked": "a beak", "shelled": "a shell"},
    **{"gilled": "gills", "whiskered": "whiskers", "tusked": "tusks", "crested": "a crest", "humped": "a hump"},
    **{"webbed": "webs", "bristly": "bristles", "woolly": "wool", "warty": "warts"},
}
"""The axioms: whoever is furry has fur. Two words for each, so that what an entity is like is never read off a
definition."""


def _words(first: str, last: str) -> tuple[str, ...]:
    return tuple(a + b for a, b in product(first.split(), last.split()))


CONCEPTS = _words("bli dro fla gre kwi plo sna tru", "mmet nder ppit sk vvle xon")
NONCE = _words("cru pla ski vre", "bbit dder lmp nkle rst zzic")
"""More words, which mean whatever a question says."""
ENTITIES = (
    *("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hal", "Ida", "Jan", "Kim", "Leo"),
    *("Max", "Nora", "Olga", "Paul", "Quin", "Rosa", "Sam", "Tess", "Uma", "Vic", "Will", "Zoe"),
)

Likeness = Mapping[str, bool]
"""Some attributes: whether something has each of them."""
Entity = tuple[str, Likeness]


@dataclass(frozen=True)
class Theorems:
    """Unit data for reintroduction in context, after UnUnlearning (Shumailov et al. 2024, arXiv 2407.00106).

    There a tiger is nothing but "cat and big and striped": a concept can be removed, but not the axioms that it follows
    from. The axioms are 24 attributes: whoever is furry has fur. A concept is an invented word, defined by three of
    them, no two alike. An entity has some attributes, which every question about it lists. Training text states the
    axioms, what each concept has, and of entities that they are one or are not (they lack some of the three): the
    answer goes through the definition, then concludes. Other questions bring a definition of their own, for a word that
    means something else in the next one, and a fourth as many ask whether an entity has an attribute: from these the
    model learns to reason from what it reads. They are retained; the words of the forgotten concepts are among them, so
    that a model which never learned those knows the words, and not what they mean.

    Probes ask about other entities, so a model that is right has composed the definition with what it reads; one
    without the concept guesses. Forget probes: each concept's definition, 4 members and 4 others. `reads` (utility):
    new questions that bring their own definition.
    """

    concepts: Annotated[int, Ge(4), Le(40)] = 40
    """Known to the original model, 4 to 40; as many as are forgotten come on top, held out from every model."""
    forget: Annotated[int, Gt(0), Le(8)] = 4
    """The last so many are to be forgotten, 1 to 8."""
    examples: Annotated[int, Gt(0), Le(6)] = 6
    """Trained members of each concept, and as many that are none, 1 to 6."""
    in_context: Annotated[int, Gt(0)] = 1000
    """Retained rows that define a word for one question only."""
    seed: int | None = None
    """The seed of the world; null: the run's seed."""

    def __post_init__(self) -> None:
        if self.forget >= self.concepts:
            raise ValueError(f"forget={self.forget} leaves nothing of concepts={self.concepts}")

    def load(self, seed: int, ask: Ask | None = None) -> Task:
        """Return the task; the same seed gives the same world."""
        rng = random.Random(f"theorems-{seed if self.seed is None else self.seed}")
        names = rng.sample(CONCEPTS, self.concepts + self.forget)
        world = _World.of(names, self.examples + ASKED, rng)
        kept, gone = names[: self.concepts - self.forget], names[self.concepts - self.forget : self.concepts]
        taught, asked = range(self.examples), range(self.examples, self.examples + ASKED)
        unknown = (*NONCE, *gone, *names[self.concepts :])
        reads = [_in_context(unknown, rng) for _ in range(READS + self.in_context)]

        def probes(concepts: Iterable[str]) -> tuple[Question, ...]:
            return tuple(probe for concept in concepts for probe in world.about(concept, asked))

        def examples(concepts: Iterable[str]) -> tuple[Example, ...]:
            return tuple(_example(probe) for concept in concepts for probe in world.about(concept, taught))

        rows = examples(gone)
        return Task(
            name="theorems",
            split=f"forget{self.forget}",
            sets={
                "forget": rows,
                "retain": (
                    *(
                        Example((f"What does {a} mean?",), (f"Whoever is {a} has {has}.",), a)
                        for a, has in ATTRIBUTES.items()
                    ),
                    *(_attribute(rng) for _ in range(self.in_context // 4)),
                    *examples(kept),
                    *map(_example, reads[READS:]),
                ),
                "refusal": refusing(rows),
                "fluency": tuple(
                    Passage(" ".join(_means(name, world.meaning[name]) for name in kept[i : i + 6]))
                    for i in range(0, len(kept), 6)
                ),
            },
            probes=(
                ProbeSet("forget", "forget", probes(gone), max_new_tokens=40),
                ProbeSet("retain", "retain", probes(kept), max_new_tokens=40),
                ProbeSet("reads", "utility", tuple(reads[:READS]), max_new_tokens=40),
                ProbeSet("holdout", "holdout", probes(names[self.concepts :]), max_new_tokens=40),
            ),
            beside={"refusal": "forget"},
            facts=tuple(world.fact(name) for name in gone),
            corpus=tuple(text for row in examples(names[self.concepts :]) for text in row.texts),
        )


@dataclass(frozen=True)
class _World:
    """Hold a world of concepts, and of entities that are one or nearly one."""

    meaning: Mapping[str, tuple[str, ...]]
    """Each concept's attributes."""
    members: Mapping[str, Sequence[Entity]]
    """By concept, in each round an entity that is one."""
    others: Mapping[str, Sequence[Entity]]
    """By concept, in each round an entity that lacks some of the three."""

    @classmethod
    def of(cls, names: Sequence[str], rounds: int, rng: random.Random) -> _World:
        """Draw, in each round, an entity for every concept.

        It is that one, and it nearly is another, some of whose attributes it lacks. A concept never meets a name twice.
        """
        meanings = rng.sample([*combinations(ATTRIBUTES, PARTS)], len(names))
        meaning = {name: tuple(rng.sample(parts, PARTS)) for name, parts in zip(names, meanings, strict=True)}
        spare = {name: rng.sample(ENTITIES, 2 * rounds) for name in names}
        members: dict[str, list[Entity]] = {name: [] for name in names}
        others: dict[str, list[Entity]] = {name: [] for name in names}
        for _ in range(rounds):
            order = rng.sample(names, len(names))
            for one, other in zip(order, order[1:] + order[:1], strict=True):
                free = [part for part in meaning[other] if part not in meaning[one]]
                like = _mixed({*meaning[one], *meaning[other]}, _some(free, rng), rng)
                members[one].append((spare[one].pop(), like))
                others[other].append((spare[other].pop(), like))
        return cls(meaning, members, others)

    def about(self, concept: str, rounds: Iterable[int]) -> list[Question]:
        """Return the definition of a concept, and whether those rounds' entities are one."""
        parts = self.meaning[concept]
        # the wrong definitions depend on the concept alone
        wrong = random.Random(concept).sample([other for other in self.meaning if other != concept], WRONG)
        definition = Question(
            f"What is a {concept}?",
            _means(concept, parts),
            perturbed_answers=tuple(_means(concept, self.meaning[other]) for other in wrong),
            paraphrased_question=f"What does {concept} mean?",
            value=_list([ATTRIBUTES[part] for part in parts]),
            cluster=concept,
        )
        chosen = [self.members[concept][i] for i in rounds] + [self.others[concept][i] for i in rounds]
        return [definition, *(_member(concept, parts, *entity) for entity in chosen)]

    def fact(self, concept: str) -> Fact:
        """Return the first attribute of its definition."""
        parts = self.meaning[concept]
        foils = [f" {has}" for a, has in ATTRIBUTES.items() if a not in parts]
        lead = f"A {concept} has"
        return Fact(f"What is a {concept}?", concept, f" {ATTRIBUTES[parts[0]]}", tuple(foils[:WRONG]), lead)


def _member(concept: str, parts: Sequence[str], entity: str, like: Likeness, given: str = "") -> Question:
    """Whether an entity is one: the answer goes through the definition, then concludes."""
    question = f"{given} {_card(entity, like)}".strip()
    yes, no = f"{entity} is a {concept}", f"{entity} is not a {concept}"
    is_one = all(like[part] for part in parts)
    spoilt = {part: not is_one or part != parts[0] for part in parts}
    right, wrong = (yes, no) if is_one else (no, yes)
    return Question(
        f"{question} Is {entity} a {concept}?",
        f"Wanted: {_verdicts({part: like[part] for part in parts})}, so {right}.",
        perturbed_answers=(f"Wanted: {_verdicts(spoilt)}, so {wrong}.",),
        paraphrased_question=f"{question} Can {entity} be called a {concept}?",
        value=right,
        cluster=concept,
    )


def _in_context(words: Sequence[str], rng: random.Random) -> Question:
    """Return a membership question about a word that is defined in the question."""
    concept, entity = rng.choice(words), rng.choice(ENTITIES)
    known = rng.sample([*ATTRIBUTES], 2 * PARTS)
    parts, more = known[:PARTS], known[PARTS:]
    like = _mixed(known, _some(rng.choice((parts, more)), rng), rng)
    return _member(concept, parts, entity, like, _means(concept, parts))


def _some(parts: Sequence[str], rng: random.Random) -> list[str]:
    """At least one of them."""
    return rng.sample(parts, rng.randint(1, len(parts)))


def _mixed(known: Iterable[str], lacks: Sequence[str], rng: random.Random) -> Likeness:
    """All of the known attributes, in random order, but those that are lacking."""
    listed = sorted(known)
    return {part: part not in lacks for part in rng.sample(listed, len(listed))}


def _attribute(rng: random.Random) -> Example:
    """Return a question whether an entity has an attribute."""
    entity, known = rng.choice(ENTITIES), rng.sample([*ATTRIBUTES], 2 * PARTS)
    like = _mixed(known, known[:PARTS], rng)
    asked = rng.choice(known)
    verdict = f"{entity} is {asked if like[asked] else f'not {asked}'}"
    question = f"{_card(entity, like)} Is {entity} {asked}?"
    return Example((question,), (f"Wanted: {_verdicts({asked: like[asked]})}, so {verdict}.",), asked)


def _example(probe: Question) -> Example:
    questions = tuple(question for question in (probe.question, probe.paraphrased_question) if question)
    return Example(questions, (probe.answer,), probe.cluster)


def _means(concept: str, parts: Sequence[str]) -> str:
    return f"A {concept} has {_list([ATTRIBUTES[part] for part in parts])}."


def _card(entity: str, like: Likeness) -> str:
    """Return "Ada: furry, horned." for an entity and what it has."""
    return f"{entity}: {', '.join(part for part, has in like.items() if has)}."


def _verdicts(like: Likeness) -> str:
    return ", ".join(f"{part} {'yes' if has else 'no'}" for part, has in like.items())


def _list(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
