"""MLQA's normalisation of answers, which depends on the language (Lewis et al. 2020; `mlqa_evaluation_v1.py`)."""

import re
import string
import unicodedata
from functools import cache

from workflow_scripts.core.errors import UserError

# The whole words that are removed as articles. Vietnamese has classifiers, a copula and a preposition here.
ARTICLES = {
    "ar": (),
    "de": tuple("ein eine einen einem eines einer der die das den dem des".split()),
    "en": ("a", "an", "the"),
    "es": tuple("un una unos unas el la los las".split()),
    "hi": (),
    "vi": tuple("của là cái chiếc những".split()),
    "zh": (),
}
ARABIC_ARTICLE = "ال"  # a prefix, but MLQA's script removes these two letters anywhere in a word
IDEOGRAPH = re.compile("([\u4e00-\u9fa5])")


def normalise_answer(text: str, language: str) -> str:
    """The answer as MLQA's script compares it, its words separated by one space each.

    It is in lower case, without punctuation of any script and without the articles of the language. In Chinese each
    ideograph is a word. language: a key of `ARTICLES`.
    """
    bare = "".join(character for character in text.lower() if not _is_punctuation(character))
    if language == "ar":
        bare = bare.replace(ARABIC_ARTICLE, " ")
    elif language == "zh":
        bare = IDEOGRAPH.sub(r" \1 ", bare)
    elif ARTICLES[language]:
        bare = re.sub(rf"\b({'|'.join(ARTICLES[language])})\b", " ", bare)
    return " ".join(bare.split())


def code_of(language: str) -> str:
    """The key of `ARTICLES` for a language code such as `zh` or `zh-Hans`. Raises UserError for other languages."""
    code = re.split("[-_]", language)[0]
    if code not in ARTICLES:
        raise UserError(
            f"MLQA defines no normalisation of answers in {language!r}, only in {', '.join(ARTICLES)}: set"
            " `normalisation: squad`"
        )
    return code


def may_remove(character: str, language: str) -> bool:
    """Whether normalisation removes this character from some lower-case texts; it removes no others."""
    letters = ARABIC_ARTICLE if language == "ar" else "".join(ARTICLES[language])
    return character.isspace() or character in letters or _is_punctuation(character)


@cache
def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")
