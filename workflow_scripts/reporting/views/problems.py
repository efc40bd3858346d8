"""The problems of the whole experiment: runs, missing scores, and choices that affect the numbers of the page."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from workflow_scripts.reporting.parts import Folded, Part, Section, said
from workflow_scripts.reporting.report import Report
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
        parts += [said("These runs, missing scores and choices affect the numbers below."), Concerns(tuple(found))]
    elif report.runs.empty:
        parts.append(
            said(
                "Unknown: the table of training runs is empty. Every model below was scored in every language of its"
                " task."
            )
        )
    else:
        parts.append(
            said(
                "None: every model below was trained, scores above the majority class where there is one, and was"
                " scored in every language of its task."
            )
        )
    if lost:
        title = f"{len(lost)} of the search’s losing candidates also had problems"
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
    ]


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
