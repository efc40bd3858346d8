"""What each step depends on: one plain dictionary a job, so that an edit reruns exactly the jobs it concerns.

A rule hands the dictionary to its step as one JSON text. Snakemake compares that text with the one of the last run.
"""

import json
from typing import Any

from workflow_scripts.experiment.catalogue import ANALYSED_TASK, METHOD_KEYS, TASKS, UNTRANSLATED
from workflow_scripts.experiment.configuration import Configuration, HubCorpora
from workflow_scripts.experiment.fingerprint import METRICS, fingerprint
from workflow_scripts.experiment.grid import Arm, Grid
from workflow_scripts.experiment.names import UNTUNED
from workflow_scripts.experiment.repositories import PARTS, TREEBANKS
from workflow_scripts.experiment.table_names import table_names

Settings = dict[str, Any]


def as_text(settings: Settings) -> str:
    """The dictionary as a rule passes it on; equal settings give equal texts."""
    return json.dumps(settings, sort_keys=True, ensure_ascii=True)


def of_encoder(configuration: Configuration, encoder: str) -> Settings:
    """`fetch_encoder`: where the encoder comes from."""
    return {
        "code": fingerprint("fetch_encoder"),
        "name": encoder,
        **configuration.encoders[encoder].model_dump(),
    }


def of_corpus(configuration: Configuration, task: str, language: str, split: str) -> Settings:
    """`fetch_corpus`: the source and which part of it.

    A task that is chosen on its test set has that for its validation set, row by row, and trains on the rows that its
    source would hold out for one, too.
    """
    chosen_on_test = configuration.tasks[task].validation == "test"
    part = "test" if chosen_on_test and split == "validation" else split
    source = _source_of(configuration, task, language, part)
    settings: Settings = {
        "code": fingerprint("fetch_corpus", f"corpora.{source['source']}"),
        **source,
        **_what_the_task_is(task),
        "language": language,
        "split": part,
        "limit": configuration.limit_of(task, part),
    }
    if chosen_on_test and split == "train":
        settings["whole"] = True
    return settings


def _source_of(configuration: Configuration, task: str, language: str, split: str) -> Settings:
    """The module that reads the corpus, and what it must know of its source."""
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
    """`pin_repository`: the revision that is asked for."""
    assert isinstance(configuration.corpora, HubCorpora)
    revision = configuration.corpora.revision_of(repository)
    return {"code": fingerprint("pin_repository"), "repository": repository, "revision": revision}


def _what_the_task_is(task: str) -> Settings:
    """What a step must know of the catalogue's entry."""
    return {"task": task, "kind": TASKS[task].kind, "labels": list(TASKS[task].labels)}


def of_tokens(configuration: Configuration, task: str, split: str) -> Settings:
    """`tokenise`: how rows are cut into model inputs."""
    section = configuration.tasks[task]
    kind = TASKS[task].kind
    settings: Settings = {
        "code": fingerprint("tokenise", f"tasks.{kind}"),
        **_what_the_task_is(task),
        "split": split,
        "max_length": section.max_length,
    }
    if kind == "question_answering":
        settings["stride"] = section.stride
    if kind == "tagging":
        settings["labelled_subword"] = section.labelled_subword
    return settings


def of_training(configuration: Configuration, arm: Arm, seed: int, step: str = "train") -> Settings:
    """`train`, or `search`: the merged settings of one training; its learning rate is not among them.

    Nor is a key that belongs to other methods: to change it, or to add one, reruns nothing of this method.

    The candidates of a search are given theirs on the command line, a seed run reads it from `selected.json`: so the
    seed runs depend on the winner alone.

    An edit of a metric scores anew and trains nothing, though metrics choose epochs and learning rates: the record of
    a run says by which it was chosen, and the report how many were by earlier ones (`METRICS`).
    """
    training = configuration.training_of(arm.task, arm.method).model_dump()
    del training["learning_rates"], training["prompt_lengths"]
    for key in (METHOD_KEYS - set(configuration.method(arm.method).keys)) & set(training):
        del training[key]
    if training["schedule"] != "exponential":
        del training["decay"]
    if TASKS[arm.task].kind != "sentence_pair":
        training["sentence_vector"] = "first_token"  # No vector stands for a text: an edit of the key changes nothing.
    module = configuration.methods[arm.method].module
    if module is not None:
        training["module"] = module
    return {
        "code": fingerprint(
            step, module or f"tuning.methods.{arm.method}", f"tasks.{TASKS[arm.task].kind}", without=METRICS
        ),
        "encoder": arm.encoder,
        **_what_the_task_is(arm.task),
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
    """`predict`: everything else is in the run's own record."""
    return {"code": fingerprint("predict", f"tasks.{TASKS[task].kind}")}


def of_bounds(task: str, languages: list[str]) -> Settings:
    """`bound`: tokens and rows are inputs of the rule."""
    return {"code": fingerprint("bound"), "kind": TASKS[task].kind, "languages": languages}


def of_scores(task: str, languages: list[str]) -> Settings:
    """`score`: the kind of task decides the metrics."""
    return {"code": fingerprint("score"), "kind": TASKS[task].kind, "languages": languages}


def of_representation(configuration: Configuration, model: str) -> Settings:
    """`represent`: the texts; what a tuned model is, is in the run's own record."""
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
    """Which of the texts are compared."""
    return {
        "languages": Grid(configuration).analysed_languages(),
        "samples": configuration.analysis.samples,
        "disagreeing": configuration.analysis.disagreeing,
    }


def of_alignment(configuration: Configuration) -> Settings:
    """`align`: the vectors are inputs of the rule."""
    return {"code": fingerprint("align"), **_compared(configuration)}


def of_projection(configuration: Configuration) -> Settings:
    """`project`: the vectors are inputs of the rule."""
    shown = min(configuration.analysis.samples, configuration.analysis.figure_samples)
    return {"code": fingerprint("project"), **_compared(configuration), "figure_samples": shown}


def of_gathering(configuration: Configuration) -> Settings:
    """`gather`: the models, by what they are made of. A list of them all would not fit on a command line."""
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
    """`exemplify`: the whole grid; of each arm only the first seed is looked at."""
    return {"code": fingerprint("exemplify"), "configuration": configuration.model_dump(exclude_unset=True)}


def of_page(configuration: Configuration) -> Settings:
    """`render`: the tables to write; the template's files are inputs of the rule."""
    return {"code": fingerprint("render"), "tables": table_names(configuration)}
