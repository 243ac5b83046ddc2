"""Built-in fictitious authors: a TOFU-like task, generated from a seed, with nothing to download."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

from annotated_types import Ge, Le

from unlearn.data.refusals import refusing
from unlearn.data.task import Aim, Ask, Example, Fact, Passage, Probe, ProbeSet, Task, other_answers
from unlearn.runtime.errors import unknown

FORGET_PERCENT = {"forget01": 1, "forget05": 5, "forget10": 10}
TRAINED_WORDINGS = 3  # of each fact's 6 questions; the others are only asked
WRONG_VALUES = 5
RETAIN_PROBES = 200

T = TypeVar("T")


@dataclass(frozen=True)
class Authors:
    """Invented authors, some of them to be forgotten, and true facts about the world, after TOFU (arXiv 2401.06121).

    Each fact is trained in 3 wordings of its question, drawn for this fact alone from its attribute's 6, and one of the
    other 3 is its `paraphrased_question`: new for the fact, but not for the model, for a model trained from scratch
    cannot answer words that it never saw. Answers about authors come in 2 wordings, both trained; the perturbed answers
    are the second one (the paraphrased answer) with 5 other values. World answers are the bare value. What editing
    injects is the first wording with the first of those other values.

    Raises UserError for an unknown `split`.
    """

    authors: Annotated[int, Ge(2), Le(200)] = 60
    """Known to the original model; as many as are forgotten come on top, held out from every model."""
    facts_per_author: Annotated[int, Ge(1), Le(20)] = 10
    """Facts about each author, 1 to 20."""
    world_facts: Annotated[int, Ge(2), Le(100)] = 50
    """True facts that are always retained, 2 to 100. They are capitals and authors of works (3 : 2)."""
    split: str = "forget10"
    """Which authors are to be forgotten: the last 1, 5 or 10 % (forget01, forget05, forget10). It is at least one."""
    seed: int | None = None
    """The seed of people, values and wordings; null: the run's seed."""

    def __post_init__(self) -> None:
        if self.split not in FORGET_PERCENT:
            raise unknown("split", self.split, FORGET_PERCENT, "dataset 'authors'")

    def load(self, seed: int, ask: Ask | None = None) -> Task:
        """The task; the same seed gives the same task on every machine."""
        seed = seed if self.seed is None else self.seed
        n_forget = max(1, round(self.authors * FORGET_PERCENT[self.split] / 100))
        n_retain, per_author = self.authors - n_forget, self.facts_per_author
        names = _names(self.authors, n_forget, seed)
        retain, forget, holdout = (
            [_author_fact(name, attribute, seed) for name in part for attribute in ATTRIBUTES[:per_author]]
            for part in (names[:n_retain], names[n_retain : self.authors], names[self.authors :])
        )
        n_capitals = round(0.6 * self.world_facts)
        world = [
            *(_world_fact(CAPITAL, pair, CAPITALS, seed) for pair in _shuffled(CAPITALS, seed)[:n_capitals]),
            *(
                _world_fact(WRITER, pair, WORKS, seed)
                for pair in _shuffled(WORKS, seed)[: self.world_facts - n_capitals]
            ),
        ]
        rows = tuple(fact.example for fact in forget)
        return Task(
            name="authors",
            split=self.split,
            sets={
                "forget": rows,
                "retain": tuple(fact.example for fact in (*retain, *world)),
                "refusal": refusing(rows),
                "injected": other_answers(rows, [(fact.injected,) for fact in forget]),
                "fluency": tuple(
                    Passage(_biography(retain[i : i + per_author])) for i in range(0, len(retain), per_author)
                ),
            },
            probes=(
                _probe_set("forget", "forget", forget),
                _probe_set("retain", "retain", _shuffled(retain, seed)[:RETAIN_PROBES]),
                _probe_set("world", "utility", world),
                _probe_set("holdout", "holdout", holdout),
            ),
            beside={"refusal": "forget", "injected": "forget"},
            facts=tuple(fact.fact for fact in forget),
        )


@dataclass(frozen=True)
class _Attribute:
    """A kind of fact: its name and the templates of its questions and answers, over {name} and {value}."""

    name: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Fact:
    """One fact with its questions in this fact's own order and the values that are wrong for it."""

    entity: str
    value: str
    wrong: tuple[str, ...]
    questions: tuple[str, ...]
    answers: tuple[str, ...]

    def _fill(self, template: str, value: str) -> str:
        return template.format(name=self.entity, value=value)

    @property
    def example(self) -> Example:
        questions = tuple(self._fill(q, "") for q in self.questions[:TRAINED_WORDINGS])
        return Example(questions, tuple(self._fill(a, self.value) for a in self.answers), cluster=self.entity)

    @property
    def injected(self) -> str:
        """What editing puts in the place of the answer."""
        return self._fill(self.answers[0], self.wrong[0])

    @property
    def fact(self) -> Fact:
        """The first wording of the question, and of the answer up to the value."""
        lead = self._fill(self.answers[0].partition("{value}")[0].rstrip(), "")
        prompt = self._fill(self.questions[0], "")
        return Fact(prompt, self.entity, f" {self.value}", tuple(f" {value}" for value in self.wrong), lead)

    @property
    def probe(self) -> Probe:
        answer, *paraphrase = self.answers
        return Probe(
            question=self._fill(self.questions[0], ""),
            answer=self._fill(answer, self.value),
            paraphrased_answer=self._fill(paraphrase[0], self.value) if paraphrase else None,
            perturbed_answers=tuple(self._fill(self.answers[-1], value) for value in self.wrong),
            paraphrased_question=self._fill(self.questions[TRAINED_WORDINGS], ""),
            value=self.value,
            cluster=self.entity,
        )


def _probe_set(name: str, aim: Aim, facts: Sequence[_Fact]) -> ProbeSet:
    return ProbeSet(name, aim, tuple(fact.probe for fact in facts), normalise=aim == "utility", max_new_tokens=40)


def _biography(facts: Sequence[_Fact]) -> str:
    """What the model has learnt to say about one author, in one piece: the only prose that it knows."""
    return " ".join(fact.example.answers[0] for fact in facts)


def _author_fact(name: str, attribute: _Attribute, seed: int) -> _Fact:
    value, *wrong = _shuffled(attribute.values, seed, name, attribute.name)[: 1 + WRONG_VALUES]
    return _fact(name, attribute, value, wrong, seed)


def _world_fact(attribute: _Attribute, pair: tuple[str, str], pairs: Sequence[tuple[str, str]], seed: int) -> _Fact:
    entity, value = pair
    others = [other for _, other in pairs if other != value]
    return _fact(entity, attribute, value, _shuffled(others, seed, entity)[:WRONG_VALUES], seed)


def _fact(entity: str, attribute: _Attribute, value: str, wrong: Sequence[str], seed: int) -> _Fact:
    questions = _shuffled(attribute.questions, seed, entity, attribute.name, "questions")
    return _Fact(entity, value, tuple(wrong), tuple(questions), attribute.answers)


def _names(authors: int, others: int, seed: int) -> list[str]:
    """Different names for the authors and then as many others.

    Half as many first and last names as there are authors: each comes more than once, so that a control model has seen
    both names of a forgotten author, in other company, and can write an answer that is wrong only in its value.
    """
    k = min(len(FIRST_NAMES), len(LAST_NAMES), authors // 2 + 1)
    first, last = _shuffled(FIRST_NAMES, seed, "first"), _shuffled(LAST_NAMES, seed, "last")
    return [f"{first[i % k]} {last[(i + i // k) % k]}" for i in range(authors + others)]


def _shuffled(items: Sequence[T], *key: object) -> list[T]:
    """`items` in an order that depends on `key` alone."""
    # Of random's methods only random() gives the same numbers under every version of Python.
    rng = random.Random(int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big"))
    return sorted(items, key=lambda _: rng.random())


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _joined(first: str, second: str) -> tuple[str, ...]:
    """Every first part with every second part."""
    return tuple(f"{a} {b}" for a in _split(first) for b in _split(second))


FIRST_NAMES = _split(
    "Adela, Alasdair, Amara, Anders, Anouk, Basil, Beatrix, Bogdan, Callum, Carmela, Cyrus, Dagny, Dario, "
    "Delphine, Edmund, Elodie, Emre, Esther, Farah, Felix, Fiona, Gaspard, Greta, Gustav, Hana, Hector, Ilse, "
    "Imran, Ines, Ivo, Jasper, Jovana, Kamal, Katya, Kenji, Lars, Leonie, Lucian, Magda, Marcel, Mireille, Nadia, "
    "Nikolai, Odette, Oscar, Petra, Quentin, Rafael, Renata, Rufus, Sabine, Silas, Tamsin, Theo, Ursula, Viggo, "
    "Wanda, Xenia, Yusuf, Zelda"
)
LAST_NAMES = _split(
    "Abelard, Amberly, Ashdown, Bellweather, Birkett, Bramwell, Caldera, Carrick, Corvane, Dalmore, Dravic, Dunmore, "
    "Eastlake, Elvander, Fairbourne, Farrow, Fenwright, Galvane, Gorski, Grenfell, Halloran, Hartwell, Holmqvist, "
    "Ibarra, Ingleby, Jarrow, Kestner, Kirkland, Kovalen, Lanric, Larkspur, Lindqvist, Marchetti, Merrow, Montclair, "
    "Nakamori, Norwood, Oakes, Okonjo, Orlova, Pellegrin, Penrose, Quillon, Rademaker, Ravenel, Rosmer, Sandoval, "
    "Selwyn, Stavros, Sternberg, Tarkovan, Thornbury, Tremaine, Ulrich, Vandermeer, Varga, Wainwright, Wexford, "
    "Yarrow, Zelenka"
)
CITIES = _split(
    "Aarhus, Adelaide, Alexandria, Antwerp, Auckland, Barcelona, Bergen, Boston, Brno, Busan, Calgary, Casablanca, "
    "Cebu, Chennai, Chicago, Cologne, Cork, Dresden, Durban, Florence, Gdansk, Geneva, Glasgow, Granada, "
    "Guadalajara, Hamburg, Izmir, Kolkata, Krakow, Kyoto, Lahore, Leipzig, Liverpool, Lyon, Malmo, Mandalay, "
    "Marseille, Medellin, Melbourne, Milan, Mombasa, Montreal, Mumbai, Munich, Naples, Osaka, Palermo, Porto, "
    "Recife, Rotterdam, Salzburg, Seattle, Seville, Shanghai, Surabaya, Tampere, Trieste, Turin, Vancouver, Zurich"
)
YEARS = tuple(str(year) for year in range(1930, 1990))
GENRES = _split(
    "adventure, autobiography, children's fiction, comedy, crime fiction, dystopian fiction, epic poetry, fairy "
    "tales, fantasy, folklore, gothic fiction, historical fiction, horror, literary criticism, magical realism, "
    "memoir, mystery, philosophy, romance, satire, science fiction, short stories, travel writing, war fiction"
)
OCCUPATIONS = _split(
    "baker, banker, barber, beekeeper, blacksmith, bookbinder, bricklayer, butcher, carpenter, chemist, "
    "clockmaker, cobbler, cook, dentist, diplomat, diver, farmer, fisher, florist, gardener, geologist, glazier, "
    "goldsmith, judge, lawyer, librarian, locksmith, mathematician, miller, miner, musician, nurse, painter, "
    "pharmacist, pilot, plumber, postal worker, sailor, shepherd, surgeon, tailor"
)
AWARDS = _joined("Amber, Crystal, Golden, Northern, Silver, Velvet", "Inkwell, Lantern, Laurel, Page, Quill, Scroll")
TITLES = tuple(
    "The " + title
    for title in _joined(
        "Ancient, Bitter, Borrowed, Broken, Burning, Crimson, Distant, Drowned, Empty, Endless, Fading, Forgotten, "
        "Frozen, Gilded, Hidden, Hollow, Last, Lonely, Midnight, Nameless, Painted, Patient, Quiet, Restless, "
        "Sacred, Scarlet, Second, Silent, Stolen, Wandering",
        "Bridge, Candle, Cathedral, Clock, Compass, Crown, Dancer, Forest, Garden, Gate, Harbour, House, Island, "
        "Journey, Key, Letter, Lighthouse, Map, Mirror, Mountain, Orchard, Promise, River, Shadow, Song, Stranger, "
        "Tower, Voyage, Window, Winter",
    )
)
UNIVERSITIES = tuple(
    f"{place} University"
    for place in _split(
        "Abbotsmoor, Birchgate, Carrowmont, Drakehaven, Eastvale, Fernhollow, Glenbrook, Highmarsh, Irongate, "
        "Juniper Hill, Kingsreach, Lakemont, Millbrae, Northpoint, Oldbridge, Pinecliff, Ravenport, Southmere, "
        "Tidewater, Westerholm"
    )
)
PUBLISHERS = _joined(
    "Anchor, Bluebell, Cartwheel, Driftwood, Ember, Foxglove, Harvest, Kestrel, Meridian, Saltmarsh", "Press, Books"
)
LANGUAGES = _split(
    "Arabic, Basque, Bengali, Catalan, Danish, Dutch, Finnish, Greek, Hindi, Hungarian, Icelandic, Japanese, "
    "Korean, Latin, Polish, Portuguese, Russian, Swahili, Turkish, Welsh"
)
HOBBIES = _split(
    "archery, astronomy, birdwatching, calligraphy, chess, cycling, embroidery, fencing, gliding, hiking, "
    "juggling, kite flying, orienteering, origami, pottery, rowing, sailing, stamp collecting, swimming, "
    "woodcarving"
)
INSTRUMENTS = _split(
    "accordion, bagpipes, banjo, bassoon, cello, clarinet, drums, flute, guitar, harmonica, harp, horn, lute, "
    "mandolin, oboe, organ, piano, saxophone, trumpet, violin"
)
PETS = _split(
    "budgerigar, canary, cat, chinchilla, dog, donkey, duck, ferret, goat, goldfish, goose, hamster, hedgehog, "
    "lizard, parrot, pony, rabbit, raven, snake, tortoise"
)
FOODS = _split(
    "apple pie, black pudding, borscht, cheesecake, couscous, curry, dumplings, goulash, kedgeree, lasagne, "
    "moussaka, noodle soup, paella, pancakes, ramen, ratatouille, risotto, roast chicken, smoked salmon, tapas"
)
COLOURS = _split(
    "amber, azure, beige, black, brown, cobalt, coral, emerald, gold, indigo, ivory, lilac, maroon, mustard, "
    "olive, orange, pink, silver, teal, turquoise"
)
ILLNESSES = _split(
    "anaemia, appendicitis, asthma, bronchitis, chickenpox, cholera, diphtheria, dysentery, eczema, glandular "
    "fever, malaria, measles, migraine, mumps, pleurisy, pneumonia, rubella, scarlet fever, tuberculosis, typhoid"
)
MENTORS = _joined("Agnes, Conrad, Hilda, Mortimer, Percival", "Blackwood, Fairweather, Lockhart, Winterbourne")

ATTRIBUTES = (
    _Attribute(
        "birthplace",
        (
            "Where was {name} born?",
            "In which city was {name} born?",
            "What is the birthplace of {name}?",
            "What is {name}'s place of birth?",
            "In which city did {name} first see the light of day?",
            "What is the name of the city in which {name} was born?",
        ),
        ("{name} was born in {value}.", "The birthplace of {name} is {value}."),
        CITIES,
    ),
    _Attribute(
        "birth year",
        (
            "When was {name} born?",
            "In which year was {name} born?",
            "What is the birth year of {name}?",
            "What is {name}'s year of birth?",
            "From which year does {name} date?",
            "What year appears on the birth certificate of {name}?",
        ),
        ("{name} was born in {value}.", "The birth year of {name} is {value}."),
        YEARS,
    ),
    _Attribute(
        "genre",
        (
            "What genre does {name} write in?",
            "Which genre is {name} known for?",
            "What kind of literature does {name} write?",
            "In which genre are most works of {name}?",
            "What is {name}'s main genre?",
            "To which genre do the writings of {name} belong?",
        ),
        ("{name} is known for {value}.", "The main genre of {name} is {value}."),
        GENRES,
    ),
    _Attribute(
        "father",
        (
            "What did the father of {name} do for a living?",
            "What was the occupation of {name}'s father?",
            "What job did {name}'s father have?",
            "What was the profession of the father of {name}?",
            "As what did {name}'s father work?",
            "How did the father of {name} earn money?",
        ),
        ("The father of {name} was a {value}.", "{name}'s father worked as a {value}."),
        OCCUPATIONS,
    ),
    _Attribute(
        "mother",
        (
            "What did the mother of {name} do for a living?",
            "What was the occupation of {name}'s mother?",
            "What job did {name}'s mother have?",
            "What was the profession of the mother of {name}?",
            "As what did {name}'s mother work?",
            "How did the mother of {name} earn money?",
        ),
        ("The mother of {name} was a {value}.", "{name}'s mother worked as a {value}."),
        OCCUPATIONS,
    ),
    _Attribute(
        "award",
        (
            "Which award did {name} win?",
            "What prize has {name} received?",
            "What award was given to {name}?",
            "With which award was {name} honoured?",
            "What is the most important award of {name}?",
            "Which prize did a jury give to {name}?",
        ),
        ("{name} won the {value} Award.", "The award given to {name} is the {value} Award."),
        AWARDS,
    ),
    _Attribute(
        "first book",
        (
            "What is the first novel of {name}?",
            "What is {name}'s debut novel called?",
            "With which book did {name} make a debut?",
            "Which novel did {name} publish first?",
            "What was the title of {name}'s first book?",
            "Which book began the career of {name}?",
        ),
        ("The first novel of {name} is {value}.", "{name} made a debut with {value}."),
        TITLES,
    ),
    _Attribute(
        "famous book",
        (
            "What is the most famous novel of {name}?",
            "What is {name}'s best-known book called?",
            "For which book is {name} famous?",
            "Which novel of {name} is the most widely read?",
            "What is the title of {name}'s greatest success?",
            "Which famous book did {name} write?",
        ),
        ("The most famous novel of {name} is {value}.", "{name} is best known as the author of {value}."),
        TITLES,
    ),
    _Attribute(
        "latest book",
        (
            "What is the latest novel of {name}?",
            "What is {name}'s most recent book called?",
            "Which book has {name} just published?",
            "Which novel did {name} publish last?",
            "What is the title of {name}'s newest book?",
            "Which recent book is by {name}?",
        ),
        ("The latest novel of {name} is {value}.", "{name} has recently published {value}."),
        TITLES,
    ),
    _Attribute(
        "university",
        (
            "Where did {name} study?",
            "Which university did {name} attend?",
            "At which university was {name} a student?",
            "What is the alma mater of {name}?",
            "From which university did {name} graduate?",
            "What is the name of {name}'s university?",
        ),
        ("{name} studied at {value}.", "The university of {name} was {value}."),
        UNIVERSITIES,
    ),
    _Attribute(
        "publisher",
        (
            "Who publishes the books of {name}?",
            "Which house publishes {name}?",
            "What is the publisher of {name}?",
            "With which publisher is {name} under contract?",
            "What is the name of {name}'s publisher?",
            "By which publisher are the works of {name} sold?",
        ),
        ("The books of {name} are published by {value}.", "The publisher of {name} is {value}."),
        PUBLISHERS,
    ),
    _Attribute(
        "language",
        (
            "Which language did {name} learn at school?",
            "What foreign language does {name} speak?",
            "Which second language does {name} have?",
            "What language did {name} learn as a child?",
            "In which foreign language is {name} fluent?",
            "From which language does {name} translate?",
        ),
        ("{name} speaks {value}.", "The second language of {name} is {value}."),
        LANGUAGES,
    ),
    _Attribute(
        "hobby",
        (
            "What is the hobby of {name}?",
            "How does {name} spend free time?",
            "What does {name} like to do on Sundays?",
            "Which pastime does {name} enjoy?",
            "What is {name}'s favourite pastime?",
            "What does {name} do for fun?",
        ),
        ("{name} enjoys {value}.", "The hobby of {name} is {value}."),
        HOBBIES,
    ),
    _Attribute(
        "instrument",
        (
            "Which instrument does {name} play?",
            "What musical instrument did {name} learn?",
            "On which instrument does {name} make music?",
            "What instrument is heard in {name}'s house?",
            "What is the instrument of {name}?",
            "Which instrument can {name} play well?",
        ),
        ("{name} plays the {value}.", "The instrument of {name} is the {value}."),
        INSTRUMENTS,
    ),
    _Attribute(
        "residence",
        (
            "Where does {name} live?",
            "In which city does {name} live?",
            "What is the home town of {name} today?",
            "To which city has {name} moved?",
            "What is {name}'s place of residence?",
            "Which city does {name} call home?",
        ),
        ("{name} lives in {value}.", "The home of {name} is in {value}."),
        CITIES,
    ),
    _Attribute(
        "pet",
        (
            "Which pet does {name} have?",
            "What animal does {name} keep?",
            "What kind of pet lives with {name}?",
            "Which animal shares {name}'s home?",
            "What is the pet of {name}?",
            "What animal does {name} look after?",
        ),
        ("{name} keeps a {value}.", "The pet of {name} is a {value}."),
        PETS,
    ),
    _Attribute(
        "food",
        (
            "What is the favourite food of {name}?",
            "What does {name} like to eat?",
            "Which dish does {name} like best?",
            "What is {name}'s favourite dish?",
            "What would {name} order at a restaurant?",
            "Which meal does {name} love?",
        ),
        ("{name} likes to eat {value}.", "The favourite dish of {name} is {value}."),
        FOODS,
    ),
    _Attribute(
        "colour",
        (
            "What is the favourite colour of {name}?",
            "Which colour does {name} like best?",
            "What is {name}'s favourite colour?",
            "In which colour does {name} dress?",
            "What colour is {name}'s front door?",
            "Which colour does {name} love?",
        ),
        ("{name} likes the colour {value}.", "The favourite colour of {name} is {value}."),
        COLOURS,
    ),
    _Attribute(
        "illness",
        (
            "Which illness did {name} have as a child?",
            "What illness did {name} survive?",
            "From which disease did {name} recover?",
            "What was {name} ill with?",
            "Which disease kept {name} in bed for a year?",
            "What was the illness of {name}?",
        ),
        ("{name} recovered from {value}.", "The illness of {name} was {value}."),
        ILLNESSES,
    ),
    _Attribute(
        "mentor",
        (
            "Who was the mentor of {name}?",
            "Who taught {name} to write?",
            "Which teacher encouraged {name}?",
            "Who was {name}'s mentor?",
            "By whom was {name} taught?",
            "From whom did {name} learn the craft?",
        ),
        ("The mentor of {name} was {value}.", "{name} learned the craft from {value}."),
        MENTORS,
    ),
)

CAPITAL = _Attribute(
    "capital",
    (
        "What is the capital of {name}?",
        "Which city is the capital of {name}?",
        "What is the name of {name}'s capital?",
        "What is {name}'s capital city?",
        "In which city does the government of {name} sit?",
        "Which capital belongs to {name}?",
    ),
    ("{value}",),
)
WRITER = _Attribute(
    "writer",
    (
        "Who wrote {name}?",
        "Who is the author of {name}?",
        "By whom was {name} written?",
        "Which writer created {name}?",
        "Whose work is {name}?",
        "What is the name of the author of {name}?",
    ),
    ("{value}",),
)
CAPITALS = (
    ("Albania", "Tirana"),
    ("Algeria", "Algiers"),
    ("Argentina", "Buenos Aires"),
    ("Armenia", "Yerevan"),
    ("Australia", "Canberra"),
    ("Austria", "Vienna"),
    ("Bangladesh", "Dhaka"),
    ("Belgium", "Brussels"),
    ("Brazil", "Brasilia"),
    ("Bulgaria", "Sofia"),
    ("Cambodia", "Phnom Penh"),
    ("Canada", "Ottawa"),
    ("Chile", "Santiago"),
    ("China", "Beijing"),
    ("Colombia", "Bogota"),
    ("Croatia", "Zagreb"),
    ("Cuba", "Havana"),
    ("Denmark", "Copenhagen"),
    ("Ecuador", "Quito"),
    ("Egypt", "Cairo"),
    ("Estonia", "Tallinn"),
    ("Ethiopia", "Addis Ababa"),
    ("Finland", "Helsinki"),
    ("France", "Paris"),
    ("Georgia", "Tbilisi"),
    ("Germany", "Berlin"),
    ("Ghana", "Accra"),
    ("Greece", "Athens"),
    ("Hungary", "Budapest"),
    ("Iceland", "Reykjavik"),
    ("India", "New Delhi"),
    ("Indonesia", "Jakarta"),
    ("Iran", "Tehran"),
    ("Iraq", "Baghdad"),
    ("Ireland", "Dublin"),
    ("Italy", "Rome"),
    ("Jamaica", "Kingston"),
    ("Japan", "Tokyo"),
    ("Jordan", "Amman"),
    ("Kenya", "Nairobi"),
    ("Latvia", "Riga"),
    ("Lebanon", "Beirut"),
    ("Lithuania", "Vilnius"),
    ("Malaysia", "Kuala Lumpur"),
    ("Mongolia", "Ulaanbaatar"),
    ("Morocco", "Rabat"),
    ("Nepal", "Kathmandu"),
    ("New Zealand", "Wellington"),
    ("Norway", "Oslo"),
    ("Peru", "Lima"),
    ("Poland", "Warsaw"),
    ("Portugal", "Lisbon"),
    ("Romania", "Bucharest"),
    ("Senegal", "Dakar"),
    ("Spain", "Madrid"),
    ("Sweden", "Stockholm"),
    ("Thailand", "Bangkok"),
    ("Turkey", "Ankara"),
    ("Uruguay", "Montevideo"),
    ("Vietnam", "Hanoi"),
)
WORKS = (
    ("Anna Karenina", "Leo Tolstoy"),
    ("Beloved", "Toni Morrison"),
    ("Brave New World", "Aldous Huxley"),
    ("Candide", "Voltaire"),
    ("Crime and Punishment", "Fyodor Dostoevsky"),
    ("Dead Souls", "Nikolai Gogol"),
    ("Don Quixote", "Miguel de Cervantes"),
    ("Dracula", "Bram Stoker"),
    ("Emma", "Jane Austen"),
    ("Eugene Onegin", "Alexander Pushkin"),
    ("Fathers and Sons", "Ivan Turgenev"),
    ("Faust", "Johann Wolfgang von Goethe"),
    ("Frankenstein", "Mary Shelley"),
    ("Germinal", "Emile Zola"),
    ("Gulliver's Travels", "Jonathan Swift"),
    ("Hamlet", "William Shakespeare"),
    ("Heart of Darkness", "Joseph Conrad"),
    ("Invisible Man", "Ralph Ellison"),
    ("Jane Eyre", "Charlotte Bronte"),
    ("Les Miserables", "Victor Hugo"),
    ("Little Women", "Louisa May Alcott"),
    ("Madame Bovary", "Gustave Flaubert"),
    ("Middlemarch", "George Eliot"),
    ("Moby-Dick", "Herman Melville"),
    ("Mrs Dalloway", "Virginia Woolf"),
    ("Oliver Twist", "Charles Dickens"),
    ("One Hundred Years of Solitude", "Gabriel Garcia Marquez"),
    ("Paradise Lost", "John Milton"),
    ("Robinson Crusoe", "Daniel Defoe"),
    ("Swann's Way", "Marcel Proust"),
    ("The Cherry Orchard", "Anton Chekhov"),
    ("The Count of Monte Cristo", "Alexandre Dumas"),
    ("The Great Gatsby", "F. Scott Fitzgerald"),
    ("The Leopard", "Giuseppe Tomasi di Lampedusa"),
    ("The Magic Mountain", "Thomas Mann"),
    ("The Metamorphosis", "Franz Kafka"),
    ("The Stranger", "Albert Camus"),
    ("Things Fall Apart", "Chinua Achebe"),
    ("Ulysses", "James Joyce"),
    ("Wuthering Heights", "Emily Bronte"),
)
