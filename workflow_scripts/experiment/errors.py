"""The one exception that a user is meant to see."""


class UserError(Exception):
    """Something that the user can mend: the message is one line that names the key, file or row and the way out.

    A step prints it without a traceback and exits with status 1; any other exception is a defect of ours.
    """


class Interrupted(Exception):  # noqa: N818  (not an error)
    """The step was asked to stop (SIGTERM, Ctrl-C) and has saved where it stood; it ends with a status of its own."""

    status = 75  # EX_TEMPFAIL of sysexits.h: try again
