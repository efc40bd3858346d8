"""Confidence intervals and tests for the difference between two methods, over test examples and seeds.

The difference is a method's score minus the baseline's, averaged over the seeds that both were tuned with. Other test
examples would change it, and so would other seeds. Examples and seeds are crossed: every model is tested on the same
units. The variance of the difference therefore has three parts (two-way analysis of variance with random effects;
Cameron, Gelbach & Miller 2011, equation 2.12):

    units          variance between units of the mean over seeds       n - 1 degrees of freedom
    seeds          variance between the differences of the seeds       S - 1
    interaction    variance by unit and seed; it is in both others, so it is subtracted once

A score is a ratio of sums. A unit contributes its influence value, the first derivative of the ratio.

Two to five seeds say little about the variance between seeds. Where a grid has several comparisons, their variances
share a prior (`fit_prior`), and each comparison's own variance is averaged with it (`moderated`; Smyth 2004).

`benchmarks/coverage.py` checks intervals and tests on data whose true difference is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special, stats

Array = np.ndarray

CONFIDENCE = 0.95
LEVEL = 0.05  # the significance level of the tests
FLIPS = 10_000  # random swaps of the permutation test
NOTHING = 1e-18  # a variance below it (percentage points, squared) is a rounding error
FEWEST_COMPARISONS = 3  # that a prior is fitted to
SMALLEST = 1e-5  # smaller variances are raised to this share of the median in the fit, as in limma


@dataclass(frozen=True)
class Effect:
    """A difference between two methods, with the contribution of each unit.

    Leading dimensions (...), if any, are independent datasets.

    Attributes:
        by_seed: (..., seeds), the difference of each seed, percentage points.
        influence: (..., seeds, units), the influence of each unit on it; the sum over units is 0.
        swaps: (..., units), the contribution of each unit to the mean difference: swapping the results of the two
            methods on the unit changes its sign. The sum over units is the mean difference.
    """

    by_seed: Array
    influence: Array
    swaps: Array

    @property
    def difference(self) -> Array:
        """The mean over seeds."""
        return self.by_seed.mean(-1)


def effect(treated: tuple[Array, Array], baseline: tuple[Array, Array]) -> Effect:
    """The difference between two methods in one language.

    treated, baseline: numerators and denominators, each (..., seeds, units), of 100 * sum / sum.
    """
    scores, influences, weights = zip(*(linearised(*method) for method in (treated, baseline)), strict=True)
    by_seed, influence = scores[0] - scores[1], influences[0] - influences[1]
    units = influence.shape[-1]
    # With fixed denominators, as in all metrics but chunk F1, a ratio is linear in the sums of a unit: this is then
    # exactly what the unit contributes to one score minus what it contributes to the other.
    swaps = (influence + by_seed[..., None] * (weights[0] + weights[1]) / 2).mean(-2)
    # The mean of n squared deviations from their own mean is biased by (n - 1) / n; 1 unit has no variance.
    return Effect(by_seed, influence * np.sqrt(units / (units - 1)) if units > 1 else influence, swaps)


def linearised(numerators: Array, denominators: Array) -> tuple[Array, Array, Array]:
    """The score of each seed in percent, the influence of each unit on it, and each unit's share of the denominator."""
    total = denominators.sum(-1, keepdims=True)
    ratio = numerators.sum(-1, keepdims=True) / total
    return 100 * ratio[..., 0], 100 * (numerators - ratio * denominators) / total, denominators / total


def combine(effects: Sequence[Effect], weights: Sequence[float], places: Sequence[Array], units: int) -> Effect:
    """A weighted sum over languages: their average, or the transfer gap.

    places: for each language, the index of each of its units among all `units`. Units of two languages with the same
    index, translations of each other, are one unit of the sum, so that their correlation is accounted for.
    """
    *data_sets, seeds = effects[0].by_seed.shape
    influence, swaps = np.zeros((*data_sets, seeds, units)), np.zeros((*data_sets, units))
    for one, weight, place in zip(effects, weights, places, strict=True):
        influence[..., place] += weight * one.influence
        swaps[..., place] += weight * one.swaps
    by_seed = np.sum([weight * one.by_seed for one, weight in zip(effects, weights, strict=True)], axis=0)
    return Effect(by_seed, influence, swaps)


@dataclass(frozen=True)
class Spread:
    """The variance of a mean difference by its sources, percentage points squared.

    Attributes:
        units: (...), the variance between units without the interaction, with `units_freedom` degrees of freedom.
        seeds: (...), the variance between seeds, interaction included, with `seeds_freedom` degrees of freedom. Both
            are 0 with one seed, from which no variance can be estimated.
    """

    units: Array
    seeds: Array
    units_freedom: int
    seeds_freedom: Array | float

    @property
    def total(self) -> Array:
        """The variance."""
        return self.units + self.seeds


def spread(one: Effect) -> Spread:
    """The variance of the mean difference by its sources."""
    seeds, units = one.influence.shape[-2:]
    mean = one.influence.mean(-2)
    of_units = (mean**2).sum(-1)
    if seeds == 1:
        return Spread(of_units, np.zeros_like(of_units), units - 1, 0)
    rest = one.influence - mean[..., None, :]
    interaction = (rest**2).sum((-1, -2)) / (seeds * (seeds - 1))
    return Spread(np.maximum(of_units - interaction, 0), one.by_seed.var(-1, ddof=1) / seeds, units - 1, seeds - 1)


@dataclass(frozen=True)
class Prior:
    """What the comparisons of a grid have in common: a scaled inverse chi-square distribution of their variances.

    Attributes:
        variance: (...), s0 squared, the typical variance of one seed's difference, percentage points squared.
        freedom: (...), d0, the degrees of freedom that the prior counts for. 0 borrows nothing.
    """

    variance: Array
    freedom: Array


def fit_prior(variances: Array, freedom: Array | float, comparisons: int | None = None) -> Prior:
    """Fit the prior by the moments of the logarithms of the variances (Smyth 2004, section 6.2).

    Smyth's estimate ignores its own error, which is right for thousands of genes and not for three tasks. With 2 seeds,
    3 to 5 comparisons and nothing but seeds that vary, the 95 % intervals then cover 90.4 to 94.5 % (variances from
    equal to a hundredfold apart). So 1 / d0 is increased here by 2 / ((comparisons - 1) * d), once for the error of the
    prior's centre and once for that of its width: 93.1 to 96.0 %. The prior never counts for more than half of the
    degrees of freedom of the other comparisons.

    Args:
        variances: (..., n), each of one seed's difference, estimated from the seeds of one comparison. At least one
            must be positive.
        freedom: (n,) or one number for all: d, the degrees of freedom of each variance; at least 1.
        comparisons: how many independent ones the variances come from; default: n. Languages of one comparison share
            its models and count as one.

    Returns:
        The prior, with leading dimensions (...).
    """
    count = variances.shape[-1]
    degrees = np.broadcast_to(np.asarray(freedom, dtype=float), (count,))
    centre, excess = _log_moments(variances, degrees)
    estimated = np.where(excess > 0, 2 * trigamma_inverse(np.maximum(excess, 1e-10)), np.inf)
    # Where the variances differ by no more than chance, d0 is infinite and s0 squared the limit of its formula.
    finite = np.where(np.isinf(estimated), 1.0, estimated)
    correction = np.where(np.isinf(estimated), 0.0, special.digamma(finite / 2) - np.log(finite / 2))
    others = ((count if comparisons is None else comparisons) - 1) * degrees.mean()
    with np.errstate(divide="ignore"):
        limited = 1 / (1 / estimated + 2 / others)
    return Prior(np.exp(centre + correction), limited)


def _log_moments(variances: Array, freedom: Array) -> tuple[Array, Array]:
    """The mean of the log variances without the bias of few seeds, and their variance beyond what chance explains."""
    middle = np.median(variances, axis=-1, keepdims=True)
    middle = np.where(middle > 0, middle, variances.max(-1, keepdims=True))
    # Seeds with equal scores have a variance of zero. Raised so little, it leaves the prior hardly any weight.
    logs = np.log(np.maximum(variances, np.maximum(SMALLEST * middle, NOTHING)))
    unbiased = logs - special.digamma(freedom / 2) + np.log(freedom / 2)
    return unbiased.mean(-1), unbiased.var(-1, ddof=1) - special.polygamma(1, freedom / 2).mean()


def trigamma_inverse(values: Array | float) -> Array:
    """The y with trigamma(y) = x for each x > 0, by Newton's method (Smyth 2004, appendix)."""
    x = np.asarray(values, dtype=float)
    y = 0.5 + 1 / x
    for _ in range(50):
        trigamma = special.polygamma(1, y)
        step = trigamma * (1 - trigamma / x) / special.polygamma(2, y)
        y = y + step
        if np.all(np.abs(step) <= 1e-12 * y):
            break
    return y


def moderated(of: Spread, prior: Prior) -> Spread:
    """The variance with the seeds' part averaged with the prior, each weighted by its degrees of freedom.

    The seeds' part has d0 + d degrees of freedom then (Smyth 2004, section 4). One seed borrows nothing.
    """
    own = np.asarray(of.seeds_freedom, dtype=float)
    if not own.any():
        return of
    seeds = own + 1
    together = prior.freedom + own
    of_seeds = (prior.freedom * prior.variance / seeds + own * of.seeds) / together
    return Spread(of.units, of_seeds, of.units_freedom, together)


def half_width(of: Spread, p: Array | float) -> Array:
    """Half the width of the interval with confidence 1 - p: (...), percentage points.

    A sum of two variances has no exact interval. There are two approximations: Satterthwaite's (1946) degrees of
    freedom, which are too many where a source with few of them dominates, and Banerjee's (1960) sum of squared
    half-widths, which is never too narrow and mostly too wide. With normal data, whatever the shares of the sources,
    they cover in

        seeds    Satterthwaite    Banerjee        the mean of their squares
        2        87.1 to 95.1     95.1 to 98.8    93.6 to 98.3
        3        92.2 to 95.1     95.0 to 97.7    94.2 to 96.8
        5        94.1 to 95.1     95.0 to 96.6    94.8 to 95.9

    % of 100,000 datasets. The mean is used, and Banerjee's below 2 degrees of freedom, where the mean covers too
    little.

    Where few seeds agree by chance the interval can be narrower than the units alone would make it. A lower bound would
    prevent that and cover in up to 97.9 % with 5 seeds. The permutation test, which counts units alone, is required
    instead.
    """
    tail = np.asarray(p) / 2
    by_units = stats.t.isf(tail, of.units_freedom) * np.sqrt(of.units)
    freedom_of_seeds = np.asarray(of.seeds_freedom, dtype=float)
    if not freedom_of_seeds.any():
        return by_units
    banerjee = np.hypot(by_units, stats.t.isf(tail, freedom_of_seeds) * np.sqrt(of.seeds))
    share = of.units / np.maximum(of.total, NOTHING)
    freedom = 1 / (share**2 / of.units_freedom + (1 - share) ** 2 / freedom_of_seeds)
    satterthwaite = stats.t.isf(tail, freedom) * np.sqrt(of.total)
    return np.where(freedom_of_seeds < 2, banerjee, np.hypot(satterthwaite, banerjee) / np.sqrt(2))


def p_interval(difference: Array, of: Spread) -> Array:
    """The p at which the end of the interval is exactly at no difference: (...)."""
    # Bisection over the normal deviate, from p = 1 to p = 1e-300.
    low, high = np.zeros_like(difference, dtype=float), np.full_like(difference, 37.0, dtype=float)
    for _ in range(45):
        middle = (low + high) / 2
        inside = half_width(of, 2 * stats.norm.sf(middle)) < np.abs(difference)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return 2 * stats.norm.sf(low)


def p_permutation(swaps: Any, flips: int = FLIPS, seed: int = 0) -> Array:
    """The paired permutation test over units, two-sided: (rows,).

    swaps: (rows, units), an array or a sparse matrix. A row is a comparison; units of one column are swapped together.
    If the methods did not differ, each unit could just as well have the results of the two methods swapped, which
    changes the sign of its part. p is the share of random swaps, the real one included, that give a difference at least
    as large (Phipson & Smyth 2010). The test is about the models at hand and does not account for other seeds.
    """
    rows, units = swaps.shape
    observed = np.abs(swaps @ np.ones(units))
    # Summation order changes the last digits; equal differences must still compare as equal.
    reached = observed - 1e-9 * (abs(swaps) @ np.ones(units))
    generator = np.random.Generator(np.random.PCG64(seed))
    at_once = max(1, 4_000_000 // units)  # 32 MB of signs
    count = np.zeros(rows, dtype=int)
    for start in range(0, flips, at_once):
        size = min(at_once, flips - start)
        bits = np.unpackbits(np.frombuffer(generator.bytes((units * size + 7) // 8), np.uint8), count=units * size)
        signs = bits.reshape(units, size) * 2.0 - 1.0
        count += (np.abs(swaps @ signs) >= reached[:, None]).sum(-1)
    return (1 + count) / (1 + flips)


def holm(p: Sequence[float]) -> Array:
    """Holm's (1979) adjusted p-values, which control the family-wise error rate.

    An unknown p (NaN) stays NaN and does not count towards the size of the family.
    """
    values = np.asarray(p, dtype=float)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    adjusted = np.full(len(values), np.nan)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)))
    return adjusted


@dataclass(frozen=True)
class Estimate:
    """A difference with its interval and tests; NaN where a value cannot be estimated.

    Attributes:
        difference, low, high: percentage points; the interval has confidence 95 % unless another was asked for.
        p_interval: of the interval, which accounts for examples and seeds.
        p_permutation: of the paired permutation test, which accounts for examples.
        seeds, units: their numbers. With one seed the interval accounts for examples alone.
        low_plain, high_plain, p_plain: the interval and its p without borrowed strength.
        seed_std: standard deviation of the difference between the comparison's own seeds.
        prior_std: the typical one over the grid, that of the prior; NaN where nothing was borrowed.
        prior_freedom: the degrees of freedom that the prior counts for; 0 where nothing was borrowed.
    """

    difference: float
    low: float
    high: float
    p_interval: float
    p_permutation: float
    seeds: int
    units: int
    low_plain: float
    high_plain: float
    p_plain: float
    seed_std: float
    prior_std: float
    prior_freedom: float

    @property
    def p(self) -> float:
        """The larger p of the two: a difference must be significant by both tests."""
        return float(np.maximum(self.p_interval, self.p_permutation))


@dataclass(frozen=True)
class Measured:
    """A difference with its variance and its permutation test, before any strength is borrowed.

    Attributes:
        difference: percentage points.
        spread: the variance of the difference.
        permuted: p of the permutation test.
        seeds, units: their numbers; `units` is 1 where the variance of a part of the difference cannot be estimated.
        largest: the largest difference that is possible, 100 points between two scores.
    """

    difference: float
    spread: Spread
    permuted: float
    seeds: int
    units: int
    largest: float

    @property
    def is_testable(self) -> bool:
        """Whether there is any variance to test against."""
        return self.units > 1 and float(self.spread.total) >= NOTHING

    @property
    def seed_variance(self) -> float:
        """The variance of one seed's difference; NaN with one seed."""
        return float(self.spread.seeds) * self.seeds if self.seeds > 1 else np.nan


def grid_prior(compared: Sequence[Sequence[Measured]]) -> Prior | None:
    """The prior of the comparisons of a grid; None if fewer than three of them have two seeds or more.

    compared: for each comparison, its differences that share the prior. Differences that cannot be tested, and those of
    one seed, are left out.
    """
    usable = [[one for one in each if one.is_testable and one.seeds > 1] for each in compared]
    comparisons = sum(map(bool, usable))
    every = [one for each in usable for one in each]
    variances = np.array([one.seed_variance for one in every])
    if comparisons < FEWEST_COMPARISONS or not (variances > NOTHING).any():
        return None
    return fit_prior(variances, np.array([one.seeds - 1.0 for one in every]), comparisons)


def estimate(one: Measured, prior: Prior | None = None, level: float = 1 - CONFIDENCE) -> Estimate:
    """The interval and tests of one difference, with strength borrowed from the prior if there is one.

    level: 1 minus the confidence of the intervals.

    Without two units, or where all units agree, there is no interval and no test: NaN. No interval extends beyond the
    largest difference that is possible.
    """
    std = float(np.sqrt(one.seed_variance))
    if not one.is_testable:
        nan = np.nan
        return Estimate(one.difference, nan, nan, nan, nan, one.seeds, one.units, nan, nan, nan, std, nan, 0.0)
    if one.seeds == 1:
        prior = None
    of = one.spread if prior is None else moderated(one.spread, prior)
    low, high = _interval(one, of, level)
    low_plain, high_plain = _interval(one, one.spread, level)
    return Estimate(
        difference=one.difference,
        low=low,
        high=high,
        p_interval=float(p_interval(np.asarray(one.difference), of)),
        p_permutation=one.permuted,
        seeds=one.seeds,
        units=one.units,
        low_plain=low_plain,
        high_plain=high_plain,
        p_plain=float(p_interval(np.asarray(one.difference), one.spread)),
        seed_std=std,
        prior_std=np.nan if prior is None else float(np.sqrt(prior.variance)),
        prior_freedom=0.0 if prior is None else float(prior.freedom),
    )


def _interval(one: Measured, of: Spread, level: float) -> tuple[float, float]:
    half = float(half_width(of, level))
    return max(-one.largest, one.difference - half), min(one.largest, one.difference + half)
