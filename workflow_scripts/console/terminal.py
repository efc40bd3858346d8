"""What a terminal shows of a run: a line for the workflow and one for each running job, updated in place.

Jobs and libraries write to the terminal as well, which would damage the display. So while it is open, the standard
streams of this process, which its jobs inherit, are a pipe, and every line that is written to it is shown above the
display.
"""

import atexit
import contextlib
import os
import sys
import threading
import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from workflow_scripts.console.run import OVERDUE, Failure, Key, Run, Running, clock, in_words, title
from workflow_scripts.core.visible import visible

RENEWED = 0.5  # seconds between two reads of the jobs' status files
ESTIMATED = 3.0  # and between two estimates of the time left, which take 20 ms for 5,000 jobs
BAR = 24  # characters


class TerminalView:
    """A display at the bottom of the terminal.

    Args:
        run: what is shown.
        leave_out: wildcards that job titles do not need.
        descriptor: the terminal's file descriptor.
    """

    def __init__(self, run: Run, leave_out: tuple[str, ...] = (), descriptor: int = 2) -> None:
        self.run = run
        self.leave_out = leave_out
        self.descriptor = descriptor
        self.is_open = False
        self.is_muted = False  # whether what jobs write is dropped: after Ctrl-C, tracebacks of their imports
        self.shown: Any = Text("")
        self.renewed = self.estimated = -ESTIMATED
        self.left: float | None = None

    def open(self) -> None:
        """Take the terminal."""
        sys.stdout.flush()
        sys.stderr.flush()
        self.terminal = os.fdopen(os.dup(self.descriptor), "w", encoding="utf-8", errors="replace")
        self.console = Console(file=self.terminal, force_terminal=True, highlight=False, soft_wrap=True)
        self.taken = {number: os.dup(number) for number in (1, 2) if os.isatty(number)}
        reading, writing = os.pipe()
        for number in self.taken:
            os.dup2(writing, number)
        os.close(writing)
        self.forwarder = threading.Thread(target=self._forward, args=(reading,), daemon=True)
        self.forwarder.start()
        self.live = Live(
            console=self.console,
            get_renderable=self._render,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.live.start()
        self.is_open = True
        atexit.register(self.close)

    def message(self, text: str) -> None:
        """Write a text above the display."""
        if self.is_open:
            self.console.print(Text(text))
        else:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def job_started(self, key: Key) -> None:
        """The display shows it."""

    def job_finished(self, key: Key, seconds: float) -> None:
        """The display shows it."""

    def job_failed(self, failure: Failure) -> None:
        """A line that stays; the step has written the reason, unless it ran on another machine."""
        self.message(f"{title(failure.key, self.leave_out)} failed" + ("" if self.run.cores else f": {failure.reason}"))

    def close(self) -> None:
        """Restore the terminal."""
        if not self.is_open:
            return
        self.is_open = False
        atexit.unregister(self.close)
        sys.stdout.flush()
        sys.stderr.flush()
        for number, saved in self.taken.items():
            os.dup2(saved, number)  # closes the pipe's end: the forwarder reads what is left and stops
            os.close(saved)
        self.forwarder.join(1.0)  # a process that outlives its job may hold the pipe open
        self.live.stop()
        with contextlib.suppress(OSError):
            self.terminal.close()

    def _forward(self, descriptor: int) -> None:
        """Print what jobs write above the display, line by line; for a line that overwrites itself, its last state."""
        with os.fdopen(descriptor, "r", encoding="utf-8", errors="replace", newline="\n") as stream:
            for line in stream:
                text = line.rstrip("\r\n").rpartition("\r")[2]
                # The terminal was closed: jobs would block if nobody read their output.
                with contextlib.suppress(OSError):
                    if text.strip() and not self.is_muted:
                        self.console.print(Text(visible(text)))

    def _render(self) -> Any:
        now = time.monotonic()
        if now - self.renewed >= RENEWED:
            self.renewed = now
            self.shown = self._display()
        return self.shown

    def _display(self) -> Any:
        running = self.run.now_running()
        room = max(1, self.console.size.height - 4)
        rows = running[:room]
        table = Table.grid(padding=(0, 2))
        for justify in ("left", "right", "left", "right"):
            table.add_column(justify=justify, no_wrap=True, overflow="ellipsis")  # type: ignore[arg-type]
        for job in rows:
            table.add_row(*self._row(job))
        parts: list[Any] = [self._workflow(), table]
        if len(running) > len(rows):
            parts.append(Text(f"  and {len(running) - len(rows)} more"))
        return Group(*parts)

    def _workflow(self) -> Text:
        run = self.run
        filled = round(BAR * run.done / run.total) if run.total else 0
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append("━" * filled, style="green")
        text.append("━" * (BAR - filled), style="bright_black")
        text.append(f" {run.done} of {run.total} jobs", style="bold")
        text.append(f"  {clock(run.seconds())} so far")
        left = self._seconds_left()
        if left is not None:
            text.append(f", about {in_words(left)} left")
        if run.failures:
            text.append(f"  {len(run.failures)} failed", style="bold red")
        return text

    def _seconds_left(self) -> float | None:
        now = time.monotonic()
        if now - self.estimated >= ESTIMATED:
            self.estimated, self.left = now, self.run.seconds_left()
        return self.left

    def _row(self, job: Running) -> tuple[str, str, str, str]:
        """Title, step, loss and time of a job."""
        report = job.status()
        left = self.run.job_seconds_left(job)
        shown = f"{clock(left)} left" if left is not None else ""
        if report is None:
            if left is not None and left <= OVERDUE:
                shown = ""
            return f"  {title(job.key, self.leave_out)}", "", f"{clock(time.monotonic() - job.started)} so far", shown
        losses = " ".join(f"{loss:.3f}" for loss in report.get("losses", []))
        step = f"step {report['step']}/{report['steps']}"
        return f"  {title(job.key, self.leave_out)}", step, f"loss {losses}" if losses else "", shown
