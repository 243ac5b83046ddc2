"""Templates: other ways to ask for a fact, by fixed texts and rules of this project that serve any dataset.

A template is a pure function from an item and what the attacker knows beside it (`PromptContext`) to the probe that is
asked in its place, or None where the item cannot be asked so. Questions are framed anywhere; a sentence that the model
has to complete (`is_completion`) only from the front. Nothing that a template adds names the answer, but where options
do.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from unlearn.attacks.prompts.contexts import background_hint, in_context, k_shot
from unlearn.attacks.prompts.forms import (
    affirmative_suffix,
    begun_answer,
    cloze,
    multiple_choice,
    options,
    reverse_query,
    stem,
    true_false,
)
from unlearn.attacks.prompts.frames import FRAMES, LANGUAGES, PARAPHRASES, Template
from unlearn.attacks.prompts.wordings import cross_lingual, paraphrase, synonym_manipulation, variables

if TYPE_CHECKING:
    from collections.abc import Mapping

Rwku = Literal[
    "prefix_injection",
    "affirmative_suffix",
    "role_play",
    "multiple_choice",
    "reverse_query",
    "synonym_manipulation",
    "background_hint",
    "in_context",
    "cross_lingual",
]
Further = Literal[
    "paraphrase",
    "cloze",
    "options",
    "true_false",
    "stem",
    "begun_answer",
    "prefix",
    "k_shot",
    "persona",
    "do_not_refuse",
    "step_by_step",
    "filler",
    "conversation",
    "poem",
    "variables",
]
Kind = Literal[Rwku, Further]

TEMPLATES: Mapping[Kind, Mapping[str, Template]] = {
    "prefix_injection": FRAMES["prefix_injection"],
    "affirmative_suffix": {"": affirmative_suffix},
    "role_play": FRAMES["role_play"],
    "multiple_choice": {"": multiple_choice},
    "reverse_query": {"": reverse_query},
    "synonym_manipulation": {"": synonym_manipulation},
    "background_hint": {"": background_hint},
    "in_context": {"": in_context},
    "cross_lingual": {language: partial(cross_lingual, language=language) for language in LANGUAGES},
    "paraphrase": {str(n + 1): partial(paraphrase, n=n) for n in range(len(PARAPHRASES))},
    "cloze": {"": cloze},
    "options": {"": options},
    "true_false": {"true": partial(true_false, truth=True), "false": partial(true_false, truth=False)},
    "stem": {"": stem},
    "begun_answer": {"": begun_answer},
    "prefix": FRAMES["prefix"],
    "k_shot": {"": k_shot},
    "persona": FRAMES["persona"],
    "do_not_refuse": FRAMES["do_not_refuse"],
    "step_by_step": FRAMES["step_by_step"],
    "filler": FRAMES["filler"],
    "conversation": FRAMES["conversation"],
    "poem": FRAMES["poem"],
    "variables": {"": variables},
}
"""The templates of each kind, by a label where there are several."""

OPEN = frozenset({"affirmative_suffix", "begun_answer"})  # the answer is begun in the question's text
BARE = frozenset({"stem"})  # a text of its own: no tags at all
CHOSEN = frozenset({"multiple_choice", "options", "true_false"})  # the answer is chosen by its likelihood: another K
WITH_FACTS = frozenset({"background_hint", "in_context", "reverse_query"})  # facts about the entity are given
