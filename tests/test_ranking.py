"""Mean ranks: by hand, against formulas of others, and on datasets whose expected ranks are known."""

import numpy as np
import pandas as pd
import pytest
from made_up_experiment import ARMS, EVIL, TEMPLATES, make_provenance, make_ranks, make_runs, make_scores
from scipy import sparse, stats

from benchmarks import rank_coverage
from benchmarks.rank_coverage import ALIKE, RankedGrid, measured_ranks
from workflow_scripts.evaluation.aggregate import RUN_COLUMNS
from workflow_scripts.evaluation.ranking import ScoredArm, ScoredTask, ranking, scored_arm, scored_task
from workflow_scripts.evaluation.ranks import COLUMNS, entries_of, rankings
from workflow_scripts.evaluation.significance import combine, effect, spread
from workflow_scripts.experiment.grid import Arm
from workflow_scripts.reporting.inputs import Inputs
from workflow_scripts.reporting.page import render
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.views.ranking import section


def certain(*scores: list[list[float]], languages: tuple[str, ...] = ()) -> list[ScoredTask]:
    """Tasks whose scores, (arms, languages), do not vary with seeds and units."""
    tasks = []
    for of_task in scores:
        values = np.array(of_task, dtype=float)
        arms, size = values.shape
        names = languages or tuple(map(str, range(size)))
        tasks.append(ScoredTask(names, values, np.zeros((arms * size,) * 2), (np.zeros((0, size)),) * arms))
    return tasks


def test_the_mean_is_over_languages_then_over_tasks_and_equal_scores_share_their_rank():
    found = ranking(certain([[70, 60, 50], [60, 70, 50], [10, 10, 10]], [[70, 70], [60, 60], [60, 80]]))
    # Task 1: 1 2 1.5; 2 1 1.5; 3 3 3. Task 2: 1 2; 2.5 3; 2.5 1.
    assert found.mean == pytest.approx([(1.5 + 1.5) / 2, (1.5 + 2.75) / 2, (3 + 1.75) / 2])


def test_elsewhere_is_the_t_interval_over_tasks_with_one_more_in_which_all_arms_are_alike():
    """One language, so that only tasks vary."""
    scores = [[[3.0], [2.0], [1.0]], [[3.0], [1.0], [2.0]], [[2.0], [3.0], [1.0]], [[3.0], [2.0], [1.0]]]
    found = ranking(certain(*scores))
    ranks = np.array([[1, 2, 3], [1, 3, 2], [2, 1, 3], [1, 2, 3], [2, 2, 2]])
    half = stats.t.ppf(0.975, 3) * np.sqrt(((ranks - ranks.mean(0)) ** 2).sum(0)) / 4
    assert found.high - found.mean == pytest.approx(np.minimum(half, 3 - found.mean), rel=0.04)
    assert found.mean - found.low == pytest.approx(np.minimum(half, found.mean - 1), rel=0.04)
    assert found.low_here == pytest.approx(found.mean), "nothing varies on the same tasks"


def test_an_arm_that_is_best_everywhere_may_not_be_on_other_tasks():
    few, many = (ranking(certain(*[[[2.0, 2.0], [1.0, 1.0]]] * count)) for count in (2, 10))
    assert (few.mean[0], few.low[0]) == (1, 1)
    assert few.high[0] > 1.4, "two tasks show next to nothing"
    assert 1.01 < many.high[0] < 1.2
    assert many.first[0] > 0.99 > few.first[0]
    assert few.first_here[0] == 1


def test_languages_that_tasks_share_count_as_one_sample_and_others_as_several():
    """An arm is good in the same languages on every task: other languages would change its rank."""
    good = [[2.0] * 4 + [1.0] * 4, [1.5] * 8]
    shared = ranking(certain(*[good] * 6))
    tasks = certain(*[good] * 6)
    apart = ranking(
        [
            ScoredTask(
                tuple(f"{n}-{k}" for k in range(8)), *(getattr(task, part) for part in ("scores", "units", "seeds"))
            )
            for n, task in enumerate(tasks)
        ]
    )
    assert shared.high[0] - shared.low[0] > 1.5 * (apart.high[0] - apart.low[0])


def units_of(generator: np.random.Generator, seeds: int, languages: int, units: int) -> list[list[tuple]]:
    """Numerators and denominators by seed and language."""
    return [
        [(generator.binomial(3, 0.6, units).astype(float), np.full(units, 3.0)) for _ in range(languages)]
        for _ in range(seeds)
    ]


def test_the_variance_of_a_difference_of_two_arms_is_that_of_the_intervals_of_differences():
    """Parallel test sets in three languages: units, seeds and their interaction, against `significance`."""
    generator = np.random.default_rng(3)
    models = [units_of(generator, 4, 3, 50) for _ in range(2)]
    places = [np.arange(50)] * 3
    task = scored_task("abc", [scored_arm(of_arm, places, 50) for of_arm in models])
    effects = []
    for language in range(3):
        sides = [tuple(np.array([seed[language][part] for seed in of_arm]) for part in (0, 1)) for of_arm in models]
        effects.append(effect(*sides))
    expected = spread(combine(effects, [1 / 3] * 3, places, 50))
    weights = np.array([1 / 3] * 3 + [-1 / 3] * 3)
    of_seeds = sum(float((part.mean(1) ** 2).sum()) for part in task.seeds)
    # Both arms have the same seeds there, and are independent here: the same without what the seeds have in common.
    by_seed = np.stack([part.mean(1) for part in task.seeds]) * np.sqrt(4 * 3)
    in_common = 2 * float((by_seed[0] * by_seed[1]).sum()) / (4 * 3)
    assert of_seeds - in_common == pytest.approx(float(expected.seeds))
    mine = weights @ task.units @ weights
    rest = [
        np.stack([(one - sum(arm[1:], start=arm[0]) / 4).toarray() for one in arm])
        for arm in (scored_arm(m, places, 50).influence for m in models)
    ]
    shared = 2 * float((rest[0].mean(1) * rest[1].mean(1)).sum()) / (4 * 3)
    assert mine == pytest.approx(float(expected.units) - shared) or float(expected.units) == 0


def noisy(means: list[float], languages: int, units: int, seeds: int, seed: int) -> ScoredTask:
    """A task whose arms are right in a share of independent units."""
    generator = np.random.default_rng(seed)
    arms = []
    for mean in means:
        right = generator.random((seeds, languages, units)) < mean
        influence = 100 * (right - right.mean(-1, keepdims=True)) / units
        arms.append(ScoredArm(100 * right.mean(-1), [sparse.csr_array(one) for one in influence]))
    return scored_task([str(number) for number in range(languages)], arms)


def test_here_arms_that_differ_by_chance_change_places_and_others_do_not():
    alike = ranking([noisy([0.6, 0.6, 0.6], 4, 50, 3, 1)])
    apart = ranking([noisy([0.9, 0.5, 0.1], 4, 500, 3, 1)])
    assert (alike.high_here - alike.low_here).min() > 0.5
    assert alike.first_here.max() < 0.95
    assert (apart.high_here - apart.low_here).max() < 0.02
    assert apart.first_here.tolist() == [1, 0, 0]


def test_one_task_gives_no_interval_for_others_but_for_languages():
    found = ranking([noisy([0.7, 0.65], 6, 100, 3, 2)])
    assert (found.high - found.low >= found.high_here - found.low_here - 0.05).all()
    assert found.first.sum() == pytest.approx(1)


def test_the_order_of_arms_and_tasks_does_not_matter_but_for_the_random_draws():
    tasks = [noisy([0.7, 0.68, 0.5], 5, 100, 3, number) for number in (4, 5, 6)]
    one, other = ranking(tasks), ranking(tasks[::-1])
    assert one.mean == pytest.approx(other.mean)
    assert one.high == pytest.approx(other.high, abs=0.05)
    assert one.high_here == pytest.approx(other.high_here, abs=0.1)
    assert ranking(tasks).first.tolist() == one.first.tolist(), "the draws are the same in every run"


@pytest.mark.parametrize("grid", [RankedGrid(1, 4, 3, 0.4, ALIKE), RankedGrid(5, 3, 2, 0.0, ALIKE)], ids=str)
def test_the_intervals_hold_the_expected_ranks(grid, monkeypatch):
    monkeypatch.setattr(rank_coverage, "WORLDS", 10)
    found = measured_ranks(grid, 80)
    assert found["coverage"] >= 91
    assert found["coverage_here"] >= 91
    assert found["half_width"] < (grid.arms - 1) / 2, "they say something"


# The table

LANGUAGES = ("en", "de", "fr")


class Results:
    """Made-up units of two tasks, with the score and run tables that go with them."""

    def __init__(self, arms: dict[str, list[tuple[str, int]]], seeds: tuple[int, ...] = (1, 2)) -> None:
        generator = np.random.default_rng(9)
        self.units = {}
        scores, runs = [], []
        for task, of_task in arms.items():
            for number, (method, length) in enumerate(of_task):
                columns = {"encoder": "e5", "task": task, "source": "en", "method": method, "prompt_length": length}
                for seed in seeds:
                    runs.append(
                        {
                            **dict.fromkeys(RUN_COLUMNS),
                            **columns,
                            "seed": seed,
                            "stage": "seed",
                            "selected": True,
                            "validation": 60.0 + length,
                        }
                    )
                    sums = {
                        language: {
                            f"row-{unit}": (float(generator.random() < 0.5 + 0.1 * number), 1.0) for unit in range(40)
                        }
                        for language in LANGUAGES
                    }
                    self.units[task, method, length, seed] = sums
                    for language, units in sums.items():
                        value = 100 * sum(above for above, _ in units.values()) / 40
                        scores.append(
                            {**columns, "seed": seed, "language": language, "metric": "accuracy", "value": value}
                        )
        self.scores, self.runs = pd.DataFrame(scores), pd.DataFrame(runs)

    def read(self, arm: Arm, seed: int, metric: str):
        return self.units[arm.task, arm.method, arm.prompt_length, seed]

    def rows(self) -> list[dict]:
        return list(rankings(self.scores, self.runs, self.read))


BOTH = [("fine_tuning", 0), ("prompt_tuning", 16), ("lora", 0)]


def test_every_encoder_and_source_has_a_ranking_of_its_own_the_best_arm_first():
    results = Results({"xnli": BOTH, "pawsx": BOTH})
    rows = results.rows()
    assert [sorted(row) for row in rows] == [sorted(COLUMNS)] * 3
    assert [row["mean_rank"] for row in rows] == sorted(row["mean_rank"] for row in rows)
    assert {(row["arms"], row["tasks"], row["languages"], row["seeds"]) for row in rows} == {(3, 2, 2, 2)}
    scores = results.scores[results.scores["language"] != "en"]
    means = scores.groupby(["task", "language", "method"])["value"].mean()
    expected = means.groupby(["task", "language"]).rank(ascending=False).groupby("method").mean()
    assert {row["method"]: row["mean_rank"] for row in rows} == pytest.approx(dict(expected))
    twice = pd.concat([results.scores, results.scores.assign(encoder="x"), results.scores.assign(source="de")])
    both = list(rankings(twice, results.runs, results.read))
    assert [(row["encoder"], row["source"]) for row in both] == [("e5", "en")] * 3 + [("e5", "de")] * 3 + [
        ("x", "en")
    ] * 3
    assert {row["languages"] for row in both} == {2}


def test_tasks_may_name_the_same_language_by_different_codes():
    """Like SIB-200 and XNLI: one ranking, whose languages are those of both tasks."""
    results = Results({"xnli": BOTH, "pawsx": BOTH})
    before = results.rows()
    long = {"en": "eng_Latn", "de": "deu_Latn", "fr": "fra_Latn"}
    of_task = results.scores["task"] == "pawsx"
    for column in ("source", "language"):
        results.scores.loc[of_task, column] = results.scores.loc[of_task, column].map(long)
        results.runs = results.runs.assign(source=["eng_Latn" if t == "pawsx" else "en" for t in results.runs["task"]])
    for (task, *_), units in results.units.items():
        if task == "pawsx":
            units |= {long[code]: units.pop(code) for code in list(units)}
    assert results.rows() == before
    assert {row["source"] for row in before} == {"en"}


def test_the_source_language_does_not_count():
    results = Results({"xnli": BOTH, "pawsx": BOTH})
    before = results.rows()
    for model in results.units.values():
        model["en"] = dict.fromkeys(model["en"], (0.0, 1.0))
    results.scores.loc[results.scores["language"] == "en", "value"] = 0.0
    assert results.rows() == before


def test_an_arm_that_a_task_lacks_is_not_ranked_and_a_task_with_one_arm_does_not_count():
    results = Results({"xnli": BOTH, "pawsx": BOTH[:2], "udpos": BOTH[2:]})
    rows = results.rows()
    assert {row["method"] for row in rows} == {"fine_tuning", "prompt_tuning"}
    assert {row["tasks"] for row in rows} == {2}


def test_a_method_is_ranked_at_each_length_of_all_tasks_or_once_at_the_chosen_ones():
    prompts = [("prompt_tuning", length) for length in (8, 16, 32)]
    results = Results({"xnli": [BOTH[0], *prompts], "pawsx": [BOTH[0], *prompts[:2]]})
    assert {(row["method"], row["prompt_length"]) for row in results.rows()} == {BOTH[0], *prompts[:2]}
    results = Results({"xnli": [BOTH[0], *prompts[:2]], "pawsx": [BOTH[0], prompts[2]]})
    (entry,) = (one for one in entries_of(results.scores, results.runs) if one.method == "prompt_tuning")
    lengths = {task: arm.prompt_length for task, arm in entry.arms.items()}
    assert (entry.prompt_length, lengths) == (None, {"xnli": 16, "pawsx": 32}), "chosen on validation"
    assert [row["prompt_length"] for row in results.rows() if row["method"] == "prompt_tuning"] == [None]


def test_one_arm_or_no_target_language_gives_no_ranking():
    assert Results({"xnli": BOTH[:1]}).rows() == []
    results = Results({"xnli": BOTH})
    results.scores = results.scores[results.scores["language"] == "en"]
    assert results.rows() == []


# The page


def text_of(ranks: pd.DataFrame) -> str:
    """The sentences of the section and the titles of its marks."""
    made = section(Report.of(Inputs(make_scores(), make_runs(), make_provenance(), ranks=ranks)))
    words = [text for part in made.parts for text in (*getattr(part, "paragraphs", ()), *getattr(part, "items", ()))]
    charts = [chart for part in made.parts for chart in getattr(part, "charts", ())]
    return " ".join([*words, *(row.title for chart in charts for row in chart.rows)])


def test_the_page_says_which_arm_is_first_only_if_the_draws_do():
    ranks = make_ranks()
    assert "No arm is clearly first. Prompt tuning, length 16 has the best mean rank" in text_of(ranks)
    clear = ranks.assign(first=[0.97, 0.02, 0.01])
    assert "Prompt tuning, length 16 is first (mean rank 1.00 of 3), in 97\u00a0% of draws" in text_of(clear)


def test_the_page_says_what_the_intervals_do_not_include():
    several = text_of(make_ranks())
    for words in (
        "There is one task",
        "There is one target language",
        "only one seed",
        "tasks say little",
        "Not ranked",
    ):
        assert words not in several
    one = text_of(make_ranks().assign(tasks=1, seeds=1, languages=1))
    assert "There is one task. Neither line says what would happen on another task." in one
    assert "There is one target language. Neither line" in one
    assert "its other seeds, nor do the thin ones" in one
    few = text_of(make_ranks().assign(tasks=3, seeds=1))
    assert "3 tasks say little about others" in few
    assert "the thin lines do, since each task has its own models" in few


def test_the_page_names_the_arms_that_are_not_ranked():
    ranks = make_ranks()
    assert "on every task: Prompt tuning, length 8." in text_of(ranks[ranks["prompt_length"] != 8])
    varied = ranks[ranks["prompt_length"] != 8].assign(prompt_length=[float("nan"), 0])
    page = text_of(varied)
    assert "Prompt tuning, length by task" in page
    assert "Not ranked" not in page


def test_each_source_has_a_chart_and_hostile_names_stay_text():
    ranks = pd.concat([make_ranks(), make_ranks().assign(source="de")])
    scores = pd.concat([make_scores(), make_scores().assign(source="de")])
    made = section(Report.of(Inputs(scores, make_runs(), make_provenance(), ranks=ranks)))
    (charts,) = (part.charts for part in made.parts if part.template == "ranks")
    assert [chart.title for chart in charts] == ["Mean rank, from English", "Mean rank, from German"]
    assert all(len(chart.rows) == len(ARMS) for chart in charts)
    hostile = make_ranks().replace({"prompt_tuning": EVIL})
    page = render(Inputs(make_scores(), make_runs(), make_provenance(), ranks=hostile), TEMPLATES)
    assert EVIL not in page and "&lt;script&gt;" in page
