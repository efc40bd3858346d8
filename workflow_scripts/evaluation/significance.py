"""How sure a difference between two methods is, when both the examples and the seeds are samples.

The difference is a method's score minus the baseline's, averaged over seeds that both were tuned with. Another draw of
test examples would change it, and so would another draw of seeds. Examples and seeds are crossed: every model is tested
on the same units. Its variance therefore has three parts (two-way analysis of variance with random effects; Cameron,
Gelbach & Miller 2011, equation 2.12):

    units          what differs between units in the mean over seeds       n - 1 degrees of freedom
    seeds          what differs between the seeds' differences             S - 1
    interaction    what differs by unit and seed, counted in both          taken off once

A score is a ratio of sums, so a unit's part in it is its influence value, the ratio's first derivative.

`benchmarks/coverage.py` checks the interval and the tests on data whose true difference is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

Array = np.ndarray

CONFIDENCE = 0.95
LEVEL = 0.05  # a difference is called significant at
FLIPS = 10_000  # of the permutation test
NOTHING = 1e-18  # a variance below it (percentage points, squared) is rounding


@dataclass(frozen=True)
class Effect:
    """A difference between two methods, with what each unit does to it.

    Leading dimensions (...), where there are any, are data sets beside each other.

    Attributes:
        by_seed: (..., seeds), the difference of each seed, percentage points.
        influence: (..., seeds, units), how far each unit moves it; the sum over units is 0.
        swaps: (..., units), what each unit adds to the mean difference: swapping the two methods' results on the unit
            turns its sign. The sum over units is the mean difference.
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
    scores, influences, weights = zip(*(_linearised(*method) for method in (treated, baseline)), strict=True)
    by_seed, influence = scores[0] - scores[1], influences[0] - influences[1]
    units = influence.shape[-1]
    # The ratio is linear in a unit's sums where denominators are fixed, as they are in all metrics but chunk F1: there
    # this is exactly what the unit adds to one score less what it adds to the other.
    swaps = (influence + by_seed[..., None] * (weights[0] + weights[1]) / 2).mean(-2)
    # The mean of n squares about their own mean is too small by (n - 1) / n; 1 unit says nothing of a spread.
    return Effect(by_seed, influence * np.sqrt(units / (units - 1)) if units > 1 else influence, swaps)


def _linearised(numerators: Array, denominators: Array) -> tuple[Array, Array, Array]:
    """The score of each seed in percent, the influence of each unit on it, and each unit's share of the denominator."""
    total = denominators.sum(-1, keepdims=True)
    ratio = numerators.sum(-1, keepdims=True) / total
    return 100 * ratio[..., 0], 100 * (numerators - ratio * denominators) / total, denominators / total


def combine(effects: Sequence[Effect], weights: Sequence[float], places: Sequence[Array], units: int) -> Effect:
    """A weighted sum over languages: their average, or the transfer gap.

    places: for each language, the number that each of its units has among all `units`. Units of two languages that
    have one number, translations of each other, are one unit of the sum: what they share is counted as shared.
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
    """The variance of a mean difference: of units less the interaction, and of seeds with it.

    Attributes:
        units: (...), with `units_freedom` degrees of freedom.
        seeds: (...), with `seeds_freedom`; 0 where there is one seed, whose spread nobody knows.
    """

    units: Array
    seeds: Array
    units_freedom: int
    seeds_freedom: int

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


def half_width(of: Spread, p: Array | float) -> Array:
    """How far the ends of the interval with confidence 1 - p lie from the difference: (...), percentage points.

    Two approximations for a sum of variances: Satterthwaite's (1946) degrees of freedom, with which the interval is
    narrow where a source with few of them dominates, and Banerjee's (1960) sum of squared half-widths, which is never
    narrow and mostly wide. With normal data, whatever the sources' shares, they cover in

        seeds    Satterthwaite    Banerjee        the mean of their squares
        2        87.1 to 95.1     95.1 to 98.8    93.6 to 98.3
        3        92.2 to 95.1     95.0 to 97.7    94.2 to 96.8
        5        94.1 to 95.1     95.0 to 96.6    94.8 to 95.9

    % of 100,000 data sets. The mean is taken; with 2 seeds, where it covers too little, Banerjee's.

    Where few seeds agree by luck it can be narrower than the units alone would make it. A floor would mend that and
    cover in up to 97.9 % with 5 seeds; the permutation test, which counts units alone, stands in its place.
    """
    tail = np.asarray(p) / 2
    by_units = stats.t.isf(tail, of.units_freedom) * np.sqrt(of.units)
    if not of.seeds_freedom:
        return by_units
    banerjee = np.hypot(by_units, stats.t.isf(tail, of.seeds_freedom) * np.sqrt(of.seeds))
    if of.seeds_freedom == 1:
        return banerjee
    share = of.units / np.maximum(of.total, NOTHING)
    freedom = 1 / (share**2 / of.units_freedom + (1 - share) ** 2 / of.seeds_freedom)
    satterthwaite = stats.t.isf(tail, freedom) * np.sqrt(of.total)
    return np.hypot(satterthwaite, banerjee) / np.sqrt(2)


def p_interval(difference: Array, of: Spread) -> Array:
    """The p at which the interval just reaches no difference: (...)."""
    # By bisection over the normal deviate, from p = 1 to p = 1e-300.
    low, high = np.zeros_like(difference, dtype=float), np.full_like(difference, 37.0, dtype=float)
    for _ in range(45):
        middle = (low + high) / 2
        inside = half_width(of, 2 * stats.norm.sf(middle)) < np.abs(difference)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return 2 * stats.norm.sf(low)


def p_permutation(swaps: Any, flips: int = FLIPS, seed: int = 0) -> Array:
    """The paired permutation test over units, two-sided: (rows,).

    swaps: (rows, units), an array or a sparse matrix; a row is a comparison, and units of one column are swapped
    together. If the methods did not differ, each unit could as well have had the two methods' results swapped, which
    turns the sign of its part. p is the share of random swaps, with the real one among them, that give a difference at
    least as large (Phipson & Smyth 2010). It is about the models at hand: it knows nothing of other seeds.
    """
    rows, units = swaps.shape
    observed = np.abs(swaps @ np.ones(units))
    # Sums in another order differ in their last digits; equal differences must count as equal.
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
    """Holm's (1979) adjusted p-values: what is at most 0.05 is significant in a family with errors in at most 5 %.

    A p that is not known (NaN) stays so and does not count.
    """
    values = np.asarray(p, dtype=float)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    adjusted = np.full(len(values), np.nan)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)))
    return adjusted


@dataclass(frozen=True)
class Estimate:
    """What is known of one difference; NaN where nothing is.

    Attributes:
        difference, low, high: percentage points; the interval has confidence 95 %.
        p_interval: of the interval, which counts examples and seeds.
        p_permutation: of the paired permutation test, which counts examples.
        seeds, units: how many there are; with one seed the interval, too, counts examples alone.
    """

    difference: float
    low: float
    high: float
    p_interval: float
    p_permutation: float
    seeds: int
    units: int

    @property
    def p(self) -> float:
        """The larger of the two: a difference must be more than chance by both."""
        return float(np.maximum(self.p_interval, self.p_permutation))


def estimate(one: Effect, permuted: float, units: int, largest: float) -> Estimate:
    """The interval of one difference, beside its p of the permutation test.

    Without two units, or where every unit says the same, there is no interval and no test: NaN. largest: the difference
    that no difference can exceed, 100 points between two scores; no interval reaches beyond it.
    """
    difference, of, seeds = one.difference, spread(one), one.by_seed.shape[-1]
    if units < 2 or of.total < NOTHING:
        return Estimate(float(difference), np.nan, np.nan, np.nan, np.nan, seeds, units)
    low, high = np.clip(difference + half_width(of, 1 - CONFIDENCE) * np.array([-1, 1]), -largest, largest)
    p = float(p_interval(difference, of))
    return Estimate(float(difference), float(low), float(high), p, float(permuted), seeds, units)
