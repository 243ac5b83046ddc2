"""The names, values and wordings of the invented authors and of the facts about the world."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Attribute:
    """A kind of fact."""

    name: str
    """What it is called."""
    questions: tuple[str, ...]
    """Templates over {name}."""
    answers: tuple[str, ...]
    """Templates over {name} and {value}."""
    values: tuple[str, ...] = ()
    """All that it can be."""


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _joined(first: str, second: str) -> tuple[str, ...]:
    """Return every first part with every second part."""
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
    Attribute(
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
    Attribute(
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
    Attribute(
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
    Attribute(
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
    Attribute(
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
    Attribute(
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
    Attribute(
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
    Attribute(
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
    Attribute(
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
    Attribute(
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
    Attribute(
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
    Attribute(
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
    Attribute(
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
    Attribute(
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
    Attribute(
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
    Attribute(
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
    Attribute(
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
    Attribute(
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
    Attribute(
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
    Attribute(
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

CAPITAL = Attribute(
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
WRITER = Attribute(
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
