"""The workflow from configuration to report, in real runs: what it leaves, and how it ends when it cannot run."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from paper_tasks import TASKS
from snakemake_runs import ROOT, Workplace, blocks, errors_of, jobs, jobs_of, snakemake

from workflow_scripts.core.errors import UserError
from workflow_scripts.evaluation.contributions import read_units
from workflow_scripts.evaluation.differences import COLUMNS
from workflow_scripts.experiment.configuration import load
from workflow_scripts.experiment.grid import Grid, Paths


@pytest.fixture
def grid(finished_grid: Workplace) -> Workplace:
    """The finished grid: pawsx in en and de with two learning rates, udpos in en; prompts of 2; seeds 13 and 42."""
    return finished_grid


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


# What a run leaves


def test_the_working_folder_has_a_space_in_its_path(grid):
    assert " " in str(grid.folder) and " " in str(grid.checkout)


def test_every_output_exists(grid):
    """Those in the plan of the whole grid."""
    plan = grid.run({}, "--dry-run", "--forceall")
    outputs = [
        output
        for _, body in blocks(plan.stdout)
        for named in re.findall(r"^    output: (.*)$", body, re.MULTILINE)
        for output in named.split(", ")
    ]
    assert len(outputs) == len(set(outputs)) == 110
    assert [output for output in outputs if not (grid.folder / output).exists()] == []


def test_no_temporary_file_stays_behind(grid):
    """Their names begin with a dot. So do the records of lineage, and the lists of the files that are ours."""
    hidden = {Path(name).name for name in grid.files() if "/." in name}
    assert {name for name in hidden if not name.endswith(".made.json")} == {".files.json", ".tables.json"}


def test_the_long_table_has_exactly_the_rows_of_the_grid(grid):
    metrics = {"pawsx": ["accuracy"], "udpos": ["f1", "f1_xtreme", "accuracy"]}
    expected = [
        ("tiny", task, "en", "prompt_tuning", "2", seed, language, metric)
        for task, languages in (("pawsx", ["en", "de"]), ("udpos", ["en"]))
        for seed in ("13", "42")
        for language in languages
        for metric in metrics[task]
    ]
    rows = table(grid.folder / "results/scores.csv")
    names = ("encoder", "task", "source", "method", "prompt_length", "seed", "language", "metric")
    assert [tuple(row[name] for name in names) for row in rows] == expected
    assert all(0 <= float(row["value"]) <= 100 for row in rows)


def test_the_table_of_runs_has_every_training_and_one_winner_a_search(grid):
    rows = table(grid.folder / "results/runs.csv")
    assert [(row["task"], row["stage"], row["seed"]) for row in rows] == [
        ("pawsx", "search", "13"),
        ("pawsx", "search", "13"),
        *((task, "seed", seed) for task in ("pawsx", "udpos") for seed in ("13", "42")),
    ]
    winners = [row["learning_rate"] for row in rows if row["stage"] == "search" and row["selected"] == "True"]
    assert len(winners) == 1
    assert {row["learning_rate"] for row in rows if row["task"] == "pawsx" and row["stage"] == "seed"} == set(winners)


def test_the_table_of_curves_has_every_line_of_every_log_and_every_evaluation(grid):
    curves = pd.read_parquet(grid.folder / "results/curves.parquet")
    runs = table(grid.folder / "results/runs.csv")
    assert len(curves.groupby(["task", "stage", "seed", "learning_rate"])) == len(runs) == 6
    for row in runs:
        if row["stage"] == "search":
            (folder,) = grid.folder.glob(f"results/tiny/{row['task']}/en/*/search/*/lr-{row['learning_rate']}")
        else:
            folder = grid.folder / f"results/tiny/{row['task']}/en/prompt_tuning-2/seed-{row['seed']}"
        own = curves[(curves["task"] == row["task"]) & (curves["stage"] == row["stage"])]
        own = own[(own["seed"] == int(row["seed"])) & (own["learning_rate"] == float(row["learning_rate"]))]
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        points = {quantity: rows.set_index("step")["value"].to_dict() for quantity, rows in own.groupby("quantity")}
        assert points["training_loss"] == {line["step"]: line["loss"] for line in lines}
        assert points["gradient_norm"] == {line["step"]: line["gradient_norm"] for line in lines}
        losses = {evaluation["step"]: evaluation["validation_loss"] for evaluation in record["evaluations"]}
        assert points["validation_loss"] == losses
        assert points[f"validation_{row['metric']}"][record["kept"][-1]] == record["validation"]
        assert set(own[own["kept"]]["step"]) == set(record["kept"])


def test_the_winner_is_not_trained_twice(grid):
    arm = grid.folder / "results/tiny/pawsx/en/prompt_tuning-2"
    rate = json.loads((arm / "selected.json").read_text(encoding="utf-8"))["learning_rate"]
    (searched,) = arm.glob(f"search/*/lr-{rate}")
    for name in ("weights.safetensors", "run.json", "log.jsonl"):
        assert (arm / "seed-13" / name).samefile(searched / name)
    assert (
        "the search trained this run"
        in (grid.folder / "logs/train/tiny/pawsx/en/prompt_tuning-2/seed-13.log").read_text()
    )


def test_without_fine_tuning_the_table_of_differences_has_a_header_alone(grid):
    text = (grid.folder / "results/differences.csv").read_text(encoding="utf-8")
    assert text == ",".join(COLUMNS) + "\n"


def test_every_score_is_the_ratio_of_its_units_sums(grid):
    for row in table(grid.folder / "results/scores.csv"):
        run = grid.folder / f"results/tiny/{row['task']}/en/prompt_tuning-2/seed-{row['seed']}"
        sums = read_units(run / "units.parquet", row["metric"])[row["language"]].values()
        value = 100 * sum(numerator for numerator, _ in sums) / sum(of for _, of in sums)
        assert float(row["value"]) == pytest.approx(value, rel=1e-12)


def test_the_report_names_its_benchmark(grid):
    page = (grid.folder / "results/report.html").read_text(encoding="utf-8")
    assert "crossprompt mini benchmark" in page
    tables = set(re.findall(r'<figure class="table [a-z ]*" id="([a-z]+)-(?:f1|accuracy|exact-match)"', page))
    assert tables & set(TASKS) == {"pawsx", "udpos"}


def test_a_second_run_has_nothing_to_do_and_changes_nothing(grid, tmp_path):
    copy = grid.copied(tmp_path / "run again")
    before = copy.files()
    outcome = copy.run()
    assert outcome.returncode == 0
    assert "Nothing to be done" in outcome.stdout
    assert copy.files() == before


def test_every_rule_has_a_log_memory_and_a_time_limit(grid):
    found = {}
    questions = {"tasks.xquad": {"languages": ["en"], "max_length": 64, "stride": 16}}
    elsewhere = {"arms": {"llama": {"predictions": "llama"}}}
    for edit in ({}, {"corpora": {"source": "hub"}}, questions, elsewhere):
        found |= dict(blocks(grid.run(edit, "--dry-run", "--forceall").stdout))
    found |= dict(blocks(grid.run({}, "export", "--dry-run", "--forceall").stdout))
    text = "\n".join(file.read_text() for file in (ROOT / "rules").glob("*.smk"))
    rules = set(re.findall(r"^(?:rule|checkpoint) (\w+):", text, re.M))
    variants = set(re.findall(r"^ *use rule \w+ as (\w+) with:", text, re.M))
    assert rules and set(found) - variants == rules | {"all"}
    for rule in rules - {"export"}:  # a target, as `all` is
        assert "    log: logs/" in found[rule], rule
        assert re.search(r"^    resources: .*mem_mb=\d+", found[rule], re.MULTILINE), rule
        assert re.search(r"^    resources: .*runtime=\d+", found[rule], re.MULTILINE), rule


def test_every_job_wrote_its_log_and_every_computing_rule_its_benchmark(grid):
    assert len(list((grid.folder / "logs").rglob("*.log"))) == 51
    benchmarks = {file.relative_to(grid.folder / "logs/benchmarks").parts[0] for file in grid.folder.rglob("*.tsv")}
    assert benchmarks == {"fetch_encoder", "predict", "represent", "search", "train"}


# Going on from what is there


def test_the_tables_are_declared_one_by_one_and_a_file_of_the_users_own_beside_them_stays(grid, tmp_path):
    place = grid.copied(tmp_path / "working folder")
    tables = place.folder / "results" / "tables"
    written = {file.name for file in tables.iterdir()} - {".tables.json"}
    mine = tables / "mine.csv"
    mine.write_text("mine")
    plan = place.run({}, "--dry-run", "--forcerun", "render")
    (outputs,) = re.findall(r"^    output: (.*report\.html.*)$", plan.stdout, re.MULTILINE)
    assert {Path(name).name for name in outputs.split(", ")} == written | {"report.html", "summary.txt"}
    (tables / "cost.tex").unlink()
    assert "render" in place.planned()
    outcome = place.run()
    assert outcome.returncode == 0, outcome.stdout
    assert mine.read_text() == "mine" and (tables / "cost.tex").exists()


def test_a_removed_seed_leaves_the_tables_and_its_models_stay(grid, tmp_path):
    """And when it is added again, only the aggregating jobs run."""
    copy = grid.copied(tmp_path / "a seed less")
    scores = copy.folder / "results/scores.csv"
    before = scores.read_bytes()
    outcome = copy.run({"seeds": [13]})
    assert outcome.returncode == 0, outcome.stdout
    assert {row["seed"] for row in table(scores)} == {"13"}
    assert (copy.folder / "results/tiny/udpos/en/prompt_tuning-2/seed-42/weights.safetensors").exists()
    assert copy.planned() == jobs("gather", "collect", "compare", "exemplify", "explain", "render", "all")
    assert copy.run().returncode == 0
    assert scores.read_bytes() == before


# Ending in one clear line


@pytest.fixture
def xtreme(tmp_path: Path, tiny_encoder: Path) -> Workplace:
    """PAWS-X in XTREME's layout, three rows a file, in English and German; nothing has run yet."""
    folder = tmp_path / "xtreme data" / "pawsx"
    folder.mkdir(parents=True)
    for name in ("train-en", "dev-en", "test-en", "test-de"):
        folder.joinpath(f"{name}.tsv").write_text("a b\tb a\t0\na b\ta b\t1\nc d\td c\t0\n", encoding="utf-8")
    configuration = {
        "encoders": {"tiny": {"source": "folder", "path": str(tiny_encoder)}},
        "corpora": {"source": "xtreme", "path": str(folder.parent)},
        "methods": {"prompt_tuning": {}},
        "tasks": {"pawsx": {"languages": ["en", "de"], "max_length": 64}},
    }
    return Workplace(ROOT, tmp_path / "working folder", configuration)


def corpora(folder: Path) -> Iterator[str]:
    files = folder.glob("resources/corpora/*/*/[!.]*")
    return (str(file.relative_to(folder / "resources/corpora")) for file in files)


def test_a_malformed_row_ends_in_one_line_and_the_good_files_stay(xtreme):
    german = Path(xtreme.configuration["corpora"]["path"], "pawsx/test-de.tsv")
    good = german.read_text(encoding="utf-8")
    german.write_text(good.replace("a b\ta b\t1", "a b\ta b\t7"), encoding="utf-8")

    outcome = xtreme.run({}, "--keep-going", "--until", "fetch_corpus")

    assert outcome.returncode == 1
    line = f"error: {german}, line 2: label '7' is not one of 0, 1: correct it, add it to `labels`, or give its"
    line += " spelling under `values.label`"
    assert errors_of(outcome.stdout) == [line]
    assert "Traceback" not in outcome.stdout
    log = xtreme.folder / "logs/fetch_corpus/pawsx/de/test.log"
    assert log.read_text(encoding="utf-8").splitlines() == [line]
    there = ["pawsx/en/test.parquet", "pawsx/en/train.parquet", "pawsx/en/validation.parquet"]
    assert sorted(corpora(xtreme.folder)) == there

    # Once the file is corrected, only its own corpus is fetched.
    german.write_text(good, encoding="utf-8")
    times = {name: (xtreme.folder / "resources/corpora" / name).stat().st_mtime_ns for name in there}
    outcome = xtreme.run({}, "--until", "fetch_corpus")
    assert outcome.returncode == 0
    assert jobs_of(outcome.stdout) == ["fetch_corpus pawsx/de/test"]
    assert times == {name: (xtreme.folder / "resources/corpora" / name).stat().st_mtime_ns for name in there}


def test_a_missing_folder_ends_in_one_line(xtreme):
    edit = {"corpora.path": "/not/there", "tasks.pawsx.languages": ["en"]}
    expected = "error: pawsx, en, test: there is no folder /not/there: check the path of the task or of corpora"
    outcome = xtreme.run(edit, "resources/corpora/pawsx/en/test.parquet")
    assert outcome.returncode == 1
    (line,) = errors_of(outcome.stdout)
    assert line == expected
    assert (xtreme.folder / "logs/fetch_corpus/pawsx/en/test.log").read_text(encoding="utf-8") == line + "\n"
    assert list(corpora(xtreme.folder)) == []


def test_texts_longer_than_the_encoders_positions_end_in_one_line_and_spoil_nothing(grid, tmp_path):
    """The tiny encoder has 160 positions. The corpora, the other task and the sums stay as they are."""
    copy = grid.copied(tmp_path / "too long")
    before = copy.files()
    outcome = copy.run({"tasks.udpos.max_length": 161}, "--keep-going")
    assert outcome.returncode == 1
    expected = "error: tasks.udpos.max_length: 161 tokens, but encoder tiny has 160 positions: lower it"
    assert errors_of(outcome.stdout) == [expected] * 3
    assert (copy.folder / "logs/tokenise/tiny/udpos/en/test.log").read_text(encoding="utf-8") == expected + "\n"
    lost = before.keys() - copy.files().keys()
    assert {name.rsplit("/", 2)[0] for name in lost} == {"resources/tokens/tiny/udpos/en"}
    assert all(copy.files()[name] == content for name, content in before.items() if name not in lost)


# The configuration


def test_the_paths_of_the_configuration_are_followed(grid):
    moved = grid.planned({"resources": "kept/resources", "results": "kept/results"}, "kept/results/scores.csv")
    assert len(moved) == 35  # the whole grid from scratch, without the report and `all`
    configuration = load({**grid.configuration, "results": "kept/results"})
    paths = Paths(configuration.resources, configuration.results)
    assert all(folder.startswith("kept/results/") for _, _, folder in Grid(configuration).seed_runs(paths, "run.json"))


def test_a_task_cannot_be_called_like_the_folder_of_the_analysis(grid):
    task = {"title": "Mine", "kind": "classification", "labels": ["A", "B"], "source": {"path": "{split}.csv"}}
    with pytest.raises(UserError, match="tasks: 'analysis' is the folder of the analysis"):
        load({**grid.configuration, "tasks": {"analysis": {**task, "languages": ["en"]}}})


def test_a_configuration_error_ends_before_anything_runs(tmp_path):
    file = tmp_path / "configuration.yaml"
    values = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    file.write_text(yaml.safe_dump({**values, "sedes": [1]}), encoding="utf-8")
    for words in (["--dry-run"], ["--cores", "1"]):
        outcome = snakemake(*words, "--configfile", str(file), folder=tmp_path / "work")
        assert outcome.returncode == 1
        assert "configuration: sedes: unknown key; did you mean 'seeds'?" in outcome.stdout.splitlines()
        assert "Traceback" not in outcome.stdout
        assert not (tmp_path / "work/results").exists() and not (tmp_path / "work/resources").exists()
