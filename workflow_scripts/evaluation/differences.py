"""Every method against the baseline, by task, language and overall: the rows of `differences.csv`.

The baseline is fine-tuning. An encoder that is not fine-tuned on a task has the first of its methods, in the order of
tables, as the baseline.

Predictions that were made elsewhere are compared with the baseline of every encoder and source: those of an arm with a
training source with the baselines of that source alone, if there are any.

A comparison is between the headline arms of two methods (`aggregate.headline_arms`), by the task's main metric, over
the seeds that both were tuned with and the languages that all of those models were tested in.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.names import NO_SEED, OUTSIDE, source_languages
from workflow_scripts.evaluation.aggregate import baseline_of, headline_arms, methods_of, sources_of, tasks_of
from workflow_scripts.evaluation.contributions import Sums
from workflow_scripts.evaluation.significance import (
    CONFIDENCE,
    LEVEL,
    Measured,
    Prior,
    combine,
    effect,
    estimate,
    grid_prior,
    holm,
    p_permutation,
    spread,
)
from workflow_scripts.experiment.grid import Arm

AVERAGE, GAP = "average", "gap"  # scopes beside the languages
LANGUAGE = "language"  # what all other scopes are
ESTIMATED = (  # columns that may be empty
    "difference low high p_interval p_permutation low_plain high_plain p_plain seed_std prior_std prior_freedom"
).split()
COLUMNS = (
    "encoder task source metric method prompt_length baseline scope difference low high p_interval p_permutation p_holm"
    " significant seeds units low_plain high_plain p_plain seed_std prior_std prior_freedom"
).split()

SOURCE_COLUMNS = (
    "encoder task method language source other difference low high p_holm significant seeds units"
).split()

ENCODER_COLUMNS = (
    "task source encoder method prompt_length other_encoder other_method other_prompt_length chosen scope difference"
    " low high p_holm significant seeds units"
).split()

Units = Mapping[str, Sums]  # the sums of one model by language
Reader = Callable[[Arm, int, str], Units]  # reads the sums of an arm and seed by a metric


@dataclass(frozen=True)
class Compared:
    """One method against the baseline on one task, measured in every scope: the languages, then the sums over them."""

    treated: Arm
    baseline: Arm
    metric: str
    scopes: Mapping[str, Measured]

    @property
    def is_outside(self) -> bool:
        """Whether the predictions were made elsewhere."""
        return self.treated.encoder == OUTSIDE

    @property
    def place(self) -> Arm:
        """The arm whose encoder and source the comparison is listed under."""
        return self.baseline if self.is_outside else self.treated


def differences(scores: pd.DataFrame, runs: pd.DataFrame, read: Reader) -> Iterator[dict[str, Any]]:
    """The rows: for each encoder, task and method, its languages in the scores' order, then `average` and `gap`.

    `average` is the unweighted mean over the languages. `gap` is the source language minus the mean of the others;
    without these there is no such row. An unknown value is None.

    The seeds' variances of the grid share a prior if there are enough comparisons (`significance.fit_prior`): one prior
    for the averages, one for the gaps, and one for all languages together.
    """
    compared = list(_comparisons(scores, runs, read))
    # Comparisons with predictions made elsewhere use the prior but do not change it. So an added arm changes no other
    # interval, and its own intervals are too wide rather than too narrow, since only the baseline's seeds vary.
    priors = _priors([each for each in compared if not each.is_outside])
    for each in compared:
        for row in _rows([each], priors):
            yield {column: row[column] for column in COLUMNS}


def source_differences(scores: pd.DataFrame, runs: pd.DataFrame, read: Reader) -> Iterator[dict[str, Any]]:
    """One training source minus another, for each encoder, task and method: the languages, then `average`.

    The models are those of the methods' headline arms. Each pair of sources occurs once, since in both orders it would
    count twice in the prior. The statistics are those of `differences`, but for all pairs of sources together, since
    the two best are chosen by the same scores: the intervals of all pairs in a language hold simultaneously with 95 %
    (Bonferroni), and p-values are corrected over pairs and languages. Columns: `SOURCE_COLUMNS`.
    """
    arms = headline_arms(scores, runs)
    families: list[list[Compared]] = []
    for encoder, task, method in dict.fromkeys((encoder, task, method) for encoder, task, _, method in arms):
        of_task = scores[scores["task"] == task]
        metric, languages = of_task["metric"].iloc[0], list(dict.fromkeys(of_task["language"]))
        sources = [source for source in sources_of(of_task) if (encoder, task, source, method) in arms]
        families.append([])
        for source, other in itertools.combinations(sources, 2):
            pair = (
                Arm(encoder, task, source, method, arms[encoder, task, source, method]),
                Arm(encoder, task, other, method, arms[encoder, task, other, method]),
            )
            families[-1] += _without_gap(pair, metric, languages, scores, read)
    for row in _rows_of_families(families):
        yield {column: row[column] for column in SOURCE_COLUMNS}


def encoder_differences(scores: pd.DataFrame, runs: pd.DataFrame, read: Reader) -> Iterator[dict[str, Any]]:
    """One encoder minus another, for each task and source: the languages, then `average`.

    Each pair of encoders is compared by every method that both have, and by the best method of each, which the mean
    validation score of the seeds chooses (`chosen`). The statistics are those of `differences`, but for all pairs of a
    task and source together: the intervals in one scope hold simultaneously with 95 % (Bonferroni), and p-values are
    corrected over pairs and languages. Columns: `ENCODER_COLUMNS`.
    """
    arms = headline_arms(scores, runs)
    best = _best_methods(arms, runs)
    families: list[list[Compared]] = []
    for task, source in dict.fromkeys((task, source) for _, task, source, _ in arms):
        of_task = scores[scores["task"] == task]
        metric, languages = of_task["metric"].iloc[0], list(dict.fromkeys(of_task["language"]))
        encoders = sorted({encoder for encoder, *rest, _ in arms if rest == [task, source]} - {OUTSIDE})
        families.append([])
        for encoder, other in itertools.combinations(encoders, 2):
            pairs: dict[tuple[str, str], None] = {(method, method): None for method in methods_of(of_task)}
            pairs |= {(best.get((encoder, task, source), ""), best.get((other, task, source), "")): None}
            for methods in pairs:
                keys = [(name, task, source, method) for name, method in zip((encoder, other), methods, strict=True)]
                if all(key in arms for key in keys):
                    pair = Arm(*keys[0], arms[keys[0]]), Arm(*keys[1], arms[keys[1]])
                    families[-1] += _without_gap(pair, metric, languages, scores, read)
    for row in _rows_of_families(families):
        task, source = row["task"], row["source"]
        chosen = all(
            best.get((row[f"{which}encoder"], task, source)) == row[f"{which}method"] for which in ("", "other_")
        )
        yield {column: chosen if column == "chosen" else row[column] for column in ENCODER_COLUMNS}


def _without_gap(
    pair: tuple[Arm, Arm], metric: str, languages: Sequence[str], scores: pd.DataFrame, read: Reader
) -> list[Compared]:
    """The comparison of two arms by language and on average; none if they share no language."""
    scopes = _measured(*pair, metric, languages, _shared_seeds(scores, *pair), read)
    scopes = {scope: one for scope, one in scopes.items() if scope != GAP}
    return [Compared(*pair, metric, scopes)] if scopes else []


def _rows_of_families(families: Sequence[Sequence[Compared]]) -> Iterator[dict[str, Any]]:
    """The rows of each family; all families share the priors."""
    priors = _priors([each for family in families for each in family])
    for family in families:
        yield from _rows(family, priors)


def _best_methods(arms: Mapping[tuple[str, str, str, str], int], runs: pd.DataFrame) -> dict[tuple[str, ...], str]:
    """The method with the highest mean validation score of the seeds, by (encoder, task, source); ties: the first."""
    keys = ["encoder", "task", "source", "method", "prompt_length"]
    means = runs[runs["stage"] == "seed"].groupby(keys)["validation"].mean().dropna()
    best: dict[tuple[str, ...], tuple[float, str]] = {}
    for method in methods_of(runs):
        for *place, name in arms:
            key = (*place, name, arms[*place, name])  # type: ignore[index]
            if name == method and key in means and means[key] > best.get(tuple(place), (-np.inf, ""))[0]:
                best[tuple(place)] = (means[key], method)
    return {place: method for place, (_, method) in best.items()}


def _priors(compared: Sequence[Compared]) -> dict[str, Prior | None]:
    """The priors that the comparisons share: for languages, averages and gaps."""
    return {
        kind: grid_prior([[one for scope, one in each.scopes.items() if kind_of(scope) == kind] for each in compared])
        for kind in (LANGUAGE, AVERAGE, GAP)
    }


def kind_of(scope: str) -> str:
    """Whether a scope is a language, the average or the gap."""
    return scope if scope in (AVERAGE, GAP) else LANGUAGE


def _comparisons(scores: pd.DataFrame, runs: pd.DataFrame, read: Reader) -> Iterator[Compared]:
    arms = headline_arms(scores, runs)
    for encoder in sorted(set(scores["encoder"]) - {OUTSIDE}):
        for task in tasks_of(scores):
            of_task = scores[scores["task"] == task]
            metric, languages = of_task["metric"].iloc[0], list(dict.fromkeys(of_task["language"]))
            sources = sources_of(of_task[of_task["encoder"] != OUTSIDE])
            for source in sources:
                having = [method for method in methods_of(of_task) if (encoder, task, source, method) in arms]
                first = baseline_of(having)
                if not having:
                    continue
                treated = [(encoder, task, source, method) for method in having if method != first]
                treated += [
                    key for key in arms if key[:2] == (OUTSIDE, task) and (key[2] == source or key[2] not in sources)
                ]
                baseline = Arm(encoder, task, source, first, arms[encoder, task, source, first])
                for key in treated:
                    pair = Arm(*key, arms[key]), baseline
                    of_pair = _reading_once(read) if _is_unseeded(scores, pair[0]) else read
                    scopes = _measured(*pair, metric, languages, _shared_seeds(scores, *pair), of_pair)
                    if scopes:
                        yield Compared(*pair, metric, scopes)


def _reading_once(read: Reader) -> Reader:
    """A reader for an arm without seeds: it returns the single set of predictions for every seed."""
    found: dict[Arm, Units] = {}

    def reader(arm: Arm, seed: int, metric: str) -> Units:
        if arm.encoder != OUTSIDE:
            return read(arm, seed, metric)
        if arm not in found:
            found[arm] = read(arm, NO_SEED, metric)
        return found[arm]

    return reader


def _shared_seeds(scores: pd.DataFrame, treated: Arm, baseline: Arm) -> list[int]:
    """The seeds that both arms have scores for; predictions without a seed count for every seed of the baseline."""
    own, others = _seeds(scores, treated), _seeds(scores, baseline)
    return sorted(others if _is_unseeded(scores, treated) else own & others)


def _is_unseeded(scores: pd.DataFrame, arm: Arm) -> bool:
    """Whether the arm is a single set of predictions that was made elsewhere."""
    return arm.encoder == OUTSIDE and _seeds(scores, arm) == {NO_SEED}


def _seeds(scores: pd.DataFrame, arm: Arm) -> set[int]:
    """The seeds that an arm has scores for."""
    here = scores.dropna(subset="value")
    for column in ("encoder", "task", "source", "method", "prompt_length"):
        here = here[here[column] == getattr(arm, column)]
    return set(map(int, here["seed"]))


def _measured(
    treated: Arm, baseline: Arm, metric: str, order: Sequence[str], seeds: Sequence[int], read: Reader
) -> dict[str, Measured]:
    """The differences of one comparison by scope; none if the models share no language."""
    models = {(arm, seed): read(arm, seed, metric) for arm in (treated, baseline) for seed in seeds}
    languages = shared_languages(list(models.values()), order)
    if not languages:
        return {}
    names = [shared_units(models, language) for language in languages]
    everything = sorted(set().union(*names))
    number = {unit: place for place, unit in enumerate(everything)}
    places = [np.array([number[unit] for unit in units]) for units in names]
    effects = [
        effect(*(sums_of([models[arm, seed][language] for seed in seeds], units) for arm in (treated, baseline)))
        for language, units in zip(languages, names, strict=True)
    ]
    own = source_languages(treated.source) if treated.source == baseline.source else []
    over = _over_languages(languages, own)
    sums = [combine(effects, weights, places, len(everything)) for weights in over.values()]
    rows = [_spread_out(one.swaps, place, len(everything)) for one, place in zip(effects, places, strict=True)]
    rows += [sparse.csr_array(one.swaps[None]) for one in sums]
    counts = [len(units) for units in names]
    # A language of one unit has no estimable variance, and neither has any average that includes it.
    counts += [len(everything) if min(counts) > 1 else 1] * len(sums)
    permuted = p_permutation(sparse.vstack(rows, format="csr"))
    return {
        scope: Measured(
            difference=float(one.difference),
            spread=spread(one),
            permuted=float(p),
            seeds=len(seeds),
            units=units,
            # A score is at most 100, so two scores differ by up to 100 points, and two gaps by up to 200.
            largest=200.0 if scope == GAP else 100.0,
        )
        for scope, one, p, units in zip([*languages, *over], [*effects, *sums], permuted, counts, strict=True)
    }


def _rows(family: Sequence[Compared], priors: Mapping[str, Prior | None]) -> Iterator[dict[str, Any]]:
    """The rows of comparisons that are read together.

    The p-values of all their languages are corrected together, as are those of their averages, and those of their gaps.
    Their intervals in one scope hold simultaneously.
    """
    level = (1 - CONFIDENCE) / max(1, len(family))
    estimates = {
        (number, scope): estimate(one, priors[kind_of(scope)], level)
        for number, compared in enumerate(family)
        for scope, one in compared.scopes.items()
    }
    corrected: dict[tuple[int, str], float] = {}
    for kind in (LANGUAGE, AVERAGE, GAP):
        keys = [key for key in estimates if kind_of(key[1]) == kind]
        corrected |= dict(zip(keys, map(float, holm([estimates[key].p for key in keys])), strict=True))
    for (number, scope), one in estimates.items():
        compared, p_holm = family[number], corrected[number, scope]
        known = {column: getattr(one, column) for column in ESTIMATED} | {"p_holm": p_holm}
        yield {
            "encoder": compared.place.encoder,
            "task": compared.treated.task,
            "source": compared.place.source,
            "other": compared.baseline.source,
            "other_encoder": compared.baseline.encoder,
            "other_method": compared.baseline.method,
            "other_prompt_length": compared.baseline.prompt_length,
            "metric": compared.metric,
            "method": compared.treated.method,
            "prompt_length": compared.treated.prompt_length,
            "baseline": compared.baseline.method,
            "scope": scope,
            "language": scope,
            **{column: None if np.isnan(value) else value for column, value in known.items()},
            "significant": None if np.isnan(p_holm) else bool(p_holm <= LEVEL),
            "seeds": one.seeds,
            "units": one.units,
        }


def shared_languages(models: Sequence[Units], order: Sequence[str]) -> list[str]:
    """The languages that every model was tested in, in the given order; others come last by name."""
    shared = set(models[0]).intersection(*models[1:]) if models else set()
    return [language for language in order if language in shared] + sorted(shared.difference(order))


def shared_units(models: Mapping[tuple[Arm, int], Units], language: str) -> list[str]:
    """The sorted names of a language's units. Raises UserError if two models were tested on different ones."""
    (first, units), *others = ((model, units[language]) for model, units in models.items())
    for (arm, seed), other in others:
        if other.keys() != units.keys():
            odd = min(units.keys() ^ other.keys())
            raise UserError(
                f"{arm.encoder}, {arm.task}, {language}: {arm.name} seed {seed} and {first[0].name} seed {first[1]}"
                f" were not tested on the same rows: only one has {odd!r}. Delete scores.csv of both and run again"
            )
    return sorted(units)


def sums_of(models: Sequence[Sums], units: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Numerators and denominators, each (seeds, units), of the models of one arm in one language."""
    values = np.array([[model[unit] for unit in units] for model in models])
    return values[..., 0], values[..., 1]


def _over_languages(languages: Sequence[str], own: Sequence[str]) -> dict[str, list[float]]:
    """The weights of the languages in their average and in the transfer gap. `own`: those of the source."""
    weights = {AVERAGE: [1 / len(languages)] * len(languages)}
    others = len(set(languages) - set(own))
    if own and set(own) <= set(languages) and others:
        weights[GAP] = [1 / len(own) if language in own else -1 / others for language in languages]
    return weights


def _spread_out(values: np.ndarray, places: np.ndarray, units: int) -> sparse.csr_array:
    """The values as one sparse row over all units."""
    return sparse.csr_array((values, (np.zeros(len(places), dtype=int), places)), shape=(1, units))
