"""The third part of `benchmarks.coverage`: how often the interval of a mean rank contains the expected mean rank.

A dataset is a grid: arms on tasks with parallel test sets in several languages, each tuned with some seeds. Answers
are right or wrong. On the logit scale, an arm has a main effect and random effects of the task, of the language, of
both, and of the seed; a unit has a difficulty, and a preference for an arm.

*Elsewhere*, each dataset has new tasks and languages; the expected mean rank is the mean over all datasets. *Here*,
datasets come from some worlds with the same tasks and languages; the expected mean rank is the mean over those of a
world. With one task, worlds elsewhere have the same task, and each dataset has new languages. `bootstrap` is the
coverage of the percentile interval, elsewhere, of a hierarchical bootstrap that resamples tasks, languages, units and
seeds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import sparse, special

from workflow_scripts.evaluation.ranking import ScoredArm, ScoredTask, ranking, ranks, scored_task

LOGIT, UNIT_STD, PREFERENCE_STD = 1.0, 1.5, 0.7
ALIKE, UNLIKE = 0.15, 0.5  # standard deviations between tasks of an arm's logit; 0.1 is about 1.5 points
LANGUAGE_STD, BOTH_STD, SEED_STD = 0.1, 0.1, 0.08
UNITS, LANGUAGES = 100, 8
WORLDS = 20  # with the same tasks
OTHERS = 200  # datasets for the expected rank alone
RESAMPLES, BOOTSTRAPPED = 200, 100  # of the bootstrap: draws, and datasets


@dataclass(frozen=True)
class RankedGrid:
    """What datasets are drawn from.

    Attributes:
        apart: logits between the main effects of the best arm and of the worst.
        between: the standard deviation of an arm's logit between tasks.
    """

    tasks: int
    arms: int
    seeds: int
    apart: float
    between: float


GRIDS = tuple(
    RankedGrid(tasks, arms, 3, apart, between)
    for tasks in (1, 2, 3, 5, 10)
    for arms, apart, between in ((2, 0.4, ALIKE), (4, 0.0, ALIKE), (4, 0.4, ALIKE), (4, 0.4, UNLIKE))
) + tuple(RankedGrid(tasks, 4, 1, 0.4, ALIKE) for tasks in (1, 5))


def measured_ranks(grid: RankedGrid, data_sets: int, number: int = 0) -> dict[str, float]:
    """What the procedure does in a grid, in percent of its datasets; half widths are medians, in ranks.

    `coverage` and `coverage_here` are means over arms, `worst` and `worst_here` those of the worst arm.
    """
    generator = np.random.default_rng([5, number])
    elsewhere, here = [], []
    # With one task, an interval is about other languages of this task.
    worlds = 1 if grid.tasks > 1 else WORLDS
    for _ in range(worlds):
        same = _task_effects(grid, generator) if grid.tasks == 1 else None
        elsewhere.append(_measured(partial(_new_answers, grid, same, generator), data_sets // worlds, generator))
    for _ in range(WORLDS):
        effects = _effects(_task_effects(grid, generator), generator)
        here.append(_measured(partial(_answers, grid, effects, generator), data_sets // WORLDS))
    held, widths, *_ = (np.concatenate(parts) for parts in zip(*elsewhere, strict=True))
    bootstrap = np.concatenate([parts[4] for parts in elsewhere])  # (datasets, 2, arms)
    held_here, widths_here = (np.concatenate(parts) for parts in list(zip(*here, strict=True))[2:4])
    return {
        "coverage": 100 * float(held.mean()),
        "worst": 100 * float(held.mean(0).min()),
        "half_width": float(np.median(widths)) / 2,
        "bootstrap": 100 * float(bootstrap[:, 0].mean()),
        "bootstrap_half_width": float(np.median(bootstrap[:, 1])) / 2,
        "coverage_here": 100 * float(held_here.mean()),
        "worst_here": 100 * float(held_here.mean(0).min()),
        "half_width_here": float(np.median(widths_here)) / 2,
    }


def _measured(
    draw: Callable[[], np.ndarray], data_sets: int, generator: np.random.Generator | None = None
) -> tuple[np.ndarray, ...]:
    """Whether each interval holds the expected mean rank of the datasets that are drawn, and its width.

    Each is (datasets, arms): elsewhere both, here both. The last is both for the bootstrap of the first datasets, if
    there is a generator: (datasets, 2, arms).
    """
    answers = [draw() for _ in range(data_sets)]
    found = [ranking([_task(of_task) for of_task in each]) for each in answers]
    truth = np.mean([*(one.mean for one in found), *(_mean_rank(draw()) for _ in range(OTHERS + data_sets))], axis=0)
    bootstrap = [] if generator is None else [_bootstrap(each, truth, generator) for each in answers[:BOOTSTRAPPED]]
    return (
        np.array([(one.low <= truth) & (truth <= one.high) for one in found]),
        np.array([one.high - one.low for one in found]),
        np.array([(one.low_here <= truth) & (truth <= one.high_here) for one in found]),
        np.array([one.high_here - one.low_here for one in found]),
        np.array(bootstrap),
    )


def _new_answers(grid: RankedGrid, same: np.ndarray | None, generator: np.random.Generator) -> np.ndarray:
    """Answers in new languages, of the same tasks or of new ones."""
    return _answers(grid, _effects(_task_effects(grid, generator) if same is None else same, generator), generator)


def _task_effects(grid: RankedGrid, generator: np.random.Generator) -> np.ndarray:
    """The logits of the arms on tasks: (tasks, arms, 1)."""
    main = np.linspace(grid.apart / 2, -grid.apart / 2, grid.arms)[:, None]
    return LOGIT + main + generator.normal(0, grid.between, (grid.tasks, grid.arms, 1))


def _effects(of_tasks: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The logits of the arms in languages: (tasks, arms, languages)."""
    tasks, arms, _ = of_tasks.shape
    language = generator.normal(0, LANGUAGE_STD, (1, arms, LANGUAGES))
    return of_tasks + language + generator.normal(0, BOTH_STD, (tasks, arms, LANGUAGES))


def _answers(grid: RankedGrid, effects: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Whether each answer is right: (tasks, arms, seeds, languages, units)."""
    seeds = generator.normal(0, SEED_STD, (grid.tasks, grid.arms, grid.seeds, 1, 1))
    units = generator.normal(0, UNIT_STD, (grid.tasks, 1, 1, 1, UNITS))
    units = units + generator.normal(0, PREFERENCE_STD, (grid.tasks, grid.arms, 1, 1, UNITS))
    chances = special.expit(effects[:, :, None, :, None] + seeds + units)
    return generator.random(chances.shape, dtype=np.float32) < chances


def _task(answers: np.ndarray) -> ScoredTask:
    """One task; answers: (arms, seeds, languages, units)."""
    scores = 100 * answers.mean(-1)
    influence = 100 * (answers - answers.mean(-1, keepdims=True)) / UNITS * np.sqrt(UNITS / (UNITS - 1))
    arms = [
        ScoredArm(of_arm, [sparse.csr_array(one) for one in parts])
        for of_arm, parts in zip(scores, influence, strict=True)
    ]
    return scored_task([str(number) for number in range(LANGUAGES)], arms)


def _mean_rank(answers: np.ndarray) -> np.ndarray:
    """The mean rank of each arm, as `ranking` gives it."""
    return np.mean([ranks(of_task.mean(1)).mean(1) for of_task in answers.mean(-1)], axis=0)


def _bootstrap(answers: np.ndarray, truth: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Whether the percentile interval of a hierarchical bootstrap holds the truth, and its width: (2, arms)."""
    tasks, arms, seeds, languages, units = answers.shape
    counts = generator.multinomial(units, np.full(units, 1 / units), (tasks, RESAMPLES)).astype(np.float32)
    by_seed = np.einsum("taslu,tru->rtasl", answers.astype(np.float32), counts, optimize=True)
    drawn = []
    for one in by_seed:
        chosen = generator.integers(0, seeds, (tasks, arms, seeds))
        means = np.take_along_axis(one, chosen[..., None], axis=2).mean(2)  # (tasks, arms, languages)
        placed = np.stack([ranks(of_task) for of_task in means])
        placed = placed[generator.integers(0, tasks, tasks)][:, :, generator.integers(0, languages, languages)]
        drawn.append(placed.mean((0, 2)))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return np.stack([(low <= truth) & (truth <= high), high - low])
