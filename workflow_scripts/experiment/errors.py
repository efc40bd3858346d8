"""The one exception that a user is meant to see."""

from workflow_scripts.experiment.visible import visible


class UserError(Exception):
    """Something that the user can mend: the message is one line that names the key, file or row and the way out.

    A step prints it without a traceback and exits with status 1; any other exception is a defect of ours. What the
    message quotes of data may hold any character: control characters are shown as escapes.
    """

    def __str__(self) -> str:
        return visible(super().__str__())


class Interrupted(Exception):  # noqa: N818  (not an error)
    """The step was asked to stop (SIGTERM, Ctrl-C) and has saved where it stood; it ends with a status of its own."""

    status = 75  # EX_TEMPFAIL of sysexits.h: try again
