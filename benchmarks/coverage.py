"""Check intervals and tests of `evaluation/significance.py` on simulated data whose true difference is known.

    make coverage       -> results/coverage.json

A dataset is one comparison: two methods, each tuned with some seeds, tested on the same units. Its random effects are
crossed, on the logit scale: the difficulty of a unit, how much better one method is on it, the effect of a seed on a
model, and a residual by unit and model. The true difference is their expectation, by quadrature. Shapes:

    accuracy       one right or wrong answer a unit
    alike          the same, but no unit prefers a method, so that only chance differs between seeds
    words          right words of sentences with 2 to 40 words; longer sentences are harder
    chunks         F1 of chunks: the number predicted, in the denominator, is random, too
    clusters       1 to 10 rows a unit with a shared difficulty

The first part checks single comparisons, in every combination of shape, seeds, units and standard deviation between
seeds (percentage points of one method's score). Each is drawn twice: with a true difference, to count how often the
95 % interval covers it, and with none, to count how often a difference is called significant. `bootstrap` is the
coverage of a plain bootstrap over seeds. With a true coverage of 95 %, 1,000 datasets give 93.6 to 96.4 in 19 of 20
conditions.

The second part checks grids of several comparisons whose seeds' variances are all equal, or spread evenly by logarithm
over a factor of 10 or 100, or equal but for one that is 10 times the others. `coverage` and `significant` are averages
over the comparisons of a grid, `worst` and `most` those of the comparison that fares worst. `plain` is the interval
without borrowed strength.

The third part, `ranks`, checks mean ranks: see `benchmarks/rank_coverage.py`.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from benchmarks.rank_coverage import GRIDS as RANKED_GRIDS
from benchmarks.rank_coverage import measured_ranks
from workflow_scripts.evaluation.significance import (
    CONFIDENCE,
    FEWEST_COMPARISONS,
    LEVEL,
    Effect,
    Prior,
    Spread,
    effect,
    fit_prior,
    half_width,
    moderated,
    p_interval,
    p_permutation,
    spread,
)

ROOT = Path(__file__).resolve().parent.parent
SHAPES = ("accuracy", "alike", "words", "chunks", "clusters")
PARTS = ("comparisons", "grids", "ranks")
SEEDS, UNITS, DEVIATIONS = (2, 3, 5), (100, 300, 1000), (0.0, 0.5, 3.0)
DATA_SETS = 1000
FEWER = 5  # as many datasets for ranks, each of which takes a bootstrap
COMPARISONS, VARIANCES = (1, 3, 5, 10), ("equal", "tenfold", "hundredfold", "one apart")
GRID_SHAPE, GRID_UNITS, GRID_DEVIATION = "accuracy", (100, 1000), 2.0

LOGIT, UNIT_STD, METHOD_STD, ROW_STD = 1.0, 1.5, 1.0, 1.0  # of the random parts
DIFFERENCE = 0.3  # between the methods where there is one: about 5 points
LENGTHS, HARDER = np.array([2, 5, 10, 20, 40]), -0.02  # words of sentences, logits a word
SIZES = np.array([1, 2, 4, 10])  # rows of clusters
MISSED = 0.8  # chunks predicted for each chunk that is missed


@dataclass(frozen=True)
class Condition:
    """What datasets are drawn from; `deviation` is one method's standard deviation between seeds, in points."""

    shape: str
    seeds: int
    units: int
    deviation: float


@dataclass(frozen=True)
class Grid:
    """Several comparisons with the same shape, seeds and units; `variances` says how their deviations differ."""

    comparisons: int
    seeds: int
    units: int
    variances: str

    @property
    def conditions(self) -> list[Condition]:
        """What each comparison is drawn from; the deviations have a geometric mean of about 2 points."""
        count = self.comparisons
        ratios = {
            "equal": np.ones(count),
            "tenfold": np.geomspace(10**-0.5, 10**0.5, count),
            "hundredfold": np.geomspace(0.1, 10, count),
            "one apart": np.where(np.arange(count) == 0, 10.0, 1.0),
        }[self.variances]
        return [
            Condition(GRID_SHAPE, self.seeds, self.units, float(GRID_DEVIATION * np.sqrt(ratio))) for ratio in ratios
        ]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--output", type=Path, default=ROOT / "results/coverage.json", help="the file to write")
    result.add_argument(
        "--data-sets",
        type=int,
        default=DATA_SETS,
        help="of each condition and grid, and a fifth of them for ranks; default: 1000",
    )
    result.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    result.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES, help="default: all")
    result.add_argument("--seeds", nargs="+", type=int, default=SEEDS, help="default: 2 3 5")
    return result


def main(arguments: argparse.Namespace) -> None:
    """Draw every condition and grid, print a line for each, write the table."""
    start = time.perf_counter()
    report: dict[str, Any] = {"data_sets": arguments.data_sets}
    if "comparisons" in arguments.parts:
        report["conditions"] = _run_conditions(arguments)
    if "grids" in arguments.parts:
        report["grids"] = _run_grids(arguments)
    if "ranks" in arguments.parts:
        report["ranks"] = _run_ranks(arguments)
    report["seconds"] = round(time.perf_counter() - start)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {arguments.output}")


def _run_conditions(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    conditions = [
        Condition(shape, seeds, units, deviation)
        for seeds in arguments.seeds
        for shape in arguments.shapes
        for units in UNITS
        for deviation in DEVIATIONS
    ]
    print(f"{'shape':10}seeds units deviation  coverage  bootstrap  called significant  half width", flush=True)
    line = (
        "{shape:10}{seeds:5} {units:5} {deviation:9} {coverage:9.1f} {bootstrap:10.1f} {significant:19.1f}"
        " {half_width:11.2f}"
    )
    return [
        _printed(line, asdict(condition) | measured(condition, arguments.data_sets, number))
        for number, condition in enumerate(conditions)
    ]


def _printed(line: str, row: dict[str, Any]) -> dict[str, Any]:
    """The row, printed at once: the next one takes seconds."""
    print(line.format(**row), flush=True)
    return row


def _run_grids(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    grids = [
        Grid(comparisons, seeds, units, variances)
        for seeds in arguments.seeds
        for comparisons in COMPARISONS
        for variances in VARIANCES
        for units in GRID_UNITS
        if comparisons > 1 or variances == VARIANCES[0]
    ]
    print(
        "seeds comparisons variances    units  coverage  worst  plain  significant   most  half width  plain  prior",
        flush=True,
    )
    line = (
        "{seeds:5} {comparisons:11} {variances:12} {units:5} {coverage:9.1f} {worst:6.1f} {plain_coverage:6.1f}"
        " {significant:12.1f} {most:6.1f} {half_width:11.2f} {plain_half_width:6.2f} {prior:6.1f}"
    )
    return [
        _printed(line, asdict(grid) | measured_grid(grid, arguments.data_sets, number))
        for number, grid in enumerate(grids)
    ]


def _run_ranks(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    print(
        "tasks arms seeds apart between  coverage  worst  half width  bootstrap  half width"
        "  coverage here  worst here  half width here",
        flush=True,
    )
    line = (
        "{tasks:5} {arms:4} {seeds:5} {apart:5} {between:7} {coverage:9.1f} {worst:6.1f} {half_width:11.2f}"
        " {bootstrap:10.1f} {bootstrap_half_width:11.2f} {coverage_here:14.1f} {worst_here:11.1f}"
        " {half_width_here:16.2f}"
    )
    return [
        _printed(line, asdict(grid) | measured_ranks(grid, arguments.data_sets // FEWER, number))
        for number, grid in enumerate(RANKED_GRIDS)
    ]


def measured_grid(grid: Grid, data_sets: int, number: int = 0) -> dict[str, float]:
    """What the procedure does in a grid, in percent of its datasets; half widths are medians, in points.

    `prior` is the median of the prior's degrees of freedom; 0 where the grid has too few comparisons.
    """
    half, plain, held, held_plain, freedom = _grid_intervals(grid, data_sets, number)
    called = _called_by_chance(grid, data_sets, number)
    return {
        "coverage": 100 * float(held.mean()),
        "worst": 100 * float(held.mean(0).min()),
        "plain_coverage": 100 * float(held_plain.mean()),
        "significant": 100 * float(called.mean()),
        "most": 100 * float(called.mean(0).max()),
        "half_width": float(np.median(half)),
        "plain_half_width": float(np.median(plain)),
        "prior": freedom,
    }


def _grid_intervals(grid: Grid, data_sets: int, number: int) -> tuple[Any, ...]:
    """Half widths with and without borrowing, whether each interval covers, (datasets, comparisons); and the prior."""
    drawn = [
        draw(condition, DIFFERENCE, data_sets, np.random.default_rng([3, number, place]))
        for place, condition in enumerate(grid.conditions)
    ]
    errors = np.stack([np.abs(one.difference - truth) for one, truth in drawn], axis=-1)
    of, borrowed, freedom = _grid_spreads([one for one, _ in drawn])
    half, plain = half_width(borrowed, 1 - CONFIDENCE), half_width(of, 1 - CONFIDENCE)
    return half, plain, errors <= half, errors <= plain, freedom


def _called_by_chance(grid: Grid, data_sets: int, number: int) -> np.ndarray:
    """Whether each difference is called significant where there is none: (datasets, comparisons)."""
    drawn = [
        draw(condition, 0.0, data_sets, np.random.default_rng([4, number, place]))[0]
        for place, condition in enumerate(grid.conditions)
    ]
    _, borrowed, _ = _grid_spreads(drawn)
    p = p_interval(np.stack([one.difference for one in drawn], axis=-1), borrowed)
    permuted = np.stack([p_permutation(one.swaps) for one in drawn], axis=-1)
    return np.maximum(p, permuted) <= LEVEL


def _grid_spreads(drawn: list[Effect]) -> tuple[Spread, Spread, float]:
    """The comparisons' variances, each (datasets, comparisons), without and with the prior of each dataset."""
    each = [spread(one) for one in drawn]
    of = Spread(
        np.stack([one.units for one in each], axis=-1),
        np.stack([one.seeds for one in each], axis=-1),
        each[0].units_freedom,
        each[0].seeds_freedom,
    )
    if len(drawn) < FEWEST_COMPARISONS:
        return of, of, 0.0
    seeds = float(of.seeds_freedom) + 1
    prior = fit_prior(of.seeds * seeds, of.seeds_freedom)
    aligned = Prior(prior.variance[..., None], prior.freedom[..., None])
    return of, moderated(of, aligned), float(np.median(prior.freedom))


def measured(condition: Condition, data_sets: int, number: int = 0) -> dict[str, float]:
    """What the procedure does in a condition, in percent of its datasets; `half_width` is the mean, in points."""
    with_difference, truth = draw(condition, DIFFERENCE, data_sets, np.random.default_rng([1, number]))
    without, _ = draw(condition, 0.0, data_sets, np.random.default_rng([2, number]))
    half = half_width(spread(with_difference), 1 - CONFIDENCE)
    return {
        "truth": float(truth),
        "coverage": 100 * float(np.mean(np.abs(with_difference.difference - truth) <= half)),
        "bootstrap": 100 * float(np.mean(holds_by_bootstrap(with_difference, truth))),
        "significant": 100 * float(np.mean(is_significant(without))),
        "half_width": float(half.mean()),
    }


def is_significant(drawn: Effect) -> np.ndarray:
    """Whether each dataset's difference is significant by both the interval and the permutation test."""
    return np.maximum(p_interval(drawn.difference, spread(drawn)), p_permutation(drawn.swaps)) <= LEVEL


def holds_by_bootstrap(drawn: Effect, truth: float, resamples: int = 1000) -> np.ndarray:
    """Whether the percentile interval of a bootstrap over seeds alone covers the truth, for each dataset."""
    seeds = drawn.by_seed.shape[-1]
    chosen = np.random.default_rng(0).integers(0, seeds, (resamples, seeds))
    means = drawn.by_seed[:, chosen].mean(-1)
    low, high = np.quantile(means, [LEVEL / 2, 1 - LEVEL / 2], axis=-1)
    return (low <= truth) & (truth <= high)


def draw(condition: Condition, shift: float, data_sets: int, generator: np.random.Generator) -> tuple[Effect, float]:
    """Datasets of a condition whose methods differ by `shift` logits, and the true difference, percentage points."""
    deviation = _seed_std(condition)
    truth = _true_score(condition.shape, LOGIT + shift / 2, deviation) - _true_score(
        condition.shape, LOGIT - shift / 2, deviation
    )
    parts = [
        effect(*_two_methods(condition, shift, deviation, len(some), generator))
        for some in np.array_split(np.arange(data_sets), max(1, data_sets * condition.units // 20_000))
    ]
    return Effect(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in Effect.__dataclass_fields__)
    ), truth


def _two_methods(
    condition: Condition, shift: float, deviation: float, count: int, generator: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numerators and denominators, each (count, seeds, units), of the one method and of the other."""
    sizes, probabilities = _sizes(condition.shape)
    size = generator.choice(sizes, (count, 1, condition.units), p=probabilities)
    unit = generator.normal(0, UNIT_STD, size.shape) + (HARDER * size if condition.shape in ("words", "chunks") else 0)
    preference = generator.normal(0, _method_std(condition.shape), size.shape)
    inside = np.arange(SIZES[-1]) < size[..., None]  # the rows of a cluster
    row = generator.normal(0, ROW_STD, inside.shape) if condition.shape == "clusters" else None
    for sign in (0.5, -0.5):
        model = generator.normal(0, deviation, (count, condition.seeds, 1))
        logit = LOGIT + sign * (shift + preference) + unit + model
        if row is not None:
            rows_right = generator.random((*logit.shape, SIZES[-1])) < special.expit(logit[..., None] + row)
            right = (rows_right & inside).sum(-1)
        else:
            right = generator.binomial(size, special.expit(logit))
        of = np.broadcast_to(size, right.shape)
        if condition.shape == "chunks":
            yield 2.0 * right, of + right + generator.binomial(of - right, MISSED) * 1.0
        else:
            yield right.astype(float), of.astype(float)


def _sizes(shape: str) -> tuple[np.ndarray, np.ndarray]:
    sizes = {"words": LENGTHS, "chunks": LENGTHS, "clusters": SIZES}.get(shape, np.array([1]))
    return sizes, np.full(len(sizes), 1 / len(sizes))


def _method_std(shape: str) -> float:
    return 0.0 if shape == "alike" else METHOD_STD


def _mean_right(shape: str, logit: np.ndarray) -> np.ndarray:
    """The expected share of right answers of models at these logits, over all units."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    std = np.sqrt(UNIT_STD**2 + (_method_std(shape) / 2) ** 2 + (ROW_STD**2 if shape == "clusters" else 0))
    sizes, probabilities = _sizes(shape)
    share = probabilities * sizes / (probabilities * sizes).sum()
    shifts = HARDER * sizes if shape in ("words", "chunks") else 0.0 * sizes
    logits = np.asarray(logit)[..., None, None] + shifts[:, None] + std * nodes
    return (special.expit(logits) * share[:, None] * (weights / weights.sum())).sum((-1, -2))


def _true_score(shape: str, logit: float, deviation: float) -> float:
    """The expected score over units and seeds, in percent."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    right = _mean_right(shape, logit + deviation * nodes)
    ratio = 2 * right / (1 + right + MISSED * (1 - right)) if shape == "chunks" else right
    return 100 * float((ratio * weights).sum() / weights.sum())


def _seed_std(condition: Condition) -> float:
    """The deviation of the seeds' logits that gives the condition's deviation of scores."""
    step = 1e-3
    rise = [_true_score(condition.shape, LOGIT + sign * step, 0.0) for sign in (1, -1)]
    return condition.deviation / ((rise[0] - rise[1]) / (2 * step))


if __name__ == "__main__":
    main(parser().parse_args())
    sys.exit(0)
