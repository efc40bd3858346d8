"""What a run will do: its jobs with their estimated times, and the lines that announce it."""

import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from workflow_scripts.console.costs import Costs, Speed
from workflow_scripts.console.run import Key, Planned, duration, in_words, key_of
from workflow_scripts.core.languages import is_known
from workflow_scripts.core.names import source_languages
from workflow_scripts.experiment.configuration import Configuration
from workflow_scripts.experiment.tasks import builtin_values, names_of_builtin_tasks

PROBE_TIMEOUT = 60.0  # seconds; a new environment reads PyTorch from a cold disk
UNIT = Speed(60e9, 1.0, "float32")  # of estimates whose ratios alone count


def measure_speed(configuration: Configuration, cores: int) -> Speed | None:
    """The speed of this machine, measured in a separate process that releases its memory; None if it fails."""
    threads = configuration.threads
    words = ["--threads", str(threads), "--jobs", str(max(1, cores // threads))]
    words += ["--precision", configuration.training.precision]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    try:
        outcome = subprocess.run(
            [sys.executable, "-m", "workflow_scripts.console.probe", *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT,
            check=True,
        )
        return Speed(**json.loads(outcome.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        return None


def jobs_to_do(dag: Any) -> list[Any]:
    """Snakemake's jobs that have to run and have not finished."""
    return [job for job in dag.needrun_jobs() if not dag.finished(job)]


def key_of_job(job: Any) -> Key:
    """The identity of one of Snakemake's jobs."""
    return key_of(job.rule.name, job.wildcards_dict)


def planned(dag: Any, costs: Costs, speed: Speed | None) -> dict[Key, Planned]:
    """Every job to do, with the jobs that it needs. Without a speed only the ratios of the times are right."""
    result = {}
    for job in jobs_to_do(dag):
        rule, wildcards = job.rule.name, {name: str(value) for name, value in job.wildcards_dict.items()}
        work = costs.work(rule, wildcards)
        result[key_of_job(job)] = Planned(
            seconds=None if work is None else work.seconds(speed or UNIT),
            threads=max(1, job.threads) if isinstance(job.threads, int) else 1,
            needs=frozenset(key_of_job(needed) for needed in dag.dependencies[job]),
            on_gpu=_is_on_gpu(job),
        )
    return result


def _is_on_gpu(job: Any) -> bool:
    return bool(getattr(job.resources, "gpu", 0))


def grid_line(configuration: Configuration) -> str:
    """Which models are compared on what."""
    languages = dict.fromkeys(language for task in configuration.tasks for language in configuration.languages_of(task))
    sources = dict.fromkeys(source for task in configuration.tasks for source in configuration.training_sources(task))
    several = f" {_listed('training source', sources)};" if len(sources) > 1 else ""
    return (
        f"crossprompt: {_listed('task', configuration.tasks)};{several} {_listed('method', configuration.methods)};"
        f" {_listed('seed', map(str, configuration.seeds))}; {_listed('language', languages)};"
        f" {_listed('encoder', configuration.encoders)}"
    )


def unknown_languages(configuration: Configuration) -> list[str]:
    """The languages of the grid whose codes no registry has, in the order of the tasks."""
    codes: dict[str, None] = {}
    for task in configuration.tasks:
        codes |= dict.fromkeys(configuration.languages_of(task))
        for source in configuration.training_sources(task):
            codes |= dict.fromkeys(source_languages(source))
    # Reading the built-in tasks takes 30 ms, the registry of languages 230 ms.
    known = {code for name in names_of_builtin_tasks() for code in builtin_values(name)["languages"]}
    return [code for code in codes if code not in known and not is_known(code)]


def unknown_languages_line(codes: Sequence[str]) -> str:
    """A warning about languages that no registry has."""
    return (
        f"Warning: unknown language {'code' if len(codes) == 1 else 'codes'} {', '.join(codes)}: the report shows the"
        " code instead of a name, and no family or script. Use BCP 47 codes, such as sw or zho_Hans"
    )


def _listed(noun: str, names: Iterable[str], shown: int = 9) -> str:
    """`2 tasks (xnli, udpos)`."""
    found = list(names)
    more = ", ..." if len(found) > shown else ""
    return f"{counted(len(found), noun)} ({', '.join(found[:shown])}{more})"


def counted(number: int, noun: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def jobs_line(plan: dict[Key, Planned], in_all: int, costs: Costs) -> str:
    """How many of the workflow's `in_all` jobs remain, and how many models they train."""
    trainings = sum(costs.trainings(rule, dict(wildcards)) for rule, wildcards in plan)
    text = f"To do: {counted(len(plan), 'job')}, {counted(trainings, 'training')} among them"
    done = in_all - len(plan)
    return text + (f" ({counted(done, 'job')} already done)" if done > 0 else "")


def time_line(
    plan: dict[Key, Planned],
    speed: Speed | None,
    cores: int | None,
    gpus: int | None,
    is_measured: bool = True,
    guessed: Collection[str] = (),
) -> str:
    """How long the jobs take.

    Args:
        plan: the jobs to do.
        speed: of this machine; None if it does not matter or could not be measured.
        cores: that local jobs share; None where jobs run on other machines.
        gpus: that local jobs share.
        is_measured: whether the speed is known if it matters.
        guessed: the tasks for which a size was guessed.
    """
    if cores is None:
        return "Time: not known until the first jobs have finished, since they run on other machines"
    if not is_measured:
        return "Time: not known until the first jobs have finished, since this machine's speed could not be measured"
    seconds = {key: job.seconds for key, job in plan.items() if job.seconds is not None}
    if len(seconds) < len(plan):
        return "Time: not known until the encoder is fetched and the first jobs have finished"
    total = duration({key: (seconds[key], job) for key, job in plan.items()}, cores, gpus)
    if speed is None:
        return f"Time: about {in_words(total)}"
    where = "its GPU" if speed.device == "cuda" else counted(cores, "core")
    each = "" if speed.device == "cuda" or cores == 1 else " each"
    return (
        f"Time: about {in_words(total)} on this machine (estimated; {where} at {_flops(speed.operations)}{each}"
        f" in {speed.precision}, measured just now{_guess(guessed)})"
    )


def _guess(tasks: Collection[str]) -> str:
    """`; the size of mine is a guess`."""
    names = ", ".join(sorted(tasks))
    if len(tasks) > 1:
        return f"; the sizes of {names} are guesses"
    return f"; the size of {names} is a guess" if tasks else ""


def _flops(speed: float) -> str:
    """`61 GFLOP/s`, `3.1 TFLOP/s`."""
    return f"{speed / 1e12:.1f} TFLOP/s" if speed >= 1e12 else f"{speed / 1e9:.0f} GFLOP/s"
