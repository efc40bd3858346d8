"""Scores of tagging: F1 of chunks by two rules, and accuracy of words (Hu et al. 2020; XTREME's `evaluate.py`)."""

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.kinds.accuracy import accuracy, most_frequent
from workflow_scripts.kinds.protocol import Row, Sums
from workflow_scripts.kinds.settings import ScoringSettings


def score(rows: Sequence[Row], predictions: Sequence[Any], scoring: ScoringSettings) -> dict[str, float]:
    """`f1`, `f1_xtreme` and `accuracy`. Raises UserError if a sentence has more or fewer predicted tags than words."""
    gold = [row["tags"] for row in rows]
    check_tag_counts(rows, predictions)
    return {
        "f1": tagging_f1(gold, predictions),
        "f1_xtreme": tagging_f1_xtreme(gold, predictions),
        "accuracy": tagging_accuracy(gold, predictions),
    }


def correct(rows: Sequence[Row], predictions: Sequence[Any], scoring: ScoringSettings) -> list[list[bool]]:
    """Whether each word of a sentence has the correct tag."""
    return [
        [tag == guess for tag, guess in zip(row["tags"], tags, strict=True)]
        for row, tags in zip(rows, predictions, strict=True)
    ]


def baseline(rows: Sequence[Row], scoring: ScoringSettings) -> float:
    """`tagging_f1` with the most frequent tag on every word.

    It is near 0, since each sentence is then a single chunk: 0.1 on XTREME's English test set, although 18.3 % of the
    words are correct.
    """
    gold = [row["tags"] for row in rows]
    commonest = most_frequent(_flat(gold))
    return tagging_f1(gold, [[commonest] * len(tags) for tags in gold])


def contributions(rows: Sequence[Row], predictions: Sequence[Any], scoring: ScoringSettings) -> dict[str, Sums]:
    """Of F1, twice the shared chunks, and the predicted and gold chunks; of accuracy, correct words and words."""
    gold = [row["tags"] for row in rows]
    return {
        "f1": chunk_sums(gold, predictions),
        "f1_xtreme": bare_chunk_sums(gold, predictions),
        "accuracy": word_sums(gold, predictions),
    }


def tagging_accuracy(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float:
    """Share of the words of all sentences with the correct tag, in percent."""
    return accuracy(_flat(gold), _flat(predicted))


def tagging_f1(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float:
    """Micro-averaged F1 of seqeval 1.2.2's chunks over bare tags, in percent: the paper's score for UD-POS.

    This is not a score of words. seqeval 1.x interprets the first letter of a tag as a chunk prefix (the `B` of
    `B-PER`) and the rest as the type. Adjacent words with the same tag are one chunk, correct or wrong as a whole,
    except for tags in S, which is the prefix of a chunk of one word; CCONJ and SCONJ are one type. XLM-R-large scores
    74.2 by this rule with an accuracy of 78.2. The paper's code pins this version. XTREME's published rows follow an
    older rule, see `tagging_f1_xtreme`; `tagging_accuracy` counts words.
    """
    # Imported here: seqeval imports scikit-learn, which takes 0.9 s that other steps need not wait for.
    from seqeval.metrics import f1_score

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* seems not to be NE tag")
        return 100.0 * float(f1_score([list(tags) for tags in gold], [list(tags) for tags in predicted]))


def tagging_f1_xtreme(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float:
    """Micro-averaged F1 of the chunks of `bare_chunks`, in percent: the rule of XTREME's own UD-POS scores.

    XTREME's test of its scorer (`evaluate_test.py`) expects this value, which seqeval 0.0.12 gave when XTREME was
    published. It differs from `tagging_f1` in that CCONJ and SCONJ are two types, and X is a type like any other.
    """
    shared = found = 0
    for tags, guesses in zip(gold, predicted, strict=True):
        of_gold, of_guesses = bare_chunks(tags), bare_chunks(guesses)
        shared += len(of_gold & of_guesses)
        found += len(of_gold) + len(of_guesses)
    return 100.0 * 2 * shared / found if found else 0.0


def bare_chunks(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """The chunks of one sentence as (tag, first word, last word), with the whole tag as the type.

    Adjacent words with the same tag are one chunk. With SYM and SCONJ each word is a chunk, since all versions of
    seqeval interpret an initial S as the prefix of a chunk of one word. The same holds for B and E, with which no UPOS
    tag begins.
    """
    chunks = set()
    first = 0
    for word, tag in enumerate(tags):
        if word + 1 == len(tags) or tags[word + 1] != tag or tag[0] in "BES":
            chunks.add((tag, first, word))
            first = word + 1
    return chunks


def chunk_sums(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> list[tuple[float, float]]:
    """For each sentence, twice its shared chunks, and its gold and predicted chunks, as seqeval 1.2.2 counts them.

    A chunk belongs to the sentence that it ends in. seqeval reads all sentences as one text, and a chunk of bare tags
    `X` can begin in an earlier sentence. So all sentences are passed at once, and the sums give seqeval's F1 exactly.
    """
    # seqeval puts one tag O after each sentence.
    sentence_of = [number for number, tags in enumerate(gold) for _ in range(len(tags) + 1)]
    gold_chunks, predicted_chunks = _chunks(gold), _chunks(predicted)
    shared = Counter(sentence_of[end] for _, _, end in gold_chunks & predicted_chunks)
    found = Counter(sentence_of[end] for chunks in (gold_chunks, predicted_chunks) for _, _, end in chunks)
    return [(2.0 * shared[number], float(found[number])) for number in range(len(gold))]


def bare_chunk_sums(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> list[tuple[float, float]]:
    """`chunk_sums` for chunks by XTREME's rule (`bare_chunks`), which never cross sentences."""
    chunks = [(bare_chunks(tags), bare_chunks(guesses)) for tags, guesses in zip(gold, predicted, strict=True)]
    return [(2.0 * len(right & guessed), float(len(right) + len(guessed))) for right, guessed in chunks]


def _chunks(sentences: Sequence[Sequence[str]]) -> set[tuple[str, int, int]]:
    from seqeval.metrics.sequence_labeling import (
        get_entities,
    )  # imported here: it takes seconds, which other steps need not wait for

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* seems not to be NE tag")
        return set(get_entities([list(tags) for tags in sentences]))


def word_sums(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> list[tuple[float, float]]:
    """For each sentence, its words with the correct tag, and its words."""
    return [
        (float(sum(tag == guess for tag, guess in zip(tags, guesses, strict=True))), float(len(tags)))
        for tags, guesses in zip(gold, predicted, strict=True)
    ]


def _flat(sentences: Sequence[Sequence[str]]) -> list[str]:
    return [tag for tags in sentences for tag in tags]


def check_tag_counts(rows: Sequence[Row], predicted: Sequence[Sequence[str]]) -> None:
    """Raise UserError if a sentence has more or fewer predicted tags than words."""
    for row, tags in zip(rows, predicted, strict=True):
        if len(tags) != len(row["tags"]):
            raise UserError(f"sentence {row['id']!r} has {len(row['tags'])} words but {len(tags)} predicted tags")
