"""Metrics of every kind of task, computed as XTREME computes them (Hu et al. 2020, `evaluate.py` in its repository).

All values are percentages: floats from 0 to 100, not rounded. Gold labels come first, predictions second.
"""

import re
import string
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from workflow_scripts.corpora.schema import Row
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.kinds import Kind

ARTICLES = re.compile(r"\b(a|an|the)\b")
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def accuracy(gold: Sequence[str], predicted: Sequence[str]) -> float:
    """Share of correct labels, in percent. Both sequences have the same length and are not empty."""
    right = sum(label == guess for label, guess in zip(gold, predicted, strict=True))
    return 100.0 * right / len(gold)


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


def normalise_answer(text: str) -> str:
    """The answer as SQuAD 1.1's official script compares it: lower case, without ASCII punctuation and a, an, the.

    XTREME applies these English rules to every language. Full-width punctuation is kept, a text without spaces is one
    word, and every separate `a`, `an` or `the` is removed even if it is not an article, such as Spanish `a`, German
    `an`, or an `a` followed by a combining accent.
    """
    return " ".join(ARTICLES.sub(" ", text.lower().translate(WITHOUT_PUNCTUATION)).split())


def exact_match(gold: Sequence[str], predicted: str) -> float:
    """100 if the prediction equals one of the gold answers after normalisation, else 0 (SQuAD 1.1)."""
    return 100.0 * (normalise_answer(predicted) in map(normalise_answer, gold))


def f1(gold: Sequence[str], predicted: str) -> float:
    """F1 of the words that the prediction shares with its best gold answer, in percent (SQuAD 1.1)."""
    return max(_word_f1(answer, predicted) for answer in gold)


def answer_scores(gold: Sequence[Sequence[str]], predicted: Sequence[str]) -> dict[str, float]:
    """Mean `f1` and `exact_match` over all questions; `gold`: the gold answers of each question."""

    def mean(metric: Callable[[Sequence[str], str], float]) -> float:
        return sum(metric(answers, guess) for answers, guess in zip(gold, predicted, strict=True)) / len(gold)

    return {"f1": mean(f1), "exact_match": mean(exact_match)}


def score(kind: Kind, rows: Sequence[Row], predictions: Mapping[str, Any]) -> dict[str, float]:
    """All metrics of a kind of task, in percent, the main one first.

    Args:
        kind: decides the metrics: sentence pair `accuracy`; tagging `f1`, `f1_xtreme`, `accuracy`; question answering
            `f1`, `exact_match`.
        rows: the gold rows (`corpora.schema`).
        predictions: by row id, a label, a list of tags (one for each word) or the text of an answer.

    Raises UserError if there are no rows, if rows and predictions differ in their ids, or if a sentence has more or
    fewer predicted tags than words.
    """
    _check_ids(rows, predictions)
    predicted = [predictions[row["id"]] for row in rows]
    if kind == "sentence_pair":
        return {"accuracy": accuracy([row["label"] for row in rows], predicted)}
    if kind == "tagging":
        gold = [row["tags"] for row in rows]
        _check_tag_counts(rows, predicted)
        return {
            "f1": tagging_f1(gold, predicted),
            "f1_xtreme": tagging_f1_xtreme(gold, predicted),
            "accuracy": tagging_accuracy(gold, predicted),
        }
    return answer_scores([row["answers"]["text"] for row in rows], predicted)


def majority_baseline(kind: Kind, rows: Sequence[Row]) -> float:
    """The main metric, in percent, of always predicting the most frequent label or tag of `rows`.

    For tagging this is `tagging_f1` with that tag on every word. It is near 0, since each sentence is then a single
    chunk: 0.1 on XTREME's English test set, although 18.3 % of the words are correct. For question answering it is 0:
    the questions share no answer.
    """
    if kind == "question_answering":
        return 0.0
    if kind == "sentence_pair":
        commonest = _commonest(row["label"] for row in rows)
        return accuracy([row["label"] for row in rows], [commonest] * len(rows))
    gold = [row["tags"] for row in rows]
    commonest = _commonest(_flat(gold))
    return tagging_f1(gold, [[commonest] * len(tags) for tags in gold])


def _flat(sentences: Sequence[Sequence[str]]) -> list[str]:
    return [tag for tags in sentences for tag in tags]


def _commonest(labels: Iterable[str]) -> str:
    """The most frequent label; ties go to the first to occur."""
    return Counter(labels).most_common(1)[0][0]


def _word_f1(gold: str, predicted: str) -> float:
    gold_words = normalise_answer(gold).split()
    predicted_words = normalise_answer(predicted).split()
    shared = (Counter(gold_words) & Counter(predicted_words)).total()
    if shared == 0:
        # Also if both are empty (the answer "The"): the official script gives F1 0 and exact match 100 then.
        return 0.0
    precision, recall = shared / len(predicted_words), shared / len(gold_words)
    return 100.0 * 2 * precision * recall / (precision + recall)


def _check_ids(rows: Sequence[Row], predictions: Mapping[str, Any]) -> None:
    if not rows:
        raise UserError("there are no rows to score")
    ids = {row["id"]: None for row in rows}  # A dictionary as a set that keeps its order.
    missing = [row_id for row_id in ids if row_id not in predictions]
    extra = [row_id for row_id in predictions if row_id not in ids]
    counts = f"{len(rows)} rows, {len(predictions)} predictions"
    if missing:
        raise UserError(
            f"{len(missing)} rows have no prediction, the first is {missing[0]!r} ({counts}): predict again"
        )
    if extra:
        raise UserError(f"{len(extra)} predictions have no row, the first is {extra[0]!r} ({counts}): predict again")


def _check_tag_counts(rows: Sequence[Row], predicted: Sequence[Sequence[str]]) -> None:
    for row, tags in zip(rows, predicted, strict=True):
        if len(tags) != len(row["tags"]):
            raise UserError(f"sentence {row['id']!r} has {len(row['tags'])} words but {len(tags)} predicted tags")
