"""Upper bounds of question answering scores: the best that any answer made of whole tokens can reach.

A gold answer may begin or end inside a token (`▁(118` for 118). Then no span of tokens equals it, and no model with
this tokenizer can predict it. With XLM-R's vocabulary this costs XQuAD 0 to 1 points of exact match, and Telugu in
TyDiQA 20.

A context has too many spans to normalise and compare them all. Their *skeletons* narrow them down: the text in lower
case without white space, punctuation and the letters of articles, such as those of `a`, `an` and `the`. Normalisation
removes only such characters (`metrics.Normalisation.may_remove`). So two texts that are equal after it have the same
skeleton, and a text that shares a word with an answer contains that word's skeleton.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import numpy as np

from workflow_scripts.kinds.protocol import Row
from workflow_scripts.kinds.question_answering.metrics import SQUADS, Normalisation, exact_match, f1, normalisation
from workflow_scripts.kinds.question_answering.model import LONGEST_ANSWER
from workflow_scripts.kinds.settings import ScoringSettings
from workflow_scripts.kinds.tokens import Tokens

Window = tuple[np.ndarray, np.ndarray]  # of each token, the first character and the one after the last
Place = tuple[int, int]  # the first character of a span and the one after the last


def ceilings(rows: Sequence[Row], tokens: Tokens, scoring: ScoringSettings) -> dict[str, float]:
    """The best scores that spans of tokens reach, averaged over all questions: metric -> percent."""
    windows: list[list[Window]] = [[] for _ in rows]
    starts, ends = tokens.ragged("offset_start"), tokens.ragged("offset_end")
    for feature, row in enumerate(tokens.plain("row")):
        windows[row].append((starts[feature], ends[feature]))
    normalise = normalisation(scoring)
    best = [
        best_scores(row["context"], row["answers"]["text"], row_windows, LONGEST_ANSWER, normalise)
        for row, row_windows in zip(rows, windows, strict=True)
    ]
    return {metric: sum(scores[metric] for scores in best) / len(best) for metric in best[0]}


def best_scores(
    context: str,
    answers: Sequence[str],
    windows: Sequence[Window],
    longest: int,
    normalise: Normalisation = SQUADS,
) -> dict[str, float]:
    """The highest `exact_match` and `f1` of any span of at most `longest` tokens in any window, in percent.

    context: the text that the character offsets of the windows refer to. A token that starts at -1 or is empty cannot
    begin or end a span. answers: the gold answers. Without any span the prediction is empty, as in decoding.
    """
    index = _Index(context, normalise)
    spans = [_Spans(starts, ends, longest, index) for starts, ends in windows]
    if not any(len(each.firsts) for each in spans):
        return {"f1": f1(answers, "", normalise), "exact_match": exact_match(answers, "", normalise)}
    best_exact = 0.0
    for answer in answers:
        equal = {place for each in spans for place in each.with_skeleton(skeleton(answer, normalise))}
        if any(exact_match([answer], context[start:end], normalise) for start, end in equal):
            best_exact = 100.0
            if normalise(answer):
                return {"f1": 100.0, "exact_match": 100.0}
    words = {skeleton(word, normalise) for answer in answers for word in normalise(answer).split()}
    near = {place for each in spans for place in each.around(words)}
    return {
        "f1": max((f1(answers, context[start:end], normalise) for start, end in near), default=0.0),
        "exact_match": best_exact,
    }


def skeleton(text: str, normalise: Normalisation = SQUADS) -> str:
    """The text in lower case without the characters that normalisation may remove (see the module's docstring)."""
    return "".join(_of_character(character, normalise) for character in text)


@cache
def _of_character(character: str, normalise: Normalisation) -> str:
    # The lower case of a capital sigma depends on the next character.
    lower = character.lower().replace("ς", "σ")
    return "".join(part for part in lower if not normalise.may_remove(part))


class _Index:
    """The skeleton of a context, and its length up to each character."""

    def __init__(self, context: str, normalise: Normalisation) -> None:
        parts = [_of_character(character, normalise) for character in context]
        self.text = "".join(parts)
        self.before = np.cumsum([0, *map(len, parts)])

    def occurrences(self, part: str) -> Iterator[int]:
        """The positions of a part in the skeleton, overlapping occurrences included."""
        place = self.text.find(part)
        while place >= 0:
            yield place
            place = self.text.find(part, place + 1)


class _Spans:
    """The spans of one window: those that begin and end with a token of the context, of at most `longest` tokens."""

    def __init__(self, starts: np.ndarray, ends: np.ndarray, longest: int, index: _Index) -> None:
        inside = np.flatnonzero((starts >= 0) & (ends > starts))
        lengths = inside[None, :] - inside[:, None] + 1
        first, last = np.nonzero((lengths >= 1) & (lengths <= longest))
        self.index = index
        self.firsts, self.lasts = starts[inside][first], ends[inside][last]  # characters of each span
        self.skeleton_starts, self.skeleton_ends = index.before[self.firsts], index.before[self.lasts]

    def with_skeleton(self, wanted: str) -> Iterator[Place]:
        """The spans whose skeleton is the wanted one."""
        fits = self.skeleton_ends - self.skeleton_starts == len(wanted)
        if wanted:
            fits &= np.isin(self.skeleton_starts, list(self.index.occurrences(wanted)))
        yield from self._places(fits)

    def around(self, wanted: Iterable[str]) -> Iterator[Place]:
        """The spans whose skeleton contains one of the wanted ones."""
        fits = np.zeros(len(self.firsts), dtype=bool)
        for part in wanted:
            if not part:
                fits[:] = True  # A word such as "ten" has no skeleton: it may be anywhere.
            for place in self.index.occurrences(part) if part else ():
                fits |= (self.skeleton_starts <= place) & (self.skeleton_ends >= place + len(part))
        yield from self._places(fits)

    def _places(self, chosen: np.ndarray) -> Iterator[Place]:
        return zip(self.firsts[chosen].tolist(), self.lasts[chosen].tolist(), strict=True)
