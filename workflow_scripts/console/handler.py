"""Replaces Snakemake's own output when jobs are run: the announcement, the display, and the last lines.

Snakemake's logger plugins are found among installed packages only, and this project runs from its checkout. So the
Snakefile replaces Snakemake's stream handler with this one. It understands the events of the logger plugin interface.
Snakemake's log file gets everything as before.

Plans, summaries, linting and everything else that runs no job look as usual. So does a run with one of the options that
control what Snakemake prints: `--quiet`, `--verbose`, `--printshellcmds`, `--debug-dag`, `--show-failed-logs`.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from workflow_scripts.console.costs import Costs, Speed, uses_the_encoder
from workflow_scripts.console.failures import group_reasons, reason, workflow_message
from workflow_scripts.console.plain import PlainView
from workflow_scripts.console.plan import (
    counted,
    grid_line,
    jobs_line,
    measure_speed,
    planned,
    time_line,
    unknown_languages,
    unknown_languages_line,
)
from workflow_scripts.console.run import Failure, Key, Run, clock, key_of, title
from workflow_scripts.core.visible import visible
from workflow_scripts.experiment.configuration import Configuration
from workflow_scripts.experiment.grid import Paths

SNAKEMAKE_STREAM = "DefaultStreamHandler"  # how Snakemake names its handler
SUMMARY, REPORT = "summary.txt", "report.html"  # in the folder of results
CHOSEN_OUTPUT = ("quiet", "verbose", "printshellcmds", "debug_dag", "show_failed_logs")

# What Snakemake says in plain text, without an event.
ASSUMING = "Assuming unrestricted shared filesystem usage"
NOTHING = "Nothing to be done"
INTERRUPTED = "Terminating processes on user request"
TAKES_MINUTES = (
    *("Creating conda environment", "Downloading and installing remote packages", "Environment for "),
    "Pulling singularity image",
)
# Warnings of the SLURM plugin that a user need not read: its guesses and advice. Rejected jobs are reported as
# failures.
SLURM_NOISE = (
    *("MinJobAge", "No SLURM account given", "No account was given", "Unable to guess SLURM account"),
    *("Guessed SLURM account", "Exception in run_job"),
)
SLURM_REQUEUES = "'NODE_FAIL', but requeue is enabled"  # reported in other words
STOPPING = "Will exit after finishing currently running jobs"
SAID_AT_THE_END = ("Exiting because a job execution failed", "At least one job did not complete successfully")


def take_over(workflow: Any) -> "ConsoleHandler | None":
    """Replace Snakemake's handler; return None if Snakemake's own output stays.

    Args:
        workflow: Snakemake's workflow, while it reads the Snakefile.
    """
    settings = workflow.output_settings
    if not workflow.is_main_process or any(getattr(settings, option) for option in CHOSEN_OUTPUT):
        return None
    logger = workflow.logger_manager.logger
    found = [handler for handler in logger.handlers if handler.name == SNAKEMAKE_STREAM]
    if not found:  # a plugin of the user has the terminal
        return None
    handler = ConsoleHandler(workflow, found[0])
    logger.removeHandler(found[0])
    logger.addHandler(handler)
    return handler


class ConsoleHandler(logging.Handler):
    """Shows a run.

    Args:
        workflow: Snakemake's workflow.
        snakemake_handler: shows everything that is not a run.

    The Snakefile sets `configuration` once it is checked.
    """

    def __init__(self, workflow: Any, snakemake_handler: Any) -> None:
        super().__init__()
        self.workflow = workflow
        self.snakemake_handler = snakemake_handler
        self.configuration: Configuration | None = None
        self.folder = Path.cwd()
        self.run = Run()
        self.view: Any = PlainView(snakemake_handler.stream, self.run)
        self.costs: Costs | None = None
        self.speed: Speed | None = None
        self.titles_leave_out: tuple[str, ...] = ()
        self.started = False
        self.active = False
        self.ended = False
        self.interrupted = False
        self.unfinished = False
        self.said_nothing_to_do = False
        self.jobs_of_snakemake: int | None = None
        self.failed_in_groups: set[int] = set()
        self.errors: list[str] = []
        self.endings: list[str] = []  # how the processes of failed jobs ended
        self.reasons: dict[int, str] = {}  # why a cluster failed jobs, by Snakemake's number

    # At the start

    def begin(self) -> None:
        """Announce the run and open the display. Called when Snakemake knows the jobs and has started none."""
        configuration = self.configuration
        if not self.active or configuration is None:
            return
        run, workflow = self.run, self.workflow
        run.cores = workflow.resource_settings.cores if workflow.local_exec else None
        run.gpus = gpus_of(workflow)
        self.titles_leave_out = same_in_all_jobs(configuration)
        self.view.leave_out = self.titles_leave_out
        self.plan_again()
        assert self.costs is not None
        if not run.plan:  # of what --until leaves
            self.said_nothing_to_do = True
            return
        self.view.message(grid_line(configuration))
        if unknown := unknown_languages(configuration):
            self.view.message(unknown_languages_line(unknown))
        self.view.message(jobs_line(run.plan, len(list(workflow.dag.jobs)), self.costs))
        self._note_interrupts()
        is_measured = True
        if run.cores and any(uses_the_encoder(rule) for rule, _ in run.plan):
            try:
                self.speed = measure_speed(configuration, run.cores)
            except KeyboardInterrupt:
                sys.exit(130)
            is_measured = self.speed is not None
            self.plan_again()
        self.view.message(time_line(run.plan, self.speed, run.cores, run.gpus, is_measured, self.costs.guessed))
        if ("render", ()) in run.plan:
            self.view.message(f"The report will be {self.result(REPORT)}")
        run.restart_clock()
        if self.snakemake_handler.stream is sys.stderr and is_terminal(sys.stderr):
            with contextlib.suppress(ImportError):  # if Snakemake has its own environment, without rich
                from workflow_scripts.console.terminal import TerminalView

                self.view = TerminalView(run, self.titles_leave_out)
        self.view.open()

    def plan_again(self) -> None:
        """Estimate the jobs to do: at the start, and when Snakemake has re-evaluated the graph."""
        if self.configuration is None:
            return
        self.costs = Costs(self.configuration, self.folder)
        self.run.set_plan(planned(self.workflow.dag, self.costs, self.speed))

    def _note_interrupts(self) -> None:
        """Remember that Ctrl-C was typed. Its effect stays the same."""
        before = signal.getsignal(signal.SIGINT)
        if not callable(before) or threading.current_thread() is not threading.main_thread():
            return  # ignored, as for a program that a shell started in the background; or not ours to change

        def noted(number: int, frame: Any) -> None:
            self.interrupted = self.view.is_muted = True
            before(number, frame)

        signal.signal(signal.SIGINT, noted)

    # In between

    def emit(self, record: logging.LogRecord) -> None:
        """Show one of Snakemake's records."""
        try:
            event = str(getattr(record, "event", None) or "")
            if self.started and not self.active:
                # Only now does Snakemake know how it executes jobs, and 9.21 not even now: so not `workflow.dryrun`.
                self.active = not self.workflow.output_settings.dryrun and not self.workflow.touch
            if not self.active:
                self._show_as_snakemake_does(record, event)
            else:
                self._show(record, event)
        except Exception:
            self.handleError(record)

    def _show_as_snakemake_does(self, record: logging.LogRecord, event: str) -> None:
        is_plan = self.workflow.output_settings.dryrun
        if event == "workflow_started":
            self.started = True
            if not is_plan:
                return
        if not is_plan and record.getMessage().startswith(ASSUMING):
            return
        if event == "error" and getattr(record, "exception", "") == "WorkflowError":
            record = logging.makeLogRecord({**record.__dict__, "msg": workflow_message(record.getMessage())})
        self.snakemake_handler.handle(record)

    def _show(self, record: logging.LogRecord, event: str) -> None:
        match event:
            case "job_info":
                self._job_started(record)
            case "job_finished":
                self._job_finished(record)
            case "job_error":
                if getattr(record, "jobid", None) not in self.failed_in_groups:
                    self._job_failed(record)
            case "group_error":
                self._group_failed(record)
            case "progress":
                self._progress(record)
            case "error":
                self._error(record)
            case "":
                self._text(record)

    def _job_started(self, record: Any) -> None:
        key = key_of(record.rule_name, record.wildcards)
        self.failed_in_groups.discard(record.jobid)  # tried again
        self.run.start(key, record.jobid, self.folder / record.log[0] if record.log else None)
        if key[0] != "all":
            self.view.job_started(key)

    def _job_finished(self, record: Any) -> None:
        key, seconds = self.run.finish(record.job_id)
        if key is not None and key[0] != "all":
            self.view.job_finished(key, seconds)

    def _job_failed(self, record: Any) -> None:
        command = record.shellcmd or ""
        ending = next((text for text in self.endings if command and command in text), "")
        why, log = self._reason(record.jobid, *reason(record.log, self.folder, ending))
        self._failed(self.run.key(record.jobid) or key_of(record.rule_name, {}), why, log)

    def _group_failed(self, record: Any) -> None:
        """A record of every job of the group follows, with less information."""
        logs = {info["jobid"]: info["log"] for info in record.job_error_info}
        self.failed_in_groups |= logs.keys()
        reasons = group_reasons(logs, record.aux_logs, self.folder)
        for job in logs:
            key = self.run.key(job)
            if job in reasons and key:
                self._failed(key, *self._reason(job, *reasons[job]))
            elif key:
                self.run.never_began(key)

    def _reason(self, number: int, why: str, log: str) -> tuple[str, str]:
        """A reason from the cluster takes precedence over the log, which may be from an earlier attempt."""
        if number not in self.reasons:
            return why, log
        return self.reasons[number], log if (self.folder / log).is_file() else ""

    def _failed(self, key: Key, why: str, log: str) -> None:
        failure = Failure(key, visible(why), log)
        self.run.fail(failure)
        if not self.interrupted:
            self.view.job_failed(failure)

    def _progress(self, record: Any) -> None:
        if self.jobs_of_snakemake not in (None, record.total):
            self.plan_again()
        self.jobs_of_snakemake = record.total

    def _error(self, record: Any) -> None:
        text = record.getMessage()
        if "CalledProcessError in file" in text:
            self.endings.append(text)
        elif any(message in text for message in SAID_AT_THE_END):
            self.unfinished = True
        else:
            self.errors.append(workflow_message(text))

    def _text(self, record: logging.LogRecord) -> None:
        """A message without an event: warnings are shown, and little else."""
        text = record.getMessage()
        if text.startswith(NOTHING):
            self.said_nothing_to_do = True
        elif text.startswith(INTERRUPTED):
            self.interrupted = True
            self.view.message("Interrupted: the running jobs save their state ...")
        elif text.startswith(STOPPING):
            self.view.message("Stopping: the running jobs finish first ...")
        elif text.startswith((*SAID_AT_THE_END, *SLURM_NOISE)) or SLURM_REQUEUES in text:
            return
        elif record.levelno >= logging.WARNING or text.startswith(TAKES_MINUTES):
            self.view.message(visible(text))

    # At the end

    def result(self, name: str) -> Path:
        """A file in the folder of results."""
        assert self.configuration is not None
        return Path(self.folder, Paths.of(self.configuration).results, name)

    def close(self) -> None:
        """Restore the terminal and write the last lines. Snakemake always calls it at its end."""
        if self.active and not self.ended:
            self.ended = True
            self.view.close()
            self._write(self._last_lines())
        super().close()

    def _last_lines(self) -> list[str]:
        run = self.run
        if not self.interrupted and (run.failures or self.errors):
            return self._failures()
        if self.interrupted or self.unfinished:
            return [
                f"Interrupted after {run.done} of {counted(run.total, 'job')}. Finished jobs and the state of trainings"
                " are saved: run the same command again to resume."
            ]
        if self.said_nothing_to_do:
            return ["Nothing to be done: all results are up to date.", *self._where_the_report_is()]
        return [
            *self._answer(),
            f"{counted(run.done, 'job')} done in {clock(run.seconds())}.",
            *self._where_the_report_is(),
        ]

    def _failures(self) -> list[str]:
        run = self.run
        files = [os.path.relpath(file) for file in self.workflow.logger_manager.get_logfile()]
        log = f" Snakemake's log: {', '.join(files)}" if files else ""
        lines = []
        if run.failures:
            lines.append(
                f"{len(run.failures)} of {counted(run.total, 'job')} failed. {run.done} are done and kept: run the same"
                f" command again to resume.{log}"
            )
        elif log:
            lines.append(log.strip())
        lines += [f"error: {error}" for error in self.errors]
        for failure in run.failures.values():
            where = f" (log: {failure.log})" if failure.log else ""
            lines.append(f"error: {title(failure.key, self.titles_leave_out)}: {failure.reason}{where}")
        return lines

    def _answer(self) -> list[str]:
        """The headline and table 1, if this run wrote the report."""
        if self.configuration is None or ("render", ()) not in self.run.finished:
            return []
        try:
            text = self.result(SUMMARY).read_text(encoding="utf-8")
        except OSError:
            return []
        return ["", *visible(text).rstrip("\n").split("\n"), ""]

    def _where_the_report_is(self) -> list[str]:
        if self.configuration is None or not self.result(REPORT).is_file():
            return []
        return [f"The report: {self.result(REPORT)}"]

    def _write(self, lines: list[str]) -> None:
        stream = self.snakemake_handler.stream
        stream.write("".join(f"{line}\n" for line in lines))
        stream.flush()


def same_in_all_jobs(configuration: Configuration) -> tuple[str, ...]:
    """The wildcards that job titles leave out, since they have the same value in the whole grid."""
    sources = {source for task in configuration.tasks for source in configuration.training_sources(task)}
    with_shots = any(any(configuration.shots_of_task(task)) for task in configuration.tasks)
    return (
        *(("encoder",) if len(configuration.encoders) == 1 else ()),
        *(("source",) if len(sources) == 1 and not with_shots else ()),
    )


def gpus_of(workflow: Any) -> int | None:
    """The GPUs that `--resources gpu=N` gives to local jobs; None without that."""
    found = workflow.global_resources.get("gpu")
    value = getattr(found, "value", found)
    return value if isinstance(value, int) else None


def is_terminal(stream: Any) -> bool:
    """Whether a display can refresh itself there."""
    return bool(stream.isatty()) and os.environ.get("TERM", "dumb") != "dumb"
