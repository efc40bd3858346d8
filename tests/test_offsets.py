"""Answers keep their position: gold answers of real XQuAD, tokenised with each kind of tokenizer and decoded again.

A tokenizer may join the edge of an answer with its neighbour (`▁(118` for 118). Then no span of tokens equals the
answer exactly. What must hold: the tokens of an answer cover it, and none of them is completely outside it.
"""

from pathlib import Path
from typing import Any

import pytest
from step_settings import tokenising
from task_rows import real_languages, real_rows
from tokenizer_kinds import KINDS, trained

from workflow_scripts.kinds.question_answering import model as question_answering
from workflow_scripts.kinds.question_answering.metrics import exact_match
from workflow_scripts.kinds.tokenizer import load_tokenizer

SURVIVE = 99.9  # percent of the answers of every language


@pytest.fixture(scope="module")
def tokenizers(bundled_encoder) -> dict[str, Any]:
    """The bundled encoder's tokenizer, which has XLM-R's vocabulary, and one of each other kind."""
    folder = Path(__file__).parents[2] / "shared" / "data" / "xtreme"
    if not folder.is_dir():
        pytest.skip(f"the real data are not in {folder}")
    texts = sorted(
        {row["context"] for language in real_languages(folder, "xquad") for row in real_rows(folder, "xquad", language)}
    )
    learnt = {kind: trained(kind, texts) for kind in KINDS[1:]}
    return {KINDS[0]: load_tokenizer(bundled_encoder), **learnt}


def gold_spans(rows: list[dict[str, Any]], tokenizer: Any) -> dict[int, tuple[tuple[int, int], tuple[int, int]]]:
    """By row: the characters of the first and of the last token of its answer, in the last window that contains it."""
    settings = tokenising(max_length=384, stride=128, split="train", task="xquad")
    columns, _ = question_answering.tokenise(rows, tokenizer, settings)
    spans = {}
    names = ("row", "start", "end", "offset_start", "offset_end")
    for number, first, last, starts, ends in zip(*(columns[name] for name in names), strict=True):
        if first:
            spans[number] = ((starts[first], ends[first]), (starts[last], ends[last]))
    return spans


@pytest.mark.parametrize("kind", KINDS)
def test_gold_answers_survive_tokenising_and_decoding_in_every_script(tokenizers, xtreme_folder, kind):
    languages = real_languages(xtreme_folder, "xquad")
    assert set(languages) >= {"ar", "de", "en", "es", "ru", "zh"}
    lost = {}
    for language in languages:
        rows = real_rows(xtreme_folder, "xquad", language)
        spans = gold_spans(rows, tokenizers[kind])
        missing = []
        for number, row in enumerate(rows):
            text, begin = row["answers"]["text"][0], row["answers"]["start"][0]
            stop = begin + len(text)
            (start, first_ends), (last_starts, end) = spans.get(number, ((-1, -1), (-1, -1)))
            found = row["context"][max(start, 0) : max(end, 0)]
            covers = 0 <= start <= begin and stop <= end and text in found
            touches = begin < first_ends and last_starts < stop and found == found.strip()
            if not (covers and touches):
                missing.append((row["id"], text, found))
        if len(missing) > (1 - SURVIVE / 100) * len(rows):
            lost[language] = missing
    assert not lost


def test_what_the_bundled_tokenizer_joins_with_an_answer_costs_little(tokenizers, xtreme_folder):
    """The score of a model that always finds the right tokens; the assertion's message shows what it misses.

    Measured: 99.9 to 100 for German, English, Spanish and Russian; Arabic 99.3, where "and" is a part of the next word,
        and Chinese 98.9, where a token may end within a phrase. The score ignores only ASCII punctuation.
    """
    floors = {"ar": 99.3, "de": 99.9, "en": 99.9, "es": 99.9, "ru": 99.9, "zh": 98.9}
    for language, floor in floors.items():
        rows = real_rows(xtreme_folder, "xquad", language)
        spans = gold_spans(rows, tokenizers["SentencePiece unigram"])
        joined = []
        for number, row in enumerate(rows):
            (start, _), (_, end) = spans[number]
            if not exact_match(row["answers"]["text"], row["context"][start:end]):
                joined.append((row["answers"]["text"], row["context"][start:end]))
        assert 100 * (1 - len(joined) / len(rows)) >= floor, (language, joined)
