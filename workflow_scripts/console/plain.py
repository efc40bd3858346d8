"""What a file, a pipe or a CI log shows of a run: a line when a job ends, and when a long one starts."""

from typing import TextIO

from workflow_scripts.console.run import Failure, Key, Run, clock, in_words, title

LONG = ("train", "train_and_drop", "search")  # rules whose jobs also have a line at their start


class PlainView:
    """Writes lines to a stream.

    Args:
        stream: where to.
        run: what is shown.
        leave_out: wildcards that job titles do not need.
    """

    def __init__(self, stream: TextIO, run: Run, leave_out: tuple[str, ...] = ()) -> None:
        self.stream = stream
        self.run = run
        self.leave_out = leave_out
        self.is_muted = False  # of no effect: jobs write to the stream themselves

    def open(self) -> None:
        """Nothing to prepare."""

    def message(self, text: str) -> None:
        """Write a text unchanged."""
        self.stream.write(f"{text}\n")
        self.stream.flush()

    def job_started(self, key: Key) -> None:
        """A line for a long job."""
        if key[0] in LONG:
            self._line("begin", key)

    def job_finished(self, key: Key, seconds: float) -> None:
        """A line with the count and the time left."""
        left = self.run.seconds_left() if self.run.done < self.run.total else None
        shown = f"; about {in_words(left)} left" if left is not None else ""
        self._line("done ", key, f" in {clock(seconds)}{shown}")

    def job_failed(self, failure: Failure) -> None:
        """A line; the step has written the reason, unless it ran on another machine."""
        self._line("FAIL ", failure.key, "" if self.run.cores else f": {failure.reason}")

    def _line(self, what: str, key: Key, more: str = "") -> None:
        total = str(self.run.total)
        self.message(f"[{self.run.done:>{len(total)}}/{total}] {what} {title(key, self.leave_out)}{more}")

    def close(self) -> None:
        """Nothing to clean up."""
