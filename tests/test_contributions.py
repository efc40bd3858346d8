"""What each example adds to a score: the sums give the score again, and rows that belong together are one unit."""

import warnings
from pathlib import Path
from random import Random
from typing import Any

import pytest
from step_settings import scoring
from task_rows import UPOS, real_rows, with_groups

from workflow_scripts.core.errors import UserError
from workflow_scripts.evaluation import metrics
from workflow_scripts.evaluation.contributions import contributions, read_units, unit_names, write_units
from workflow_scripts.kinds import KINDS
from workflow_scripts.kinds.entities.rows import tags_of
from workflow_scripts.kinds.tagging.metrics import bare_chunk_sums, chunk_sums

OPTIONS = scoring(language="en")


def pair(row_id: str, label: str, premise: str = "a") -> dict:
    return {"id": row_id, "text": premise, "text_pair": "b", "label": label}


def question(row_id: str, *answers: str, context: str = "") -> dict:
    text = context or " ".join(answers)
    return {"id": row_id, "context": text, "question": "?", "answers": {"text": list(answers), "start": [0]}}


def ratio(sums: dict[str, tuple[float, float]]) -> float:
    numerators, denominators = zip(*sums.values(), strict=True)
    return 100 * sum(numerators) / sum(denominators)


def random_row(kind: str, name: str, random: Random) -> tuple[dict, Any]:
    """A row of a kind, in a group of several where the kind has groups, and a prediction that is often right."""
    if kind == "classification":
        row = pair(name, random.choice("01"), premise=f"premise {random.randrange(120)}")
        return row, random.choice(["0", row["label"]])
    if kind in ("tagging", "entities"):
        choices = UPOS if kind == "tagging" else tags_of(["PER", "LOC"])
        tags = random.choices(choices, k=random.randint(1, 15))
        row = {"id": name, "tokens": ["word"] * len(tags), "tags": tags}
        return row, [random.choice([tag, tag, random.choice(choices)]) for tag in tags]
    if kind == "multiple_choice":
        choices = ["a", "b", "c", "d"][: random.randint(2, 4)]
        row = {"id": name, "text": f"text {random.randrange(120)}", "question": None, "choices": choices}
        row["label"] = random.randrange(len(choices))
        return row, random.choice([0, row["label"]])
    if kind == "regression":
        score = random.choice([1.0, 2.5, 4.0])
        row = {"id": name, "text": f"text {random.randrange(120)}", "text_pair": "b", "score": score}
        return row, score + random.gauss(0, 1)
    words = [random.choice("bcdefg") + str(random.randrange(9)) for _ in range(4)]
    row = question(name, " ".join(words), words[0], context=f"context {random.randrange(60)}")
    return row, random.choice([words[0], " ".join(random.sample(words, 2))])


@pytest.mark.parametrize("kind", KINDS)
def test_the_sums_over_units_give_every_score_of_every_kind(kind):
    random = Random(1)
    made = [random_row(kind, f"row-{number}", random) for number in range(300)]
    rows = with_groups([row for row, _ in made], kind)
    predictions = {row["id"]: prediction for row, prediction in made}
    expected = metrics.score(kind, rows, predictions, OPTIONS)
    sums = contributions(kind, rows, predictions, OPTIONS)
    found = {metric: ratio(of_metric) for metric, of_metric in sums.items()}
    assert list(found) == list(expected)
    assert all(10 < value < 95 for value in expected.values())
    assert found == pytest.approx(expected, rel=1e-12)
    units = {len(of_metric) for of_metric in sums.values()}
    assert units == {len({row["group"] for row in rows})}


@pytest.mark.parametrize("seed", range(20))
def test_the_chunks_are_those_of_seqeval_also_where_a_chunk_of_x_crosses_sentences(seed):
    """seqeval reads all sentences as one: an X at a sentence's start continues the last chunk."""
    from seqeval.metrics import f1_score

    random = Random(seed)
    tags = ["X", "X", "NOUN", "SYM", "CCONJ", "SCONJ"]
    gold = [random.choices(tags, k=random.randint(1, 4)) for _ in range(50)]
    predicted = [[random.choice([tag, random.choice(tags)]) for tag in sentence] for sentence in gold]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = f1_score(gold, predicted)
    sums = chunk_sums(gold, predicted)
    assert sum(numerator for numerator, _ in sums) / sum(of for _, of in sums) == pytest.approx(expected, rel=1e-13)


def test_chunks_are_counted_in_the_sentence_that_they_are_in():
    gold = [["NOUN", "NOUN", "VERB"], ["DET"], ["ADJ", "NOUN"]]
    predicted = [["NOUN", "ADJ", "VERB"], ["DET"], ["NOUN", "NOUN"]]
    # Of 2 gold and 3 predicted chunks VERB is shared; DET is; of 2 and 1 none is.
    assert chunk_sums(gold, predicted) == [(2, 5), (2, 2), (0, 3)]
    assert bare_chunk_sums(gold, predicted) == [(2, 5), (2, 2), (0, 3)]


def test_a_chunk_of_x_is_counted_by_xtremes_rule_alone():
    gold, predicted = [["NOUN", "X"], ["X", "VERB"]], [["NOUN", "X"], ["NOUN", "VERB"]]
    assert bare_chunk_sums(gold, predicted) == [(4, 4), (2, 4)]
    assert chunk_sums(gold, predicted) != bare_chunk_sums(gold, predicted)


def test_hypotheses_of_one_premise_are_one_unit_named_by_the_first_row():
    rows = with_groups([pair("1", "0", "p"), pair("2", "1", "q"), pair("3", "1", "p")], "classification")
    assert unit_names(rows) == ["1", "2", "1"]
    assert contributions("classification", rows, {"1": "0", "2": "0", "3": "1"}, OPTIONS) == {
        "accuracy": {"1": (2.0, 2.0), "2": (0.0, 1.0)}
    }


def test_questions_about_one_context_are_one_unit():
    rows = [
        question("1", "blue sky", context="c"),
        question("2", "sun", context="d"),
        question("3", "sea", context="c"),
    ]
    rows = with_groups(rows, "question_answering")
    found = contributions("question_answering", rows, {"1": "sky", "2": "sun", "3": "sand"}, OPTIONS)
    assert found["f1"] == {"1": (pytest.approx(2 / 3), 2.0), "2": (1.0, 1.0)}
    assert found["exact_match"] == {"1": (0.0, 2.0), "2": (1.0, 1.0)}


def test_sentences_are_units_even_where_two_are_alike():
    row = {"tokens": ["word", "word"], "tags": ["NOUN", "VERB"]}
    rows = with_groups([{"id": "1", **row}, {"id": "2", **row}], "tagging")
    found = contributions("tagging", rows, {"1": ["NOUN", "X"], "2": ["X", "X"]}, OPTIONS)
    assert found["accuracy"] == {"1": (1.0, 2.0), "2": (0.0, 2.0)}


def test_single_texts_are_units_of_their_own():
    rows = [{"id": identity, "text": "same", "text_pair": None, "label": "0"} for identity in "12"]
    assert unit_names(with_groups(rows, "classification")) == ["1", "2"]


def test_a_group_that_the_source_names_is_one_unit():
    rows = [pair("1", "0") | {"group": "x"}, pair("2", "0") | {"group": "x"}, pair("3", "0") | {"group": "y"}]
    assert unit_names(rows) == ["1", "1", "3"]


def test_the_real_test_sets_have_units_of_several_rows_and_their_names_are_shared_by_languages(xtreme_folder):
    for task, rows_a_unit in (("xnli", 3), ("xquad", 1190 / 240)):
        names = []
        for language in ("en", "de"):
            rows = real_rows(xtreme_folder, task, language)
            names.append(set(unit_names(rows)))
            assert len(rows) / len(names[-1]) == pytest.approx(rows_a_unit, rel=0.02)
        assert len(names[0] & names[1]) > 0.98 * len(names[0])


def test_units_are_read_as_they_were_written(tmp_path):
    units = {
        "en": {"f1": {"a": (0.1, 1.0), "b": (1 / 3, 2.0)}, "exact_match": {"a": (0.0, 1.0), "b": (1.0, 2.0)}},
        "de": {"f1": {"a": (0.7, 1.0)}, "exact_match": {"a": (0.0, 1.0)}},
    }
    write_units(tmp_path / "units.parquet", units)
    for metric in ("f1", "exact_match"):
        expected = {language: metrics_of[metric] for language, metrics_of in units.items()}
        assert read_units(tmp_path / "units.parquet", metric) == expected


def test_a_damaged_file_of_units_is_named(tmp_path: Path):
    (tmp_path / "units.parquet").write_text("no parquet")
    with pytest.raises(UserError, match=r"units\.parquet cannot be read as units"):
        read_units(tmp_path / "units.parquet", "f1")
