"""Which arm is best overall: mean ranks over tasks and target languages, with their uncertainty.

A *cell* is a task in one target language, which is any but those of the training source: the ranking is about transfer.
In each cell the arms are ranked by their mean score over seeds, from 1, the best; arms with equal scores share the mean
of their ranks. The mean rank is over the languages of a task, then over tasks. It estimates the expected mean rank of
another experiment of this size, for two kinds of experiment:

    here         the same tasks and languages, with other test rows and seeds
    elsewhere    other, similar tasks and languages as well

**Elsewhere.** Tasks and languages are crossed, as units and seeds are in `significance.py`. The variance of the mean
rank is that between tasks, plus that between languages beyond what their cells contribute (two-way clustering; Cameron,
Gelbach & Miller 2011, equation 2.12), with t distributions of tasks - 1 and languages - 1 degrees of freedom. Each task
has its own models and rows, so the variance between tasks includes seeds and units. An arm that is best on each of few
tasks would have no variance at all. Therefore one more task is added in which all arms have the middle rank, as Agresti
& Caffo (2000) do for proportions.

**Here.** A parametric bootstrap: the scores are drawn again with the variances of units and seeds, and ranked. Observed
scores differ more than their expected values, so ranks drawn around them would change too rarely. The scores of the
arms are therefore shrunk towards their mean first, by the share of their variance that is noise (James & Stein 1961).
The seeds' variances are moderated, as in `significance.py`.

With one task, nothing is known about other tasks: *elsewhere* then means other languages, test rows and seeds.

A bootstrap that resamples tasks, languages, units and seeds counts noise twice, in the scores and in the resampling,
and underestimates the variance between few tasks: if tasks differ much, its 95 % intervals cover in 83 % with two tasks
and in 92 % with five; where they do not, in up to 100 % (`make coverage ARGS="--parts ranks"`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse, stats

from workflow_scripts.evaluation.significance import (
    CONFIDENCE,
    FEWEST_COMPARISONS,
    NOTHING,
    Array,
    fit_prior,
    linearised,
)

DRAWS, REPLICATES = 10_000, 1_000  # of mean ranks elsewhere, and of scores here
LANGUAGES_AT_ONCE = 4_000_000  # numbers of one batch of replicates: 32 MB


@dataclass(frozen=True)
class ScoredArm:
    """One arm on one task.

    Attributes:
        scores: (seeds, languages), percent.
        influence: for each seed, the influence of each unit on the score in each language: (languages, units), sparse.
    """

    scores: Array
    influence: Sequence[sparse.csr_array]


@dataclass(frozen=True)
class ScoredTask:
    """The arms' scores on one task, with what is random about them.

    Attributes:
        languages: the target languages.
        scores: (arms, languages), the means over seeds, percent.
        units: (arms * languages, arms * languages), the covariance of the means over another draw of units.
        seeds: for each arm, (seeds, languages): the deviations of the seeds from their mean, scaled so that their sum
            of squares is the variance of the mean. No rows with one seed.
    """

    languages: tuple[str, ...]
    scores: Array
    units: Array
    seeds: tuple[Array, ...]


@dataclass(frozen=True)
class Ranking:
    """The mean rank of each arm, (arms,), with its 95 % intervals, and the share of draws in which it is first.

    `low`, `high` and `first` are elsewhere, with other tasks and languages; the others are on the same tasks and
    languages.
    """

    mean: Array
    low: Array
    high: Array
    first: Array
    low_here: Array
    high_here: Array
    first_here: Array


def scored_arm(models: Sequence[Sequence[tuple[Array, Array]]], places: Sequence[Array], units: int) -> ScoredArm:
    """One arm on one task.

    Args:
        models: for each seed and language, the numerators and denominators of the language's units.
        places: for each language, the index of each of its units among all `units` of the task. Translations of each
            other have the same index.
    """
    scores, influence = [], []
    starts = np.cumsum([0, *map(len, places)])
    for languages in models:
        values, parts = [], []
        for numerators, denominators in languages:
            score, of_unit, _ = linearised(numerators, denominators)
            count = len(of_unit)
            values.append(float(score))
            # As in `significance.effect`: a mean of squared deviations from their own mean is too small.
            parts.append(of_unit * np.sqrt(count / (count - 1)) if count > 1 else of_unit)
        scores.append(values)
        matrix = (np.concatenate(parts), np.concatenate(places), starts)
        influence.append(sparse.csr_array(matrix, shape=(len(places), units)))
    return ScoredArm(np.array(scores), influence)


def scored_task(languages: Sequence[str], arms: Sequence[ScoredArm]) -> ScoredTask:
    """The arms of one task."""
    means = [sum(arm.influence[1:], start=arm.influence[0]) / len(arm.influence) for arm in arms]
    every = sparse.vstack(means, format="csr")
    units = (every @ every.T).toarray()
    size = len(languages)
    for number, (arm, mean) in enumerate(zip(arms, means, strict=True)):
        count = len(arm.influence)
        for one in arm.influence if count > 1 else ():
            rest = one - mean  # the interaction of units and seeds, which the variance of the seeds has already
            block = slice(number * size, (number + 1) * size)
            units[block, block] -= (rest @ rest.T).toarray() / (count * (count - 1))
    deviations = tuple(
        (arm.scores - arm.scores.mean(0)) / np.sqrt(count * (count - 1))
        if (count := len(arm.scores)) > 1
        else arm.scores[:0]
        for arm in arms
    )
    return ScoredTask(tuple(languages), np.stack([arm.scores.mean(0) for arm in arms]), units, deviations)


def ranks(scores: Array) -> Array:
    """The rank of each arm, from 1 for the highest score; scores: (arms, ...). Equal scores share their mean rank."""
    return stats.rankdata(-np.round(scores, 9), axis=0)


def ranking(tasks: Sequence[ScoredTask], seed: int = 0) -> Ranking:
    """Rank the arms, which all tasks have in the same order."""
    generator = np.random.default_rng(seed)
    cells = [ranks(task.scores) for task in tasks]
    by_task = np.stack([of_task.mean(1) for of_task in cells])  # (tasks, arms)
    mean = by_task.mean(0)
    here, noise = _here(tasks, generator)
    deviations = _elsewhere([task.languages for task in tasks], cells, here, noise, generator)
    most = mean.shape[0]
    return Ranking(mean, *_interval(mean, deviations, most), *_interval(mean, here, most))


def _interval(mean: Array, deviations: Array, most: int) -> tuple[Array, Array, Array]:
    """Low and high ends of the intervals, and the share of draws in first place; deviations: (draws, arms)."""
    half = np.quantile(np.abs(deviations), CONFIDENCE, axis=0)
    drawn = mean + deviations
    first = drawn <= drawn.min(1, keepdims=True) + 1e-9
    return np.maximum(1, mean - half), np.minimum(most, mean + half), (first / first.sum(1, keepdims=True)).mean(0)


def _elsewhere(
    languages: Sequence[Sequence[str]],
    cells: Sequence[Array],
    here: Array,
    noise: float,
    generator: np.random.Generator,
) -> Array:
    """Deviations of the mean ranks with other tasks and languages: (draws, arms).

    Args:
        languages: of each task.
        cells: of each task, the ranks: (arms, languages).
        here: draws of these deviations on the same tasks and languages.
        noise: with one task, the part of the variance of the mean ranks, summed over arms, that is noise of single
            cells.
    """
    count, arms = len(cells), len(cells[0])
    by_task = np.stack([of_task.mean(1) for of_task in cells])
    mean = by_task.mean(0)
    if count > 1:
        clusters = np.vstack([by_task, np.full(arms, (arms + 1) / 2)])
        deviations = (clusters - clusters.mean(0)) / count
        result = _draws(deviations, count - 1, generator)
    else:
        result = here[generator.integers(0, len(here), DRAWS)]
    every = sorted(set().union(*languages))
    if len(every) < 2:
        return result
    place = {language: number for number, language in enumerate(every)}
    weighted = [
        (of_task - mean[:, None]) / (count * of_task.shape[1]) for of_task in cells
    ]  # what each cell contributes to the deviations of the mean ranks
    by_language = np.zeros((len(every), arms))
    for codes, parts in zip(languages, weighted, strict=True):
        by_language[[place[code] for code in codes]] += parts.T
    by_language *= np.sqrt(len(every) / (len(every) - 1))
    whole = (by_language**2).sum()
    of_cells = sum((parts**2).sum() for parts in weighted) if count > 1 else noise
    share = max(0.0, 1 - of_cells / whole) if whole > NOTHING else 0.0
    return result + np.sqrt(share) * _draws(by_language, len(every) - 1, generator)


def _draws(deviations: Array, freedom: int, generator: np.random.Generator) -> Array:
    """Draws (draws, arms) of a multivariate t distribution whose scale matrix is the deviations' sum of squares."""
    normal = generator.normal(size=(DRAWS, len(deviations))) @ deviations
    return normal * np.sqrt(freedom / generator.chisquare(freedom, (DRAWS, 1)))


def _here(tasks: Sequence[ScoredTask], generator: np.random.Generator) -> tuple[Array, float]:
    """Deviations of the mean ranks on the same tasks and languages, (replicates, arms); and the noise of single cells.

    The second is the sum, over arms and cells, of the variance of what a cell contributes to the mean ranks.
    """
    priors = _moderation([part for task in tasks for part in task.seeds])
    arms = len(tasks[0].scores)
    total, noise = np.zeros((REPLICATES, arms)), 0.0
    for number, task in enumerate(tasks):
        scales, freedoms = (part[number * arms : (number + 1) * arms] for part in priors)
        centres = _shrunk(task)
        factor = _root(task.units)
        size = len(task.languages)
        squares = np.zeros((arms, size))
        sums = np.zeros((arms, size))
        at_once = max(1, LANGUAGES_AT_ONCE // (arms * arms * size))
        for start in range(0, REPLICATES, at_once):
            count = min(at_once, REPLICATES - start)
            drawn = centres + (generator.normal(size=(count, factor.shape[1])) @ factor.T).reshape(count, arms, size)
            for arm, deviations in enumerate(task.seeds):
                if len(deviations):
                    wide = scales[arm] * np.sqrt(freedoms[arm] / generator.chisquare(freedoms[arm], (count, 1)))
                    drawn[:, arm] += wide * (generator.normal(size=(count, len(deviations))) @ deviations)
            placed = _ranks_of_draws(drawn)
            total[start : start + count] += placed.mean(2) / len(tasks)
            sums += placed.sum(0)
            squares += (placed**2).sum(0)
        variances = squares / REPLICATES - (sums / REPLICATES) ** 2
        noise += float(variances.sum()) / (size * len(tasks)) ** 2
    return total - total.mean(0), noise


def _ranks_of_draws(scores: Array) -> Array:
    """The ranks of (draws, arms, languages); arms with equal scores share their mean rank."""
    higher = (scores[:, None] > scores[:, :, None]).sum(2)
    equal = (scores[:, None] == scores[:, :, None]).sum(2)
    return higher + (equal + 1) / 2


def _moderation(parts: Sequence[Array]) -> tuple[Array, Array]:
    """For each arm of each task, the factor of its seeds' deviations, and the degrees of freedom of their variance.

    The variances that are moderated are those of the average over languages (Smyth 2004; `significance.moderated`).
    """
    freedom = np.array([max(len(part) - 1, 0) for part in parts], dtype=float)
    counts = freedom + 1
    variances = np.array([(part.mean(1) ** 2).sum() if len(part) else 0.0 for part in parts]) * counts
    known = freedom > 0
    if known.sum() < FEWEST_COMPARISONS or not (variances[known] > NOTHING).any():
        return np.ones(len(parts)), np.maximum(freedom, 1)
    prior = fit_prior(variances[known], freedom[known])
    together = freedom + prior.freedom
    moderated = (prior.freedom * prior.variance + freedom * variances) / together
    scales = np.sqrt(np.divide(moderated, variances, out=np.ones_like(moderated), where=variances > NOTHING))
    return scales, np.maximum(together, 1)


def _shrunk(task: ScoredTask) -> Array:
    """The scores shrunk towards the mean of the arms, by the share of their variance that is noise."""
    arms, size = task.scores.shape
    centre = task.scores.mean(0)
    seen = float(((task.scores - centre) ** 2).sum())
    by_cell = np.diagonal(task.units.reshape(arms, size, arms, size), axis1=1, axis2=3)  # (arms, arms, languages)
    of_units = float(np.trace(by_cell.sum(2)) - by_cell.sum() / arms)
    of_seeds = (1 - 1 / arms) * sum(float((part**2).sum()) for part in task.seeds)
    kept = max(0.0, 1 - (max(of_units, 0.0) + of_seeds) / seen) if seen > NOTHING else 0.0
    return centre + kept * (task.scores - centre)


def _root(covariance: Array) -> Array:
    """A matrix whose product with its transpose is the covariance; a negative variance, a matter of chance, is 0."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > max(values.max(initial=0.0), NOTHING) * 1e-10
    root: Array = vectors[:, kept] * np.sqrt(values[kept])
    return root
