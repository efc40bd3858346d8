"""Non-finite numbers: a diverged training is recorded, bad vectors are named, and the rest is computed."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_up_experiment import make_alignment, make_report
from test_analysis import by_hand, table
from test_steps import by_hand as by_hand_on
from test_steps import searching, workplace  # noqa: F401  (workplace is a fixture)

from workflow_scripts import align, project, search, select
from workflow_scripts.analysis.samples import Vectors, write_vectors
from workflow_scripts.core.files import read_json, sha256, write_json
from workflow_scripts.core.names import group_title, vectors_file
from workflow_scripts.reporting.views.problems import concerns

LANGUAGES = ["en", "de", "zh"]
SETTINGS: dict[str, Any] = {"languages": LANGUAGES, "samples": 20, "disagreeing": "leave_out"}
COUNT = 24


def record(folder: Path, broken: dict[str, float]) -> Path:
    """The vectors of a model, as `represent` writes them; those of a `broken` language hold the number."""
    file = folder / "vectors" / "en+de+zh.json"
    random = np.random.default_rng(3)
    ids, labels = [str(number) for number in range(COUNT)], ["yes", "no"] * (COUNT // 2)
    values = random.normal(size=(COUNT, 5)) + np.array([[1.0], [-1.0]] * (COUNT // 2))
    checksums = {}
    for language in LANGUAGES:
        own = values + 0.1 * random.normal(size=values.shape)
        if language in broken:
            own[:, 2] = broken[language]
        write_vectors(vectors_file(file, language), Vectors(ids, labels, own))
        checksums[language] = sha256(vectors_file(file, language))
    write_json(file, checksums)
    return file


def aligned(folder: Path, broken: dict[str, float]) -> dict[tuple[str, str], float]:
    model, untuned = record(folder / "model", broken), record(folder / "untuned", {})
    by_hand(align, SETTINGS, "--vectors", model, "--untuned", untuned, "--alignment", folder / "alignment.csv")
    return {(row["language"], row["measure"]): float(row["value"]) for row in table(folder / "alignment.csv")}


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_the_measures_of_the_other_languages_are_as_without_the_broken_one(tmp_path, caplog, number):
    whole = aligned(tmp_path / "whole", {})
    found = aligned(tmp_path / "broken", {"de": number})
    assert found.pop(("de", "not_finite")) == 20
    assert found == {key: value for key, value in whole.items() if key[0] != "de"}
    assert "de: 20 of 20 vectors are not finite: its measures are left out" in caplog.text


def test_without_english_only_what_does_not_compare_with_it_is_measured(tmp_path):
    found = aligned(tmp_path, {"en": np.nan})
    assert set(found) == {("en", "not_finite"), ("de", "before_after"), ("zh", "before_after")}


@pytest.mark.parametrize("broken", [["de"], ["en"], LANGUAGES])
def test_the_figure_shows_the_other_languages(tmp_path, caplog, broken):
    model = record(tmp_path, dict.fromkeys(broken, np.nan))
    points, lines = tmp_path / "points.csv", tmp_path / "boundaries.csv"
    settings = SETTINGS | {"figure_samples": 10}
    by_hand(project, settings, "--vectors", model, "--points", points, "--boundaries", lines)
    others = [language for language in LANGUAGES if language not in broken]
    assert [row["language"] for row in table(points)] == [one for one in others for _ in range(10)]
    assert [row["language"] for row in table(lines)] == others
    assert f"not in the figure, since vectors are not finite: {', '.join(broken)}" in caplog.text


def test_the_report_names_the_model_and_the_language():
    alignment = make_alignment()
    tuned = alignment[(alignment["task"] != "") & (alignment["measure"] == "before_after")]
    one = tuned[tuned["language"] == "de"].head(1)
    before = {(one.where, one.what) for one in concerns(make_report(alignment=alignment))}
    marked = pd.concat([alignment, one.assign(measure="not_finite", value=20.0)])
    found = {(one.where, one.what) for one in concerns(make_report(alignment=marked))} - before
    ((where, what),) = found
    assert f"seed {one['seed'].item()}" in where
    assert what == "vectors are not finite in German: their measures and points are left out"


def test_a_group_of_learning_rates_is_named_as_they_are_written():
    assert group_title("1e+16+0.001+1e-05") == "1e+16 and 0.001 and 1e-05"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["prompt_tuning", "fine_tuning"])
def test_a_search_with_a_learning_rate_of_1e16_records_it_and_goes_on(workplace, method, precision):  # noqa: F811
    name = f"huge-{method}-{precision}"
    candidates = [{"learning_rate": rate} for rate in (1e16, 0.01)]
    passes = [candidates] if method == "prompt_tuning" else [[one] for one in candidates]
    found = workplace / name / "1e+16+0.01.json"
    prompts = {} if method == "prompt_tuning" else {"prompt_length": 0}
    by_hand_on(search, *searching(workplace, name, found, passes, method=method, precision=precision, **prompts))
    huge, usual = read_json(found)
    assert huge["problem"] and "not above the majority class" in huge["problem"]
    assert huge["diverged"] == ("the loss became nan in epoch 1" in huge["problem"])
    assert not usual["diverged"] and "nan" not in usual["problem"]
    selected = workplace / f"{name}.json"
    settings = {"candidates": [{"learning_rate": rate} for rate in (1e16, 0.01)]}
    by_hand(select, settings, "--searches", found, "--selected", selected)
    if huge["diverged"] or usual["validation"] >= huge["validation"]:
        assert read_json(selected) == {"learning_rate": 0.01}
