"""The settings of every job: one plain dictionary with everything that it depends on besides its input files.

A rule passes the dictionary to its step as one JSON text. Snakemake compares this text with that of the last run, so an
edit of the configuration reruns exactly the jobs whose settings it changes.
"""

import json
from pathlib import Path
from typing import Any

from workflow_scripts.core.fingerprint import METRICS, fingerprint
from workflow_scripts.core.names import UNTUNED, Values, shots_of, source_languages
from workflow_scripts.corpora.description import Split
from workflow_scripts.corpora.formats import format_of, module_of
from workflow_scripts.experiment.arms import ArmTask
from workflow_scripts.experiment.catalogue import METHOD_KEYS
from workflow_scripts.experiment.configuration import Configuration, foreign_keys
from workflow_scripts.experiment.grid import Arm, Grid
from workflow_scripts.experiment.sections import TaskSection
from workflow_scripts.experiment.table_names import table_names
from workflow_scripts.kinds import model_part
from workflow_scripts.kinds import module_of as kind_module

Settings = dict[str, Any]


def as_text(settings: Settings) -> str:
    """The dictionary as JSON; equal settings give equal texts."""
    return json.dumps(settings, sort_keys=True, ensure_ascii=True)


def of_encoder(configuration: Configuration, encoder: str) -> Settings:
    """`fetch_encoder`: where the encoder comes from."""
    return {
        "code": fingerprint("fetch_encoder"),
        "name": encoder,
        **configuration.encoders[encoder].model_dump(exclude={"pretrained_on"}, exclude_none=True),
    }


def of_corpus(configuration: Configuration, task: str, language: str, split: Split) -> Settings:
    """`fetch_corpus`: the description of the corpus (`corpora.description.Corpus`)."""
    corpus = configuration.corpus(task, language, split)
    modules = [f"corpora.{corpus.type}", kind_module(corpus.kind, "rows")]
    if corpus.type in ("files", "url", "hub"):
        file = corpus.reading.path or corpus.reading.url or ""
        modules.append(module_of(corpus.reading.format or format_of(Path(file))))
    description = corpus.model_dump(exclude={"code", "reading"})
    return {
        "code": fingerprint("fetch_corpus", *modules),
        **description,
        "reading": corpus.reading.model_dump(exclude_defaults=True),
    }


def of_repository(configuration: Configuration, repository: str) -> Settings:
    """`pin_repository`: the revision to resolve."""
    revision = configuration.revisions()[repository]
    return {"code": fingerprint("pin_repository"), "repository": repository, "revision": revision}


def _meaning(configuration: Configuration, task: str) -> Settings:
    """The parts of the task's definition that steps need."""
    definition = configuration.tasks[task].definition
    return {"task": task, "kind": definition.kind, "labels": definition.labels}


def of_tokens(configuration: Configuration, task: str, split: str, answers: str = "head") -> Settings:
    """`tokenise`: how rows become model inputs for answers by a head or in words."""
    section = configuration.tasks[task]
    definition = section.definition
    settings: Settings = {
        "code": fingerprint(
            "tokenise", kind_module(definition.kind, model_part(answers)), kind_module(definition.kind, "rows")
        ),
        **_meaning(configuration, task),
        "split": split,
        "max_length": section.max_length,
    }
    # Keys of a kind, such as the stride of windows, are for a head.
    for key in definition.facts.TASK_KEYS if answers == "head" else ():
        if key in TaskSection.model_fields:
            settings[key] = getattr(section, key)
    if answers == "words":
        assert definition.words is not None
        words = definition.words.model_dump(exclude=set() if definition.generates else {"new_tokens"})
        settings |= {"words": words, "reads": "auto"}
    return settings


def of_search(configuration: Configuration, arm: Arm, passes: list[list[Values]]) -> Settings:
    """`search`: the merged settings of its trainings, and what the candidates vary."""
    search = configuration.search
    halving = {"halving": {"factor": search.halving, "rungs": search.rungs}} if search.halving else {}
    return of_training(configuration, arm, search.seed, "search") | {"passes": passes} | halving


def of_training(configuration: Configuration, arm: Arm, seed: int, step: str = "train") -> Settings:
    """`train`: the merged settings of one training, without its learning rate.

    A seed run reads the learning rate, and what else was searched, from `selected.json`, so seed runs depend on the
    winner alone. Keys that only other methods or other kinds of task read are left out: an edit to such a key reruns
    nothing here. So is `micro_batch_size`, which is in an environment variable (`names.MICRO_BATCHES`).

    An edit to a metric recomputes scores and trains nothing, although metrics select epochs and learning rates: the
    record of a run says which metrics selected it, and the report counts the runs that earlier ones did (`METRICS`).
    """
    training = configuration.training_of(arm.task, arm.method).model_dump()
    definition = configuration.tasks[arm.task].definition
    kind, answers = definition.kind, training["answers"]
    unread = METHOD_KEYS - set(configuration.method(arm.method).keys)
    unread |= foreign_keys(kind) | {"learning_rates", "prompt_lengths", "micro_batch_size"}
    varied = configuration.searched(arm.task, arm.method)
    # What the search varies is replaced by the winner's value.
    training |= {key: values[0] for key, values in varied.items() if key in training}
    if "exponential" not in varied.get("schedule", [training["schedule"]]):
        unread.add("decay")
    if not training["keep"].startswith("average"):
        unread.add("averaged")
    if answers == "words":
        unread.add("sentence_vector")
    generates = answers == "words" and definition.generates
    oracle = configuration.oracle_languages(arm.task, arm.source)
    training = {key: value for key, value in training.items() if key not in unread}
    section = configuration.methods[arm.method]
    module = section.module
    if module is not None:
        training["module"] = module
    if section.peft is not None:
        training["peft"] = section.peft
    return {
        "code": fingerprint(
            step,
            module or f"tuning.methods.{'peft' if section.peft else arm.method}",
            kind_module(kind, model_part(answers)),
            kind_module(kind, "rows"),
            without=METRICS,
        ),
        "encoder": arm.encoder,
        **_meaning(configuration, arm.task),
        **_scoring(configuration, arm.task),
        "source": arm.source,
        **({"shots": shots[0]} if (shots := shots_of(arm.source)) else {}),
        **({"union": configuration.union} if len(source_languages(arm.source)) > 1 else {}),
        "method": arm.method,
        "prompt_length": arm.prompt_length,
        "seed": seed,
        "max_length": configuration.tasks[arm.task].max_length,
        **({"new_tokens": definition.words.new_tokens} if generates and definition.words else {}),
        **({"oracle": oracle} if oracle else {}),
        **training,
    }


def of_selection(configuration: Configuration, arm: Arm) -> Settings:
    """`select`: the candidates."""
    return {"code": fingerprint("select"), "candidates": Grid(configuration).candidates(arm)}


def _scoring(configuration: Configuration, task: str) -> Settings:
    """The inputs of the metrics of a task besides its rows."""
    definition = configuration.tasks[task].definition
    return {"normalisation": definition.normalisation} if "normalisation" in definition.facts.SCORING_KEYS else {}


def of_prediction(configuration: Configuration, task: str, languages: list[str], answers: str = "head") -> Settings:
    """`predict`: the languages; the run's record holds everything else."""
    kind = configuration.tasks[task].definition.kind
    return {
        "code": fingerprint("predict", kind_module(kind, model_part(answers)), kind_module(kind, "rows")),
        "languages": languages,
    }


def of_parallel(configuration: Configuration, task: str) -> Settings:
    """`check_parallel`: the languages."""
    return {
        "code": fingerprint("check_parallel"),
        "task": task,
        "languages": configuration.languages_of(task),
    }


def of_bounds(configuration: Configuration, task: str) -> Settings:
    """`bound`: the languages; tokens and rows are input files."""
    kind = configuration.tasks[task].definition.kind
    return {
        "code": fingerprint("bound", kind_module(kind, "ceiling"), kind_module(kind, "rows")),
        "kind": kind,
        "languages": configuration.languages_of(task),
        **_scoring(configuration, task),
    }


def of_scores(configuration: Configuration, task: str, source: str) -> Settings:
    """`score`: the languages, the labels, and the kind of task, which determines the metrics."""
    definition = configuration.tasks[task].definition
    return {
        "code": fingerprint("score", kind_module(definition.kind, "metrics"), kind_module(definition.kind, "rows")),
        "kind": definition.kind,
        "labels": definition.labels,
        "languages": Grid(configuration).tested(task, source),
        **_scoring(configuration, task),
    }


def of_outside_scores(configuration: Configuration, arm: Arm) -> Settings:
    """`score`, for predictions that were made elsewhere: the languages are the arm's."""
    languages = configuration.languages_of_arm(arm.method, arm.task)
    return {**of_scores(configuration, arm.task, arm.source), "languages": languages}


def of_import(configuration: Configuration, arm: Arm, seed: int) -> Settings:
    """`import_predictions`: the files, and how to read them."""
    section, definition = configuration.arms[arm.method], configuration.tasks[arm.task].definition
    own = section.tasks.get(arm.task, ArmTask())
    languages = configuration.languages_of_arm(arm.method, arm.task)
    pattern = section.file_of(arm.task)
    filled = {"{task}": arm.task, "{seed}": str(seed)}
    for placeholder, value in filled.items():
        pattern = pattern.replace(placeholder, value)
    files = [str(Path(section.predictions, pattern.replace("{language}", language))) for language in languages]
    reader = format_of(Path(pattern)) if section.format == "plain" else "json_lines"
    return {
        "code": fingerprint(
            "import_predictions",
            f"outside.{section.format}",
            module_of(reader),
            *(kind_module(definition.kind, name) for name in ("predictions", "rows", "examples")),
        ),
        "arm": arm.method,
        "task": arm.task,
        "kind": definition.kind,
        "labels": definition.labels,
        "languages": languages,
        "files": files,
        "format": section.format,
        "id": own.id or section.id,
        "prediction": section.prediction,
        "filter": section.filter,
        "values": section.values if own.values is None else own.values,
        "unknown": section.unknown,
    }


def of_representation(configuration: Configuration, model: str, languages: list[str]) -> Settings:
    """`represent`: the texts; the run's record describes the model."""
    task = Grid(configuration).analysed_task()
    assert task is not None
    definition = configuration.tasks[task].definition
    settings: Settings = {
        "code": fingerprint("represent", kind_module(definition.kind, "model"), kind_module(definition.kind, "rows")),
        "task": task,
        "kind": definition.kind,
        "max_length": configuration.tasks[task].max_length,
        "samples": configuration.analysis.samples,
        "untranslated": definition.untranslated,
        "languages": languages,
    }
    if model == UNTUNED:
        settings["precision"] = configuration.training.precision
    return settings


def _compared(configuration: Configuration) -> Settings:
    """Which texts the analysis compares."""
    return {
        "languages": Grid(configuration).analysed_languages(),
        "samples": configuration.analysis.samples,
        "disagreeing": configuration.analysis.disagreeing,
    }


def of_alignment(configuration: Configuration) -> Settings:
    """`align`: the texts; the vectors are input files."""
    return {"code": fingerprint("align"), **_compared(configuration)}


def of_projection(configuration: Configuration) -> Settings:
    """`project`: the texts; the vectors are input files."""
    shown = min(configuration.analysis.samples, configuration.analysis.figure_samples)
    return {"code": fingerprint("project"), **_compared(configuration), "figure_samples": shown}


def of_gathering(configuration: Configuration) -> Settings:
    """`gather`: the parts that the models' names combine. A list of all names would not fit on a command line."""
    grid = Grid(configuration)
    arms = grid.analysed_arms()
    of_encoder = {name: grid.analysed_arms(name) for name in configuration.encoders}
    having = {arm: [name for name in of_encoder if arm in of_encoder[name]] for arm in arms}
    return {
        "code": fingerprint("gather"),
        "task": Grid(configuration).analysed_task(),
        **_compared(configuration),
        "encoders": list(configuration.encoders),
        "arms": [
            dict(zip(("task", "source", "method", "prompt_length"), arm, strict=True))
            | ({} if having[arm] == list(configuration.encoders) else {"encoders": having[arm]})
            for arm in arms
        ],
        "seeds": configuration.seeds,
    }


def _whole(configuration: Configuration) -> Settings:
    """The whole configuration, without the key that affects neither results nor the report."""
    return {"configuration": configuration.model_dump(exclude_unset=True, exclude={"scratch"})}


def of_collection(configuration: Configuration) -> Settings:
    """`collect`: the whole grid."""
    return {"code": fingerprint("collect"), **_whole(configuration)}


def of_comparison(configuration: Configuration) -> Settings:
    """`compare`: the whole grid."""
    return {"code": fingerprint("compare"), **_whole(configuration)}


def of_examples(configuration: Configuration) -> Settings:
    """`exemplify`: the whole grid; examples come from the first seed of each arm."""
    return {"code": fingerprint("exemplify"), **_whole(configuration)}


def of_explanation(configuration: Configuration) -> Settings:
    """`explain`: the whole grid."""
    return {"code": fingerprint("explain"), **_whole(configuration)}


def of_page(configuration: Configuration) -> Settings:
    """`render`: the tables to write; the template's files are input files."""
    return {"code": fingerprint("render"), "tables": table_names(configuration)}


def of_winner(configuration: Configuration, task: str) -> Settings:
    """`export_winner`: the task and its main metric."""
    metric = configuration.tasks[task].definition.metrics[0].name
    return {"code": fingerprint("export_winner"), "task": task, "metric": metric}
