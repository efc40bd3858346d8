"""The one exception that a user is meant to see."""


class UserError(Exception):
    """Something that the user can mend: the message is one line that names the key, file or row and the way out.

    A step prints it without a traceback and exits with status 1; any other exception is a defect of ours.
    """
