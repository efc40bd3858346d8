"""What the metrics count, where XTREME's ways of counting surprise, and agreement with independent implementations."""

import re
import string
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from step_settings import scoring
from task_rows import UPOS, real_languages, real_rows

from workflow_scripts.core.errors import UserError
from workflow_scripts.evaluation import metrics
from workflow_scripts.kinds import KINDS, part
from workflow_scripts.kinds.accuracy import accuracy
from workflow_scripts.kinds.question_answering import metrics as answering
from workflow_scripts.kinds.tagging import metrics as tagging

OPTIONS = scoring(language="en")
UDPOS_LANGUAGES = (
    "en af ar bg de el es et eu fa fi fr he hi hu id it ja kk ko mr nl pt ru ta te th tl tr ur vi yo zh".split()
)


def random_sentences(random: Random, count: int) -> list[list[str]]:
    return [random.choices(UPOS, k=random.randint(1, 20)) for _ in range(count)]


def pair(row_id: str, label: str) -> dict:
    return {"id": row_id, "text": "a", "text_pair": "b", "label": label}


def sentence(row_id: str, *tags: str) -> dict:
    return {"id": row_id, "tokens": ["word"] * len(tags), "tags": list(tags)}


def question(row_id: str, *answers: str) -> dict:
    context = " ".join(answers)
    answers_and_starts = {"text": list(answers), "start": [context.index(answer) for answer in answers]}
    return {"id": row_id, "context": context, "question": "?", "answers": answers_and_starts}


# Accuracy


def test_accuracy_is_the_share_of_right_labels_in_percent():
    assert accuracy(["0", "1", "1", "0"], ["0", "1", "0", "0"]) == 75.0


def test_accuracy_equals_that_of_scikit_learn():
    from sklearn.metrics import accuracy_score

    random = Random(1)
    gold, predicted = random.choices(UPOS, k=997), random.choices(UPOS, k=997)
    assert accuracy(gold, predicted) == pytest.approx(100 * accuracy_score(gold, predicted))


def test_lists_of_different_length_are_never_cut_to_the_shorter():
    with pytest.raises(ValueError, match="shorter"):
        accuracy(["0", "1"], ["0"])


# Tagging


def test_tagging_accuracy_counts_words_not_sentences():
    assert tagging.tagging_accuracy([["NOUN"], ["DET", "ADJ", "NOUN"]], [["VERB"], ["DET", "ADJ", "NOUN"]]) == 75.0


def test_tagging_f1_is_that_of_seqeval_on_the_bare_tags():
    from seqeval.metrics import f1_score

    random = Random(2)
    gold = random_sentences(random, 200)
    predicted = [[random.choice([tag, tag, random.choice(UPOS)]) for tag in tags] for tags in gold]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = 100 * f1_score(gold, predicted)
    assert 10 < expected < 90
    assert tagging.tagging_f1(gold, predicted) == expected


def test_tagging_f1_of_single_words_equals_the_micro_f1_of_chunks_counted_by_hand():
    # Gold chunks DET, ADJ, NOUN, VERB; predicted DET, NOUN (two words, one chunk), VERB. Two are shared.
    precision, recall = 2 / 3, 2 / 4
    expected = 100 * 2 * precision * recall / (precision + recall)
    predicted = [["DET", "NOUN", "NOUN", "VERB"]]
    assert tagging.tagging_f1([["DET", "ADJ", "NOUN", "VERB"]], predicted) == pytest.approx(expected)


def test_swapping_all_conjunctions_costs_accuracy_but_not_tagging_f1():
    gold = [["NOUN", "CCONJ", "NOUN", "VERB", "SCONJ", "PRON", "VERB", "PUNCT", "ADV", "X"]]
    swapped = [["NOUN", "SCONJ", "NOUN", "VERB", "CCONJ", "PRON", "VERB", "PUNCT", "ADV", "X"]]
    assert tagging.tagging_f1(gold, swapped) == 100.0
    assert tagging.tagging_accuracy(gold, swapped) == 80.0


def test_neighbours_of_one_tag_are_one_chunk_so_one_wrong_word_loses_both():
    gold, predicted = [["NOUN", "NOUN", "VERB"]], [["NOUN", "ADJ", "VERB"]]
    # Of two gold and three predicted chunks, VERB alone is shared: the right first noun counts for nothing.
    assert tagging.tagging_f1(gold, predicted) == pytest.approx(100 * 2 / (2 + 3))


def test_neighbouring_symbols_stay_two_chunks_because_their_letter_is_s():
    gold, predicted = [["SYM", "SYM", "VERB"]], [["SYM", "ADJ", "VERB"]]
    # Of three gold and three predicted chunks two are shared: the first symbol is a chunk of its own.
    assert tagging.tagging_f1(gold, predicted) == pytest.approx(100 * 2 * 2 / (3 + 3))


def test_f1_by_xtremes_rule_is_what_xtremes_own_test_of_its_scorer_expects():
    """Its mock predictions in 33 languages; `evaluate_test.py` states the average, 70.21746048354693."""
    lines = (Path(__file__).parent / "data" / "xtreme_mock_udpos.tsv").read_text(encoding="utf-8").splitlines()[3:]
    by_language: dict[str, tuple[list[list[str]], list[list[str]]]] = {}
    for language, gold, predicted in (line.split("\t") for line in lines):
        sentences = by_language.setdefault(language, ([], []))
        sentences[0].append(gold.split())
        sentences[1].append(predicted.split())
    assert sorted(by_language) == sorted(UDPOS_LANGUAGES)
    by_xtreme = [tagging.tagging_f1_xtreme(*sentences) for sentences in by_language.values()]
    assert sum(by_xtreme) / 33 == pytest.approx(70.21746048354693, rel=1e-13)
    # What seqeval 1.2.2, which the paper's code pins, makes of the same predictions.
    by_the_paper = [tagging.tagging_f1(*sentences) for sentences in by_language.values()]
    assert sum(by_the_paper) / 33 == pytest.approx(70.39806, abs=1e-5)


def slow_xtreme_f1(gold: list[list[str]], predicted: list[list[str]]) -> float:
    """By a regular expression over the sentence as a string, independent of `tagging.bare_chunks`."""

    def chunks(sentences: list[list[str]]) -> set[tuple[int, int, int, str]]:
        found = set()
        for number, tags in enumerate(sentences):
            # One width for all tags, so that a place in the text is a place in the sentence.
            text = "".join(f"{tag:_<5} " for tag in tags)
            for run in re.finditer(r"(?:(S\w*) )|(?:(\w+) )(?:\2 )*", text):
                found.add((number, run.start(), run.end(), run[1] or run[2]))
        return found

    right, guessed = chunks(gold), chunks(predicted)
    precision, recall = len(right & guessed) / len(guessed), len(right & guessed) / len(right)
    return 100 * 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("seed", range(20))
def test_f1_by_xtremes_rule_is_that_of_an_independent_count(seed):
    random = Random(seed)
    tags = UPOS if seed % 2 else ["X", "X", "NOUN", "SYM", "CCONJ", "SCONJ", "INTJ"]
    gold = [random.choices(tags, k=random.randint(1, 12)) for _ in range(60)]
    predicted = [[random.choice([tag, tag, random.choice(tags)]) for tag in sentence] for sentence in gold]
    assert tagging.tagging_f1_xtreme(gold, predicted) == pytest.approx(slow_xtreme_f1(gold, predicted), rel=1e-13)
    assert tagging.tagging_f1_xtreme(gold, predicted) != pytest.approx(tagging.tagging_f1(gold, predicted), abs=1e-6)


def test_swapped_conjunctions_cost_f1_by_xtremes_rule_but_not_by_the_papers():
    gold = [["NOUN", "CCONJ", "NOUN", "VERB", "SCONJ", "PRON"]]
    swapped = [["NOUN", "SCONJ", "NOUN", "VERB", "CCONJ", "PRON"]]
    assert tagging.tagging_f1(gold, swapped) == 100.0
    assert tagging.tagging_f1_xtreme(gold, swapped) == pytest.approx(100 * 2 * 4 / 12)


def test_an_x_at_the_end_of_a_sentence_is_a_chunk_by_xtremes_rule_but_not_by_the_papers():
    # The paper's rule sees no type in X, as in the O after a sentence, so that no chunk ends there.
    gold, predicted = [["NOUN", "VERB", "X"]], [["NOUN", "VERB", "NOUN"]]
    assert tagging.tagging_f1(gold, predicted) == pytest.approx(100 * 2 * 2 / (2 + 3))
    assert tagging.tagging_f1_xtreme(gold, predicted) == pytest.approx(100 * 2 * 2 / (3 + 3))


def test_the_two_rules_agree_where_no_x_and_no_conjunction_is_confused():
    gold, predicted = [["NOUN", "NOUN", "SYM", "SYM", "INTJ"]], [["NOUN", "VERB", "SYM", "NOUN", "INTJ"]]
    # Gold chunks NOUN (two words), SYM, SYM, INTJ; predicted five of one word. SYM and INTJ are shared.
    assert tagging.tagging_f1(gold, predicted) == pytest.approx(100 * 2 * 2 / (4 + 5))
    assert tagging.tagging_f1_xtreme(gold, predicted) == pytest.approx(100 * 2 * 2 / (4 + 5))


def test_chunks_do_not_reach_over_the_end_of_a_sentence():
    assert tagging.tagging_f1_xtreme([["NOUN"], ["NOUN"]], [["NOUN"], ["VERB"]]) == 50.0
    assert tagging.tagging_f1([["NOUN"], ["NOUN"]], [["NOUN"], ["VERB"]]) == 50.0


def test_seqevals_warning_of_bare_tags_is_not_shown():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tagging.tagging_f1([["NOUN", "VERB"]], [["NOUN", "VERB"]]) == 100.0


def test_other_warnings_of_seqeval_are_shown():
    with pytest.warns(match="ill-defined"):
        assert tagging.tagging_f1([["O"]], [["O"]]) == 0.0


def test_importing_the_metrics_does_not_import_seqeval():
    modules = ["workflow_scripts.evaluation.metrics", *(f"workflow_scripts.kinds.{kind}.metrics" for kind in KINDS)]
    program = f"import sys, {', '.join(modules)}; assert not {{'seqeval', 'sklearn'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[1])


# Question answering


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("The  Eiffel\tTower!", "eiffel tower"),
        ("theory of an Athenian", "theory of athenian"),  # Articles inside words stay.
        ("U.S.A.", "usa"),
        ("a-b", "ab"),  # Punctuation goes before articles are looked for.
        ("(the)", ""),
        ("「東京」。", "「東京」。"),  # Not ASCII.
        ("«Москва»", "«москва»"),
        ("a la ciudad", "la ciudad"),  # Spanish, not an article.
        ("an der Ruhr", "der ruhr"),  # German, not an article.
        ("d’a’b", "d’ ’b"),  # A typographic apostrophe is not ASCII: it stays, and parts words.
        ("l\u00e0", "l\u00e0"),
        ("a\u0301 b", "\u0301 b"),  # The same letter, decomposed: its a is taken for an article.
    ],
)
def test_answers_are_normalised_by_english_rules_in_every_language(text, normalised):
    assert answering.normalise_answer(text) == normalised


def test_f1_counts_shared_words_as_often_as_both_have_them():
    # 2 of 4 predicted words and 2 of 3 gold words.
    expected = 100 * 2 * 0.5 * (2 / 3) / (0.5 + 2 / 3)
    assert answering.f1(["new new york"], "new york york city") == pytest.approx(expected)


def test_the_best_of_several_gold_answers_counts():
    gold = ["in the year 1066", "1066"]
    assert answering.exact_match(gold, "1066.") == 100.0
    assert answering.f1(gold, "1066") == 100.0
    assert answering.f1(gold, "year 1066") == pytest.approx(80.0)


def test_f1_is_all_or_nothing_where_words_are_not_spaced():
    assert answering.f1(["北京市朝阳区"], "北京市") == 0.0
    assert answering.f1(["北京市朝阳区"], "北京市朝阳区") == 100.0
    assert answering.f1(["北京市 朝阳区"], "北京市") == pytest.approx(100 * 2 / 3)


def test_full_width_punctuation_makes_an_answer_wrong_where_ascii_does_not():
    assert answering.exact_match(["北京"], "北京.") == 100.0
    assert answering.exact_match(["北京"], "北京。") == 0.0
    assert answering.f1(["北京"], "北京。") == 0.0


def test_an_empty_prediction_scores_nothing():
    assert (answering.f1(["Warsaw"], ""), answering.exact_match(["Warsaw"], "")) == (0.0, 0.0)


def test_an_answer_that_normalises_to_nothing_can_be_matched_but_has_no_f1():
    assert (answering.f1(["The"], "the"), answering.exact_match(["The"], "the")) == (0.0, 100.0)


def test_scores_of_answers_are_means_over_questions():
    scores = answering.answer_scores([["1066"], ["New York", "York"], ["Rome"]], ["1066", "New York City", "Oslo"])
    assert scores == {"f1": pytest.approx((100 + 80 + 0) / 3), "exact_match": pytest.approx(100 / 3)}


# An oracle by the rules of SQuAD 1.1's official script, written independently of `metrics`: characters are dropped one
# by one, articles by splitting at word boundaries, and shared words are crossed out.


def official_words(text: str) -> list[str]:
    without_punctuation = "".join(character for character in text.lower() if character not in set(string.punctuation))
    parts = re.split(r"\b", without_punctuation)
    return "".join(" " if part in ("a", "an", "the") else part for part in parts).split()


def official_scores(gold: list[list[str]], predicted: list[str]) -> dict[str, float]:
    f1 = exact_match = 0.0
    for answers, guess in zip(gold, predicted, strict=True):
        exact_match += max(float(official_words(answer) == official_words(guess)) for answer in answers)
        best = 0.0
        for answer in answers:
            left, shared = official_words(answer), 0
            for word in official_words(guess):
                if word in left:
                    left.remove(word)
                    shared += 1
            if shared:
                precision, recall = shared / len(official_words(guess)), shared / len(official_words(answer))
                best = max(best, 2 * precision * recall / (precision + recall))
        f1 += best
    return {"f1": 100 * f1 / len(gold), "exact_match": 100 * exact_match / len(gold)}


def perturbed(random: Random, row: dict) -> str:
    """A guess near a gold answer: wider, narrower, in other case, with punctuation or articles, or of another place."""
    text, start = row["answers"]["text"][0], row["answers"]["start"][0]
    end = start + len(text)
    context = row["context"]
    return random.choice(
        [
            text,
            text.upper(),
            f"the {text}, a",
            context[max(0, start - random.randint(0, 12)) : end + random.randint(0, 12)],
            text[random.randint(0, 3) : len(text) - random.randint(0, 3)],
            " ".join(reversed(text.split())),
            context[: random.randint(0, 40)],
            "",
        ]
    )


@pytest.mark.parametrize("task", ["xquad", "tydiqa"])
def test_question_answering_scores_equal_the_official_rules_on_real_answers(xtreme_folder, task):
    random = Random(3)
    for language in real_languages(xtreme_folder, task):
        rows = real_rows(xtreme_folder, task, language)
        guesses = {row["id"]: perturbed(random, row) for row in rows}
        expected = official_scores([row["answers"]["text"] for row in rows], list(guesses.values()))
        assert 20 < expected["exact_match"] < expected["f1"] < 90
        assert metrics.score("question_answering", rows, guesses, OPTIONS) == pytest.approx(expected)


# By kind of task


def test_each_kind_of_task_has_its_metrics_the_main_one_first():
    choice = {"id": "1", "text": "a", "question": None, "choices": ["b", "c"], "label": 1}
    scores = [{"id": str(score), "text": "a", "text_pair": "b", "score": score} for score in (1, 2)]
    examples = {
        "classification": ([pair("1", "0")], {"1": "0"}),
        "tagging": ([sentence("1", "NOUN")], {"1": ["NOUN"]}),
        "question_answering": ([question("1", "Rome")], {"1": "Rome"}),
        "entities": ([sentence("1", "B-PER")], {"1": ["B-PER"]}),
        "multiple_choice": ([choice], {"1": 1}),
        "regression": (scores, {"1": 3.0, "2": 3.5}),
    }
    assert set(examples) == set(KINDS)
    for kind, (rows, predictions) in examples.items():
        found = metrics.score(kind, rows, predictions, OPTIONS)
        assert list(found) == [metric.name for metric in part(kind, "facts").METRICS]
        assert list(found.values()) == pytest.approx([100.0] * len(found))


def test_predictions_are_matched_by_id_whatever_their_order():
    rows = [pair("7", "0"), pair("8", "1"), pair("9", "1")]
    assert metrics.score("classification", rows, {"9": "1", "8": "1", "7": "0"}, OPTIONS) == {"accuracy": 100.0}


def test_a_row_without_prediction_is_named_with_the_counts():
    rows = [pair("7", "0"), pair("8", "1"), pair("9", "1")]
    with pytest.raises(UserError, match=r"2 rows have no prediction, the first is '8' \(3 rows, 2 predictions\)"):
        metrics.score("classification", rows, {"7": "0", "10": "1"}, OPTIONS)


def test_a_prediction_without_row_is_named_with_the_counts():
    with pytest.raises(UserError, match=r"1 predictions have no row, the first is '8' \(1 rows, 2 predictions\)"):
        metrics.score("classification", [pair("7", "0")], {"7": "0", "8": "1"}, OPTIONS)


def test_a_sentence_with_more_tags_than_words_is_named():
    rows = [sentence("4", "NOUN"), sentence("5", "DET", "NOUN")]
    with pytest.raises(UserError, match="'5' has 2 words but 3 predicted tags"):
        metrics.score("tagging", rows, {"4": ["NOUN"], "5": ["DET", "NOUN", "NOUN"]}, OPTIONS)


def test_no_rows_have_no_score():
    with pytest.raises(UserError, match="no rows"):
        metrics.score("classification", [], {}, OPTIONS)


# Baseline


def test_the_baseline_of_classifications_is_the_share_of_the_commonest_label():
    rows = [pair("1", "0"), pair("2", "1"), pair("3", "1"), pair("4", "1")]
    assert metrics.baseline("classification", rows, OPTIONS) == 75.0


def test_the_baseline_of_tagging_is_the_f1_of_the_commonest_tag_everywhere():
    rows = [sentence("1", "NOUN"), sentence("2", "DET", "NOUN", "VERB")]
    # Two predicted chunks, four gold ones; only the sentence of one noun is a shared chunk.
    assert metrics.baseline("tagging", rows, OPTIONS) == pytest.approx(100 * 2 * 1 / (2 + 4))


def test_question_answering_has_no_majority_answer():
    assert metrics.baseline("question_answering", [question("1", "Rome")], OPTIONS) == 0.0


def test_always_noun_is_right_for_a_fifth_of_real_words_and_for_no_chunk(xtreme_folder):
    rows = real_rows(xtreme_folder, "udpos", "en")
    tags = Counter(tag for row in rows for tag in row["tags"])
    assert tags.most_common(1)[0][0] == "NOUN"
    assert 100 * tags["NOUN"] / tags.total() == pytest.approx(18.3, abs=0.05)
    assert metrics.baseline("tagging", rows, OPTIONS) == pytest.approx(0.1, abs=0.05)
