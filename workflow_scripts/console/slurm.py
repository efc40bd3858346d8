"""Makes Snakemake's SLURM plugin wait where it would give up, and explain in one line why SLURM holds a job back.

The plugin (2.8.0) fails a job whose `sbatch` is refused, even if the user's limit on submitted jobs is reached or the
controller restarts. It forgets all running jobs while slurmdbd does not respond. It gives the jobs of a group no name,
counts preemption as a failure, and does not report a job that stays in the queue. `take_over` changes this.
"""

import contextlib
import getpass
import re
import subprocess
import threading
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from snakemake_executor_plugin_slurm import Executor
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from workflow_scripts.core import memory_kills
from workflow_scripts.core.errors import UserError

PROFILE = "slurm/config.v8+.yaml"
RETRY_SECONDS = 30.0  # between attempts to submit a job that SLURM does not take yet
QUEUE_SECONDS = 60.0  # at least, between looks at the jobs that wait
PATIENCE_SECONDS = 300.0  # until a job is named whose reason to wait can pass, such as an unavailable node

SUBMITTED_TOO_MANY = re.compile(r"\w*MaxSubmitJob\w*|MaxJobCount|too many jobs", re.IGNORECASE)
NO_CONTROLLER = re.compile(
    r"Unable to contact slurm controller|Socket timed out|backup controller in standby|Zero Bytes were transmitted|"
    r"temporarily unable to accept|Transport endpoint|Connection refused|Communication connection failure",
    re.IGNORECASE,
)
NOT_SAVED = re.compile(r"I/O error writing script/environment to file", re.IGNORECASE)
REFUSED = re.compile(r"SLURM sbatch failed\. The error message was '(.*?)'\.\n", re.DOTALL)
UNSENT = re.compile(r"Job submission failed with exception: (.*)", re.DOTALL)
STATUS = re.compile(r"SLURM-job '([\d_]+)' failed(?:,| due to a node failure,) SLURM status is: '(\w+)'")
OUT_OF_MEMORY = re.compile(r"slurmstepd.*(exceeded .*memory limit|oom.kill|Out Of Memory)", re.IGNORECASE)

# What to set where `sbatch` refuses a job.
REMEDIES = (
    (r"\baccount\b", "set slurm_account in {profile}{accounts}"),
    (r"\bpartition\b", "set slurm_partition in {profile}; `sinfo --summarize` lists the partitions"),
    (r"time limit is invalid|WallDuration", "lower runtime of the rule in {profile}"),
    (r"accounting/QOS policy", "ask for less in {profile}; `sacctmgr show assoc` and `show qos` list the limits"),
    (r"\bqos\b", "set qos in {profile}; `sacctmgr show assoc user=$USER format=account,qos` lists yours"),
    (r"gres|node configuration", "change gpu, gpu_model or mem_mb of the rule in {profile}; `sinfo -o '%P %m %G'`"),
)
NO_STATES = "SLURM does not report the state of jobs (sacct): waiting until it does."
KILLED_FOR_MEMORY = "SLURM killed job"
STATUSES = {
    "OUT_OF_MEMORY": KILLED_FOR_MEMORY + " {number}: it used more memory than mem_mb allows",
    "TIMEOUT": "SLURM ended job {number} at its time limit (runtime)",
    "DEADLINE": "SLURM ended job {number} at its deadline",
    "NODE_FAIL": "the node of SLURM's job {number} failed",
    "BOOT_FAIL": "the node of SLURM's job {number} did not start",
    "CANCELLED": "SLURM's job {number} was cancelled (scancel)",
}
# Pending reasons (`squeue --format=%r`) that are never reported. Others are reported after PATIENCE_SECONDS.
PASSES = re.compile(
    r"None|Priority|Resources|Dependency|BeginTime|Cleaning|Prolog|Licenses|JobArrayTaskLimit|"
    r"\w*MaxJobs\w*|\w*Grp(?!\w*(?<!Run)Minutes)\w*|Max\w*PerAccount|QOSMax\w*PerUser\w*"
)
NEVER_PASSES = re.compile(
    r"\w*PerJob\w*|\w*PerNode\w*|\w*Minutes\w*|PartitionTimeLimit|PartitionNodeLimit|BadConstraints|JobHeld\w*|"
    r"AccountNotAllowed|QOSNotAllowed|InvalidAccount|InvalidQOS|launch failed requeued held"
)


def take_over(executor: Any) -> "PatientExecutor":
    """Give an executor of Snakemake's SLURM plugin the methods below, before its first job.

    Raises UserError for the option `--slurm-array-jobs`: of 500 jobs that were ready at once, the plugin submitted 200
    and waited forever. It does not keep the jobs that do not yet fill an array (`Executor.run_jobs`).
    """
    if executor.workflow.executor_settings.array_jobs:
        raise UserError(
            "leave out --slurm-array-jobs: Snakemake's SLURM plugin forgets jobs that do not fill an array, and waits"
            " for them forever"
        )
    executor.reasons = {}
    executor.stopping = threading.Event()
    executor.warned = set()
    executor.accounts = {}
    executor.excluded = frozenset(executor._failed_nodes)
    executor.ended = set()
    executor.queue = Queue(executor.run_uuid)
    executor.__class__ = PatientExecutor
    return executor


class PatientExecutor(Executor):
    """Snakemake's executor for SLURM, which waits for SLURM.

    Attributes:
        reasons: why jobs failed, by Snakemake's number, where SLURM says more than the log of the step.
        stopping: set when Snakemake ends: nothing is submitted any more.
        warned: warnings that were written.
        accounts: by account, the options of `sbatch`.
        excluded: the nodes that the user excludes.
        ended: jobs (`id` of their SubmittedJobInfo) that ended during the present look at their states.
        queue: the jobs that SLURM holds back.
    """

    reasons: dict[int, str]
    stopping: threading.Event
    warned: set[str]
    accounts: dict[str | None, list[str]]
    excluded: frozenset[str]
    _failed_nodes: set[str]
    ended: set[int]
    queue: "Queue"

    def run_job(self, job: Any) -> None:
        """Submit a job. A group gets the wildcards that its jobs share, so that `squeue` and its log name it."""
        if self.stopping.is_set():
            return
        if job.is_group():
            job.wildcards = shared_wildcards(job.jobs)
        try:
            super().run_job(job)
        except Exception as error:  # of a group's, the plugin's own report raises another one
            cause = error.__context__ or error
            self._report_job_error_threadsafe(SubmittedJobInfo(job), f"Job submission failed with exception: {cause}")

    def get_account_arg(self, job: Any) -> Iterator[str]:
        """The option of `sbatch` for the job's account, which is looked up in slurmdbd once, not for each job."""
        account = job.resources.get("slurm_account")
        if account not in self.accounts:
            self.accounts[account] = list(super().get_account_arg(job))
        yield from self.accounts[account]

    def _report_job_error_threadsafe(self, job_info: Any, msg: str) -> None:
        """Submit a job that `sbatch` refused again later, or, where waiting does not help, fail it at once."""
        text = refusal(msg)
        if line := wait_line(text):
            self._warn_once(line)
            if not self.stopping.wait(RETRY_SECONDS):
                self._job_submission_executor.submit(self.run_job, job_info.job)
            return
        if text:
            job_info.job._attempt = job_info.job.restart_times + 1  # not `attempt`, which resets the job's resources
        super()._report_job_error_threadsafe(job_info, msg)

    def report_job_error(self, job_info: Any, msg: str | None = None, **more: Any) -> None:
        """Report a job that failed and note why. One that SLURM preempted is submitted again and uses up no attempt."""
        self.ended.add(id(job_info))
        if STATUS.search(msg or "") and not self.stopping.is_set() and was_preempted(job_info.external_jobid):
            self._warn_once(
                f"SLURM preempted job {job_info.external_jobid}: it is submitted again, and a training resumes."
            )
            self._job_submission_executor.submit(self.run_job, job_info.job)
            return
        why = refusal_line(refusal(msg or "")) or status_line(msg or "", (job_info.aux or {}).get("slurm_logfile"))
        for job in job_info.job.jobs if job_info.job.is_group() else [job_info.job]:
            if why.startswith(KILLED_FOR_MEMORY) and (folder := checkpoint_folder(job.rule.name, job.output)):
                memory_kills.note(folder)
            if why:
                self.reasons[job.jobid] = why
            else:
                self.reasons.pop(job.jobid, None)  # of an earlier attempt
        super().report_job_error(job_info, msg=msg, **more)

    def report_job_success(self, job_info: Any) -> None:
        """Report a job that is done."""
        self.ended.add(id(job_info))
        super().report_job_success(job_info)

    async def check_active_jobs(self, active_jobs: list[Any]) -> AsyncGenerator[Any, None]:
        """The jobs that still wait or run, and those whose state SLURM does not report."""
        self.ended.clear()
        kept = set()
        async for job_info in super().check_active_jobs(active_jobs):
            kept.add(id(job_info))
            yield job_info
        # The plugin would submit no job to these nodes any more, even when they are back. SLURM knows which are down.
        for node in sorted(self._failed_nodes - self.excluded):
            self._warn_once(f"SLURM's node {node} failed: SLURM starts its jobs again.")
        self._failed_nodes = set(self.excluded)
        unknown = [job_info for job_info in active_jobs if id(job_info) not in kept | self.ended]
        if unknown:
            self._warn_once(NO_STATES)
        elif active_jobs:
            self.warned.discard(NO_STATES)
        for job_info in unknown:
            yield job_info
        if self.ended:  # the jobs that follow, and attempts after a failure, may end as soon
            self.next_seconds_between_status_checks = self.workflow.executor_settings.init_seconds_before_status_checks
        if active_jobs:
            for line in self.queue.stuck():
                self._warn_once(line)

    def cancel(self) -> None:
        """Submit nothing more and cancel what was submitted."""
        self.stopping.set()
        self._job_submission_executor.shutdown(wait=True, cancel_futures=True)
        super().cancel()

    def shutdown(self) -> None:
        """End."""
        self.stopping.set()
        super().shutdown()

    def _warn_once(self, line: str) -> None:
        """Write a warning, unless it was written before."""
        if line not in self.warned:
            self.warned.add(line)
            self.logger.warning(line)


class HeldJob(NamedTuple):
    """A job that waits in the queue, or that has ended while its node is not free yet."""

    number: str
    name: str  # rule and wildcards
    nodes: str  # on which it is completing; empty while it waits
    reason: str


class Queue:
    """The jobs of one Snakemake that SLURM holds back.

    Args:
        name: of its jobs, the same for all.
        patience: seconds until a job is reported whose reason can go away by itself.
    """

    def __init__(self, name: str, patience: float = PATIENCE_SECONDS) -> None:
        self.name = name
        self.patience = patience
        self.asked = -float("inf")
        self.since: dict[HeldJob, float] = {}  # when it was first seen (monotonic seconds)

    def stuck(self) -> list[str]:
        """One line for each reason that holds jobs back indefinitely, or longer than usual.

        Asks SLURM at most once a minute, and not about running jobs. Empty while SLURM does not respond.
        """
        now = time.monotonic()
        if now - self.asked < QUEUE_SECONDS:
            return []
        self.asked = now
        self.since = {job: self.since.get(job, now) for job in self._held()}
        found: dict[str, list[HeldJob]] = {}
        for job, since in self.since.items():
            code = job.reason.partition(",")[0]
            if not job.nodes and PASSES.fullmatch(code):
                continue
            if now - since >= self.patience or NEVER_PASSES.fullmatch(code):
                found.setdefault(job.nodes or code, []).append(job)
        return [completing_line(jobs) if jobs[0].nodes else stuck_line(jobs) for jobs in found.values()]

    def _held(self) -> list[HeldJob]:
        """The jobs that wait or that are completing."""
        words = ["squeue", "--me", "--states=PENDING,COMPLETING", "--noheader", f"--name={self.name}"]
        try:
            answer = subprocess.run(
                [*words, "--format=%i|%k|%N|%r|%R"], check=False, capture_output=True, text=True, timeout=60
            )
        except (OSError, subprocess.TimeoutExpired):
            return []
        rows = [line.split("|", 4) for line in answer.stdout.splitlines() if line.count("|") >= 4]
        return [
            HeldJob(number, readable(comment), nodes, wait_reason(code, text))
            for number, comment, nodes, code, text in rows
        ]


def readable(comment: str) -> str:
    """The rule and wildcards of a job, from the comment that Snakemake's plugin gives it."""
    return comment.removeprefix("rule_").removeprefix("group_").replace("_wildcards_", " ", 1)


def wait_reason(code: str, text: str) -> str:
    """Why a job waits: the code, with the nodes that are not available.

    Args:
        code: of `squeue`'s `%r`.
        text: of its `%R`: the code with details, or a description in parentheses.
    """
    text = text.removeprefix("(").removesuffix(")")
    if "DOWN, DRAINED" in text:  # of the first in the queue, whose code is Resources
        return "its nodes are down, drained or reserved"
    return text if text.startswith(code) else code


def stuck_line(jobs: list[HeldJob]) -> str:
    """One line about jobs that wait for the same reason."""
    number = jobs[0].number
    return (
        f"SLURM does not start job {_first_of(jobs)}: {jobs[0].reason}. It waits until that changes: see"
        f" `scontrol show job {number}`, or end it with `scancel {number}`."
    )


def completing_line(jobs: list[HeldJob]) -> str:
    """One line about jobs that have ended on a node which does not become free."""
    return (
        f"SLURM's job {_first_of(jobs)} has ended but is still completing: its processors and GPUs on"
        f" {jobs[0].nodes} are not free for other jobs. A process that cannot be killed or the cluster's epilog causes"
        " that: ask your administrator."
    )


def _first_of(jobs: list[HeldJob]) -> str:
    others = f" and {len(jobs) - 1} more" if len(jobs) > 1 else ""
    return f"{jobs[0].number} ({jobs[0].name}){others}"


def shared_wildcards(jobs: Iterable[Any]) -> list[str]:
    """The values of the wildcards that all jobs of a group have in common, in the order of the first."""
    first, *others = sorted(jobs, key=lambda job: job.jobid)
    return [
        str(value)
        for name, value in first.wildcards_dict.items()
        if all(other.wildcards_dict.get(name) == value for other in others)
    ]


def refusal(message: str) -> str:
    """What `sbatch` or the plugin's own check says of a job that was not submitted; empty where it was."""
    found = REFUSED.search(message) or UNSENT.search(message)
    return " ".join(found[1].replace("sbatch: error:", " ").split()) if found else ""


def wait_line(text: str) -> str:
    """A line that says what is waited for, if a refused job can be submitted later; empty where it cannot."""
    if found := SUBMITTED_TOO_MANY.search(text):
        return (
            f"SLURM takes no more of your jobs for now ({found[0]}): the others are submitted as these end. To submit"
            f" fewer at a time: --jobs N, or `jobs:` in {PROFILE}."
        )
    if NO_CONTROLLER.search(text):
        return "SLURM's controller does not respond: jobs are submitted when it does."
    if NOT_SAVED.search(text):
        return (
            "SLURM's controller cannot save jobs, because the disk of its StateSaveLocation is full or fails: ask your"
            " administrator. Jobs are submitted when it can."
        )
    return ""


def refusal_line(text: str) -> str:
    """One line about a job that SLURM does not take, with the key to set."""
    if not text:
        return ""
    reason = text.replace("Batch job submission failed:", "").strip().rstrip(".")
    for pattern, remedy in REMEDIES:
        if re.search(pattern, reason, re.IGNORECASE):
            known = own_accounts() if "{accounts}" in remedy and "Available accounts" not in reason else []
            accounts = f"; yours: {', '.join(known)}" if known else ""
            return f"SLURM refuses the job ({reason}): {remedy.format(profile=PROFILE, accounts=accounts)}"
    return f"SLURM refuses the job: {reason}"


def status_line(message: str, log: Path | None = None) -> str:
    """One line about a job that SLURM ended; empty where the log of its step says more.

    Args:
        message: of the plugin.
        log: SLURM's own of the job. Where memory is limited by polling, only this says why the step was killed.
    """
    found = STATUS.search(message)
    if found is None:
        return ""
    number, status = found.groups()
    with contextlib.suppress(OSError):
        if log and OUT_OF_MEMORY.search(log.read_text(encoding="utf-8", errors="replace")):
            status = "OUT_OF_MEMORY"
    return STATUSES.get(status, "").format(number=number)


def checkpoint_folder(rule: str, outputs: Sequence[str]) -> Path | None:
    """The folder of a training's checkpoints; None for a job that saves none."""
    if rule == "search":  # beside its record
        return Path(outputs[0]).parent / Path(outputs[0]).stem
    return Path(outputs[0]).parent if rule in ("train", "train_and_drop") else None


def was_preempted(number: str) -> bool:
    """Whether SLURM preempted a job that has ended.

    SLURM starts a job again only if it still runs when the grace time is over. A training saves its state and ends
    before that, so that SLURM calls it failed.
    """
    words = ["scontrol", "show", "job", number]
    try:
        answer = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    found = re.search(r"\bPreemptTime=(\S+)", answer.stdout)
    return found is not None and found[1] not in ("None", "Unknown")


def own_accounts() -> list[str]:
    """The accounts that the user may charge; empty where SLURM keeps none or does not respond."""
    words = ["sacctmgr", "--noheader", "--parsable2", "show", "assoc", "format=user,account"]
    try:
        user = getpass.getuser()
        answer = subprocess.run([*words, f"user={user}"], check=False, capture_output=True, text=True, timeout=20)
    except (OSError, KeyError, subprocess.TimeoutExpired):
        return []
    rows = [line.split("|") for line in answer.stdout.splitlines() if "|" in line]
    return sorted({account for _, account, *_ in rows})
