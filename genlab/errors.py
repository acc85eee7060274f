"""The one exception that is meant for the user and not for the programmer."""


class InputError(ValueError):
    """What the user gave cannot be used.

    The message is one line that says what is wrong and what would be right; entry points print it to
    stderr and exit, without a traceback. Everything else that is raised is a bug of ours.
    """
