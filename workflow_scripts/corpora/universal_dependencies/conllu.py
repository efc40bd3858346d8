"""CoNLL-U as XTREME turned it into tagged sentences: one row per written token, with the tag of its head word.

The rules are those of the tools that XTREME's scripts call (github.com/coastalcph/ud-conversion-tools, then
`udpos_preprocess` of github.com/google-research/xtreme).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from workflow_scripts.core.errors import UserError

COLUMNS = 10
UNKNOWN = "_"
ZERO_WIDTH_NON_JOINER = "\u200c"

# Which word gives a multiword token its tag when several are equally high in the tree.
PRECEDENCE = {
    "es": "VERB AUX PRON ADP DET",
    "fr": "VERB AUX PRON NOUN ADJ ADV ADP DET PART SCONJ CONJ",
    "it": "VERB AUX ADV PRON ADP DET INTJ",
}
OTHERWISE = "VERB NOUN PROPN PRON ADJ NUM ADV INTJ AUX ADP DET PART CCONJ SCONJ X PUNCT"


@dataclass(frozen=True)
class Word:
    """A syntactic word; `heads` are the ids of its basic and enhanced heads, 0 for the root."""

    form: str
    tag: str
    heads: frozenset[int]


@dataclass
class Sentence:
    """The words of a sentence by id, and its multiword tokens: the form by the ids of first and last word."""

    where: str
    words: dict[int, Word] = field(default_factory=dict)
    multiword: dict[tuple[int, int], str] = field(default_factory=dict)


def tagged_sentences(text: str, language: str, name: str) -> Iterator[tuple[list[str], list[str], str]]:
    """The sentences of a file that XTREME keeps: tokens, tags, and the place in the file for the reader.

    A sentence is kept if no form is missing (`_`), or if fewer than its length - 1 are. Raises UserError, naming file
    and line, where the file is not CoNLL-U.
    """
    for sentence in read(text, name):
        rows = list(_tokens(sentence, language))
        missing = sum(form == UNKNOWN for form, _ in rows)
        if missing == 0 or missing < len(rows) - 1:
            yield [_cleaned(form) for form, _ in rows], [tag for _, tag in rows], sentence.where


def _cleaned(form: str) -> str:
    return form.replace(ZERO_WIDTH_NON_JOINER, "").replace(" ", "")


def read(text: str, name: str) -> Iterator[Sentence]:
    """Each sentence of a CoNLL-U file; comments and empty nodes (ids such as 5.1) are left out. Raises UserError."""
    sentence = None
    # At line feeds alone: `str.splitlines` would also split inside a form.
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if not line:
            if sentence is not None and sentence.words:
                yield sentence
            sentence = None
        elif not line.startswith("#"):
            sentence = sentence or Sentence(f"{name}, sentence at line {number}")
            _add(sentence, line.split("\t"), f"{name}, line {number}")
    if sentence is not None and sentence.words:
        yield sentence


def _add(sentence: Sentence, columns: list[str], where: str) -> None:
    if len(columns) != COLUMNS:
        raise UserError(f"{where}: {len(columns)} columns between tabs, a CoNLL-U file has {COLUMNS}")
    identity, form, tag, head, enhanced = (columns[place] for place in (0, 1, 3, 6, 8))
    if re.fullmatch(r"\d+\.\d+", identity):
        return
    if span := re.fullmatch(r"(\d+)-(\d+)", identity):
        sentence.multiword[int(span[1]), int(span[2])] = form.strip()
        return
    if identity != str(len(sentence.words) + 1):
        raise UserError(f"{where}: found the id {identity!r}, expected {len(sentence.words) + 1}")
    heads = [head, *(relation.partition(":")[0] for relation in enhanced.split("|"))]
    sentence.words[int(identity)] = Word(form.strip(), tag.strip(), frozenset(int(h) for h in heads if h.isdecimal()))


def _tokens(sentence: Sentence, language: str) -> Iterator[tuple[str, str]]:
    """Yield form and tag of each token as written: a multiword token replaces all of its words."""
    ends = {first: (last, form) for (first, last), form in sentence.multiword.items()}
    position = 1
    while position <= len(sentence.words):
        last, form = ends.get(position, (position, sentence.words[position].form))
        if last > len(sentence.words) or last < position:
            raise UserError(f"{sentence.where}: the multiword token {position}-{last} has no words of its own")
        span = range(position, last + 1)
        yield form, sentence.words[head_word(sentence, span, language)].tag
        position = last + 1


def head_word(sentence: Sentence, span: range, language: str) -> int:
    """The word of a span with the fewest ancestors; of several the one whose tag comes first, then the leftmost.

    A tag that the language's order does not have comes after all that it has.
    """
    depths = {word: len(_ancestors(sentence, word)) for word in span}
    highest = [word for word in span if depths[word] == min(depths.values())]
    order = PRECEDENCE.get(language, OTHERWISE).split()
    ranks = {tag: rank for rank, tag in enumerate(order)}
    return min(highest, key=lambda word: ranks.get(sentence.words[word].tag, len(order)))


def _ancestors(sentence: Sentence, word: int) -> set[int]:
    """All that can be reached from a word over heads, the root 0 included and the word itself not."""
    reached: set[int] = set()
    waiting = list(sentence.words[word].heads)
    while waiting:
        head = waiting.pop()
        if head not in reached:
            reached.add(head)
            if head in sentence.words:
                waiting += sentence.words[head].heads
    return reached - {word}
