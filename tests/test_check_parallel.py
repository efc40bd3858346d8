"""Test sets of `parallel: true` have the same ids in all languages, which is checked before anything is trained."""

import json
from pathlib import Path

import pytest
from own_task import own_grid, write_own_task
from snakemake_runs import ROOT, Workplace, errors_of, jobs_of

from workflow_scripts.check_parallel import main, parser
from workflow_scripts.core.errors import UserError
from workflow_scripts.corpora.schema import write_rows

# Jobs that may run at the same time. `select` needs no file where an arm has one candidate.
BEFORE_TRAINING = ("fetch_encoder", "tokenise", "select")


def check(folder: Path, ids: dict[str, list[str]]) -> dict[str, object]:
    """What the step writes for test sets of these ids, by language."""
    files = []
    for language, of_language in ids.items():
        rows = [{"id": name, "group": name, "text": "a", "text_pair": None, "label": "x"} for name in of_language]
        files.append(str(folder / f"{language}.parquet"))
        write_rows(Path(files[-1]), rows, "classification")
    settings = {"task": "mood", "languages": list(ids)}
    words = ["--settings", json.dumps(settings), "--rows", *files, "--checked", str(folder / "mood.json")]
    main(parser().parse_args(words))
    return json.loads((folder / "mood.json").read_text())


def test_the_same_ids_in_any_order_are_parallel(tmp_path):
    ids = {"en": ["1", "2", "10"], "de": ["10", "2", "1"], "fr": ["1", "2", "10"]}
    assert check(tmp_path, ids) == {"languages": ["en", "de", "fr"], "ids": 3}


@pytest.mark.parametrize(
    ("german", "found", "only"),
    [(["1", "10", "2"], "9", "en"), (["1", "9", "10", "2", "x"], "x", "de"), (["1", "8", "10", "2"], "9", "en")],
    ids=["one is missing", "one is added", "one is another"],
)
def test_the_first_id_that_differs_is_named_with_both_languages_and_what_to_do(tmp_path, german, found, only):
    with pytest.raises(UserError) as error:
        check(tmp_path, {"en": ["1", "9", "10", "2"], "fr": ["1", "9", "10", "2"], "de": german})
    assert str(error.value) == (
        "tasks.mood.parallel: the test sets in en and de have different ids; the first difference is"
        f" {found!r}, which only {only} has: correct the files or columns.id, or set parallel: false (or partly, if"
        " some languages lack rows)"
    )
    assert not (tmp_path / "mood.json").exists()


def test_different_ids_end_a_run_before_the_first_training(tmp_path, tiny_encoder):
    """Each of the other test sets has been fetched by then, although only the check needs all of them so early."""
    folder = tmp_path / "working folder"
    place = Workplace(ROOT, folder, own_grid(tiny_encoder, write_own_task(folder)))
    german = folder / "my/data/de/test.csv"
    german.write_text(german.read_text(encoding="utf-8").replace("test-3,", "drei,"), encoding="utf-8")
    outcome = place.run()
    assert outcome.returncode == 1
    (line,) = errors_of(outcome.stdout)
    assert line.startswith("error: tasks.mood.parallel: the test sets in en and de have different ids; the first")
    assert "'test-3', which only en has" in line
    started = {job.split()[0] for job in jobs_of(outcome.stdout)}
    assert {"fetch_corpus", "check_parallel"} <= started <= {"fetch_corpus", "check_parallel", *BEFORE_TRAINING}
    # The remedy.
    task = folder / "my/mood.yaml"
    task.write_text(task.read_text(encoding="utf-8").replace("parallel: true", "parallel: partly"), encoding="utf-8")
    assert not [job for job in place.planned() if job.startswith("check_parallel")]
