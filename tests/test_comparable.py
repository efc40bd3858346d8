"""When our scores may be shown beside the paper's: with its encoder and corpora only, and each reason is stated."""

import copy

import pytest
import yaml
from snakemake_runs import ROOT

from workflow_scripts.experiment.configuration import load
from workflow_scripts.experiment.grid import Grid
from workflow_scripts.reporting.comparable import comparable_pairs, why_not_comparable

LARGE = {
    "source": {"source": "hub", "repository": "FacebookAI/xlm-roberta-large", "revision": "main", "commit": "c23d21b0"},
    "model_type": "xlm-roberta",
    "layers": 24,
    "hidden_size": 1024,
    "attention_heads": 16,
    "vocabulary": 250002,
    "positions": 512,
}


@pytest.fixture
def paper():
    """The shipped grid of the paper."""
    return load(paper_values())


def paper_values() -> dict:
    values = yaml.safe_load((ROOT / "configs/paper.yaml").read_text(encoding="utf-8"))
    values["corpora"] = {"source": "xtreme", "path": "/data/xtreme"}
    return values


def whole_files(configuration) -> list[dict]:
    """The corpora of a grid as XTREME has them (facts of its files, written down here once more)."""
    counts = {
        "xnli": {"train": 392_702, "validation": 2_490, "test": 5_010},
        "pawsx": {"train": 49_401, "validation": 2_000, "test": 2_000},
        "udpos": {"train": 21_253, "validation": 3_974},
        "xquad": {"train": 87_599, "validation": 10_570, "test": 1_190},
        "tydiqa": {"train": 3_259, "validation": 437},
    }
    tydiqa = {"ar": 921, "bn": 113, "en": 440, "fi": 782, "id": 565, "ko": 276, "ru": 812, "sw": 499, "te": 669}
    tagging = dict(
        pair.split(":")
        for pair in (
            "en:5440 af:425 ar:1680 bg:1116 de:22358 el:456 es:3147 et:3760 eu:1799 fa:600 fi:4422 fr:5009 he:491"
            " hi:2684 hu:449 id:1557 it:3518 ja:2372 kk:1047 ko:4276 mr:47 nl:1471 pt:2681 ru:8976 ta:120 te:146 "
            "th:1000 tl:55 tr:4785 ur:535 vi:800 yo:100 zh:3455"
        ).split()
    )
    return [
        {
            "task": task,
            "language": language,
            "split": split,
            "rows": int(counts[task].get(split) or (tydiqa[language] if task == "tydiqa" else tagging[language])),
        }
        for task, language, split in Grid(configuration).corpora()
    ]


def with_rows(corpora: list[dict], task: str, language: str, split: str, rows: int) -> list[dict]:
    return [
        {**record, "rows": rows}
        if (record["task"], record["language"], record["split"]) == (task, language, split)
        else record
        for record in corpora
    ]


def test_the_papers_grid_on_whole_files_is_comparable(paper):
    encoders, corpora = {"xlm-roberta-large": LARGE}, whole_files(paper)
    assert why_not_comparable(paper, encoders, corpora) == []
    assert len(comparable_pairs(paper, encoders, corpora)) == 5


@pytest.mark.parametrize(
    ("task", "language", "split"),
    [("xnli", "ur", "test"), ("pawsx", "en", "train"), ("xquad", "en", "validation"), ("tydiqa", "en", "validation")],
)
def test_a_corpus_that_lacks_a_row_is_named_and_only_its_task_is_apart(paper, task, language, split):
    corpora = whole_files(paper)
    rows = next(r["rows"] for r in corpora if (r["task"], r["language"], r["split"]) == (task, language, split))
    corpora = with_rows(corpora, task, language, split, rows - 1)
    (reason,) = why_not_comparable(paper, {"x": LARGE}, corpora)
    assert "XTREME's whole file has" in reason
    assert task not in dict(map(reversed, comparable_pairs(paper, {"x": LARGE}, corpora)))
    assert len(comparable_pairs(paper, {"x": LARGE}, corpora)) == 4


def test_limits_that_cut_every_language_give_one_reason_a_split(paper):
    corpora = [{**record, "rows": 500} if record["split"] == "test" else record for record in whole_files(paper)]
    reasons = why_not_comparable(paper, {"x": LARGE}, corpora)
    assert len(reasons) == 5
    assert "XNLI: 500 test rows in en where XTREME's whole file has 5,010, and 14 more languages differ" in reasons


def test_a_task_chosen_on_its_test_set_has_that_for_validation_and_the_whole_training_file(paper):
    values = paper_values()
    values["tasks"]["tydiqa"]["validation"] = "test"
    configuration = load(values)
    corpora = with_rows(whole_files(configuration), "tydiqa", "en", "train", 3_696)
    corpora = with_rows(corpora, "tydiqa", "en", "validation", 440)
    assert why_not_comparable(configuration, {"x": LARGE}, corpora) == []


def test_a_grid_of_some_languages_is_comparable_in_these(paper):
    values = paper_values()
    values["tasks"] = {"xnli": {**values["tasks"]["xnli"], "languages": ["en", "sw"]}}
    configuration = load(values)
    assert why_not_comparable(configuration, {"x": LARGE}, whole_files(configuration)) == []


def test_generated_corpora_are_never_comparable_whatever_their_size(paper):
    values = copy.deepcopy(paper_values())
    values["corpora"] = {"source": "mini"}
    values["tasks"] = {"pawsx": values["tasks"]["pawsx"]}
    configuration = load(values)
    corpora = whole_files(configuration)
    assert why_not_comparable(configuration, {"x": LARGE}, corpora) == [
        "the corpora are generated by this project and not those of the paper"
    ]
    assert comparable_pairs(configuration, {"x": LARGE}, corpora) == []


def test_another_encoder_is_named_with_its_shape_and_stays_apart_beside_the_papers(paper):
    small = {**LARGE, "layers": 12, "hidden_size": 768}
    corpora = whole_files(paper)
    (reason,) = why_not_comparable(paper, {"large": LARGE, "base": small}, corpora)
    assert reason == "the encoder base is not XLM-R-large: it has layers 12, hidden size 768"
    assert {encoder for encoder, _ in comparable_pairs(paper, {"large": LARGE, "base": small}, corpora)} == {"large"}


@pytest.mark.parametrize(
    "source",
    [{"source": "folder", "path": "/models/x"}, {"source": "hub", "repository": "microsoft/infoxlm-large"}],
)
def test_the_shape_alone_does_not_make_an_encoder_the_papers(paper, source):
    (reason,) = why_not_comparable(paper, {"x": {**LARGE, "source": source}}, whole_files(paper))
    assert "its weights may be others" in reason


def test_the_name_of_the_papers_time_is_the_same_repository(paper):
    old = {**LARGE, "source": {**LARGE["source"], "repository": "xlm-roberta-large"}}
    assert why_not_comparable(paper, {"x": old}, whole_files(paper)) == []


def test_training_rows_of_target_languages_do_not_make_the_headline_scores_less_comparable(paper):
    corpora = [*whole_files(paper), {"task": "pawsx", "language": "de", "split": "train", "rows": 49_401}]
    assert why_not_comparable(paper, {"xlm-roberta-large": LARGE}, corpora) == []
