"""The exception for bad input."""


class InputError(ValueError):
    """Bad input. The message is one line: what is wrong, with the value, and what to do.

    The command line prints the message and exits with status 2; a library user may catch it as
    the ``ValueError`` that it is.
    """
