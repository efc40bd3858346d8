"""The contribution of each test example to a score: the data of intervals and tests.

Every metric is a ratio of sums over units, 100 * sum(numerator) / sum(denominator):

    metric                          numerator                    denominator
    accuracy of pairs               right labels                 pairs
    F1, exact match of answers      sum of their values          questions
    accuracy of tags                right tags                   words
    F1 of tags, by either rule      twice the shared chunks      predicted and gold chunks

A unit is a group of rows that are not independent of each other: the questions about one context, the pairs with the
same first text (XNLI has three hypotheses for each premise), or one tagged sentence. It is named by the id of its first
row, so that a unit of a parallel corpus has the same name in all languages.

This is a module of its own, not part of `metrics`, so that an edit here does not retrain any model.
"""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workflow_scripts.corpora.schema import Row
from workflow_scripts.evaluation.metrics import bare_chunks, exact_match, f1
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.files import written
from workflow_scripts.experiment.kinds import Kind

# The texts that rows of one unit share.
SHARED = {"sentence_pair": "text_a", "question_answering": "context"}
SCHEMA = pa.schema(
    {
        "language": pa.dictionary(pa.int32(), pa.string()),
        "metric": pa.dictionary(pa.int32(), pa.string()),
        "unit": pa.string(),
        "numerator": pa.float64(),
        "denominator": pa.float64(),
    }
)

Sums = dict[str, tuple[float, float]]  # (numerator, denominator) by the name of the unit


def contributions(kind: Kind, rows: Sequence[Row], predictions: Mapping[str, Any]) -> dict[str, Sums]:
    """The sums of every metric of `metrics.score`, by unit, in the order of the units' first rows.

    Takes rows and predictions that `metrics.score` has accepted.
    """
    predicted = [predictions[row["id"]] for row in rows]
    parts: dict[str, list[tuple[float, float]]]
    if kind == "sentence_pair":
        right = [row["label"] == guess for row, guess in zip(rows, predicted, strict=True)]
        parts = {"accuracy": [(float(hit), 1.0) for hit in right]}
    elif kind == "tagging":
        gold = [row["tags"] for row in rows]
        parts = {
            "f1": chunk_sums(gold, predicted),
            "f1_xtreme": bare_chunk_sums(gold, predicted),
            "accuracy": _word_sums(gold, predicted),
        }
    else:
        gold = [row["answers"]["text"] for row in rows]
        parts = {
            name: [(metric(answers, guess) / 100, 1.0) for answers, guess in zip(gold, predicted, strict=True)]
            for name, metric in (("f1", f1), ("exact_match", exact_match))
        }
    units = unit_names(kind, rows)
    return {metric: _by_unit(units, values) for metric, values in parts.items()}


def unit_names(kind: Kind, rows: Sequence[Row]) -> list[str]:
    """The unit of each row, by the id of the unit's first row."""
    if kind not in SHARED:
        return [row["id"] for row in rows]
    first: dict[str, str] = {}
    return [first.setdefault(row[SHARED[kind]], row["id"]) for row in rows]


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
    """`chunk_sums` for chunks by XTREME's rule (`metrics.bare_chunks`), which never cross sentences."""
    chunks = [(bare_chunks(tags), bare_chunks(guesses)) for tags, guesses in zip(gold, predicted, strict=True)]
    return [(2.0 * len(right & guessed), float(len(right) + len(guessed))) for right, guessed in chunks]


def _chunks(sentences: Sequence[Sequence[str]]) -> set[tuple[str, int, int]]:
    from seqeval.metrics.sequence_labeling import (
        get_entities,
    )  # imported here: it takes seconds, which other steps need not wait for

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* seems not to be NE tag")
        return set(get_entities([list(tags) for tags in sentences]))


def _word_sums(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> list[tuple[float, float]]:
    return [
        (float(sum(tag == guess for tag, guess in zip(tags, guesses, strict=True))), float(len(tags)))
        for tags, guesses in zip(gold, predicted, strict=True)
    ]


def _by_unit(units: Sequence[str], values: Sequence[tuple[float, float]]) -> Sums:
    sums: Sums = {}
    for unit, (numerator, denominator) in zip(units, values, strict=True):
        before = sums.get(unit, (0.0, 0.0))
        sums[unit] = (before[0] + numerator, before[1] + denominator)
    return sums


def write_units(path: Path, units: Mapping[str, Mapping[str, Sums]]) -> None:
    """Write the sums of one tuned model, by language and metric, as parquet: one row a language, metric and unit."""
    rows = [
        (language, metric, unit, *sums)
        for language, metrics in units.items()
        for metric, by_unit in metrics.items()
        for unit, sums in by_unit.items()
    ]
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    with written(path) as temporary:
        pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), temporary)


def read_units(path: Path, metric: str) -> dict[str, Sums]:
    """One metric's sums by language, from what `write_units` wrote. Raises UserError for a missing or damaged file."""
    try:
        table = pq.read_table(path, columns=SCHEMA.names, filters=[("metric", "=", metric)])
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise UserError(f"{path} cannot be read as units ({error}): delete it and run again") from error
    columns = table.to_pydict()
    units: dict[str, Sums] = {}
    for language, unit, *sums in zip(
        *(columns[name] for name in ("language", "unit", "numerator", "denominator")), strict=True
    ):
        units.setdefault(language, {})[unit] = (sums[0], sums[1])
    return units
