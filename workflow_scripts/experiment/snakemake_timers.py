"""A workaround for Snakemake's scheduler, which keeps one timer thread for every finished job.

While jobs wait for a free core, each pass of the scheduler starts a `threading.Timer` that triggers another pass after
the time span of `--max-jobs-per-timespan` (1 s by default). Every finished job also triggers a pass, so it leaves a
timer that renews itself as long as jobs wait. Measured with Snakemake 9.27.1: 306 threads and 9 % to 12 % of a core
after 300 trivial jobs. docs/upstream/snakemake-timers.md is the bug report. Delete this module once a fixed Snakemake
is pinned; with one, it does nothing.
"""

import contextlib
import inspect
import math
import threading
import time
from collections.abc import Callable
from typing import Any

METHOD = "_schedule_reevalutation"  # as Snakemake spells it

KNOWN = """
    def _schedule_reevalutation(self, delay: int) -> None:
        threading.Timer(
            delay,
            lambda: self._open_jobs.release(),
        ).start()
"""


def share_one_timer(scheduler: Any) -> bool:
    """Limit the scheduler (`snakemake.scheduling.job_scheduler.JobScheduler`) to one pending timer at a time.

    The rate limit still holds. A job that it delays starts at most one time span later than without this change.

    Returns:
        Whether the scheduler was changed. A scheduler whose method is not the known one is left unchanged.
    """
    source = ""
    with contextlib.suppress(AttributeError, TypeError, OSError):
        source = inspect.getsource(getattr(type(scheduler), METHOD))
    if source.split() != KNOWN.split():
        return False
    setattr(scheduler, METHOD, SharedTimer(scheduler._open_jobs.release))
    return True


class SharedTimer:
    """Calls a function after a delay (seconds): once for all requests made before the call.

    A request that is due before the pending one replaces it. All requests must come from one thread.
    """

    def __init__(self, function: Callable[[], object]) -> None:
        self.function = function
        self.timer: threading.Timer | None = None
        self.due = math.inf

    def __call__(self, delay: float) -> None:
        """Request a call in `delay` seconds."""
        due = time.monotonic() + delay
        if due >= self.due:
            return
        if self.timer is not None:
            self.timer.cancel()
        self.due = due
        self.timer = threading.Timer(delay, self._call)
        self.timer.daemon = True  # the workflow does not wait for it at the end
        self.timer.start()

    def _call(self) -> None:
        self.due = math.inf  # first: the pass that the call triggers may request the next one immediately
        self.function()
