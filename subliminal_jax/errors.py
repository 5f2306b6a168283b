"""The exception for bad input."""

_LONGEST = 2000  # characters of a message


class InputError(ValueError):
    """Bad input. The message is one line: what is wrong, with the value, and what to do.

    Whatever it quotes from a file (names of tensors, keys, texts) cannot break the line or drive
    the terminal: control characters are shown escaped, and a very long message is cut.

    The command line prints the message and exits with status 2; a library user may catch it as
    the ``ValueError`` that it is.
    """

    def __init__(self, message: object = "") -> None:
        text = str(message)
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]} ... ({len(text)} characters in all)"
        super().__init__("".join(map(_escape, text)))


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
