"""Why a job failed, in one line: what its step wrote about it, or how its process ended."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from workflow_scripts.core.errors import BUG_MESSAGE, ERROR_PREFIX

TAIL = 100_000  # bytes at the end of a log that are read

EXIT = re.compile(r"died with <Signals\.(\w+): \d+>|returned non-zero exit status (\d+)")
# As a shell reports them: 128 and the signal's number.
SIGNALS = {135: "SIGBUS", 137: "SIGKILL", 139: "SIGSEGV", 143: "SIGTERM"}
HINTS = {
    "SIGBUS": "killed (SIGBUS): the disk did not deliver a part of a file that it read; check the disk or its server",
    "SIGKILL": "killed (SIGKILL), as the system does when memory runs out",
    "SIGTERM": "stopped (SIGTERM)",
}


def reason(logs: Sequence[str], folder: Path, ending: str = "") -> tuple[str, str]:
    """One line that says why a job failed, and the log to read.

    Args:
        logs: the job's log files, the step's own first, then those of a cluster.
        folder: the working folder.
        ending: what Snakemake says about the end of the job's process.
    """
    for log in logs:
        found = error_line(folder / log)
        if found:
            return found, log
    return how_it_ended(ending), next((log for log in logs if (folder / log).is_file()), logs[0] if logs else "")


def group_reasons(
    logs: Mapping[int, Sequence[str]], further: Sequence[str], folder: Path
) -> dict[int, tuple[str, str]]:
    """`reason` of the jobs that failed in a group that a cluster ran as one.

    Snakemake reports every job of the group, even those that never started. The jobs that wrote an error are returned.
    If none did, the first job gets the group's log.

    Args:
        logs: by job, its log files.
        further: the group's own log files.
        folder: the working folder.
    """
    wrote = {job: own for job, own in logs.items() if any(error_line(folder / log) for log in own)}
    if wrote or not logs:
        return {job: reason(own, folder) for job, own in wrote.items()}
    job, own = next(iter(logs.items()))
    return {job: reason([*further, *own], folder)}


def error_line(log: Path) -> str:
    """The last error that a step wrote into its log, without the prefix; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    errors = [line.removeprefix(ERROR_PREFIX) for line in lines if line.startswith(ERROR_PREFIX)]
    if not errors:
        return ""
    if errors[-1] == BUG_MESSAGE:
        return next((line for line in reversed(lines) if line.strip()), errors[-1])  # the exception
    return errors[-1]


def how_it_ended(ending: str) -> str:
    """What the exit status of a process says if its log has no error."""
    match = EXIT.search(ending)
    if not match:
        return "it ended without a message"
    signal = match[1] or SIGNALS.get(int(match[2]))
    if signal:
        return HINTS.get(signal, f"ended by {signal}")
    return f"it ended with status {match[2]} and no message"


def workflow_message(text: str) -> str:
    """The message of an error in the workflow itself, without the place where Snakemake found it.

    Snakemake writes `WorkflowError in file "Snakefile", line 3:`, the message and a traceback.
    """
    lines = text.splitlines()
    if len(lines) > 1 and re.match(r"\w+( in (file|rule) .*)?:$", lines[0]):
        lines = lines[1:]
    traceback = next((number for number, line in enumerate(lines) if re.match(r'  File ".*", line \d+', line)), None)
    return "\n".join(lines[:traceback]).strip("\n")
