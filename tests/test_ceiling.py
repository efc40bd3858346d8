"""The ceiling of question answering is the best of all spans: a comparison with exhaustive search."""

import json
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import pytest
from step_settings import scoring, tokenising
from task_rows import rows_of
from tiny import in_memory

from workflow_scripts import bound
from workflow_scripts.corpora.schema import write_rows
from workflow_scripts.kinds.question_answering import model as question_answering
from workflow_scripts.kinds.question_answering.ceiling import best_scores, ceilings, skeleton
from workflow_scripts.kinds.question_answering.metrics import exact_match, f1, normalisation
from workflow_scripts.kinds.question_answering.model import LONGEST_ANSWER
from workflow_scripts.kinds.tokenizer import load_tokenizer
from workflow_scripts.kinds.tokens import write_tokens

# Articles and their letters, punctuation of both kinds, spaces of two kinds, and letters whose lower case depends on
# their neighbours (Σ) or is longer than they are (İ).
PARTS = [
    *("a", "an", "the", "The", "ten", "heat", "x", "y2", "Σ", "ΟΔΟΣ", "İ", "東京", "。", ",", "-", "'"),
    *(" ", " ", " ", "\u00a0"),
]
# The same for other languages, for MLQA's rules.
MLQA_PARTS = {
    "en": PARTS,
    "de": [*PARTS, "der", "Des", "einer", "er"],
    "es": [*PARTS, "la", "Los", "una", "sol", "¿"],
    "vi": [*PARTS, "là", "Của", "cái", "l"],
    "ar": [*PARTS, "ال", "البيت", "لا", "،"],
    "hi": [*PARTS, "घर", "।"],
    "zh": [*PARTS, "京", "年", "，", "カ"],
}
SQUAD = normalisation(scoring(normalisation="squad"))
RULES = {"squad": (SQUAD, PARTS)} | {
    f"mlqa {language}": (normalisation(scoring(normalisation="mlqa", language=language)), parts)
    for language, parts in MLQA_PARTS.items()
}


@pytest.fixture(scope="module")
def bundled_tokenizer(bundled_encoder) -> Any:
    return load_tokenizer(bundled_encoder)


def by_brute_force(context, answers, windows, longest, normalise) -> dict[str, float]:
    """Every span of every window that decoding may choose."""
    texts = []
    for starts, ends in windows:
        inside = [place for place, (start, end) in enumerate(zip(starts, ends, strict=True)) if 0 <= start < end]
        texts += [
            context[starts[first] : ends[last]] for first in inside for last in inside if 0 <= last - first < longest
        ]
    texts = texts or [""]
    return {
        "f1": max(f1(answers, text, normalise) for text in texts),
        "exact_match": max(exact_match(answers, text, normalise) for text in texts),
    }


def random_case(random: Random, parts: list[str]) -> tuple[str, list[str], list[tuple[np.ndarray, np.ndarray]], int]:
    """A context cut at random into tokens that may lack spaces, windows that overlap, and answers near the truth."""
    context = "".join(random.choices(parts, k=random.randint(1, 14)))
    cuts = sorted({0, len(context), *random.choices(range(len(context) + 1), k=random.randint(1, 12))})
    tokens = []
    for start, end in pairwise(cuts):
        while start < end - 1 and context[start].isspace() and random.random() < 0.8:
            start += 1
        tokens.append((start, end))
    tokens.insert(random.randint(0, len(tokens)), (cuts[-2] if len(cuts) > 1 else 0,) * 2)  # an empty token
    size = random.randint(1, len(tokens))
    windows = []
    for first in range(0, len(tokens), max(1, size // 2)):
        starts, ends = zip((-1, -1), *tokens[first : first + size], (-1, -1), strict=True)
        windows.append((np.array(starts), np.array(ends)))
    answers = []
    for _ in range(random.randint(1, 3)):
        start = random.randint(0, len(context) - 1)
        answers.append(context[start : random.randint(start + 1, len(context))] + random.choice(["", "", ".", " the"]))
    return context, answers, windows, random.randint(1, 6)


CASES = [*(("squad", seed) for seed in range(40)), *((rules, seed) for rules in list(RULES)[1:] for seed in range(8))]


@pytest.mark.parametrize(("rules", "seed"), CASES)
def test_the_best_scores_are_those_of_trying_every_span(rules, seed):
    normalise, parts = RULES[rules]
    random = Random(seed)
    found = {"f1": [], "exact_match": []}
    for _ in range(50):
        case = random_case(random, parts)
        scores = best_scores(*case, normalise)
        assert scores == pytest.approx(by_brute_force(*case, normalise)), case
        for metric, value in scores.items():
            found[metric].append(value)
    assert 0 < np.mean(found["exact_match"]) < 100
    assert len(set(found["f1"])) > 2


@pytest.mark.parametrize("rules", RULES)
def test_texts_that_are_equal_after_normalisation_have_one_skeleton(rules):
    normalise, parts = RULES[rules]
    random = Random(0)
    by_normalised: dict[str, str] = {}
    repeated = 0
    for _ in range(20_000):
        text = "".join(random.choices(parts, k=random.randint(0, 5)))
        kept = by_normalised.setdefault(normalise(text), skeleton(text, normalise))
        assert kept == skeleton(text, normalise), text
        repeated += kept != ""
    assert repeated > len(by_normalised) * (1 if rules == "squad" else 0.5)


def test_an_answer_that_ends_inside_a_token_is_out_of_reach_but_not_its_words():
    context = "born in(118 BC) there"
    ends = [len("born"), len("born in(118"), len("born in(118 BC"), len("born in(118 BC)"), len(context)]
    window = (np.array([0, 5, 12, 14, 16]), np.array(ends))
    assert best_scores(context, ["118 BC"], [window], 30) == {"f1": pytest.approx(200 / 3), "exact_match": 0.0}
    assert best_scores(context, ["in118 BC"], [window], 30) == {"f1": 100.0, "exact_match": 100.0}


def test_an_answer_elsewhere_in_the_context_counts_as_well():
    context = "xRome or Rome"
    window = (np.array([0, 6, 9]), np.array([5, 8, 13]))
    assert best_scores(context, ["Rome"], [window], 30) == {"f1": 100.0, "exact_match": 100.0}


def test_an_answer_of_more_tokens_than_decoding_allows_is_out_of_reach():
    context = "x" * 40
    window = (np.arange(40), np.arange(1, 41))
    assert best_scores(context, ["x" * 30], [window], LONGEST_ANSWER)["exact_match"] == 100
    assert best_scores(context, ["x" * 31], [window], LONGEST_ANSWER)["exact_match"] == 0


def test_without_a_token_in_the_context_the_answer_is_the_empty_text():
    nothing = (np.array([-1, -1]), np.array([-1, -1]))
    assert best_scores("Rome", ["Rome"], [nothing], 30) == {"f1": 0.0, "exact_match": 0.0}
    assert best_scores("Rome the", ["the"], [nothing], 30) == {"f1": 0.0, "exact_match": 100.0}
    assert best_scores("Rome", ["Rome"], [], 30) == {"f1": 0.0, "exact_match": 0.0}


def test_the_ceiling_bounds_what_decoding_finds_and_a_reader_of_the_right_tokens_comes_near(bundled_tokenizer):
    rows = rows_of("xquad", "zh", 80)
    columns, _ = question_answering.tokenise(
        rows, bundled_tokenizer, tokenising(max_length=128, stride=32, split="validation")
    )
    logits = []
    for ids, first, last in zip(columns["input_ids"], columns["start"], columns["end"], strict=True):
        values = np.zeros((len(ids), 2))
        values[first, 0] = values[last, 1] = 10
        logits.append(values)
    tokens = in_memory(columns)
    predictions = question_answering.decode(logits, tokens, rows, [])
    reached = np.mean([exact_match(row["answers"]["text"], predictions[row["id"]]) for row in rows])
    ceiling = ceilings(rows, tokens, scoring())
    assert 80 < reached <= ceiling["exact_match"] <= ceiling["f1"] <= 100


def test_the_ceilings_of_a_task_are_by_its_own_rules():
    """MLQA's rules leave out articles of the answer's language, so the one token `das Haus` answers `Haus`."""
    columns = {"row": [0], "input_ids": [[5]], "offset_start": [[0]], "offset_end": [[8]]}
    rows = [{"id": "1", "context": "das Haus", "answers": {"text": ["Haus"], "start": [4]}}]
    of_mlqa = ceilings(rows, in_memory(columns), scoring(normalisation="mlqa", language="de"))
    assert of_mlqa == {"f1": 100.0, "exact_match": 100.0}
    assert ceilings(rows, in_memory(columns), scoring(normalisation="squad", language="de"))["exact_match"] == 0


def test_the_step_writes_the_means_by_metric_and_language(bundled_tokenizer, tmp_path):
    settings = tokenising(max_length=96, stride=24, split="test")
    for language in ("en", "ko"):
        rows = rows_of("xquad", language, 20)
        write_rows(tmp_path / f"{language}.parquet", rows, "question_answering")
        write_tokens(
            tmp_path / language / "tokens.json", question_answering.tokenise(rows, bundled_tokenizer, settings)[0], {}
        )
    arguments = ["--rows", *(str(tmp_path / f"{code}.parquet") for code in ("en", "ko"))]
    arguments += ["--tokens", *(str(tmp_path / code / "tokens.json") for code in ("en", "ko"))]
    arguments += ["--ceilings", str(tmp_path / "ceilings.json")]
    arguments += ["--settings", json.dumps({"kind": "question_answering", "languages": ["en", "ko"]})]
    bound.main(bound.parser().parse_args(arguments))
    written = json.loads((tmp_path / "ceilings.json").read_text())
    assert {metric: list(values) for metric, values in written.items()} == {
        "f1": ["en", "ko"],
        "exact_match": ["en", "ko"],
    }
    assert all(50 < value <= 100 for values in written.values() for value in values.values())
