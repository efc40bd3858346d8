"""A user's own kind of task, in one file outside the package, run by Snakemake in a whole grid."""

import csv
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake_runs import Workplace, copy_checkout, jobs, replaced, snakemake

from workflow_scripts.core.errors import UserError
from workflow_scripts.corpora.schema import read_predictions, read_rows
from workflow_scripts.experiment.configuration import load
from workflow_scripts.kinds import KINDS, part
from workflow_scripts.kinds.protocol import PARTS

# Ordinal classification: rows, model and examples are those of classification, and a wrong label close to the right one
# costs less.
ORDINAL = '''"""Ordinal classification: the labels have an order, the lowest first."""

from workflow_scripts.kinds.classification.examples import *
from workflow_scripts.kinds.classification.facts import *
from workflow_scripts.kinds.classification.model import *
from workflow_scripts.kinds.classification.rows import *
from workflow_scripts.kinds.protocol import Metric

METRICS = (Metric("accuracy", "accuracy"), Metric("closeness", "closeness"))


def distances(rows, predictions, labels):
    """How many labels each prediction is away from the right one, as a share of the largest distance."""
    rank = {label: number for number, label in enumerate(labels)}
    return [
        abs(rank[row["label"]] - rank[guess]) / (len(labels) - 1)
        for row, guess in zip(rows, predictions, strict=True)
    ]


def score(rows, predictions, scoring):
    """The share of right labels; 100 minus the mean absolute distance."""
    found = distances(rows, predictions, scoring.labels)
    return {
        "accuracy": 100 * sum(distance == 0 for distance in found) / len(found),
        "closeness": 100 * (1 - sum(found) / len(found)),
    }


def baseline(rows, scoring):
    """The accuracy of the most frequent label."""
    labels = [row["label"] for row in rows]
    return max(100 * labels.count(label) / len(labels) for label in labels)


def contributions(rows, predictions, scoring):
    """One unit a row."""
    found = distances(rows, predictions, scoring.labels)
    return {
        "accuracy": [(float(distance == 0), 1.0) for distance in found],
        "closeness": [(1 - distance, 1.0) for distance in found],
    }
'''

LABELS = ["poor", "fair", "great"]
TASK = {
    "title": "Ratings",
    "kind": "../my kinds/ordinal.py",  # relative to the task file
    "labels": LABELS,
    "languages": ["en", "de"],
    "train_languages": ["en"],
    "sources": {
        "own": {
            "path": "{split}-{language}.tsv",
            "splits": {"train": "train", "validation": "dev", "test": "test"},
            "columns": {"text": 1, "label": 2},
        }
    },
}
SUMS = ("collect", "compare", "exemplify", "explain", "render", "all")


def write_ratings(folder: Path) -> None:
    """A TSV file without header for each language and split; the last word decides the label."""
    folder.mkdir(parents=True)
    for name, rows in (("train-en", 36), ("dev-en", 12), ("test-en", 12), ("test-de", 12)):
        chance = random.Random(name)
        texts = [f"{chance.choice('abcde')} {'xyz'[number % 3] * 3}\t{LABELS[number % 3]}\n" for number in range(rows)]
        (folder / f"{name}.tsv").write_text("".join(texts), encoding="utf-8")
    (folder / "ratings.yaml").write_text(yaml.safe_dump(TASK, sort_keys=False), encoding="utf-8")


def grid_of(encoder: Path) -> dict[str, Any]:
    return {
        "encoders": {"tiny": {"source": "folder", "path": str(encoder)}},
        "corpora": {"source": "mini", "limits": {"train": 16, "validation": 8, "test": 8}},
        "seeds": [13],
        "evaluation": {"together": 1},
        "training": {"epochs": 1, "batch_size": 8},
        "methods": {"fine_tuning": {"learning_rates": [1e-3]}, "linear_probe": {}},
        "tasks": {
            "ratings": {"file": "data/ratings.yaml", "max_length": 16},
            "pawsx": {"languages": ["en"], "max_length": 32},
        },
    }


@pytest.fixture(scope="module")
def ordinal_grid(tiny_encoder, tmp_path_factory) -> Workplace:
    """A finished grid: the toy kind's task in two languages, and one of classification; two methods, one seed."""
    place = tmp_path_factory.mktemp("own kind")
    folder = place / "working folder"
    write_ratings(folder / "data")
    (folder / "my kinds").mkdir()
    (folder / "my kinds" / "ordinal.py").write_text(ORDINAL, encoding="utf-8")
    workplace = Workplace(copy_checkout(place / "checkout"), folder, grid_of(tiny_encoder))
    outcome = workplace.run()
    assert outcome.returncode == 0, outcome.stdout
    return workplace


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_one_file_is_a_kind_whose_metrics_are_scored_and_compared(ordinal_grid):
    folder = ordinal_grid.folder
    rows = [row for row in table(folder / "results/scores.csv") if row["task"] == "ratings"]
    assert [(row["method"], row["language"], row["metric"]) for row in rows] == [
        (method, language, metric)
        for method in ("fine_tuning", "linear_probe")
        for language in ("en", "de")
        for metric in ("accuracy", "closeness")
    ]
    rank = {label: number for number, label in enumerate(LABELS)}
    for row in rows:
        run = folder / f"results/tiny/ratings/en/{row['method']}/seed-13"
        predicted = read_predictions(run / f"predictions/{row['language']}/{row['language']}.parquet")
        gold = read_rows(folder / f"resources/corpora/ratings/{row['language']}/test.parquet", "classification")
        away = [abs(rank[predicted[one["id"]]] - rank[one["label"]]) for one in gold]
        expected = away.count(0) / len(gold) if row["metric"] == "accuracy" else 1 - sum(away) / len(gold) / 2
        assert float(row["value"]) == pytest.approx(100 * expected)
    compared = [row for row in table(folder / "results/differences.csv") if row["task"] == "ratings"]
    assert [row["scope"] for row in compared] == ["en", "de", "average", "gap"]
    assert {row["metric"] for row in compared} == {"accuracy"}
    assert ordinal_grid.planned() == []


def test_an_edit_of_the_file_runs_all_of_its_task_and_nothing_of_another(ordinal_grid):
    """The file is every part of the kind: rows, model and metrics. A docstring and a comment run nothing."""
    file = ordinal_grid.folder / "my kinds" / "ordinal.py"
    with replaced(file, '"""One unit a row."""', '"""A row is a unit."""  # a comment'):
        assert ordinal_grid.planned() == []
    with replaced(file, "100 * (1 - sum(found) / len(found))", "100 - 100 * max(found)"):
        assert ordinal_grid.planned() == jobs(
            "fetch_corpus ratings/en/{train,validation,test}",
            "fetch_corpus ratings/de/test",
            "tokenise tiny/ratings/en/{train,validation,test}",
            "tokenise tiny/ratings/de/test",
            "train tiny/ratings/en/{fine_tuning,linear_probe}/13",
            "predict tiny/ratings/en/{fine_tuning,linear_probe}/13/{en,de}",
            "score tiny/ratings/en/{fine_tuning,linear_probe}/13",
            *SUMS,
        )
    assert ordinal_grid.planned() == []


# Files that cannot be used


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The values of a grid whose kind is `my kinds/ordinal.py` in the current folder, which does not exist yet."""
    write_ratings(tmp_path / "data")
    (tmp_path / "my kinds").mkdir()
    monkeypatch.chdir(tmp_path)
    return grid_of(tmp_path)


def refused(configuration: dict[str, Any], source: str | bytes, name: str) -> str:
    """The one-line error when the configuration is read; a different file name each time, since modules are cached."""
    Path("my kinds", name).write_bytes(source if isinstance(source, bytes) else source.encode())
    file = Path("data/ratings.yaml")
    file.write_text(file.read_text().replace("ordinal.py", name))
    with pytest.raises(UserError) as error:
        load(configuration)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


@pytest.mark.parametrize("name", sorted({name for names in PARTS.values() for name in names}))
def test_a_file_that_lacks_a_name_is_refused_by_that_name(configuration, name, tmp_path):
    source = f"{ORDINAL}\ndel {name}\n"
    line = refused(configuration, source, f"without_{name}.py")
    assert (
        line == f"my kinds/without_{name}.py does not define {name}, which a kind of task needs; see kinds/protocol.py"
    )


@pytest.mark.parametrize(
    ("source", "name", "problem"),
    [
        ("METRICS = (\n", "syntax.py", r"my kinds/syntax\.py, line 1: '\(' was never closed"),
        ("x = 1\n  y = 2\n", "indented.py", r"my kinds/indented\.py, line 2: unexpected indent"),
        (
            "import my_helper\n",
            "helper.py",
            r"my kinds/helper\.py imports my_helper, which is not installed; a kind must",
        ),
        ("from json import nothing\n", "name.py", r"my kinds/name\.py, line 1: .*cannot import name 'nothing'"),
        ("\n\nx = 1 / 0\n", "division.py", r"my kinds/division\.py, line 3: ZeroDivisionError: division by zero"),
        (b"x = '\xff'\n", "latin.py", r"my kinds/latin\.py.*(utf-8|UTF-8|unicode)"),
        (b"x = 1\0\n", "null.py", r"my kinds/null\.py.*null bytes"),
    ],
    ids=["a bracket", "an indent", "a helper module", "a name of a module", "an exception", "latin-1", "a null byte"],
)
def test_a_file_that_cannot_be_imported_is_refused_with_its_line(configuration, source, name, problem):
    assert re.match(problem, refused(configuration, source, name))


def test_a_file_that_is_missing_is_refused_by_its_name(configuration):
    with pytest.raises(
        UserError, match=r"^there is no Python file my kinds/ordinal\.py, which a task names as its kind$"
    ):
        load(configuration)


def test_snakemake_ends_in_that_line_before_anything_runs(tmp_path):
    folder = tmp_path / "work"
    write_ratings(folder / "data")
    (folder / "my kinds").mkdir()
    (folder / "my kinds" / "ordinal.py").write_text("METRICS = (\n")
    (tmp_path / "grid.yaml").write_text(json.dumps(grid_of(tmp_path)))
    outcome = snakemake("--cores", "1", "--configfile", str(tmp_path / "grid.yaml"), folder=folder)
    assert outcome.returncode == 1
    assert "my kinds/ordinal.py, line 1: '(' was never closed" in outcome.stdout.splitlines()
    assert "Traceback" not in outcome.stdout
    assert not (folder / "results").exists() and not (folder / "resources").exists()


def test_the_parts_of_a_built_in_kind_define_every_name_of_the_protocol():
    for kind in KINDS:
        for name, defined in PARTS.items():
            assert [one for one in defined if not hasattr(part(kind, name), one)] == [], (kind, name)
