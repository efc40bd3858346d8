"""Training on one language or on the union of several: paths, inputs, tokens, scores, gaps and checkpoints."""

import csv
import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fork_server import SERVERS
from own_task import LANGUAGES, ROWS, TASK, own_grid, sentences, write_own_task
from snakemake_runs import Workplace, edited
from test_interruption import checkpoints, finish, outputs, start_and_save
from test_steps import training_settings
from tiny import in_memory, random_columns

from workflow_scripts import tokenise
from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import write_json
from workflow_scripts.core.lineage import record_of
from workflow_scripts.corpora.schema import read_rows, write_rows
from workflow_scripts.encoders.sources import MANIFEST, describe
from workflow_scripts.evaluation.aggregate import transfer_gaps
from workflow_scripts.experiment import settings
from workflow_scripts.experiment.configuration import load
from workflow_scripts.experiment.grid import Arm, Grid, Paths
from workflow_scripts.experiment.jobs import all_jobs
from workflow_scripts.kinds.tokens import Tokens, joined, joined_rows, read_tokens

SOURCES = ["en", "de", "en+de"]


@pytest.fixture
def grid(own_task_grid: Workplace) -> Workplace:
    """The finished grid of an own task, tuned on English, on German and on both."""
    return own_task_grid


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The values of the same grid, which has not run. The working folder is the current one."""
    monkeypatch.chdir(tmp_path)
    return own_grid(tmp_path, write_own_task(tmp_path))


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def inputs_of(grid: Workplace, output: str) -> set[str]:
    """The files that a job read, by the record of its output."""
    record = json.loads(record_of(grid.folder / output).read_text(encoding="utf-8"))
    return {name.partition("}/")[2] for name in record["inputs"]}


# The grid


def test_each_source_is_an_arm_of_every_method_and_a_part_of_its_paths(configuration):
    grid, paths = Grid(load(configuration)), Paths("resources", "results")
    arms = [arm for arm in grid.arms() if arm.task == "mood"]
    assert [(arm.source, arm.name) for arm in arms] == [
        (source, name) for source in SOURCES for name in ("fine_tuning", "prompt_tuning-2")
    ]
    assert paths.scores(*arms[-1].place, 13) == "results/tiny/mood/en+de/prompt_tuning-2/seed-13/scores.csv"
    assert [arm.source for arm in grid.arms() if arm.task == "xquad"] == ["en", "en"]


def test_training_and_validation_sets_are_fetched_once_for_all_sources(configuration):
    fetched = [corpus for corpus in Grid(load(configuration)).corpora() if corpus[0] == "mood"]
    assert sorted(fetched) == sorted(
        [
            *(("mood", language, split) for language in ("en", "de") for split in ("train", "validation")),
            *(("mood", language, "test") for language in LANGUAGES),
        ]
    )


def test_sources_are_named_by_the_codes_of_the_dataset(configuration):
    task = configuration["tasks"]["mood"]
    del task["file"]
    task |= TASK | {"languages": ["eng_Latn", "deu_Latn"]}
    assert load(configuration).training_sources("mood") == ["eng_Latn", "deu_Latn", "eng_Latn+deu_Latn"]


@pytest.mark.parametrize(
    ("named", "problem"),
    [
        (["en", "ja"], "tasks.mood.train_on: Moods has no training set in 'ja'; allowed: en, de, fr"),
        (["en+16de"], ".0: found 'en+16de'; string should match pattern"),
        (["en+en"], "tasks.mood.train_on: 'en+en' names a language twice; delete one"),
        (["en", "eng"], "tasks.mood.train_on: 'en' and 'eng' are the same training set; delete one"),
        (["en+de", "de+en"], "tasks.mood.train_on: 'en+de' and 'de+en' are the same training set; delete one"),
    ],
)
def test_a_source_that_cannot_be_trained_on_or_is_there_twice_is_refused_in_one_line(configuration, named, problem):
    with pytest.raises(UserError) as refused:
        load(edited(configuration, {"tasks.mood.train_on": named}))
    assert re.fullmatch(f"configuration: .*{re.escape(problem)}.*", str(refused.value))


def test_the_source_of_the_grid_applies_to_every_task_without_its_own(configuration):
    with pytest.raises(UserError, match=r"^configuration: train_on: XQuAD has no training set in 'de'; allowed: en$"):
        load(configuration | {"train_on": ["de"]})
    of_grid = load(edited(configuration, {"tasks.mood.train_on": None, "train_on": ["en"]}))
    assert of_grid.training_sources("mood") == of_grid.training_sources("xquad") == ["en"]


def test_how_unions_are_joined_concerns_the_trainings_on_unions_alone(configuration):
    def texts(union: str) -> dict[str, str]:
        made = load(configuration | {"union": union})
        return {output: settings.as_text(job.settings) for job in all_jobs(made) for output in job.outputs}

    before, after = texts("concatenated"), texts("balanced")
    changed = {output for output in before if before[output] != after[output]}
    sums = {"scores.csv", "runs.csv", "shots.csv", "calibration.csv", "provenance.json", "examples.json"}
    sums |= {"differences.csv", "source_differences.csv", "encoder_differences.csv", "ranks.csv"}
    sums |= {"distances.csv", "explained.csv", "oracle.csv", "curves.parquet", "results.parquet"}
    assert changed - {f"results/{name}" for name in sums} == {
        f"results/tiny/mood/en+de/{arm}/seed-13/run.json" for arm in ("fine_tuning", "prompt_tuning-2")
    }


# Tokens and rows of a union


def part(kind: str, features: int, seed: int, rows: list[int] | None = None) -> Tokens:
    """A corpus whose features are random. `rows`: the row of each feature."""
    columns = random_columns(kind, features, seed)
    columns["row"] = rows or columns["row"]
    tokens = in_memory(columns)
    return Tokens(tokens.columns, {"rows": max(columns["row"]) + 1, "sha256": str(seed)})


def features_of(tokens: Tokens) -> list[dict[str, Any]]:
    """Every feature without the number of its row."""
    ragged = {name: not isinstance(column, np.ndarray) for name, column in tokens.columns.items()}
    return [
        {
            name: tokens.columns[name][number].tolist() if ragged[name] else int(tokens.columns[name][number])
            for name in tokens.columns
            if name != "row"
        }
        for number in range(len(tokens))
    ]


@pytest.mark.parametrize("kind", ["classification", "tagging", "question_answering"])
def test_a_union_has_the_features_of_each_corpus_in_turn_and_its_rows_are_numbered_on(kind):
    parts = [part(kind, 4, 1, rows=[0, 1, 1, 2]), part(kind, 3, 2, rows=[0, 2, 2]), part(kind, 2, 3)]
    union = joined(parts)
    assert union.plain("row").tolist() == [0, 1, 1, 2, 3, 5, 5, 6, 7]  # the second corpus has a row without features
    assert features_of(union) == [feature for one in parts for feature in features_of(one)]


@pytest.mark.parametrize("kind", ["classification", "question_answering"])
def test_a_balanced_union_has_as_many_rows_of_each_as_the_smallest_with_all_their_features(kind):
    large, small = part(kind, 60, 1, rows=[number // 2 for number in range(60)]), part(kind, 8, 2)
    union = joined([large, small], balanced=True)
    rows = union.plain("row").tolist()
    of_large = [row for row in rows if row < 30]
    assert [row for row in rows if row >= 30] == list(range(30, 38))
    assert len(set(of_large)) == 8 and len(of_large) == 16, "both features of each row"
    assert set(of_large) != set(range(8)), "a random choice, not the first"
    everything = features_of(large)
    chosen = [number for number, row in enumerate(large.plain("row").tolist()) if row in of_large]
    assert features_of(union) == [*(everything[number] for number in chosen), *features_of(small)]
    assert joined([large, small], balanced=True).plain("row").tolist() == rows, "always the same"


def test_one_corpus_is_no_union():
    alone = part("classification", 5, 1)
    assert joined([alone]) is alone and joined([alone], balanced=True) is alone
    rows = [{"id": "1"}]
    assert joined_rows({"en": rows}) is rows


def test_rows_of_a_union_have_the_numbers_of_its_features_and_unique_ids():
    """Parallel corpora share their ids, which predictions are named by."""
    english, german = ([{"id": str(number), "text": f"{code}{number}"} for number in range(3)] for code in ("en", "de"))
    rows = joined_rows({"en": english, "de": german})
    assert len({row["id"] for row in rows}) == 6
    assert [row["language"] for row in rows] == ["en"] * 3 + ["de"] * 3
    assert [row["text"] for row in rows] == ["en0", "en1", "en2", "de0", "de1", "de2"]
    tokens = joined([part("classification", 3, 1), part("classification", 3, 2)])
    assert [rows[row]["text"] for row in tokens.plain("row")] == [row["text"] for row in (*english, *german)]
    assert english[0]["id"] == "0", "the rows that were given stay as they are"


# A grid that Snakemake has run


@pytest.mark.parametrize(("source", "languages"), [("en", ["en"]), ("de", ["de"]), ("en+de", ["en", "de"])])
def test_a_training_reads_the_sets_of_its_languages_and_no_other(grid, source, languages):
    run = f"results/tiny/mood/{source}/fine_tuning/seed-13/run.json"
    texts = {name for name in inputs_of(grid, run) if name.startswith(("tokens", "corpora"))}
    assert texts == {
        *(f"tokens/tiny/mood/{code}/{split}/tokens.json" for code in languages for split in ("train", "validation")),
        *(f"corpora/mood/{code}/validation.parquet" for code in languages),
    }
    record = json.loads((grid.folder / run).read_text(encoding="utf-8"))
    assert record["settings"]["source"] == source
    assert record["settings"].get("union") == ("concatenated" if "+" in source else None)


def test_an_epoch_of_a_union_has_the_batches_of_all_its_rows(grid):
    """Each tenth step and the last are logged. The learning rate falls to 0 over the steps of the training."""
    for source in SOURCES:
        rows = sum(ROWS["train"][language] for language in source.split("+"))
        steps = 12 * rows // 8
        log = grid.folder / f"results/tiny/mood/{source}/fine_tuning/seed-13/log.jsonl"
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        assert lines[-1]["step"] == steps
        first = lines[0]
        assert first["learning_rate"] == pytest.approx(2e-3 * (steps - first["step"] + 1) / steps)


def test_the_tables_name_the_source_after_the_task(grid):
    for name in ("scores", "runs", "differences"):
        rows = table(grid.folder / f"results/{name}.csv")
        columns = list(rows[0])
        assert columns[columns.index("task") + 1] == "source"
        assert list(dict.fromkeys(row["source"] for row in rows if row["task"] == "mood")) == SOURCES
        assert {row["source"] for row in rows if row["task"] == "xquad"} == {"en"}


def test_a_model_learns_the_languages_of_its_source(grid):
    """The deciding words of one language carry no information in another, so only a training set can teach them."""
    scores = {
        (row["source"], row["language"]): float(row["value"])
        for row in table(grid.folder / "results/scores.csv")
        if row["task"] == "mood" and row["method"] == "fine_tuning"
    }
    assert set(scores) == {(source, language) for source in SOURCES for language in LANGUAGES}
    for source in SOURCES:
        for language in source.split("+"):
            assert scores[source, language] >= 90, (source, language)
    assert scores["en", "de"] < 90 and scores["de", "en"] < 90


def test_the_gap_is_measured_from_the_source(grid):
    scores = pd.read_csv(grid.folder / "results/scores.csv")
    gaps = transfer_gaps(scores[scores["task"] == "mood"]).set_index(["source", "arm"])["gap"]
    tuned = scores[(scores["task"] == "mood") & (scores["method"] == "fine_tuning")]
    of = {source: rows.set_index("language")["value"] for source, rows in tuned.groupby("source")}
    assert gaps["en", "fine_tuning"] == pytest.approx(of["en"]["en"] - (of["en"]["de"] + of["en"]["fr"]) / 2)
    assert gaps["de", "fine_tuning"] == pytest.approx(of["de"]["de"] - (of["de"]["en"] + of["de"]["fr"]) / 2)
    both = of["en+de"]
    assert gaps["en+de", "fine_tuning"] == pytest.approx((both["en"] + both["de"]) / 2 - both["fr"])
    for row in table(grid.folder / "results/differences.csv"):
        if row["task"] == "mood" and row["scope"] == "gap":
            arms = gaps[row["source"], "prompt_tuning-2"], gaps[row["source"], "fine_tuning"]
            assert float(row["difference"]) == pytest.approx(arms[0] - arms[1])


def test_the_validation_score_of_a_union_is_over_the_rows_of_all_its_languages(grid):
    """12 rows a language: a share of 24 rows, and one of 12 where there is one language."""
    for source in SOURCES:
        record = json.loads((grid.folder / f"results/tiny/mood/{source}/prompt_tuning-2/seed-13/run.json").read_text())
        rows = sum(ROWS["validation"][language] for language in source.split("+"))
        assert record["majority"] == 50
        assert record["validation"] * rows / 100 == pytest.approx(round(record["validation"] * rows / 100))


# A few rows of a target language

TARGETS = {"en": ["de", "fr"], "de": ["en", "fr"], "en+de": ["fr"]}  # the languages with a training set that it lacks


def test_the_targets_of_a_source_are_the_languages_with_a_training_set_that_it_lacks(configuration):
    configuration["tasks"]["mood"] |= {"train_on": list(TARGETS), "shots": [0, 4]}
    grid = Grid(load(configuration))
    added = [f"{source}+4{target}" for source, targets in TARGETS.items() for target in targets]
    assert list(dict.fromkeys(arm.source for arm in grid.shot_arms())) == added
    assert [grid.tested("mood", source) for source in added] == [["de"], ["fr"], ["en"], ["fr"], ["fr"]]
    corpora = [f"{language} {split}" for task, language, split in grid.corpora() if task == "mood" and split != "test"]
    assert corpora == ["de train", "de validation", "en train", "en validation", "fr train"]
    configuration["tasks"]["mood"]["train_on"] = ["en+de+fr"]
    with pytest.raises(UserError, match="training set in any of its test languages besides those of the source"):
        load(configuration)


def test_rows_of_a_target_language_are_added_to_every_source_and_tested_in_it_alone(grid, tmp_path):
    copy = grid.copied(tmp_path / "few shots")
    outcome = copy.run({"tasks.mood.shots": [0, 4]})
    assert outcome.returncode == 0, outcome.stdout
    rows = table(copy.folder / "results/shots.csv")
    assert [(row["source"], row["method"], row["shots"], row["language"]) for row in rows] == [
        (source, method, "4", target)
        for source in SOURCES
        for method in ("fine_tuning", "prompt_tuning")
        for target in TARGETS[source]
    ]
    for source in SOURCES:
        run = f"results/tiny/mood/{source}+4fr/fine_tuning/seed-13/run.json"
        texts = {name for name in inputs_of(copy, run) if name.startswith("tokens")}
        languages = source.split("+")
        assert texts == {
            *(
                f"tokens/tiny/mood/{code}/{split}/tokens.json"
                for code in languages
                for split in ("train", "validation")
            ),
            "tokens/tiny/mood/fr/train/tokens.json",
        }
        log = (copy.folder / run).with_name("log.jsonl").read_text(encoding="utf-8").splitlines()
        rows_a_pass = sum(ROWS["train"][language] for language in languages) + 4
        assert json.loads(log[-1])["step"] == 12 * -(-rows_a_pass // 8)
    same = "results/scores.csv"
    assert (copy.folder / same).read_bytes() == (grid.folder / same).read_bytes(), "zero-shot scores stay"


# Steps


@pytest.fixture(scope="module")
def place(tiny_encoder, tmp_path_factory) -> Path:
    """Encoder, rows and tokens of the own task in English and German."""
    folder = tmp_path_factory.mktemp("union")
    shutil.copytree(tiny_encoder, folder / "encoder")
    write_json(
        folder / "encoder" / MANIFEST, describe("tiny", {"source": "folder"}, folder / "encoder") | {"kind": "encoder"}
    )
    for language in ("en", "de"):
        for split in ("train", "validation"):
            rows = [
                {"id": number, "group": number, "text": text, "text_pair": None, "label": label}
                for number, text, label in sentences(split, language, ROWS[split][language])
            ]
            write_rows(folder / language / f"{split}.parquet", rows, "classification")
            made = {
                "task": "mood",
                "kind": "classification",
                "labels": ["good", "bad"],
                "split": split,
                "max_length": 24,
            }
            words = ["--encoder", folder / "encoder" / MANIFEST, "--rows", folder / language / f"{split}.parquet"]
            words += ["--tokens", folder / language / split / "tokens.json", "--settings", json.dumps(made)]
            tokenise.main(tokenise.parser().parse_args(list(map(str, words))))
    return folder


def command(place: Path, run: str, source: str, **changes: Any) -> list[str]:
    """A training of a few seconds on a source that saves its state constantly."""
    made = training_settings(task="mood", labels=["good", "bad"], max_length=24, epochs=60, dropout=0.1, source=source)
    write_json(place / "selected.json", {"learning_rate": 0.01})
    languages = source.split("+")
    words = ["--settings", made.changed(**changes).as_text(), "--encoder", place / "encoder" / MANIFEST]
    words += ["--train", *(place / language / "train" / "tokens.json" for language in languages)]
    words += ["--validation", *(place / language / "validation" / "tokens.json" for language in languages)]
    words += ["--validation-rows", *(place / language / "validation.parquet" for language in languages)]
    words += ["--selected", place / "selected.json", "--run", place / run / "run.json", "--checkpoint-every", "0.2"]
    return [SERVERS.command("python"), "-m", "workflow_scripts.train", *map(str, words)]


@pytest.mark.parametrize("union", ["concatenated", "balanced"])
def test_a_training_on_a_union_that_was_stopped_ends_with_the_same_bytes(place, union):
    finish(command(place, f"uninterrupted-{union}", "en+de", union=union))
    words = command(place, f"stopped-{union}", "en+de", union=union)
    process = start_and_save(words, place / f"stopped-{union}")
    process.send_signal(signal.SIGTERM)
    assert process.communicate()[1].decode().startswith("interrupted: saved after step ")
    assert process.returncode == 75
    finish(words)
    assert outputs(place, f"stopped-{union}") == outputs(place, f"uninterrupted-{union}")
    assert not checkpoints(place / f"stopped-{union}")


def test_a_checkpoint_of_a_union_is_not_used_for_another_way_to_join_it(place):
    words = command(place, "other", "en+de", union="concatenated")
    process = start_and_save(words, place / "other")
    process.kill()
    process.wait()
    process.stderr.close()
    finish(command(place, "other", "en+de", union="balanced"))
    finish(command(place, "fresh", "en+de", union="balanced"))
    assert outputs(place, "other") == outputs(place, "fresh")


def test_the_corpora_of_a_union_are_those_that_it_names(place):
    """The first features of the union of both are English, and the others German."""
    parts = [read_tokens(place / language / "train" / "tokens.json") for language in ("en", "de")]
    union = joined(parts)
    rows = joined_rows({code: read_rows(place / code / "train.parquet", "classification") for code in ("en", "de")})
    labels = [["good", "bad"][label] for label in union.plain("label")]
    assert labels == [rows[row]["label"] for row in union.plain("row")]
    assert len(union) == ROWS["train"]["en"] + ROWS["train"]["de"]


def test_arms_of_different_sources_have_different_settings(configuration):
    made = load(configuration)
    texts = {
        settings.as_text(settings.of_training(made, Arm("tiny", "mood", source, "fine_tuning", 0), 13))
        for source in SOURCES
    }
    assert len(texts) == len(SOURCES)
