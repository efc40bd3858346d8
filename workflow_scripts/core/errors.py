"""The exceptions that end a step with a message for the user."""

from workflow_scripts.core.visible import visible

ERROR_PREFIX = "error: "  # starts every log line that says why a step failed
LONGEST_LINE = 2000  # characters of a message
BUG_MESSAGE = "this is a bug in the workflow; the traceback follows"


class UserError(Exception):
    """An error that the user can fix: its message is one line that names the key, file or row, and the remedy.

    A step prints it without a traceback and exits with status 1. Any other exception is a bug in this project. Text
    that the message quotes from data may contain any character: control characters appear as escapes. It may be of any
    length: the middle of a long line is left out, since the place is at the beginning and the remedy at the end.
    """

    def __str__(self) -> str:
        text = super().__str__()
        if len(text) <= LONGEST_LINE // 6:  # an escape has six characters
            return visible(text)
        # Before and after: escapes lengthen a line, and megabytes of them would take seconds.
        lines = (_shortened(visible(_shortened(line))) for line in text.split("\n"))
        return "\n".join(lines)


def _shortened(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 500]} … {line[-400:]}"


class Interrupted(Exception):  # noqa: N818  (not an error)
    """The step received SIGTERM or Ctrl-C and has saved a checkpoint; it exits with a status of its own."""

    status = 75  # EX_TEMPFAIL of sysexits.h: try again
