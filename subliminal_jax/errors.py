"""The one exception that means: the input was wrong, and this line says how to mend it."""


class InputError(ValueError):
    """Bad input: one line that says what is wrong, with the value, and what to do.

    The command line prints the message and exits with status 2; a library user may catch it as
    the ``ValueError`` that it is.
    """
