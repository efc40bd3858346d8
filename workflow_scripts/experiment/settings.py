"""The settings of every job: one plain dictionary with all that it depends on besides its input files.

A rule passes the dictionary to its step as one JSON text. Snakemake compares this text with that of the last run, so an
edit of the configuration reruns exactly the jobs whose settings it changes.
"""

import json
from typing import Any

from workflow_scripts.experiment.catalogue import ANALYSED_TASK, KIND_KEYS, METHOD_KEYS, TASKS, UNTRANSLATED
from workflow_scripts.experiment.configuration import Configuration
from workflow_scripts.experiment.fingerprint import METRICS, fingerprint
from workflow_scripts.experiment.grid import Arm, Grid
from workflow_scripts.experiment.names import UNTUNED
from workflow_scripts.experiment.repositories import PARTS, TREEBANKS
from workflow_scripts.experiment.sections import HubCorpora, TaskSection
from workflow_scripts.experiment.table_names import table_names

Settings = dict[str, Any]


def as_text(settings: Settings) -> str:
    """The dictionary as JSON; equal settings give equal texts."""
    return json.dumps(settings, sort_keys=True, ensure_ascii=True)


def of_encoder(configuration: Configuration, encoder: str) -> Settings:
    """`fetch_encoder`: where the encoder comes from."""
    return {
        "code": fingerprint("fetch_encoder"),
        "name": encoder,
        **configuration.encoders[encoder].model_dump(),
    }


def of_corpus(configuration: Configuration, task: str, language: str, split: str) -> Settings:
    """`fetch_corpus`: the source and the part of it.

    With `validation: test` a task's validation set is its test set, and its training set includes the rows that the
    source would otherwise hold out for validation.
    """
    validates_on_test = configuration.tasks[task].validation == "test"
    part = "test" if validates_on_test and split == "validation" else split
    source = _source_of(configuration, task, language, part)
    settings: Settings = {
        "code": fingerprint("fetch_corpus", f"corpora.{source['source']}"),
        **source,
        **_catalogue_entry(task),
        "language": language,
        "split": part,
        "limit": configuration.limit_of(task, part),
    }
    if validates_on_test and split == "train":
        settings["whole"] = True
    return settings


def _source_of(configuration: Configuration, task: str, language: str, split: str) -> Settings:
    """The module that reads the corpus, with its arguments."""
    corpora = configuration.corpora
    if not isinstance(corpora, HubCorpora):
        return corpora.model_dump(exclude={"limits"})
    if task in PARTS:
        part = PARTS[task][split].in_language(language)
        return {"source": "hub", "folder": part.folder, "part": part.split}
    treebanks = corpora.universal_dependencies
    place = {"path": treebanks.path} if treebanks.path else {"url": treebanks.url or TREEBANKS}
    return {"source": "universal_dependencies", **place}


def of_repository(configuration: Configuration, repository: str) -> Settings:
    """`pin_repository`: the revision to resolve."""
    assert isinstance(configuration.corpora, HubCorpora)
    revision = configuration.corpora.revision_of(repository)
    return {"code": fingerprint("pin_repository"), "repository": repository, "revision": revision}


def _catalogue_entry(task: str) -> Settings:
    """What steps need of the task's entry in the catalogue."""
    return {"task": task, "kind": TASKS[task].kind, "labels": list(TASKS[task].labels)}


def of_tokens(configuration: Configuration, task: str, split: str) -> Settings:
    """`tokenise`: how rows become model inputs."""
    section = configuration.tasks[task]
    kind = TASKS[task].kind
    settings: Settings = {
        "code": fingerprint("tokenise", f"tasks.{kind}"),
        **_catalogue_entry(task),
        "split": split,
        "max_length": section.max_length,
    }
    for key in KIND_KEYS[kind]:
        if key in TaskSection.model_fields:
            settings[key] = getattr(section, key)
    return settings


def of_training(configuration: Configuration, arm: Arm, seed: int, step: str = "train") -> Settings:
    """`train`, or `search`: the merged settings of one training, without its learning rate.

    A search gets its learning rates on the command line and a seed run reads it from `selected.json`, so seed runs
    depend on the winner alone. Keys that only other methods or other kinds of task read are left out: an edit of such
    a key reruns nothing here.

    An edit of a metric computes new scores and trains nothing, although metrics select epochs and learning rates: the
    record of a run says which metrics selected it, and the report counts the runs that earlier ones did (`METRICS`).
    """
    training = configuration.training_of(arm.task, arm.method).model_dump()
    kind = TASKS[arm.task].kind
    unread = METHOD_KEYS - set(configuration.method(arm.method).keys)
    unread |= {key for other, keys in KIND_KEYS.items() if other != kind for key in keys}
    unread |= {"learning_rates", "prompt_lengths"}
    if training["schedule"] != "exponential":
        unread.add("decay")
    training = {key: value for key, value in training.items() if key not in unread}
    module = configuration.methods[arm.method].module
    if module is not None:
        training["module"] = module
    return {
        "code": fingerprint(step, module or f"tuning.methods.{arm.method}", f"tasks.{kind}", without=METRICS),
        "encoder": arm.encoder,
        **_catalogue_entry(arm.task),
        "method": arm.method,
        "prompt_length": arm.prompt_length,
        "seed": seed,
        "max_length": configuration.tasks[arm.task].max_length,
        **training,
    }


def of_selection(configuration: Configuration, arm: Arm) -> Settings:
    """`select`: the candidates."""
    return {"code": fingerprint("select"), "learning_rates": Grid(configuration).learning_rates(arm)}


def of_prediction(task: str) -> Settings:
    """`predict`: the run's record holds everything else."""
    return {"code": fingerprint("predict", f"tasks.{TASKS[task].kind}")}


def of_bounds(task: str, languages: list[str]) -> Settings:
    """`bound`: the languages; tokens and rows are input files."""
    return {"code": fingerprint("bound"), "kind": TASKS[task].kind, "languages": languages}


def of_scores(task: str, languages: list[str]) -> Settings:
    """`score`: the languages, and the kind of task, which determines the metrics."""
    return {"code": fingerprint("score"), "kind": TASKS[task].kind, "languages": languages}


def of_representation(configuration: Configuration, model: str) -> Settings:
    """`represent`: the texts; the run's record describes the model."""
    settings: Settings = {
        "code": fingerprint("represent", f"tasks.{TASKS[ANALYSED_TASK].kind}"),
        "task": ANALYSED_TASK,
        "kind": TASKS[ANALYSED_TASK].kind,
        "max_length": configuration.tasks[ANALYSED_TASK].max_length,
        "samples": configuration.analysis.samples,
        "untranslated": UNTRANSLATED,
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
    arms = Grid(configuration).analysed_arms()
    return {
        "code": fingerprint("gather"),
        "task": ANALYSED_TASK,
        **_compared(configuration),
        "encoders": list(configuration.encoders),
        "arms": [{"task": task, "method": method, "prompt_length": length} for task, method, length in arms],
        "seeds": configuration.seeds,
    }


def of_collection(configuration: Configuration) -> Settings:
    """`collect`: the whole grid."""
    return {"code": fingerprint("collect"), "configuration": configuration.model_dump(exclude_unset=True)}


def of_comparison(configuration: Configuration) -> Settings:
    """`compare`: the whole grid."""
    return {"code": fingerprint("compare"), "configuration": configuration.model_dump(exclude_unset=True)}


def of_examples(configuration: Configuration) -> Settings:
    """`exemplify`: the whole grid; examples come from the first seed of each arm."""
    return {"code": fingerprint("exemplify"), "configuration": configuration.model_dump(exclude_unset=True)}


def of_page(configuration: Configuration) -> Settings:
    """`render`: the tables to write; the template's files are input files."""
    return {"code": fingerprint("render"), "tables": table_names(configuration)}
