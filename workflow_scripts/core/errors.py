"""The exceptions that end a step with a message for the user."""

from workflow_scripts.core.visible import visible

ERROR_PREFIX = "error: "  # begins every line of a log that says why a step failed
BUG_MESSAGE = "this is a bug in the workflow; the traceback follows"


class UserError(Exception):
    """An error that the user can fix: its message is one line that names the key, file or row, and the remedy.

    A step prints it without a traceback and exits with status 1. Any other exception is a bug in this project. Text
    that the message quotes from data may contain any character: control characters appear as escapes.
    """

    def __str__(self) -> str:
        return visible(super().__str__())


class Interrupted(Exception):  # noqa: N818  (not an error)
    """The step received SIGTERM or Ctrl-C and has saved a checkpoint; it exits with a status of its own."""

    status = 75  # EX_TEMPFAIL of sysexits.h: try again
