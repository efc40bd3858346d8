"""What explains transfer: distances, pieces and correlations, against libraries and by hand."""

import logging

import numpy as np
import pandas as pd
import pytest
from made_up_experiment import EVIL, TEMPLATES, make_distances, make_provenance, make_runs, make_scores
from scipy import stats
from tiny import in_memory
from wide_experiment import LANGUAGES as MANY

from workflow_scripts.core.typology import GENETIC, SYNTACTIC, distance
from workflow_scripts.evaluation.aggregate import transfer_gaps
from workflow_scripts.evaluation.explained import (
    COLUMNS,
    DISTANCE_COLUMNS,
    FEWEST_LANGUAGES,
    MEASURES,
    correlation,
    distances,
    explained,
    gaps,
    interval,
)
from workflow_scripts.evaluation.pieces import Pieces, count_pieces, premium, premium_of_union, special_ids
from workflow_scripts.kinds.tokenizer import load_tokenizer
from workflow_scripts.reporting.inputs import Inputs
from workflow_scripts.reporting.page import render
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.views.distances import plots, section

# Distances

PAIRS = [("en", "deu"), ("en", "rus"), ("en", "hin"), ("en", "tha"), ("deu", "jpn"), ("fr", "swa"), ("eng", "yor")]
ISO = {"en": "eng", "fr": "fra"}


@pytest.mark.parametrize("kind", [SYNTACTIC, GENETIC])
def test_distances_are_those_of_urielplus(kind):
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        from urielplus import urielplus  # sets up logging

        database = urielplus.URIELPlus()
        for pair in PAIRS:
            expected = database.new_distance(kind, *(ISO.get(code, code) for code in pair))
            assert distance(kind, *pair) == pytest.approx(expected, abs=6e-5)  # rounded there
            assert distance(kind, *pair[::-1]) == pytest.approx(distance(kind, *pair))
    finally:
        logging.root.handlers, logging.root.level = handlers, level


def test_a_code_of_any_form_has_the_distance_of_its_language():
    expected = distance(SYNTACTIC, "en", "zh")
    assert distance(SYNTACTIC, "eng_Latn", "zho_Hans") == distance(SYNTACTIC, "eng", "zh-Hant") == expected
    assert distance(SYNTACTIC, "en", "lvs") == distance(SYNTACTIC, "en", "lv"), (
        "Standard Latvian has no entry of its own"
    )
    assert distance(SYNTACTIC, "en", "xx") is None
    assert distance(GENETIC, "en", "ekk") == distance(GENETIC, "en", "et") == 1
    assert distance(SYNTACTIC, "en", "en") == pytest.approx(0, abs=1e-6)


def test_nearly_all_languages_of_flores_have_distances():
    known = [[distance(kind, "en", code) is not None for code in MANY] for kind in (SYNTACTIC, GENETIC)]
    assert np.mean(known[0]) > 0.8
    assert np.mean(known[1]) > 0.95


# Pieces


def tokens_of(texts: list[list[int]], rows: list[int] | None = None, at_max_length: int = 0):
    made = in_memory({"row": rows or list(range(len(texts))), "input_ids": texts})
    return type(made)(made.columns, {"longest": max(map(len, texts)), "at_max_length": at_max_length})


def test_pieces_are_counted_without_special_tokens_and_unknown_ones_are_a_share_of_them():
    tokens = tokens_of([[0, 5, 6, 2], [0, 3, 2], [0, 7, 3, 8, 2]], rows=[0, 0, 1])
    found = count_pieces(tokens, ["a", "b"], None, {0, 2}, 3)
    assert found.pieces.tolist() == [3, 3]
    assert found.features.tolist() == [2, 1]
    assert found.whole.tolist() == [True, True]
    assert found.unknown == pytest.approx(100 * 2 / 6)
    cut = count_pieces(tokens_of([[0, 5, 6, 2], [0, 3, 2]], at_max_length=1), ["a", "b"], None, {0, 2}, None)
    assert cut.whole.tolist() == [False, True]
    assert np.isnan(cut.unknown)


def pieces_of(counts, words=None, ids=None, whole=None, features=None) -> Pieces:
    size = len(counts)
    return Pieces(
        ids=ids or [str(row) for row in range(size)],
        pieces=np.array(counts),
        features=np.array(features or [1] * size),
        whole=np.array(whole or [True] * size),
        words=None if words is None else np.array(words),
        unknown=0.0,
    )


def test_the_premium_is_over_the_rows_of_the_same_ids_that_nothing_was_cut_of():
    source = pieces_of([10] * 30)
    ids = [str(row) for row in reversed(range(30))] + ["only here"]
    counts, whole, features = [20] * 31, [True] * 31, [1] * 31
    counts[0], whole[0] = 500, False
    counts[1], features[1] = 500, 3
    counts[30] = 500
    assert premium(pieces_of(counts, None, ids, whole, features), source, parallel=True) == 2
    assert np.isnan(premium(pieces_of([20] * 10), source, parallel=True)), "too few rows"


def test_without_parallel_texts_words_are_compared_and_else_nothing():
    source, of = pieces_of([12] * 25, words=[10] * 25), pieces_of([30] * 40, words=[10] * 40)
    assert premium(of, source, parallel=False) == pytest.approx(3 / 1.2)
    assert np.isnan(premium(pieces_of([30] * 40), source, parallel=False))
    several = {"en": pieces_of([10] * 30), "de": pieces_of([40] * 30)}
    assert premium_of_union(pieces_of([40] * 30), several, parallel=True) == pytest.approx(2)


def test_a_real_tokenizer_counts_as_its_own_encoding_does(bundled_encoder):
    tokenizer = load_tokenizer(bundled_encoder)
    special, unknown = special_ids(tokenizer)
    texts = ["A river flows.", "\U00012000 x", "दो शब्द"]
    encoded = [tokenizer(text)["input_ids"] for text in texts]
    found = count_pieces(tokens_of(encoded), ["a", "b", "c"], None, special, unknown)
    bare = [tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    assert found.pieces.tolist() == list(map(len, bare))
    every = [piece for pieces in bare for piece in pieces]
    assert found.unknown == pytest.approx(100 * every.count("<unk>") / len(every)) and found.unknown > 0


# Gaps and correlations


def test_the_mean_of_the_gaps_is_the_gap_of_table_2():
    scores, runs = make_scores(), make_runs()
    found = gaps(scores, runs).groupby(["task", "method", "prompt_length"])["gap"].mean()
    table = transfer_gaps(scores).set_index(["task", "method", "prompt_length"])["gap"]
    assert len(found) == 10
    assert found.to_dict() == pytest.approx(table[found.index].to_dict())
    union = gaps(scores.assign(source="en+de"), runs.assign(source="en+de"))
    assert not {"en", "de"} & set(union["language"])
    one = {(row.task, row.method): row.gap for row in union[union["language"] == "fr"].itertuples()}
    of = scores[(scores["task"] == "xnli") & (scores["method"] == "fine_tuning")].groupby("language")["value"].mean()
    assert one["xnli", "fine_tuning"] == pytest.approx((of["en"] + of["de"]) / 2 - of["fr"])


def test_the_interval_is_that_of_bonett_and_wright():
    """Their variance of Fisher's z is (1 + r²/2) / (n - 3)."""
    r, count = 0.6, 20
    half = 1.959964 * np.sqrt((1 + 0.18) / 17)
    assert interval(r, count) == pytest.approx((np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half)))
    assert all(-1 <= end <= 1 for end in interval(1.0, 8))


@pytest.mark.parametrize("ties", ["none", "half are equal", "two values"])
@pytest.mark.parametrize(("rho", "count"), [(0.0, FEWEST_LANGUAGES), (0.8, FEWEST_LANGUAGES), (0.5, 33)])
def test_the_interval_holds_the_true_correlation(ties, rho, count):
    generator = np.random.default_rng(1)

    def drawn(samples: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        x = generator.normal(size=(samples, size))
        y = rho * x + np.sqrt(1 - rho**2) * generator.normal(size=x.shape)
        return {"none": x, "half are equal": np.minimum(x, 0), "two values": x > 0.3}[ties], y

    truth = stats.spearmanr(*(values[0] for values in drawn(1, 200_000))).statistic
    ranked = [stats.rankdata(values, axis=1) for values in drawn(2000, count)]
    x, y = (values - values.mean(1, keepdims=True) for values in ranked)
    lengths = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    found = (x * y).sum(1)[lengths > 0] / lengths[lengths > 0]
    ends = np.array([interval(r, count) for r in found])
    held = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    assert 0.935 <= held.mean() <= 0.995


def test_the_correlation_is_scipys_over_the_languages_that_have_both():
    generator = np.random.default_rng(2)
    x, y = generator.normal(size=(2, 20))
    x[3], y[7] = np.nan, np.nan
    kept = ~np.isnan(x + y)
    found = correlation(x, y)
    assert found["correlation"] == pytest.approx(stats.spearmanr(x[kept], y[kept]).statistic)
    assert found["languages"] == 18
    assert found["low"] < found["correlation"] < found["high"]


def test_few_languages_or_a_measure_that_does_not_vary_give_no_correlation():
    line = np.arange(20.0)
    assert correlation(line[: FEWEST_LANGUAGES - 1], line[: FEWEST_LANGUAGES - 1])["correlation"] is None
    assert correlation(np.zeros(20), line) == {"correlation": None, "low": None, "high": None, "languages": 20}
    assert correlation(line, line)["correlation"] == pytest.approx(1)


def test_a_method_that_loses_less_where_the_language_is_far_has_a_negative_correlation_of_the_difference():
    scores, runs = make_scores(["xnli"]), make_runs(["xnli"])
    measures = pd.DataFrame(distances(scores, {}, {}), columns=DISTANCE_COLUMNS)
    assert list(measures["language"]) == [code for code in dict.fromkeys(scores["language"]) if code != "en"]
    far = measures.set_index("language")[SYNTACTIC]
    for index, row in scores.iterrows():
        loss = 0 if row["language"] == "en" else 20 * far[row["language"]]
        scores.loc[index, "value"] = 80 - loss * (1.0 if row["method"] == "fine_tuning" else 0.5)
    rows = pd.DataFrame(explained(gaps(scores, runs), measures))
    assert list(rows) == COLUMNS
    chosen = rows[rows["measure"] == SYNTACTIC].set_index(["method", "baseline"])["correlation"]
    assert chosen["fine_tuning", ""] == chosen["prompt_tuning", ""] == pytest.approx(1)
    assert chosen["prompt_tuning", "fine_tuning"] == pytest.approx(-1)
    assert set(rows["measure"]) == set(MEASURES)
    assert rows[rows["measure"] == "premium"]["correlation"].isna().all(), "no pieces were counted"


def test_the_measures_of_a_union_are_those_to_the_closest_source():
    scores = make_scores(["xnli"])
    both = scores.assign(source="en+ru")
    tables = [pd.DataFrame(distances(one, {}, {})).set_index("language") for one in (scores, both)]
    assert tables[1].loc["bg", SYNTACTIC] == min(distance(SYNTACTIC, "bg", code) for code in ("en", "ru"))
    assert (tables[0].loc["bg", "other_script"], tables[1].loc["bg", "other_script"]) == (1, 0)


# The page


def report_of(scores, runs, **changes) -> Report:
    measures, found = make_distances(scores, runs)
    parts = {"distances": measures, "explained": found, **changes}
    return Report.of(Inputs(scores, runs, make_provenance(), **parts))


def test_the_section_has_a_point_for_each_method_and_language_hollow_in_another_script():
    report = report_of(make_scores(["xnli"]), make_runs(["xnli"]))
    plot, _ = plots(report, (SYNTACTIC, "premium"))
    assert len(plot.marks) == 2 * 14
    hollow = {mark.title.split(",")[0] for mark in plot.marks if "hollow" in mark.kind}
    assert hollow == {"Arabic", "Bulgarian", "Chinese", "Greek", "Hindi", "Russian", "Thai", "Urdu"}


def test_the_sentences_say_where_a_method_loses_less_and_where_languages_are_too_few():
    scores, runs = make_scores(["xnli", "pawsx"]), make_runs(["xnli", "pawsx"])
    _, found = make_distances(scores, runs)
    chosen = (found["task"] == "xnli") & (found["measure"] == SYNTACTIC) & (found["baseline"] == "fine_tuning")
    found.loc[chosen, ["correlation", "low", "high"]] = [-0.7, -0.9, -0.2]
    made = section(report_of(scores, runs, explained=found))
    (sentences,) = (part.items for part in made.parts if part.template == "bullets")
    assert sentences == (
        "Prompt tuning against fine-tuning: loses less in distant languages on XNLI (ρ −0.70, 95\u00a0% interval −0.90"
        " to −0.20). Too few languages for a correlation: PAWS-X.",
    )
    alone = section(report_of(make_scores(["pawsx"]), make_runs(["pawsx"])))
    (sentences,) = (part.items for part in alone.parts if part.template == "bullets")
    assert sentences[0].endswith("no task has the 8 languages that a correlation with the distance needs.")


def test_without_a_gap_there_is_no_section_and_hostile_names_stay_text():
    scores, runs = make_scores(["xnli"]), make_runs(["xnli"])
    assert section(report_of(scores[scores["language"] != "en"], runs)) is None
    hostile = [frame.replace({"prompt_tuning": EVIL, "de": EVIL}) for frame in (scores, runs)]
    page = render(report_of(*hostile).inputs, TEMPLATES)
    assert EVIL not in page and "&lt;script&gt;" in page
