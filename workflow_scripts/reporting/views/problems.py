"""The problems of the whole experiment: runs, missing scores, and choices that affect the numbers of the page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from workflow_scripts.core.languages import is_known
from workflow_scripts.core.names import source_languages
from workflow_scripts.corpora.description import SPLITS, Cut, Split, SplitReading
from workflow_scripts.reporting.parts import Folded, Part, Section, paragraph
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.tasks import Task
from workflow_scripts.reporting.wording import listed, plural, rate_text


@dataclass(frozen=True)
class Concern:
    """A problem, by the run, arm or task that has it."""

    where: str
    what: str


@dataclass(frozen=True)
class Concerns:
    """A list of problems."""

    template: ClassVar[str] = "concerns"
    concerns: tuple[Concern, ...]


def section(report: Report) -> Section:
    """The problems of what the scores come from, then those of the search's losing candidates."""
    found, lost = concerns(report), run_concerns(report, final=False)
    parts: list[Part] = []
    if found:
        parts += [paragraph("These runs, missing scores and choices affect the numbers below."), Concerns(tuple(found))]
    elif report.runs.empty:
        parts.append(
            paragraph(
                "Unknown: the table of training runs is empty. Every model below was scored in every language of its"
                " task."
            )
        )
    else:
        parts.append(
            paragraph(
                "None: every model below was trained, scores above the majority class where there is one, and was"
                " scored in every language of its task."
            )
        )
    unknown = unknown_codes(report)
    if unknown:
        parts.append(
            paragraph(
                f"No registry has the language {'code' if len(unknown) == 1 else 'codes'} {listed(unknown)}, so the"
                " name, script and family are not known."
            )
        )
    if lost:
        title = f"{len(lost)} of the search’s losing candidates {'also ' if found else ''}had problems"
        parts.append(Folded(title, (Concerns(tuple(lost)),), kind=""))
    kind = "problems troubled" if found else "problems clear"
    return Section("problems", "Problems", tuple(parts), count=len(found), kind=kind)


def concerns(report: Report) -> list[Concern]:
    """Everything that affects the scores."""
    provenance = report.inputs.provenance
    return [
        *_choices_on_test(report),
        *_choices_by_earlier_metrics(report, provenance.get("chosen_by_earlier_metrics", 0)),
        *_made_by_earlier_code(provenance.get("made_by_earlier_code", 0)),
        *run_concerns(report, final=True),
        *_gaps_in_the_grid(report),
        *_other_numbers_of_rows(report),
        *_vectors_that_are_not_finite(report),
    ]


def _vectors_that_are_not_finite(report: Report) -> Iterator[Concern]:
    """The models with languages whose vectors hold NaN or infinity."""
    names, alignment = report.names, report.inputs.alignment
    rows = alignment[alignment["measure"] == "not_finite"]
    key = ["encoder", "task", "source", "method", "prompt_length", "seed"]
    for (encoder, task, source, method, length, seed), found in rows.groupby(key, sort=False):
        model = names.arm(method, length, encoder, source)
        where = f"{report.tasks.title(task)} · {model} · seed {seed}" if task else model
        languages = listed([names.language(code) for code in found["language"]])
        yield Concern(where, f"vectors are not finite in {languages}: their measures and points are left out")


def unknown_codes(report: Report) -> list[str]:
    """The language codes of the scores and sources that no registry has."""
    sources = [code for source in report.names.sources for code in source_languages(source)]
    return [code for code in dict.fromkeys([*sources, *report.scores["language"]]) if not is_known(code)]


def run_concerns(report: Report, final: bool) -> list[Concern]:
    """The runs with problems: those that the scores come from, or the losing candidates of the search."""
    names, troubled = report.names, report.problems
    return [
        Concern(
            f"{report.tasks.title(run['task'])} ·"
            f" {names.arm(run['method'], run['prompt_length'], run['encoder'], run['source'])}"
            f" · seed {run['seed']} · learning rate {rate_text(run['learning_rate'])}",
            run["problem"],
        )
        for run in troubled[troubled["final"] == final].to_dict("records")
    ]


def _choices_on_test(report: Report) -> Iterator[Concern]:
    """The tasks whose models were chosen on the test set of the source language (`validation: test`)."""
    configuration = report.inputs.provenance.get("configuration") or {}
    for task, section in configuration.get("tasks", {}).items():
        if section.get("validation") == "test":
            yield Concern(
                report.tasks.title(task),
                f"models were chosen on the reported {report.names.reference_set('test set')}, so its score and the"
                " transfer gap are too high",
            )


def _choices_by_earlier_metrics(report: Report, count: int) -> Iterator[Concern]:
    """The models whose epoch or learning rate was chosen before an edit of the metrics."""
    if count:
        yield Concern(
            plural(count, "model"),
            f"chosen on {report.names.validation} by an earlier version of the metrics; `snakemake --forcerun search"
            " train` trains and chooses again",
        )


def _made_by_earlier_code(count: int) -> Iterator[Concern]:
    """The outputs that Snakemake kept, by its options, although the code of their step has changed since."""
    if count:
        yield Concern(
            plural(count, "output"),
            "made by an earlier version of the code; Snakemake was started with --rerun-triggers and kept them",
        )


def _gaps_in_the_grid(report: Report) -> Iterator[Concern]:
    """The scores that an arm lacks and other arms of its task have: averages over different languages mislead."""
    keys = ["encoder", "task", "source", "method", "prompt_length", "languages"]
    for (encoder, task, source, method, length, languages), cells in report.missing.groupby(keys, sort=False):
        seeds = listed([str(seed) for seed in cells["seed"]])
        numbered = f"{'seed' if len(cells) == 1 else 'seeds'} {seeds}"
        where = f"{report.tasks.title(task)} · {report.names.arm(method, length, encoder, source)} · {numbered}"
        yield Concern(where, f"no score for {report.names.languages(languages)}" if languages else "no scores")


def _other_numbers_of_rows(report: Report) -> Iterator[Concern]:
    """The splits of a task that have other numbers of rows than its file says; none where rows are limited."""
    configuration = report.inputs.provenance.get("configuration") or {}
    corpora = report.inputs.provenance.get("corpora") or []
    for name in report.tasks.in_order(corpus["task"] for corpus in corpora):
        sections = configuration.get("tasks") or {}
        if report.inputs.provenance.get("other_grids") and name not in sections:
            continue  # of another grid, whose own report says so
        task, section = report.tasks[name], sections.get(name, {})
        limits = [section.get("limits"), (configuration.get("corpora") or {}).get("limits")]
        if any(number for each in limits if each for number in each.values()):
            continue
        of_task = [corpus for corpus in corpora if corpus["task"] == name]
        for split in SPLITS:
            differing = list(_differing(task, split, of_task, tested=section.get("validation") == "test"))
            if differing:
                language, found, expected = differing[0]
                rest = (
                    f"; the numbers of {plural(len(differing) - 1, 'more language')} differ, too"
                    if differing[1:]
                    else ""
                )
                yield Concern(
                    task.title,
                    f"{found:,} {split} rows in {report.names.language(language)} where the task file says"
                    f" {expected:,}{rest}",
                )


def _differing(
    task: Task, split: Split, corpora: Sequence[Mapping[str, Any]], tested: bool
) -> Iterator[tuple[str, int, int]]:
    """The languages whose split has another number of rows, with this number and the expected one.

    Splits that are cut from this one are counted with it, since task files give numbers before cuts. Rows that were
    left out for a reason that is counted may be among the expected ones or not. `tested`: validation is on the test
    set, so there is no other validation set.
    """
    if task.definition is None or not task.source or (tested and split == "validation"):
        return
    splits = task.definition.sources[task.source].splits
    entry = splits.get(split, split)
    if isinstance(entry, Cut) or (isinstance(entry, SplitReading) and entry.task):
        return
    cuts = [name for name, other in splits.items() if isinstance(other, Cut) and other.cut_from == split]
    parts = [split, *(name for name in cuts if not (tested and name == "validation"))]
    rows = {(corpus["language"], corpus["split"]): corpus for corpus in corpora}
    for language in dict.fromkeys(corpus["language"] for corpus in corpora if corpus["split"] == split):
        expected = task.definition.expected_rows(split, language, task.source)
        if expected is None or any((language, part) not in rows for part in parts):
            continue
        found = sum(rows[language, part]["rows"] for part in parts)
        counts = (rows[language, split].get("origin") or {}).get("counts") or {}
        left_out = counts.get("dropped rows", 0) + counts.get("rows that occur twice", 0)
        if not found <= expected <= found + left_out:
            yield language, found, expected
