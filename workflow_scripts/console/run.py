"""The state of a run: jobs to do, running, done and failed; and the time left.

Jobs are identified by rule and wildcards. Snakemake's job numbers change when it re-evaluates the graph.
"""

import contextlib
import heapq
import json
import threading
import time
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workflow_scripts.core.names import group_title, parse_model
from workflow_scripts.tuning.progress import status_of

OVERDUE = 1.0  # seconds left of a job that takes longer than estimated

Key = tuple[str, tuple[tuple[str, str], ...]]  # rule, wildcards


def key_of(rule: str, wildcards: Mapping[str, Any] | None) -> Key:
    """The identity of a job."""
    return rule, tuple(sorted((name, str(value)) for name, value in (wildcards or {}).items()))


@dataclass(frozen=True)
class Planned:
    """A job that is to be done.

    Attributes:
        seconds: estimated; None if nothing is known.
        threads: cores that it takes.
        needs: the jobs that have to be done before.
        on_gpu: whether it needs one of the run's GPUs.
    """

    seconds: float | None
    threads: int = 1
    needs: frozenset[Key] = frozenset()
    on_gpu: bool = False


@dataclass
class Running:
    """A job that has been started, or submitted to a cluster."""

    key: Key
    log: Path | None
    started: float

    def status(self) -> dict[str, Any] | None:
        """The job's progress according to its status file; None if there is none."""
        if self.log is None:
            return None
        try:
            report = json.loads(status_of(self.log).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return report if isinstance(report, dict) and {"step", "steps", "seconds_left"} <= report.keys() else None

    def age(self) -> float:
        """Seconds since the last status report, or 0."""
        try:
            return max(0.0, time.time() - status_of(self.log).stat().st_mtime) if self.log else 0.0
        except OSError:
            return 0.0


@dataclass
class Failure:
    """A job that failed: the line that says why, and the log to read."""

    key: Key
    reason: str
    log: str


@dataclass
class Run:
    """Everything a display shows. Its methods may be called from any thread.

    Attributes:
        cores: that local jobs share; None where jobs run elsewhere.
        gpus: that local jobs share.
        plan: the jobs to do, those done included.
        total, done: numbers of jobs.
        started: when the first job began (monotonic seconds).
        running: jobs that have started and not ended.
        numbers: the job of each of Snakemake's numbers.
        failures: jobs that failed and were not tried again.
        finished: the seconds that each job took.
        by_rule: of the finished jobs of each rule, the seconds that they took and those that were estimated.
    """

    cores: int | None = None
    gpus: int | None = None
    plan: dict[Key, Planned] = field(default_factory=dict)
    total: int = 0
    done: int = 0
    started: float = field(default_factory=time.monotonic)
    running: dict[Key, Running] = field(default_factory=dict)
    numbers: dict[int, Key] = field(default_factory=dict)
    failures: dict[Key, Failure] = field(default_factory=dict)
    finished: dict[Key, float] = field(default_factory=dict)
    by_rule: dict[str, tuple[float, float]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def set_plan(self, plan: Mapping[Key, Planned]) -> None:
        """Set the jobs to do. Finished jobs stay in the plan."""
        with self.lock:
            done = {key: job for key, job in self.plan.items() if key in self.finished}
            self.plan = done | dict(plan)
            self.total = self.done + len(plan)

    def restart_clock(self) -> None:
        """The first job starts now."""
        self.started = time.monotonic()

    def key(self, number: int) -> Key | None:
        """The job that Snakemake started under this number."""
        return self.numbers.get(number)

    def start(self, key: Key, number: int, log: Path | None) -> None:
        """A job starts; the status file of an earlier attempt is removed."""
        if log is not None:
            with contextlib.suppress(OSError):
                status_of(log).unlink(missing_ok=True)
        with self.lock:
            self.numbers[number] = key
            self.running[key] = Running(key, log, time.monotonic())
            self.failures.pop(key, None)

    def finish(self, number: int) -> tuple[Key | None, float]:
        """A job succeeds: which one, and the seconds that it took."""
        with self.lock:
            self.done += 1
            key = self.numbers.get(number)
            running = self.running.pop(key, None) if key else None
            seconds = time.monotonic() - running.started if running else 0.0
            if key:
                self.finished[key] = seconds
                self._compare_with_the_estimate(key, seconds)
            return key, seconds

    def _compare_with_the_estimate(self, key: Key, seconds: float) -> None:
        planned = self.plan.get(key)
        if planned and planned.seconds:
            measured, estimated = self.by_rule.get(key[0], (0.0, 0.0))
            self.by_rule[key[0]] = measured + seconds, estimated + planned.seconds

    def fail(self, failure: Failure) -> None:
        """A job fails. If Snakemake retries it, the failure is forgotten."""
        with self.lock:
            self.running.pop(failure.key, None)
            self.failures[failure.key] = failure

    def never_began(self, key: Key) -> None:
        """A job does not run after all: another one of its group failed before it."""
        with self.lock:
            self.running.pop(key, None)

    def now_running(self) -> list[Running]:
        """The running jobs, the oldest first."""
        with self.lock:
            return list(self.running.values())

    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self.started

    def estimate(self, key: Key) -> float | None:
        """The seconds of a job: the estimate, corrected by how long finished jobs of its rule actually took."""
        planned = self.plan.get(key)
        if planned is None or planned.seconds is None:
            same = [seconds for other, seconds in self.finished.items() if other[0] == key[0]]
            return sum(same) / len(same) if same else None
        return planned.seconds * self._correction(key[0])

    def _correction(self, rule: str) -> float:
        """Ratio of measured to estimated time of the finished jobs of a rule; 1 before the first, and on a cluster."""
        if self.cores is None:
            return 1.0
        measured, estimated = self.by_rule.get(rule, (0.0, 0.0))
        return measured / estimated if estimated else 1.0

    def job_seconds_left(self, job: Running) -> float | None:
        """Seconds left of a running job: by its own report, or else by its estimate."""
        report = job.status()
        if report is not None:
            return max(0.0, report["seconds_left"] - job.age())
        estimate = self.estimate(job.key)
        return None if estimate is None else max(OVERDUE, estimate - (time.monotonic() - job.started))

    def seconds_left(self) -> float | None:
        """Seconds left of the whole run; None if it cannot be estimated yet."""
        with self.lock:
            waiting = [key for key in self.plan if key not in self.finished and key not in self.running]
            left: dict[Key, float] = {}
            for key in waiting:
                seconds = self.estimate(key)
                if seconds is None:
                    return None
                left[key] = seconds
            running = dict(self.running)
        for key, job in running.items():
            seconds = self.job_seconds_left(job)
            if seconds is None:
                return None
            left[key] = seconds
        if self.cores is None:
            return self._by_the_speed_so_far(left)
        return duration(
            {key: (left[key], self.plan.get(key, Planned(0.0))) for key in left}, self.cores, self.gpus, running
        )

    def _by_the_speed_so_far(self, left: Mapping[Key, float]) -> float | None:
        """On a cluster, whose speed and waiting times are unknown: as long for each unit of work as so far."""
        done = sum((self.plan[key].seconds or 0.0) for key in self.finished if key in self.plan)
        return sum(left.values()) * self.seconds() / done if done else None


def duration(
    jobs: Mapping[Key, tuple[float, Planned]], cores: int, gpus: int | None = None, running: Collection[Key] = ()
) -> float:
    """The seconds until all jobs are done, when each starts as soon as it can.

    Args:
        jobs: the seconds of each job and what it needs; needed jobs that are not among them are done.
        cores, gpus: that the jobs share.
        running: jobs that have started.
    """
    waiting_for = {key: sum(needed in jobs for needed in planned.needs) for key, (_, planned) in jobs.items()}
    needed_by: dict[Key, list[Key]] = {}
    for key, (_, planned) in jobs.items():
        for needed in planned.needs:
            if needed in jobs:
                needed_by.setdefault(needed, []).append(key)
    free_cores, free_gpus, now = cores, gpus if gpus is not None else cores, 0.0
    ends: list[tuple[float, Key]] = []
    # Two queues, so that jobs waiting for a GPU do not hold up others.
    on_gpu: deque[Key] = deque()
    on_cores: deque[Key] = deque()

    def make_ready(key: Key) -> None:
        (on_gpu if gpus is not None and jobs[key][1].on_gpu else on_cores).append(key)

    for key in [key for key in jobs if key in running] + [
        key for key in jobs if not waiting_for[key] and key not in running
    ]:
        make_ready(key)
    while on_gpu or on_cores or ends:
        while (free_gpus > 0 and free_cores > 0 and on_gpu) or (free_cores > 0 and on_cores):
            takes_gpu = bool(free_gpus > 0 and on_gpu)
            key = (on_gpu if takes_gpu else on_cores).popleft()
            free_cores -= min(jobs[key][1].threads, cores)
            free_gpus -= takes_gpu
            heapq.heappush(ends, (now + jobs[key][0], key))
        now, key = heapq.heappop(ends)
        free_cores += min(jobs[key][1].threads, cores)
        free_gpus += gpus is not None and jobs[key][1].on_gpu
        for follower in needed_by.get(key, []):
            waiting_for[follower] -= 1
            if waiting_for[follower] == 0 and follower not in running:
                make_ready(follower)
    return now


def title(key: Key, leave_out: Collection[str] = ()) -> str:
    """A job in a few words: `train xnli prompt_tuning-16 on en seed 13`.

    `leave_out` are wildcards that have the same value in all jobs.
    """
    rule, wildcards = key
    values = dict(wildcards)
    if "/" in (model := values.pop("model", "")):  # an untuned model has no task
        task, source, arm, seed = parse_model(model)
        values |= {"task": task, "source": source, "arm": arm, "seed": seed}
    elif model:
        values["model"] = model
    words = [rule.removesuffix("_and_drop").replace("_", " ")]
    order = ("encoder", "task", "arm", "model", "source", "group", "seed", "language", "languages", "split")
    for name in [*(name for name in order if name in values), *(name for name in values if name not in order)]:
        if name in leave_out:
            continue
        value = values[name]
        if name == "seed":
            value = f"seed {value}"
        elif name == "source":
            value = f"on {value}"
        elif name == "group":
            value = f"at {group_title(value)}"
        elif name == "languages":
            languages = value.split("+")
            value = f"in {value}" if len(languages) <= 3 else f"in {len(languages)} languages"
        words.append(value)
    return " ".join(words)


def in_words(seconds: float) -> str:
    """A duration for people, as exact as an estimate is: `40 seconds`, `6 minutes`, `1 h 10 min`."""
    if seconds < 90:
        return f"{max(5, 5 * round(seconds / 5))} seconds"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} minutes"
    hours, minutes = divmod(round(seconds / 600) * 10, 60)
    return f"{hours} h {minutes} min" if hours < 10 and minutes else f"{hours} h"


def clock(seconds: float) -> str:
    """A duration for a display: `0:40`, `6:05`, `1:10:00`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{second:02}" if hours else f"{minutes}:{second:02}"
