"""Every method against the baseline, by task, language and overall: the rows of `differences.csv`.

A comparison is between the arms that stand for the two methods in the report (`aggregate.headline_arms`), by the task's
main metric, over the seeds that both were tuned with and the languages that all of those models were tested in.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from workflow_scripts.evaluation.aggregate import headline_arms, methods_of, tasks_of
from workflow_scripts.evaluation.contributions import Sums
from workflow_scripts.evaluation.significance import LEVEL, combine, effect, estimate, holm, p_permutation
from workflow_scripts.experiment.catalogue import TASKS
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.grid import SOURCE_LANGUAGE, Arm

BASELINE = "fine_tuning"
AVERAGE, GAP = "average", "gap"  # scopes beside the languages
COLUMNS = (
    "encoder task metric method prompt_length baseline scope difference low high p_interval p_permutation p_holm"
    " significant seeds units"
).split()

Units = Mapping[str, Sums]  # one model's sums by language
Reader = Callable[[Arm, int, str], Units]  # of an arm's seed, by a metric


def differences(scores: pd.DataFrame, runs: pd.DataFrame, read: Reader) -> Iterator[dict[str, Any]]:
    """The rows: for each encoder, task and method, its languages in the catalogue's order, then `average` and `gap`.

    `average` is unweighted over the languages; `gap` is English minus the mean of the others, and left out without
    them. What is not known is None.
    """
    arms = headline_arms(scores, runs)
    for encoder in sorted(set(scores["encoder"])):
        for task in tasks_of(scores):
            for method in methods_of(scores):
                key, baseline = (encoder, task, method), (encoder, task, BASELINE)
                if method != BASELINE and key in arms and baseline in arms:
                    pair = Arm(*key, arms[key]), Arm(*baseline, arms[baseline])
                    yield from _comparison(*pair, _shared_seeds(scores, *pair), read)


def _shared_seeds(scores: pd.DataFrame, *pair: Arm) -> list[int]:
    """The seeds that both arms have scores of."""
    seeds = []
    for arm in pair:
        here = scores.dropna(subset="value")
        for column in ("encoder", "task", "method", "prompt_length"):
            here = here[here[column] == getattr(arm, column)]
        seeds.append(set(here["seed"]))
    return sorted(map(int, set.intersection(*seeds)))


def _comparison(treated: Arm, baseline: Arm, seeds: Sequence[int], read: Reader) -> Iterator[dict[str, Any]]:
    task, metric = TASKS[treated.task], TASKS[treated.task].metrics[0]
    models = {(arm, seed): read(arm, seed, metric) for arm in (treated, baseline) for seed in seeds}
    languages = _shared_languages(list(models.values()), task.languages)
    if not languages:
        return
    names = [_shared_units(models, language) for language in languages]
    everything = sorted(set().union(*names))
    number = {unit: place for place, unit in enumerate(everything)}
    places = [np.array([number[unit] for unit in units]) for units in names]
    effects = [
        effect(*(_sums([models[arm, seed][language] for seed in seeds], units) for arm in (treated, baseline)))
        for language, units in zip(languages, names, strict=True)
    ]
    over = _over_languages(languages)
    sums = [combine(effects, weights, places, len(everything)) for weights in over.values()]
    rows = [_spread_out(one.swaps, place, len(everything)) for one, place in zip(effects, places, strict=True)]
    rows += [sparse.csr_array(one.swaps[None]) for one in sums]
    counts = [len(units) for units in names]
    # A language of one unit tells nothing of its spread; no more does a sum that it is a part of.
    counts += [len(everything) if min(counts) > 1 else 1] * len(sums)
    permuted = p_permutation(sparse.vstack(rows, format="csr"))
    # A score is at most 100, so that two gaps, but no other two values, differ by up to 200.
    largest = [200.0 if scope == GAP else 100.0 for scope in (*languages, *over)]
    estimates = [estimate(*each) for each in zip([*effects, *sums], permuted, counts, largest, strict=True)]
    of_languages, of_sums = estimates[: len(languages)], estimates[len(languages) :]
    adjusted = [*holm([one.p for one in of_languages]), *(one.p for one in of_sums)]
    for scope, one, p_holm in zip([*languages, *over], estimates, adjusted, strict=True):
        known = {
            "difference": one.difference,
            "low": one.low,
            "high": one.high,
            "p_interval": one.p_interval,
            "p_permutation": one.p_permutation,
            "p_holm": float(p_holm),
        }
        yield {
            "encoder": treated.encoder,
            "task": treated.task,
            "metric": metric,
            "method": treated.method,
            "prompt_length": treated.prompt_length,
            "baseline": baseline.method,
            "scope": scope,
            **{name: None if np.isnan(value) else value for name, value in known.items()},
            "significant": None if np.isnan(p_holm) else bool(p_holm <= LEVEL),
            "seeds": one.seeds,
            "units": one.units,
        }


def _shared_languages(models: Sequence[Units], order: Sequence[str]) -> list[str]:
    """The languages that every model was tested in, in an order that need not have them all."""
    shared = set(models[0]).intersection(*models[1:]) if models else set()
    return [language for language in order if language in shared] + sorted(shared.difference(order))


def _shared_units(models: Mapping[tuple[Arm, int], Units], language: str) -> list[str]:
    """The sorted names of a language's units. Raises UserError where two models were tested on different ones."""
    (first, units), *others = ((model, units[language]) for model, units in models.items())
    for (arm, seed), other in others:
        if other.keys() != units.keys():
            odd = min(units.keys() ^ other.keys())
            raise UserError(
                f"{arm.encoder}, {arm.task}, {language}: {arm.name} seed {seed} and {first[0].name} seed {first[1]}"
                f" were not tested on the same rows, {odd!r} is in one alone: delete scores.csv of both and run again"
            )
    return sorted(units)


def _sums(models: Sequence[Sums], units: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Numerators and denominators, each (seeds, units), of the models of one arm in one language."""
    values = np.array([[model[unit] for unit in units] for model in models])
    return values[..., 0], values[..., 1]


def _over_languages(languages: Sequence[str]) -> dict[str, list[float]]:
    """The weights of the languages in their average and in the transfer gap."""
    weights = {AVERAGE: [1 / len(languages)] * len(languages)}
    others = len(languages) - 1
    if SOURCE_LANGUAGE in languages and others:
        weights[GAP] = [1.0 if language == SOURCE_LANGUAGE else -1 / others for language in languages]
    return weights


def _spread_out(values: np.ndarray, places: np.ndarray, units: int) -> sparse.csr_array:
    """One row that has the values at these places among all units."""
    return sparse.csr_array((values, (np.zeros(len(places), dtype=int), places)), shape=(1, units))
