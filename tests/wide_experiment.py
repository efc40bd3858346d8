"""A made-up grid of very many languages: two tasks, 205 and 122 languages, six methods, five seeds, any sources.

The tasks have the names of built-in ones, since the aggregation of scores knows no others; their facts are made up.
"""

import random
from functools import cache

import pandas as pd
from made_up_experiment import (
    COLUMNS,
    ENCODER,
    make_distances,
    make_inputs,
    make_provenance,
    make_run,
)
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

from workflow_scripts.core.languages import language
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.tasks import Metric, Task, Tasks

# The languages of SIB-200: those of FLORES-200, as NLLB's tokenizer lists them, and three further scripts.
LANGUAGES = ("en", *(code for code in FAIRSEQ_LANGUAGE_CODES if code != "eng_Latn"), "nqo_Nkoo", "arb_Latn", "min_Arab")
SEEDS = (1, 2, 3, 4, 5)
ARMS = (
    ("fine_tuning", 0),
    ("prompt_tuning", 16),
    ("input_prompt_tuning", 16),
    ("linear_probe", 0),
    ("bitfit", 0),
    ("lora", 0),
)
ACCURACY = (Metric("accuracy", "accuracy"),)
TASKS = Tasks(
    {
        "xnli": Task("xnli", "Topics", ACCURACY, LANGUAGES, "Topics"),
        "pawsx": Task("pawsx", "Reading", ACCURACY, LANGUAGES[:122], "Reading"),
    }
)


@cache
def wide_scores(sources: tuple[str, ...] = ("en",)) -> pd.DataFrame:
    """Scores that depend on the language's family and script, the method, the source and the seed."""
    chance = random.Random(7)
    by_family: dict[str, float] = {}
    by_script: dict[str, float] = {}
    rows = []
    for name, task in TASKS.by_name.items():
        for place, code in enumerate(task.languages):
            facts = language(code)
            height = 82 + by_family.setdefault(facts.family, chance.gauss(-12, 8))
            height += by_script.setdefault(facts.script, chance.gauss(-3, 4)) + chance.gauss(0, 3)
            for source in sources:
                near = 6 if facts.family in {language(part).family for part in source.split("+")} else 0
                near += 9 if code in source.split("+") else 0
                for arm, (method, length) in enumerate(ARMS):
                    for seed in SEEDS:
                        value = height + near - 1.5 * arm + ((seed * 7 + place) % 5) / 3
                        rows.append(
                            (ENCODER, name, source, method, length, seed, code, "accuracy", min(99.0, max(9.0, value)))
                        )
    columns = ["encoder", "task", "source", "method", "prompt_length", "seed", "language", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


def wide_runs(sources: tuple[str, ...]) -> pd.DataFrame:
    """A run for each model."""
    return pd.DataFrame(
        {**make_run(task, method, length, seed, 1e-3, "seed", True), "source": source}
        for task in TASKS.by_name
        for source in sources
        for method, length in ARMS
        for seed in SEEDS
    )


def wide_differences(scores: pd.DataFrame) -> pd.DataFrame:
    """Each method minus fine-tuning with intervals of a made-up width, for each source."""
    keys = ["task", "source", "method", "prompt_length", "language"]
    means = scores.groupby(keys)["value"].mean()
    rows = []
    for task in TASKS.by_name:
        for source in dict.fromkeys(scores["source"]):
            base = means[task, source, "fine_tuning", 0]
            for number, (method, length) in enumerate(ARMS[1:], 1):
                by_language = means[task, source, method, length] - base + 2 * number - 3
                scopes = {"average": by_language.mean(), "gap": 1.0, **by_language}
                for place, (scope, difference) in enumerate(scopes.items()):
                    difference += (place % 7) / 3 - 1
                    rows.append(
                        {
                            "encoder": ENCODER,
                            "task": task,
                            "source": source,
                            "metric": "accuracy",
                            "method": method,
                            "prompt_length": length,
                            "baseline": "fine_tuning",
                            "scope": scope,
                            "difference": difference,
                            "low": difference - 1.4,
                            "high": difference + 1.4,
                            "p_interval": 0.01,
                            "p_permutation": 0.01,
                            "p_holm": 0.01,
                            "significant": abs(difference) > 1.4,
                            "seeds": 5,
                            "units": 204,
                            "low_plain": difference - 2,
                            "high_plain": difference + 2,
                            "p_plain": 0.02,
                            "seed_std": 0.9,
                            "prior_std": 0.8,
                            "prior_freedom": 4.0,
                        }
                    )
    return pd.DataFrame(rows)[COLUMNS["differences"]]


def wide_examples() -> list[dict]:
    """Five examples of each language, as `exemplify` chooses them."""
    return [
        {
            "encoder": ENCODER,
            "task": name,
            "source": "en",
            "language": code,
            "id": f"{code}-{number}",
            "inputs": {"Sentence": f"A sentence of {language(code).native} of the usual length of a news text. " * 2},
            "gold": ["science"],
            "answers": "labels",
            "predictions": {f"{method}-{length}" if length else method: "travel" for method, length in ARMS},
            "right": [],
            "disagreements": {"rows": 40, "fine_tuning": 11},
            "seed": 1,
        }
        for name, task in TASKS.by_name.items()
        for code in task.languages
        for number in range(5)
    ]


def wide_report(sources: tuple[str, ...] = ("en",)) -> Report:
    """The report of the grid."""
    scores = wide_scores(sources)
    provenance = make_provenance(source="hub", name="Wide", description="Made-up scores in 205 languages.")
    provenance["corpora"] = [
        {"task": name, "language": code, "split": "test", "rows": 204, "sha256": "7d" * 32}
        for name, task in TASKS.by_name.items()
        for code in task.languages
    ]
    provenance["tokens"] = [
        {"encoder": ENCODER, "task": "xnli", "language": code, "split": "test", "rows": 204, "empty_texts": 1}
        for code in LANGUAGES
    ]
    known = [code for code in LANGUAGES if language(code).family in ("Indo-European", "Sino-Tibetan", "Uralic")]
    provenance["configuration"]["encoders"][ENCODER] = {"pretrained_on": known}
    measures, correlations = make_distances(scores, wide_runs(sources))
    inputs = make_inputs(
        scores=scores,
        runs=wide_runs(sources),
        distances=measures,
        explained=correlations,
        differences=wide_differences(scores),
        examples=wide_examples(),
        provenance=provenance,
    )
    return Report.of(inputs, TASKS)
