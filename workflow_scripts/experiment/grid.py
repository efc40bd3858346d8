"""The grid: which models are tuned, and the path of every file.

An arm is a method with its prompt length, on a task and its training languages (the *source*). The names of task,
source and arm, such as `xnli`, `en` and `prompt_tuning-16`, are parts of the path of all its files.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from workflow_scripts.core.names import (
    NO_SEED,
    OUTSIDE,
    UNTUNED,
    Values,
    analysis_file,
    arm_name,
    candidate_folder,
    group_name,
    languages_name,
    model_name,
    shots_of,
    source_languages,
    with_shots,
)
from workflow_scripts.core.places import EXPORTED, PARALLEL
from workflow_scripts.corpora.description import Split
from workflow_scripts.experiment.configuration import Configuration


@dataclass(frozen=True)
class Arm:
    """A method on a task, tuned on one source, with an encoder.

    `prompt_length` is 0 for a method without prompts, and where the search chooses the length.
    """

    encoder: str
    task: str
    source: str
    method: str
    prompt_length: int

    @property
    def place(self) -> tuple[str, str, str, str]:
        """What names its folder: encoder, task, source and the arm's name."""
        return self.encoder, self.task, self.source, self.name

    @property
    def name(self) -> str:
        """The path part: `fine_tuning`, `prompt_tuning-16`."""
        return arm_name(self.method, self.prompt_length)


def parse_arm(encoder: str, task: str, source: str, name: str) -> Arm:
    """The arm of a path part; the inverse of `Arm.name`."""
    method, _, length = name.partition("-")
    return Arm(encoder, task, source, method, int(length or 0))


@dataclass(frozen=True)
class Model:
    """A model whose vectors are analysed: one seed of an arm, or the untuned encoder, which has no arm and seed 0."""

    encoder: str
    arm: Arm | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        """The path part: `untuned`, `pawsx/en/prompt_tuning-16/seed-13`."""
        return model_name(self.arm.task, self.arm.source, self.arm.name, self.seed) if self.arm else UNTUNED


def listed(passes: list[list[Values]]) -> list[Values]:
    """The candidates of some passes, in one list."""
    return list(itertools.chain(*passes))


class Grid:
    """All arms, models and corpora of a configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self._groups: dict[str, dict[str, list[str]]] = {}
        self._answers: dict[tuple[str, str], str] = {}

    def arms(self) -> Iterator[Arm]:
        """Every arm, by encoder, task, source, method, prompt length."""
        configuration = self.configuration
        for encoder in configuration.encoders:
            for task in configuration.tasks:
                for source in configuration.training_sources(task):
                    for method in configuration.methods:
                        if not (configuration.runs_on(task, method) and configuration.runs_with(encoder, method)):
                            continue
                        for length in configuration.prompt_lengths_of(task, method):
                            yield Arm(encoder, task, source, method, length)

    def shot_arms(self) -> Iterator[Arm]:
        """For each arm, its variants with a few rows of a target language, by number of rows and language."""
        for arm in self.arms():
            for shots in filter(None, self.configuration.shots_of_task(arm.task)):
                for target in self.configuration.targets(arm.task, arm.source):
                    yield replace(arm, source=with_shots(arm.source, shots, target))

    def outside_arms(self) -> Iterator[Arm]:
        """Every arm of predictions that were made elsewhere, by name and task: its encoder is `OUTSIDE`."""
        for name in self.configuration.arms:
            for task in self.configuration.tasks_of_arm(name):
                yield Arm(OUTSIDE, task, self.configuration.source_of_arm(name, task), name, 0)

    def dropped_methods(self) -> list[str]:
        """With `keep_weights: false`, the methods whose weights are as large as the encoder; else none."""
        configuration = self.configuration
        if configuration.keep_weights:
            return []
        return [name for name in configuration.methods if configuration.method(name).stores_encoder]

    def micro_batches(self) -> dict[str, dict[str, int]]:
        """The values of `micro_batch_size`, by task and method, where it is set."""
        found: dict[str, dict[str, int]] = {}
        for task in self.configuration.tasks:
            for method in self.configuration.methods:
                if size := self.configuration.training_of(task, method).micro_batch_size:
                    found.setdefault(task, {})[method] = size
        return found

    def languages(self, task: str) -> list[str]:
        """The test languages of a task."""
        return self.configuration.languages_of(task)

    def language_groups(self, task: str) -> list[list[str]]:
        """The test languages of a task, in the groups that one job predicts in."""
        languages, size = self.languages(task), self.configuration.evaluation.together
        return [languages[start : start + size] for start in range(0, len(languages), size)]

    def tested_groups(self, task: str, source: str) -> list[list[str]]:
        """The groups of languages that a model is tested in: with rows of a target language, this language alone."""
        shots = shots_of(source)
        return [[shots[1]]] if shots else self.language_groups(task)

    def tested(self, task: str, source: str) -> list[str]:
        """The languages that a model is tested in."""
        return [language for group in self.tested_groups(task, source) for language in group]

    def tested_by(self, arm: Arm) -> list[str]:
        """The languages in which an arm has scores."""
        if arm.encoder == OUTSIDE:
            return self.configuration.languages_of_arm(arm.method, arm.task)
        return self.tested(arm.task, arm.source)

    def group(self, task: str, name: str) -> list[str]:
        """The languages of a group, by its name in paths."""
        return self._groups_by_name(task)[name]

    def _groups_by_name(self, task: str) -> dict[str, list[str]]:
        """The groups of `language_groups`, and each language alone, for models that were tuned with rows of it."""
        # Cached, since the rule functions of every prediction look a group up: with 205 languages this took a sixth of
        # planning.
        if task not in self._groups:
            groups = [*([language] for language in self.languages(task)), *self.language_groups(task)]
            self._groups[task] = {languages_name(group): group for group in groups}
        return self._groups[task]

    def parallel_tasks(self) -> list[str]:
        """The tasks whose test sets must have the same ids in all languages."""
        tasks = self.configuration.tasks.items()
        return [
            task for task, section in tasks if section.definition.parallel is True and len(self.languages(task)) > 1
        ]

    def kind(self, task: str) -> str:
        """The kind of a task."""
        return self.configuration.tasks[task].definition.kind

    def candidates(self, arm: Arm) -> list[Values]:
        """The candidates of an arm's search: every combination of the values that it varies; one without a search."""
        return [values for together in self._passes(arm) for values in together]

    def is_searched(self, arm: Arm) -> bool:
        """Whether there is a search: whether there are several candidates."""
        return len(self.candidates(arm)) > 1

    def _passes(self, arm: Arm) -> list[list[Values]]:
        """The candidates; those in one list share a pass, since they differ only in the learning rate."""
        varied = self.configuration.searched(arm.task, arm.method)
        rates, others = varied["learning_rate"], {key: varied[key] for key in varied if key != "learning_rate"}
        size = self.configuration.search.together if self.configuration.method(arm.method).freezes else 1
        return [
            [{"learning_rate": rate, **dict(zip(others, combined, strict=True))} for rate in rates[at : at + size]]
            for combined in itertools.product(*others.values())
            for at in range(0, len(rates), size)
        ]

    def search_groups(self, arm: Arm) -> list[list[list[Values]]]:
        """The candidates of an arm's search: for each job its passes; none if there is no search.

        With halving one job trains all candidates, because it compares them after each rung.
        """
        if not self.is_searched(arm):
            return []
        passes = self._passes(arm)
        return [passes] if self.configuration.search.halving else [[together] for together in passes]

    def search_group(self, arm: Arm, name: str) -> list[list[Values]]:
        """The passes of one job, by the name of its group in paths."""
        return {group_name(listed(passes)): passes for passes in self.search_groups(arm)}[name]

    def trainings_of_search(self, passes: list[list[Values]]) -> float:
        """How many full trainings a job's candidates are worth: with halving, dropped candidates count partially."""
        search, left = self.configuration.search, sum(map(len, passes))
        if not search.halving:
            return left
        done = whole = 0.0
        for rung in search.rungs:
            whole += left * (rung - done)
            left, done = math.ceil(left / search.halving), rung
        return whole + left * (1 - done)

    def corpora(self) -> Iterator[tuple[str, str, Split]]:
        """Every (task, language, split): train and validation in each training language, test in each language.

        With `oracle` also the validation sets of other test languages.
        """
        for task in self.configuration.tasks:
            sources = self.configuration.training_sources(task)
            trained = {code for source in sources for code in source_languages(source)}
            for language in sorted(trained):
                yield task, language, "train"
                yield task, language, "validation"
            scored = {code for source in sources for code in self.configuration.oracle_languages(task, source)}
            for language in sorted(scored - trained):
                yield task, language, "validation"
            if any(self.configuration.shots_of_task(task)):
                targets = {code for source in sources for code in self.configuration.targets(task, source)}
                for language in sorted(targets - trained):
                    yield task, language, "train"
            for language in self.languages(task):
                yield task, language, "test"

    def tokens(self) -> Iterator[tuple[str, str, str, Split, str]]:
        """Every (encoder, task, language, split, answers): the corpora, as the encoder's models read them."""
        for encoder in self.configuration.encoders:
            of_task = {task: self.answers(encoder, task) for task in self.configuration.tasks}
            for task, language, split in self.corpora():
                for answers in of_task[task]:
                    yield encoder, task, language, split, answers

    def answers(self, encoder: str, task: str) -> list[str]:
        """How an encoder's models of a task answer: "head", "words" or both.

        The analysis of vectors reads the texts without a template, as for a head.
        """
        found = self.configuration.answers_of_task(encoder, task)
        return sorted({*found, "head"}) if task == self.analysed_task() and self.analysed_languages() else found

    def answers_of(self, task: str, method: str) -> str:
        """How the models of a method answer: "head" or "words"."""
        # Cached, since the rule functions of every prediction call this for each language, and merging the settings
        # takes time.
        if (task, method) not in self._answers:
            self._answers[task, method] = self.configuration.training_of(task, method).answers
        return self._answers[task, method]

    def repository(self, task: str, language: str, split: Split) -> str | None:
        """The hub repository of a corpus; None if it comes from another source."""
        corpus = self.configuration.corpus(task, language, split)
        return corpus.reading.repository if corpus.type == "hub" else None

    def bounded(self, paths: "Paths") -> Iterator[tuple[str, str, str]]:
        """Each encoder and task for which the tokens limit the best possible score, with the file of these limits."""
        for encoder in self.configuration.encoders:
            for task, section in self.configuration.tasks.items():
                if section.definition.facts.BOUNDED and "head" in self.answers(encoder, task):
                    yield encoder, task, paths.ceilings(encoder, task)

    def search_runs(self, paths: "Paths", file: str) -> Iterator[tuple[Arm, Values, str]]:
        """Every candidate of every search: its arm, its values and a file of its run."""
        for arm in self.arms():
            for passes in self.search_groups(arm):
                candidates = listed(passes)
                for values in candidates:
                    yield arm, values, paths.candidate(*arm.place, group_name(candidates), values, file)

    def searches(self, arm: Arm, paths: "Paths") -> list[str]:
        """The record of every group of an arm's candidates."""
        return [paths.search(*arm.place, group_name(listed(passes))) for passes in self.search_groups(arm)]

    def seed_runs(self, paths: "Paths", file: str) -> Iterator[tuple[Arm, int, str]]:
        """Every tuned model: its arm, its seed and a file of its run."""
        for arm in self.arms():
            for seed in self.configuration.seeds:
                yield arm, seed, paths.run(*arm.place, seed, file)

    def outside_seeds(self, name: str) -> list[int]:
        """The seeds of predictions that were made elsewhere; `NO_SEED` if they have none."""
        return self.configuration.arms[name].seeds or [NO_SEED]

    def outside_runs(self, paths: "Paths", file: str) -> Iterator[tuple[Arm, int, str]]:
        """Every set of predictions that were made elsewhere: its arm, its seed and a file of it."""
        for arm in self.outside_arms():
            for seed in self.outside_seeds(arm.method):
                yield arm, seed, paths.run(*arm.place, seed, file)

    def imported(self, paths: "Paths") -> Iterator[tuple[Arm, int, str]]:
        """The same with the record of the imported predictions, which are in one group of languages."""
        for arm, seed, _ in self.outside_runs(paths, ""):
            languages = languages_name(self.tested_by(arm))
            yield arm, seed, paths.predictions(*arm.place, seed, languages)

    def shot_runs(self, paths: "Paths", file: str) -> Iterator[tuple[Arm, int, str]]:
        """Every model that was tuned with rows of a target language: its arm, its seed and a file of its run."""
        for arm in self.shot_arms():
            for seed in self.configuration.seeds:
                yield arm, seed, paths.run(*arm.place, seed, file)

    def analysed_task(self) -> str | None:
        """The task whose test sets are analysed; None if the grid has none."""
        tasks, chosen = self.configuration.tasks, self.configuration.analysis.task
        if chosen is not None:
            return chosen
        return next((name for name, section in tasks.items() if section.definition.analysed), None)

    def analysed_languages(self) -> list[str]:
        """The languages whose vectors are compared, the reference first; none if there is no other language.

        The reference is the first training language of the analysed task.
        """
        task = self.analysed_task()
        if task is None:
            return []
        languages = self.languages(task)
        reference = source_languages(self.configuration.training_sources(task)[0])[0]
        if reference not in languages or len(languages) < 2:
            return []
        return [reference, *(language for language in languages if language != reference)]

    def analysed_models(self, seeds: int | None = None) -> Iterator[Model]:
        """For each encoder the untuned encoder, then all models tuned on tasks of the analysed task's kind.

        `seeds` limits them to the first seeds of the configuration; None is all.
        """
        if not self.analysed_languages():
            return
        for encoder in self.configuration.encoders:
            yield Model(encoder)
            for arm in self.analysed_arms(encoder):
                for seed in self.configuration.seeds[:seeds]:
                    yield Model(encoder, Arm(encoder, *arm), seed)

    def analysed_arms(self, encoder: str | None = None) -> list[tuple[str, str, str, int]]:
        """Task, source, method and prompt length of the arms of an encoder, or of any, that are analysed."""
        task = self.analysed_task() if self.analysed_languages() else None
        if task is None:
            return []
        # Models that answer in words are tuned to predict words, not to produce a vector of the text.
        arms = {
            (arm.task, arm.source, arm.method, arm.prompt_length): None
            for arm in self.arms()
            if encoder in (None, arm.encoder)
            if self.answers_of(arm.task, arm.method) == "head"
        }
        return [arm for arm in arms if self.kind(arm[0]) == self.kind(task)]


class Paths:
    """The path of every file of the grid. Arguments may be the wildcards of a rule, such as `{encoder}`."""

    def __init__(self, resources: str, results: str) -> None:
        self.resources = resources
        self.results = results

    @classmethod
    def of(cls, configuration: Configuration) -> "Paths":
        """The paths of a configuration."""
        return cls(configuration.resources, configuration.results)

    def encoder(self, encoder: str) -> str:
        """The record of an encoder's folder, written last: name, origin, checksums."""
        return f"{self.resources}/encoders/{encoder}/encoder.json"

    def repository(self, repository: str) -> str:
        """The record of a hub repository: its commit and the files in it."""
        return f"{self.resources}/repositories/{repository}.json"

    def corpus(self, task: str, language: str, split: str) -> str:
        """The rows of a corpus."""
        return f"{self.resources}/corpora/{task}/{language}/{split}.parquet"

    def tokens(self, encoder: str, task: str, language: str, split: str, answers: str = "head") -> str:
        """The record of a token folder, written last: rows, features, checksum."""
        folder = {"head": "tokens", "words": "tokens_for_words"}[answers]
        return f"{self.resources}/{folder}/{encoder}/{task}/{language}/{split}/tokens.json"

    def arm(self, encoder: str, task: str, source: str, arm: str) -> str:
        """The folder of an arm."""
        return f"{self.results}/{encoder}/{task}/{source}/{arm}"

    def search(self, encoder: str, task: str, source: str, arm: str, group: str) -> str:
        """The record of a group of candidates, written last."""
        return f"{self.arm(encoder, task, source, arm)}/search/{group}.json"

    def candidate(self, encoder: str, task: str, source: str, arm: str, group: str, values: Values, file: str) -> str:
        """A file of one candidate of the search; see `names.candidate_folder`."""
        return str(candidate_folder(Path(self.search(encoder, task, source, arm, group)), values) / file)

    def selected(self, encoder: str, task: str, source: str, arm: str) -> str:
        """The winner of the search."""
        return f"{self.arm(encoder, task, source, arm)}/selected.json"

    def run(self, encoder: str, task: str, source: str, arm: str, seed: int | str, file: str) -> str:
        """A file of one tuned model."""
        return f"{self.arm(encoder, task, source, arm)}/seed-{seed}/{file}"

    def predictions(self, encoder: str, task: str, source: str, arm: str, seed: int | str, languages: str) -> str:
        """The record of one tuned model's predictions in some languages, written last; see `names.predictions_file`."""
        return self.run(encoder, task, source, arm, seed, f"predictions/{languages}.json")

    def scores(self, encoder: str, task: str, source: str, arm: str, seed: int | str) -> str:
        """The scores of one tuned model in every language."""
        return self.run(encoder, task, source, arm, seed, "scores.csv")

    def units(self, encoder: str, task: str, source: str, arm: str, seed: int | str) -> str:
        """The contribution of each test example to the scores of one tuned model."""
        return self.run(encoder, task, source, arm, seed, "units.parquet")

    def calibration(self, encoder: str, task: str, source: str, arm: str, seed: int | str) -> str:
        """How well the probabilities of one tuned model are calibrated in every language."""
        return self.run(encoder, task, source, arm, seed, "calibration.csv")

    def scored(self, encoder: str, task: str, source: str, arm: str, seed: int | str) -> tuple[str, str, str]:
        """All that `score` writes: scores, units and calibration."""
        place = encoder, task, source, arm, seed
        return self.scores(*place), self.units(*place), self.calibration(*place)

    def parallel(self, task: str) -> str:
        """The record that the test sets of a task have the same ids in all languages."""
        return f"{self.results}/{PARALLEL}/{task}.json"

    def winner(self, task: str) -> str:
        """The record of the task's exported winner, beside the folder with the model."""
        return f"{self.results}/{EXPORTED}/{task}.json"

    def ceilings(self, encoder: str, task: str) -> str:
        """The best possible scores of answers that consist of the encoder's tokens."""
        return f"{self.results}/{encoder}/{task}/ceilings.json"

    def analysis(self, encoder: str, model: str, file: str) -> str:
        """A file of the analysis of one model, by `Model.name`."""
        return str(analysis_file(self.results, encoder, model, file))

    def vectors(self, encoder: str, model: str, languages: str) -> str:
        """The record of one model's vectors in some languages, written last; see `names.vectors_file`."""
        return self.analysis(encoder, model, f"vectors/{languages}.json")
